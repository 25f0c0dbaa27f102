#!/bin/bash
# lxc_vm_lxd: virtual machines that don't run, between this agent and Debian's LXD 5.0.2: copied both ways, exported
# by one and imported by the other, images published by one and used by the other.
# LXD takes virtual machines only where it finds vhost_vsock: its modprobe and a device node are made up, in namespaces
# of this suite's own; nothing is started.
. "$(dirname "$0")/lib.sh"
e2e_begin
need qemu-img rsync lxd
only_lxd && e2e_skip_all 'this suite brings its own LXD'
T=$E2E_DIR
mkdir -p "$T"/{fake,dev/up,dev/work,pts}
printf '#!/bin/sh\nexit 0\n' >"$T/fake/modprobe"
chmod +x "$T/fake/modprobe"
export PATH=$T/fake:$PATH
# The host's /dev is not ours to add to.
{ mount --bind /dev/pts "$T/pts" &&
    mount -t tmpfs dev "$T/dev" && mkdir "$T/dev/up" "$T/dev/work" &&
    mount -t overlay overlay -o "lowerdir=/dev,upperdir=$T/dev/up,workdir=$T/dev/work" /dev &&
    mount --bind "$T/pts" /dev/pts; } >>"$T/log" 2>&1 || e2e_skip_all 'a /dev of its own cannot be made'
for node in vsock vhost-vsock kvm; do
    [ -e /dev/$node ] || mknod /dev/$node c 10 241
done
daemon_start
e2e_defaults
must lxc config set core.https_address 127.0.0.1:18463
must lxc storage create fast btrfs size=400MiB
E2E_DAEMON=lxd daemon_start old
must lxc storage create default dir
must lxc storage create fast btrfs size=400MiB
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address 127.0.0.1:18464
if ! quiet lxc init probe --vm --empty -d root,size=4MiB; then
    e2e_skip_all "Debian's LXD takes no virtual machines here: $(tail -n 1 "$T/.err")"
fi
must lxc delete probe
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
theirs=$LXD_DIR/storage-pools
daemon_use main
ours=$LXD_DIR/storage-pools
must lxc remote add old "$token" --accept-certificate

qemu-img create -q -f raw "$T/disk.raw" 8M
printf 'the mark' | dd of="$T/disk.raw" bs=1M seek=1 conv=notrunc status=none
mkdir "$T/vm"
printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: none\n' >"$T/vm/metadata.yaml"
qemu-img convert -f raw -O qcow2 "$T/disk.raw" "$T/vm/rootfs.img"
tar -C "$T/vm" -czf "$T/vm.tar.gz" metadata.yaml rootfs.img
must lxc image import "$T/vm.tar.gz" --alias vm
mark_of() { dd if="$1" bs=1M skip=1 count=1 status=none | head -c 8; }
put_mark() { printf '%s' "$2" | dd of="$1" bs=1M seek=1 conv=notrunc status=none; }
disk() { echo "$1/$2/virtual-machines/$3/root.img"; }

must lxc init vm v1 --vm -d root,size=16MiB -c user.note=kept
must lxc snapshot v1 s1
put_mark "$(disk "$ours" default v1)" 'changed!'

# ---- to LXD, and back ----
for mode in pull push relay; do
    claim "to LXD ($mode)" lxc copy v1 old:v1 --mode $mode
    claim "its disk is whole ($mode)" cmp "$(disk "$ours" default v1)" "$(disk "$theirs" default v1)"
    same "its snapshot as well ($mode)" 'the mark' mark_of "$theirs/default/virtual-machines-snapshots/v1/s1/root.img"
    shows "it is one there ($mode)" '^v1,VIRTUAL-MACHINE' lxc list old:v1 -f csv -c nt
    same "with its configuration ($mode)" kept lxc config get old:v1 user.note
    [ $mode = relay ] || must lxc delete old:v1
done
for mode in pull push relay; do
    claim "from LXD ($mode)" lxc copy old:v1 v2 --mode $mode
    claim "the disk is whole ($mode)" cmp "$(disk "$theirs" default v1)" "$(disk "$ours" default v2)"
    same "and its snapshot ($mode)" 'the mark' mark_of "$ours/default/virtual-machines-snapshots/v2/s1/root.img"
    [ $mode = relay ] || must lxc delete v2
done
put_mark "$(disk "$theirs" default v1)" 'again!!!'
claim 'a copy is refreshed from LXD' lxc copy old:v1 v2 --refresh
same 'and has what is new' 'again!!!' mark_of "$(disk "$ours" default v2)"
claim 'to a btrfs pool of LXD' lxc copy v1 old:v3 -s fast
claim 'it arrives' cmp "$(disk "$ours" default v1)" "$(disk "$theirs" fast v3)"
claim 'and from it to one of ours' lxc move old:v3 v4 -s fast
claim 'it arrives as well' cmp "$(disk "$ours" default v1)" "$(disk "$ours" fast v4)"
same 'with its snapshot' 'the mark' mark_of "$ours/fast/virtual-machines-snapshots/v4/s1/root.img"
claim 'from btrfs to btrfs' lxc copy v4 old:v5 -s fast
claim 'it is there' cmp "$(disk "$ours" default v1)" "$(disk "$theirs" fast v5)"

# ---- backups ----
claim 'LXD imports our backup' sh -c "lxc export v1 '$T/ours.tar.gz' && lxc import old: '$T/ours.tar.gz' b1"
claim 'with its disk' cmp "$(disk "$ours" default v1)" "$(disk "$theirs" default b1)"
claim 'and snapshot' lxc restore old:b1 s1
claim "we import LXD's" sh -c "lxc export old:v1 '$T/theirs.tar.gz' && lxc import '$T/theirs.tar.gz' b2"
claim 'with its disk' cmp "$(disk "$theirs" default v1)" "$(disk "$ours" default b2)"
claim 'and snapshot' lxc restore b2 s1
same 'which is what it was' 'the mark' mark_of "$(disk "$ours" default b2)"

# ---- images ----
claim 'LXD takes an image that we published' sh -c 'lxc publish v1 --alias mine && lxc image copy mine old: --alias mine --vm'
claim 'and makes a virtual machine of it' lxc init old:mine old:i1 -d root,size=16MiB
same 'with the disk' 'changed!' mark_of "$(disk "$theirs" default i1)"
claim 'we take one of LXD' sh -c 'lxc publish old:v1 old: --alias old1 && lxc image copy old:old1 local: --alias old1 --vm'
claim 'and make one of it' lxc init old1 i2 --vm -d root,size=16MiB
same 'with the disk' 'again!!!' mark_of "$(disk "$ours" default i2)"
must lxc delete v1 v2 v4 b2 i2
e2e_end
