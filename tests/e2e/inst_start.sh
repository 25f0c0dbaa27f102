#!/bin/bash
# inst_start: where a container's namespaces and interfaces come from: made ahead by the helper that starts it, with
# its end of the pair made inside at once; by liblxc where a NIC or raw.lxc wants that; and what a start leaves that fails.
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
inside() { lxc exec "$1" -- sh -c "$2"; }
must lxc network create sb0 ipv4.address=10.94.70.1/24 ipv6.address=none
seen() { # names of interfaces that this host had while the command ran, but for $1
    local mine=$1 log=$E2E_DIR/seen.$RANDOM pid
    shift
    ip -o monitor link >"$log" 2>/dev/null &
    pid=$!
    ip link add mark0 type bridge # the monitor listens once it has told of this one
    wait_for 20 sh -c "grep -q mark0 $log || { ip link set mark0 down; ip link set mark0 up; false; }"
    "$@" >&2 || return
    ip link add mark1 type bridge
    wait_for 20 grep -q mark1 "$log"
    kill "$pid"
    ip link del mark0
    ip link del mark1
    grep -oE '^(Deleted )?[0-9]+: [^:@]+' "$log" | sed 's/.*: //' | sort -u | grep -vE "^(mark[01]|e2ebr0|sb0|$mine)\$"
}

# ---- made inside ----
must lxc init busybox c1 -n sb0
must lxc config device set c1 eth0 host_name=inside0
must lxc config device set c1 eth0 hwaddr=00:16:3e:11:22:33
same 'its end was never on the host' '' seen inside0 lxc start c1
shows 'it has the name, is up' '^[0-9]+: eth0@if[0-9]+: <.*,UP' inside c1 'ip link show eth0'
same 'has the MAC' 00:16:3e:11:22:33 inside c1 'cat /sys/class/net/eth0/address'
claim 'and the network' wait_for 30 inside c1 'ping -c1 -W1 10.94.70.1'
shows 'the loopback is up' 'LOOPBACK,UP' inside c1 'ip link show lo'
claim "the container's root may change it" inside c1 'ip link set eth0 mtu 1400 && ip link add d0 type bridge && ip link del d0'
same 'ids are mapped' "$(lxc config get c1 volatile.idmap.current | jq -r '.[] | select(.Isuid) | "\(.Nsid) \(.Hostid) \(.Maprange)"')" \
    inside c1 "sed 's/  */ /g; s/^ //; s/ \$//' /proc/self/uid_map"
claim 'a file is put with its owner' sh -c 'echo x | lxc file push --uid 5 --gid 6 - c1/root/f && [ "$(lxc exec c1 -- stat -c %u:%g /root/f)" = 5:6 ]'
same 'a plugged one was never on the host' '' seen plug0 lxc config device add c1 eth1 nic nictype=p2p name=eth1 host_name=plug0
shows 'and is there' '^[0-9]+: eth1@if[0-9]+: <.*,UP' inside c1 'ip link show eth1'
claim 'it is unplugged' lxc config device remove c1 eth1
refuse 'and gone' "can't find|does not exist" inside c1 'ip link show eth1'
claim 'a restart makes it anew' lxc restart -f c1
shows 'with the same MAC' '00:16:3e:11:22:33' inside c1 'cat /sys/class/net/eth0/address'
daemon_kill
daemon_start
shows 'it outlives a killed agent' '^c1,RUNNING' lxc list c1 -f csv -c ns
claim 'it stops' lxc stop -f c1
refuse 'its pair is gone' 'does not exist|Cannot find' ip link show inside0

# ---- other maps ----
claim 'a privileged one' lxc launch busybox c2 -n sb0 -c security.privileged=true
same 'has no map of its own' '0 0 4294967295' inside c2 "sed 's/  */ /g; s/^ //; s/ \$//' /proc/self/uid_map"
claim 'has its network' wait_for 30 inside c2 'ping -c1 -W1 10.94.70.1'
claim 'an isolated one with an id of the host' lxc launch busybox c3 -n sb0 -c security.idmap.isolated=true -c raw.idmap='both 1000 1000'
shows 'has it' '^ *1000 +1000 +1$' inside c3 'cat /proc/self/uid_map'
claim 'and its network' wait_for 30 inside c3 'ping -c1 -W1 10.94.70.1'
claim 'one without a NIC' sh -c 'lxc init busybox c4 -s default && lxc config device add c4 eth0 none && lxc start c4'
same 'has the loopback alone' lo inside c4 'ls /sys/class/net'

# ---- by liblxc ----
must lxc init busybox c5 -n sb0 -c raw.lxc='lxc.net.0.ipv4.address = 10.94.70.77/24'
must lxc config device set c5 eth0 name=lan0 # its DHCP client is for eth0
claim "raw.lxc's address" lxc start c5
shows 'is there' '10.94.70.77/24' inside c5 'ip addr show lan0'
ip link add par0 type bridge && ip link set par0 up
must lxc init busybox c6 -n sb0
must lxc config device add c6 eth1 nic nictype=macvlan parent=par0 name=eth1
claim 'a pair beside a macvlan' lxc start c6
same 'are both there' 'eth0 eth1 lo' inside c6 'cd /sys/class/net; echo *'

# ---- a start that fails ----
must lxc init busybox c7 -n sb0
must lxc config device set c7 eth0 host_name=fail0
must lxc config set c7 raw.lxc 'lxc.init.cmd = /nonexistent'
refuse 'an init that is not there' 'forkstart c7' lxc start c7
refuse 'leaves no pair' 'does not exist|Cannot find' ip link show fail0
claim 'and no process' wait_for 20 sh -c '! ps -eo args | grep -q "[f]orkstart c7"'
must lxc config unset c7 raw.lxc
must lxc config device add c7 bad unix-char source=/dev/nothere path=/dev/x
refuse 'a device that is not there' 'bad' lxc start c7
refuse 'leaves no pair either' 'does not exist|Cannot find' ip link show fail0
claim 'nor a process' wait_for 20 sh -c '! ps -eo args | grep -q "[f]orkstart c7"'
must lxc config device remove c7 bad
claim 'put right, it starts' lxc start c7
must lxc delete -f c1 c2 c3 c4 c5 c6 c7
must lxc network delete sb0
ip link del par0
e2e_end
