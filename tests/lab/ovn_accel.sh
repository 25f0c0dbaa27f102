# Containers on an OVN network with the kernel's own Open vSwitch datapath: one on a virtual function of the simulated
# NIC (a packet sent on the function comes out of its representor), one on a veth pair, and a third across a peering.
. tests/lab/lib.sh
export HAWSER_DIR=/tmp/hawser HAWSER_CONF=/tmp/conf HAWSER_HW=sim:/tmp/nic
hawser() { timeout 90 "$HAWSER_BUILD/ctl/hawser" "$@" </dev/null; }
must() {
    "$@" >/tmp/must.log 2>&1 && return
    nok "$*"
    sed 's/^/# /' /tmp/must.log
    tail -n 30 /tmp/agent.log | sed 's/^/# /'
    done_lab
}
vs() { timeout 20 ovs-vsctl --db="unix:$HAWSER_DIR/ovn/db.sock" "$@"; }
# reaches CLAIM FROM ADDRESS: in the end; flows come when OVN has computed them, which takes long on a busy host
reaches() {
    local answer until=$((SECONDS + 60))
    until answer=$(hawser exec "$2" -- ping -c 1 -W 2 "$3" 2>&1); do
        if [ $SECONDS -ge $until ]; then
            nok "$1"
            { echo "$answer"; vs show; tail -n 5 "$HAWSER_DIR"/ovn/*.log; } | sed 's/^/# /'
            return
        fi
    done
    ok "$1"
}
state_of() { hawser hw list -f json | jq -r "[.pfs[].vfs[].state] | map(select(. == \"$1\")) | length"; }

"$HAWSER_BUILD/agent/hawserd" --dir "$HAWSER_DIR" >/tmp/agent.log 2>&1 &
agent=$!
must hawser waitready -t 60
must hawser storage create default dir
must hawser profile device add default root disk path=/ pool=default
# An image of busybox alone: unpacking the usual one takes a minute here.
mkdir -p /tmp/image/rootfs/{bin,sbin,dev,etc,proc,sys,tmp,root,run,mnt,var}
cp /bin/busybox /tmp/image/rootfs/bin/
for applet in sh ping ip cat ls sleep true; do ln -s busybox "/tmp/image/rootfs/bin/$applet"; done
ln -s ../bin/busybox /tmp/image/rootfs/sbin/init
echo '::respawn:/bin/sleep 100000' >/tmp/image/rootfs/etc/inittab
printf 'architecture: x86_64\ncreation_date: 1700000000\n' >/tmp/image/metadata.yaml
tar -C /tmp/image -cf /tmp/busybox.tar metadata.yaml rootfs
must hawser image import /tmp/busybox.tar --alias busybox
must hawser network create up0 ipv4.address=10.94.60.1/24 ipv4.nat=false ipv6.address=none \
    ipv4.dhcp.ranges=10.94.60.100-10.94.60.150 ipv4.ovn.ranges=10.94.60.200-10.94.60.220
for n in 1 2; do
    must hawser network create o$n --type=ovn network=up0 ipv4.address=10.95.$n.1/24 ipv4.nat=true ipv6.address=none
done
must hawser network peer create o1 to2 o2
must hawser network peer create o2 to1 o1

# container NAME NETWORK ADDRESS [KEY=VALUE…]: running, its address set
container() {
    local name=$1 network=$2 address=$3
    shift 3
    must hawser init busybox "$name"
    must hawser config device add "$name" eth0 nic network="$network" ipv4.address="$address" "$@"
    must hawser start "$name"
    must hawser exec "$name" -- sh -c "ip addr add $address/24 dev eth0; ip link set eth0 up; ip route add default via ${address%.*}.1"
}
container fast o1 10.95.1.12 acceleration=sriov
container plain o1 10.95.1.11
container far o2 10.95.2.11

is "the datapath is the kernel's" system "$(vs get Bridge br-int datapath_type)"
is "one virtual function is used" 1 "$(state_of used)"
rep=$(hawser hw list -f json | jq -r '.pfs[].vfs[] | select(.state == "used") | .representor')
like "its representor is on br-int" "*$rep*" "$(vs list-ports br-int | tr '\n' ' ')"
like "for the container's logical port" "*eth0*" "$(vs get Interface "$rep" external_ids:iface-id)"
like "the function itself is the container's eth0" "*eth0*" "$(hawser exec fast -- ip -o link show eth0)"
reaches "a plain container reaches it" plain 10.95.1.12
reaches "it reaches the plain one" fast 10.95.1.11
reaches "and one across a peering" fast 10.95.2.11
before=$(cat "/sys/class/net/$rep/statistics/rx_packets")
hawser exec fast -- ping -c 2 -W 5 10.95.1.11 >/dev/null
[ "$(cat "/sys/class/net/$rep/statistics/rx_packets")" -gt "$before" ] &&
    ok "its packets come through the representor" || nok "its packets come through the representor"
like "a function in use is not taken away" "*in use*stop what uses*" "$(hawser hw prepare "${rep%r*}" --vfs 8 2>&1)"
must hawser stop -f fast
is "stopped, it gives the function back" 0 "$(state_of used)"
is "and all are free" 8 "$(state_of free)"
like "nothing of it stays on br-int" "absent" "$(vs list-ports br-int | grep -qx "$rep" || echo absent)"
kill "$agent"
wait "$agent"
is "no sanitizer had anything to say" "" "$(grep -E 'ERROR: .*Sanitizer|runtime error' /tmp/agent.log "$HAWSER_DIR"/logs/hawser-dpd.log)"
done_lab
