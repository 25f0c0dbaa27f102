#!/bin/bash
# virtual machines: start, console, freeze, hot plug, adoption, saved state, reboot, stop and what is left: with the
# real QEMU (TCG where there is no KVM) and the guest of tests/guest.
. "$(dirname "$0")/lib.sh"
need qemu-system-x86_64 qemu-img jq python3 pgrep
guest=${HAWSER_GUEST_DIR:-/tmp/hawser-guest-image}
"$E2E_LIB/../guest/image" "$guest" >/dev/null 2>&1 || e2e_skip_all "no guest could be built (tests/guest/image)"
e2e_begin
daemon_start
e2e_defaults

boot_dir=$(e2e_boot_dir "$guest")
boot="-kernel $boot_dir/linux -initrd $boot_dir/initrd -append 'console=ttyS0 loglevel=3 panic=-1 random.trust_cpu=on'"
state() { lxc list "$1" -f csv -c s; }
is() { [ "$(state "$1")" = "$2" ]; }
qemu_pid() { api_meta GET "/1.0/instances/$1/state" | jq .pid; }
seen() { api GET "/1.0/instances/$1/console" | tr -d '\r' | grep -q "$2"; }
boots() { api GET "/1.0/instances/$1/console" | grep -c 'guest ready'; }
booted() { [ "$(boots "$1")" -ge "$2" ]; }
typed() { python3 "$E2E_LIB/vmtype.py" "$1" "$2" "$3" 50; } # instance line regex
no_qemu() { [ -z "$(e2e_qemus "$LXD_DIR")" ]; }
no_taps() { ! ip -o link | grep -q ': tap'; }
nothing_mounted() { ! grep -q "$LXD_DIR/memory" /proc/mounts && [ -z "$(ls "$LXD_DIR/memory" 2>/dev/null)" ]; }

must lxc image import "$guest/vm.tar.gz" --alias vm
must lxc profile create small
must lxc profile set small security.secureboot=false security.csm=true limits.memory=256MiB migration.stateful=true
must lxc profile set small raw.qemu="$boot"
claim 'a virtual machine is made' lxc init vm v1 --vm -p default -p small
claim 'and starts' lxc start v1
same 'it runs' RUNNING state v1
shows 'its log says that it is emulated' 'TCG' cat "$LXD_DIR/logs/v1/qemu.log"
took=$(grep -o 'inst.started inst=v1.*took_ms=[0-9]*' "$E2E_DIR/main.log" | grep -o '[0-9]*$')
echo "# start of v1: $took ms of the agent, sanitizers on"
claim 'its memory is a file of its own' test -s "$LXD_DIR/memory/v1/ram"
refuse 'a second start' 'already running' lxc start v1
claim 'the guest boots' wait_for 240 booted v1 1
claim 'the serial console answers' typed v1 'echo mark-$((6*7))' mark-42
claim 'and keeps what was shown' seen v1 'guest ready boots=1'

claim 'it freezes' lxc pause v1
same 'frozen' FROZEN state v1
claim 'and goes on' lxc start v1
same 'running again' RUNNING state v1

claim 'a NIC is plugged' lxc config device add v1 eth1 nic nictype=p2p name=eth1
claim 'the guest sees it' typed v1 'ls /sys/class/net | tr "\n" " "; echo end' 'eth1 .*lo'
claim 'and is unplugged' lxc config device remove v1 eth1
truncate -s 16M "$E2E_DIR/more.img"
claim 'a disk is plugged' lxc config device add v1 more disk source="$E2E_DIR/more.img" path=/mnt/more
claim 'the guest sees it, too' typed v1 'cat /sys/class/block/*/size | tr "\n" " "; echo end' ' 32768 '
claim 'and is unplugged as well' lxc config device remove v1 more
claim 'a CPU is plugged' lxc config set v1 limits.cpu=2
claim 'the guest has two' typed v1 'ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l | sed s/^/cpus=/' 'cpus=2'
grep -q TCG "$LXD_DIR/logs/v1/qemu.log" && refuse 'an emulated one keeps its CPUs' 'but not fewer' lxc config set v1 limits.cpu=1
claim 'its memory shrinks' lxc config set v1 limits.memory=200MiB
refuse 'but does not grow beyond its start' 'beyond boot time size' lxc config set v1 limits.memory=1GiB
refuse 'what needs a restart is refused' 'cannot be updated when VM is running' lxc config set v1 security.csm=false

