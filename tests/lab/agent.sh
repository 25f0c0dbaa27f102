# agent.sh: the agent in scripts of this folder; source it after lib.sh.
export HAWSER_DIR=/tmp/hawser HAWSER_CONF=/tmp/conf
export HAWSER_HW=${HAWSER_HW:-kernel}
hawser() { timeout 90 "$HAWSER_BUILD/ctl/hawser" "$@" </dev/null; }
vs() { timeout 20 ovs-vsctl --db="unix:$HAWSER_DIR/ovn/db.sock" "$@"; }
# must COMMAND…: a preparation without which nothing else makes sense
must() {
    "$@" >/tmp/must.log 2>&1 && return
    nok "$*"
    sed 's/^/# /' /tmp/must.log
    tail -n 30 /tmp/agent.log | sed 's/^/# /'
    done_lab
}
agent_start() {
    "$HAWSER_BUILD/agent/hawserd" --dir "$HAWSER_DIR" >>/tmp/agent.log 2>&1 &
    agent=$!
    must hawser waitready -t 60
    [ -e /tmp/agent.pool ] && return
    touch /tmp/agent.pool
    must hawser storage create default dir
    must hawser profile device add default root disk path=/ pool=default
}
agent_kill() {
    kill -KILL "$agent"
    wait "$agent" 2>/dev/null
}
# agent_image: an image "busybox" of busybox alone; unpacking the usual one takes a minute here
agent_image() {
    mkdir -p /tmp/image/rootfs/{bin,sbin,dev,etc,proc,sys,tmp,root,run,mnt,var}
    cp /bin/busybox /tmp/image/rootfs/bin/
    for applet in sh ping ip cat ls sleep true; do ln -s busybox "/tmp/image/rootfs/bin/$applet"; done
    ln -s ../bin/busybox /tmp/image/rootfs/sbin/init
    echo '::respawn:/bin/sleep 100000' >/tmp/image/rootfs/etc/inittab
    printf 'architecture: x86_64\ncreation_date: 1700000000\n' >/tmp/image/metadata.yaml
    tar -C /tmp/image -cf /tmp/busybox.tar metadata.yaml rootfs
    must hawser image import /tmp/busybox.tar --alias busybox
}
# agent_ovn: an uplink "up0" and an OVN network "o1", 10.95.1.0/24
agent_ovn() {
    must hawser network create up0 ipv4.address=10.94.60.1/24 ipv4.nat=false ipv6.address=none \
        ipv4.dhcp.ranges=10.94.60.100-10.94.60.150 ipv4.ovn.ranges=10.94.60.200-10.94.60.220
    must wait_for 120 hawser network create o1 --type=ovn network=up0 ipv4.address=10.95.1.1/24 ipv4.nat=true ipv6.address=none
}
# agent_remote_self: the agent is lxc's remote "self", by its HTTPS address
agent_remote_self() {
    local token
    token=$(hawser config trust add --name self -q | tail -n 1)
    export LXD_DIR=$HAWSER_DIR LXD_CONF=/tmp/lxc
    must wait_for 60 timeout 60 lxc remote add self "$token" --accept-certificate
}
# lab_kernel: $vnetguest is the lab's guest where QEMU's user can read it
lab_kernel() { vnetguest=/tmp/vnetguest; [ -e $vnetguest ] || install -m 644 "$HAWSER_BUILD/tests/lab/vnetguest" $vnetguest; }
# agent_vm NAME: a small one that may move, with the lab's guest for a kernel
agent_vm() {
    lab_kernel
    must hawser profile device set default root size=16MiB
    must hawser init --empty --vm "$1" -c security.secureboot=false -c security.csm=true -c limits.memory=64MiB \
        -c migration.stateful=true -c raw.qemu="-kernel $vnetguest"
}
agent_end() {
    kill "$agent"
    wait "$agent"
    is "the agent ends cleanly" 0 $?
    is "no sanitizer had anything to say" "" "$(grep -hE 'ERROR: .*Sanitizer|runtime error' /tmp/agent.log "$HAWSER_DIR"/logs/hawser-dpd.log 2>/dev/null)"
}
