#!/bin/bash
# Instances at the poll-mode engine as a host of guests has them: a virtual machine whose NIC is shared memory
# (vhost-user; QEMU's emulator), and a container behind an AF_XDP socket. A Linux router is the slow path. TAP.
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/poll.sh"
poll_begin "$@"
lab_need qemu-system-x86_64
GUEST=${HAWSER_BUILD:-$HERE/../../build}/guest
"$HERE/../guest/build" "$GUEST" >"$LAB_DIR/guest.log" 2>&1 || { echo "1..0 # SKIP no kernel for a test guest"; exit 77; }
lab_router >/dev/null 2>&1
in_ns a ethtool -K eth0 tx off >/dev/null 2>&1
poll_start

# ---- the ports ----
slow() { echo "slow=net_af_packet_s$1,iface=s$1"; }
add_xdp() {
    ask add id=a device=net_af_xdp_a,iface=ha "$(slow a)" mac=02:00:00:00:00:0a zone=5 addresses=10.1.0.2,fd01::2
}
add_third() { ask add id=c device=net_af_xdp_c,iface=hc mac=02:00:00:00:00:0c zone=6 addresses=10.3.0.2; }
add_vm() {
    ask add id=b "device=net_vhost_b,iface=$LAB_DIR/b.vhost${1:+,$1}" "$(slow b)" mac=02:00:00:00:00:0b zone=5 addresses=10.2.0.2
}
vm_start() {
    qemu-system-x86_64 -accel tcg -m 160 -display none -serial "file:$LAB_DIR/serial" -monitor none -no-reboot -nic none \
        -object memory-backend-memfd,id=ram,size=160M,share=on -machine pc,memory-backend=ram \
        -chardev "socket,id=c0,path=$LAB_DIR/b.vhost${chardev:-}" -netdev vhost-user,id=n0,chardev=c0 \
        -device virtio-net-pci,netdev=n0,mac=02:00:00:00:00:0b,vectors=0,romfile= \
        -kernel "$GUEST/kernel" -initrd "$GUEST/initrd" \
        -append 'console=ttyS0 quiet panic=-1 guest.ip=10.2.0.2/24 guest.gateway=10.2.0.1' >"$LAB_DIR/qemu.log" 2>&1 </dev/null &
    vm=$!
}
vm_end() { kill -9 $vm; wait $vm 2>/dev/null; }
fast_echoes() { local before; before=$(field fast); ping_a -c 20 -i 0.05 10.2.0.2 && grew field fast $((before + 10)); }

claim 'a container behind an AF_XDP socket' add_xdp
claim 'its driver is that' eval 'ask status | grep -q "^port a .*device=net_af_xdp slow=net_af_packet"'
claim 'its packets leave by it' wait_for 20 ping_a -c 1 10.1.0.1
claim 'a port that waits for a virtual machine' add_vm
vm_start
claim 'the guest answers, over shared memory' wait_for 120 ping_a -c 1 10.2.0.2
claim 'soon by the fast path' wait_for 20 fast_echoes
claim 'with the TTL of the slow path' eval 'in_ns a ping -c 1 -W 2 10.2.0.2 | grep -q ttl=63'
listed() { ping_a -c 8 -i 0.05 10.2.0.2 && ask status 100 >"$LAB_DIR/flows" && grep -q "^flow icmp 10.1.0.2:.* from=a to=b state=fast" "$LAB_DIR/flows" &&
    grep -q "^flow icmp 10.2.0.2:.* from=b to=a state=fast" "$LAB_DIR/flows"; }
claim 'either way round' wait_for 30 listed

# ---- either end goes and comes ----
vm_end
claim 'the guest ends: the others go on' wait_for 20 ping_a -c 1 10.1.0.1
vm_start
claim 'it starts again at the same port' wait_for 120 ping_a -c 1 10.2.0.2
claim 'fast' wait_for 20 fast_echoes
lab_instance c 3
turns() { local turn; for turn in 1 2 3 4 5; do add_third && ask remove c || return 1; done; }
claim 'another AF_XDP port comes and goes five times: nobody holds the interface' turns
claim 'which is left without a program' eval '! ip link show hc | grep -q xdp'
# A few may be on their way elsewhere at that moment.
pools() { sed -n 's/.*poll.pool .*whole=//p' "$LAB_DIR/log" | sort -n | sed -n '1p;$p' | tr '\n' ' '; }
same() { [ $# = 2 ] && [ "$1" -gt 4000 ] && [ $(($2 - $1)) -lt 100 ]; }
claim 'nor are the packets of its pool lost' same $(pools)
# Half of a pool's packets were ones that the kernel does not know, and what went by them was dropped.
anew() { local turn; for turn in $(seq 8); do ask remove a && add_xdp && ping_a -c 5 -i 0.02 -W 10 10.1.0.1 >"$LAB_DIR/pings" &&
    grep -q ' 0% packet loss' "$LAB_DIR/pings" || { echo "turn $turn"; cat "$LAB_DIR/pings"; return 1; }; done; }
claim 'eight times anew, the port loses no packet' anew
flood() { ping_a -q -f -c 12000 -W 2 10.1.0.1 >"$LAB_DIR/pings" && grep -q ' 0% packet loss' "$LAB_DIR/pings" || { cat "$LAB_DIR/pings"; return 1; }; }
claim 'nor when every packet of its pool has been used' flood
claim 'the port of a running guest is removed' ask remove b
claim 'with its socket' test ! -e "$LAB_DIR/b.vhost"
vm_end

# ---- the process goes and comes: ports by itself, the guest goes on ----
claim 'a port that asks the guest' add_vm client=1
chardev=,server=on
vm_start
claim 'finds it' wait_for 120 ping_a -c 1 10.2.0.2
claim 'fast' wait_for 20 fast_echoes
kill -9 $daemon
wait $daemon 2>/dev/null
mv "$LAB_DIR/log" "$LAB_DIR/log.killed"
poll_start
claim 'killed and started again, it has its ports' eval 'ask status >"$LAB_DIR/status" && grep -q "^port a .*device=net_af_xdp" "$LAB_DIR/status" && grep -q "^port b .*device=net_vhost" "$LAB_DIR/status"'
claim 'with the same guest behind' wait_for 60 ping_a -c 1 10.2.0.2
claim 'soon fast again' wait_for 20 fast_echoes
claim 'as the guest is the same process' kill -0 $vm
vm_end
poll_end
poll_plan