pid=$(qemu_pid v1)
same 'QEMU is seen by the way the suite looks for it' "$pid" e2e_qemus "$LXD_DIR"
shows 'it is a user of its own' '^21[0-9]{8} 21[0-9]{8}$' stat -c '%u %g' "/proc/$pid"
same 'without a capability, nor a way to get one' '0000000000000000 0000000000000000 1' \
    awk '/^CapPrm|^CapEff/ {printf "%s ", $2} /^NoNewPrivs/ {print $2}' "/proc/$pid/status"
for node in "$LXD_DIR/virtual-machines/v1/root.img" "$LXD_DIR/server.key"; do
    same "which may not read ${node##*/}" 0,1 \
        sh -c 'head -c 1 "$1" >/dev/null; echo -n $?,; setpriv --reuid "$2" --clear-groups head -c 1 "$1" >/dev/null 2>&1; echo $?' sh "$node" "$(stat -c %u "/proc/$pid")"
done
daemon_kill
daemon_start
same 'it runs on when the agent dies' RUNNING state v1
same 'the same QEMU' "$pid" qemu_pid v1
claim 'and is spoken to again' typed v1 'echo mark-$((6*8))' mark-48

claim 'a variable of the shell is set' typed v1 'kept=here; echo set-$((1+1))' set-2
claim 'a stateful snapshot is taken' lxc snapshot v1 s0 --stateful
same 'it runs on' RUNNING state v1
claim 'a stateful stop' lxc stop v1 --stateful
same 'stopped' STOPPED state v1
claim 'nothing of QEMU is left' no_qemu
claim 'nor of its memory' nothing_mounted
claim 'it resumes' lxc start v1
claim 'where it was' typed v1 'echo still-$kept' still-here
claim 'the variable changes' typed v1 'kept=there; echo now-$kept' now-there
claim 'the stateful snapshot is restored' lxc restore v1 s0 --stateful
same 'it runs at once' RUNNING state v1
claim 'and the guest is where it was then' typed v1 'echo still-$kept' still-here

before=$(boots v1) pid=$(qemu_pid v1)
quiet typed v1 'reboot' 'reboot'
claim 'a reboot from inside starts it anew' wait_for 300 booted v1 $((before + 1))
claim 'in a new QEMU' test "$(qemu_pid v1)" != "$pid"
claim 'a clean stop' lxc stop v1 --timeout 120
same 'has stopped it' STOPPED state v1
claim 'all is gone' no_taps
claim 'also QEMU' no_qemu

must lxc start v1
kill -9 "$(qemu_pid v1)"
claim 'the end of QEMU is the end' wait_for 30 is v1 STOPPED
claim 'and leaves no memory' nothing_mounted
claim 'and no interfaces' no_taps
must lxc start v1
pid=$(qemu_pid v1)
daemon_kill
kill -9 "$pid"
daemon_start
claim 'it starts again when both died' wait_for 60 is v1 RUNNING
claim 'a forced stop' lxc stop v1 --force
claim 'leaves nothing' nothing_mounted
must lxc init vm v2 --vm --ephemeral -p default -p small
must lxc start v2
must lxc stop v2 --force
refuse 'an ephemeral one is gone with its stop' 'not found' lxc info v2
refuse 'encrypted memory is refused where there is none' 'AMD SEV is not supported' \
    sh -c 'lxc init vm v3 --vm -p default -p small -c security.sev=true -c migration.stateful=false && lxc start v3'
refuse 'a BIOS with secure boot is refused' 'CSM' \
    sh -c 'lxc init vm v4 --vm -p default -p small -c security.secureboot=true && lxc start v4'
must lxc delete v1
e2e_end
