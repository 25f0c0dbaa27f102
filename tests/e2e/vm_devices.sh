#!/bin/bash
# virtual machines and their devices: UEFI with its variables kept, a TPM, NICs on a bridge, on a parent and on OVN
# (plugged while the guest runs), an answer to pings on each, disks of custom volumes and ISO images, filters by MAC.
. "$(dirname "$0")/lib.sh"
need qemu-system-x86_64 qemu-img swtpm jq python3
guest=${HAWSER_GUEST_DIR:-/tmp/hawser-guest-image}
"$E2E_LIB/../guest/image" "$guest" >/dev/null 2>&1 || e2e_skip_all "no guest could be built (tests/guest/image)"
e2e_begin
need ovs-vswitchd ovn-northd
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
daemon_start
e2e_defaults

booted() { api GET "/1.0/instances/$1/console" | grep -q 'guest ready'; }
typed() { python3 "$E2E_LIB/vmtype.py" "$1" "$2" "$3" 60; } # instance line regex
lease() { lxc network list-leases "$1" -f json | jq -r --arg name "$2" '.[] | select(.hostname == $name and (.address | contains("."))) | .address' | head -1; }
leased() { [ -n "$(lease "$1" "$2")" ]; }
no_swtpm() { ! pgrep swtpm >/dev/null; }
no_taps() { ! ip -o link | grep -q ': tap'; }
answers() { ping -c1 -W2 "$1" >/dev/null; }
link_of() { lxc config get "$1" "volatile.$2.host_name"; }
volume=$LXD_DIR/storage-pools/default/virtual-machines/v1
efi=$(realpath /usr/share/OVMF 2>/dev/null)
boot_dir=$(e2e_boot_dir "$guest")
boot="-kernel $boot_dir/linux -initrd $boot_dir/initrd -append 'console=ttyS0 loglevel=3 panic=-1 random.trust_cpu=on'"

# ---- UEFI, by a path that is a symbolic link ----
must lxc image import "$guest/vm.tar.gz" --alias vm
if [ -n "$efi" ]; then
    ln -s "$efi" "$E2E_DIR/firmware"
    daemon_stop
    DAEMON_ENV="HAWSER_OVMF_PATH=$E2E_DIR/firmware" daemon_start
    must lxc init vm v1 --vm -c security.secureboot=false -c limits.memory=256MiB
    must lxc config device add v1 tpm tpm
    claim 'a VM starts by UEFI' lxc start v1
    claim 'and boots from its disk' wait_for 300 booted v1
    claim 'the guest sees firmware variables and the TPM' typed v1 \
        'ls -d /sys/firmware/efi /sys/class/tpm/tpm0 | wc -l | sed s/^/found=/' 'found=[12]'
    claim 'its variables are in its volume' test -s "$volume/qemu.nvram"
    claim 'and what its TPM keeps' test -d "$volume/tpm.lxd_tpm"
    sum=$(md5sum <"$volume/qemu.nvram")
    must lxc stop v1 --force
    claim 'no swtpm is left' wait_for 10 no_swtpm
    claim 'the variables stay' test -n "$sum"
    refuse 'a guest that needs secure boot off is not started with it on' 'incompatible with secureboot' \
        sh -c 'lxc config set v1 security.secureboot=true image.requirements.secureboot=false; lxc start v1'
    must lxc delete v1
else
    skip 'UEFI' 'the package ovmf is not installed'
fi

# ---- NICs ----
must lxc network create upbr0 ipv4.address=10.94.70.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.94.70.100-10.94.70.150 \
    ipv4.ovn.ranges=10.94.70.200-10.94.70.220 ipv6.address=none
must lxc network create o1 --type=ovn network=upbr0 ipv4.address=10.95.7.1/24 ipv4.nat=true ipv6.address=none
must lxc init vm v1 --vm -c security.secureboot=false -c security.csm=true -c limits.memory=256MiB -c raw.qemu="$boot"
must lxc config device override v1 eth0 security.mac_filtering=true
claim 'a VM on a bridge' lxc start v1
claim 'boots' wait_for 300 booted v1
claim 'gets its address from the bridge' wait_for 120 leased e2ebr0 v1
claim 'and answers' wait_for 60 answers "$(lease e2ebr0 v1)"
shows 'its tap is in the bridge' 'master e2ebr0' ip -o link show "$(link_of v1 eth0)"
shows 'lists show its address' '^v1,10\.' lxc list -f csv -c n4
api_meta GET /1.0/instances/v1/state >"$E2E_DIR/state"
shows 'its state has the counters of the tap' '^[1-9]' jq .network.eth0.counters.bytes_sent "$E2E_DIR/state"

claim 'a NIC on an OVN network is plugged' lxc config device add v1 ovn0 nic network=o1
claim 'the guest gets an address from OVN' typed v1 'ip -4 addr | grep 10.95.7' 'inet 10\.95\.7\.'
must lxc launch busybox c1 -n o1
inside() { lxc exec c1 -- ping -c1 -W2 "$1"; }
addr=$(lxc network list-leases o1 -f json | jq -r '.[] | select(.hostname | startswith("v1")) | .address' | grep -m1 '\.')
claim 'and answers a container of that network' wait_for 90 inside "${addr:-10.95.7.2}"
daemon_kill
daemon_start
claim 'also after the agent died' wait_for 90 inside "${addr:-10.95.7.2}"
claim 'the NIC is taken out again' lxc config device remove v1 ovn0
must lxc delete -f c1

must ip link add mvparent type veth peer name mvpeer
must ip link set mvparent up
if ip link add mvtest link mvparent type macvtap mode bridge 2>/dev/null && ip link del mvtest; then
    claim 'a NIC on a parent is plugged' lxc config device add v1 mac0 nic nictype=macvlan parent=mvparent
    claim 'the guest has it' typed v1 'ls /sys/class/net | wc -l | sed s/^/nics=/' 'nics=3'
    claim 'and gives it back' lxc config device remove v1 mac0
else
    skip 'a NIC on a parent' 'this kernel has no macvtap'
fi
refuse 'a parent that is no PCI device is refused with a way out' 'no PCI device.*use nictype macvlan' lxc config device add v1 phys0 nic nictype=physical parent=mvparent

# ---- disks ----
truncate -s 8M "$E2E_DIR/seed.iso"
claim 'an ISO image is plugged' lxc config device add v1 iso disk source="$E2E_DIR/seed.iso" path=/mnt/iso
claim 'as a CD' typed v1 'ls -d /sys/class/block/sr0 | sed s/^/cd=/' 'cd=/sys/class/block/sr0'
must lxc storage volume create default data --type=block size=32MiB
claim 'a block volume is attached' lxc storage volume attach default data v1
claim 'the guest sees its size' typed v1 'cat /sys/class/block/sd*/size | tr "\n" " "; echo end' '65536 '
claim 'and is detached' lxc storage volume detach default data v1
claim 'the CD goes' lxc config device remove v1 iso
claim 'a clean stop' lxc stop v1 --timeout 120
claim 'leaves no tap' no_taps
must lxc delete v1
must lxc network delete o1
e2e_end
