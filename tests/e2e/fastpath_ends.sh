#!/bin/bash
# fastpath_ends: on a real OVN that the agent runs itself: a virtual machine's tap on the fast path, several equal ways
# (ECMP) of OVN's router, and hawser-dpd replaced by another build of itself under load.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl nsenter python3 ping qemu-system-x86_64
guest=$HAWSER_BUILD/guest
"$E2E_LIB/../guest/build" "$guest" >>"$E2E_DIR/log" 2>&1 || e2e_skip_all "no kernel for a test guest"
boot=$(e2e_boot_dir "$guest")
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
mkdir "$E2E_DIR/bin"
dpd=${HAWSER_DPD:-$HAWSER_BUILD/dataplane/hawser-dpd}
must cp "$dpd" "$E2E_DIR/bin/hawser-dpd"
DAEMON_ENV="HAWSER_DPD=$E2E_DIR/bin/hawser-dpd" daemon_start
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default size=64MiB
e2e_image busybox
O=$LXD_DIR/ovn
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
pid_of() { lxc query "/1.0/instances/$1/state" | jq .pid; }
one() { timeout 60 nsenter -t "$P1" -n "$@"; } # in c1's network
two() { timeout 60 nsenter -t "$P2" -n "$@"; } # in c2's
packets() { one python3 "$E2E_LIB/planepackets.py" "$@"; }
pings() { one ping -q -W 1 "$@"; }
plane() { api_meta GET /1.0/hawser/dataplane; }
count() { plane | jq ".packets[\"$1\"]"; }
grew() { [ "$(count "$1")" -ge "$2" ]; } # VERDICT LEAST
port_is_fast() { plane | jq -e ".ports[] | select(.nic == \"default/$1/eth0\") | .fast" >/dev/null; }
ttl_of() { one ping -c 1 -W 2 "$1" | grep -o 'ttl=[0-9]*'; }
same_ttl() { [ "$(ttl_of "$1")" = "$2" ]; }
# After a packet that got lost or went slow a flow waits a moment: CMD again until so many packets were fast.
fast_by() { # LEAST CMD…
    local least=$1 before; shift
    before=$(count hit)
    for _ in 1 2 3 4 5 6; do "$@" || return; ! grew hit $((before + least)) || return 0; done
    return 1
}

must lxc network create upbr0 ipv4.address=10.94.63.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.94.63.100-10.94.63.150 \
    ipv4.ovn.ranges=10.94.63.200-10.94.63.220 ipv6.address=none
must lxc network create o1 --type=ovn network=upbr0 ipv4.address=10.95.11.1/24 ipv4.nat=true ipv6.address=none
must lxc network create o2 --type=ovn network=upbr0 ipv4.address=10.95.12.1/24 ipv4.nat=true ipv6.address=none
must lxc network peer create o1 to2 o2
must lxc network peer create o2 to1 o1
for name in 1 2; do
    must lxc init busybox c$name -n o$name
    must lxc config device set c$name eth0 "ipv4.address=10.95.1$name.7"
    must lxc start c$name
done
must lxc init vm --vm --empty -c limits.memory=160MiB -c security.secureboot=false -c security.csm=true \
    -c raw.qemu="-kernel $boot/kernel -initrd $boot/initrd -append 'console=ttyS0 quiet panic=-1 guest.ip=10.95.12.9/24 guest.gateway=10.95.12.1'"
must lxc config device add vm eth0 nic network=o2 ipv4.address=10.95.12.9
must lxc start vm
unpolled() { grep -c 'nic.unpolled inst=vm nic=eth0' "$E2E_DIR/main.log"; }
same 'a NIC that does not ask to be polled is no matter for the log' 0 unpolled
must lxc stop -f vm
must lxc config device set vm eth0 hawser.poll=true
must lxc start vm
same 'one of a virtual machine that does is not, which the log says' 1 unpolled
P1=$(pid_of c1) P2=$(pid_of c2)
if [ "$(plane | jq .available)" != true ]; then
    skip 'the fast path' "$(plane | jq -r .why)"
    e2e_end
fi
for name in c1 c2 vm; do claim "the port of $name may be fast" wait_for 30 port_is_fast $name; done
claim 'the containers have their addresses' wait_for 60 pings -c 1 10.95.12.7

# ---- a virtual machine ----
tap() {
    claim 'the guest answers' wait_for 120 pings -c 1 10.95.12.9
    quiet hawser_off
    local ttl; ttl=$(ttl_of 10.95.12.9)
    quiet hawser_on
    claim 'its echoes are fast' fast_by 30 pings -c 25 -i 0.05 10.95.12.9
    claim 'large ones, too' fast_by 30 pings -c 25 -i 0.05 -s 1400 10.95.12.9
    claim 'with the TTL of the switch' same_ttl 10.95.12.9 "$ttl"
}
hawser_off() { "$(hawser_path)" dataplane off; }
hawser_on() { "$(hawser_path)" dataplane on; }
tap
claim 'it starts again, with another tap' lxc restart -f vm
claim 'which may be fast' wait_for 30 port_is_fast vm
tap

# ---- several equal ways: to one end by two of its addresses, then with one that nobody has ----
lr2=lxd-net$(nb --bare --columns=name find Logical_Switch other_config:subnet=10.95.12.0/24 | sed 's/lxd-net\([0-9]*\)-.*/\1/')-lr
nsenter -t "$P2" -n python3 "$E2E_LIB/planepackets.py" echo 7100 >"$E2E_DIR/echo" 2>&1 &
must two ip addr add 10.95.12.8/24 dev eth0
way() { must nb --wait=hv --ecmp lr-route-add "$lr2" 10.95.12.7/32 "$1"; } # NEXT HOP
no_way() { must nb --wait=hv lr-route-del "$lr2" 10.95.12.7/32 "$1"; }
way 10.95.12.7
way 10.95.12.8
claim 'two equal ways' wait_for 30 packets trips 10.95.12.7 7100 1
claim 'are fast' fast_by 80 packets trips 10.95.12.7 7100 60
reached() { packets connects 10.95.12.7 7100 "$1" 16; }
same 'each of 16 connections comes about' "$(seq -s ' ' 0 15)" reached 41001
no_way 10.95.12.8
way 10.95.12.66
quiet hawser_off
slowly=$(reached 42001)
e2e_diag <<<"with a way that ends at nobody: $slowly"
claim 'with a way that ends at nobody some do, and some do not' test "$slowly" != '' -a "$(wc -w <<<"$slowly")" -lt 16
quiet hawser_on
before=$(count hit)
same 'and the same connections come about' "$slowly" reached 42001
claim 'fast' grew hit $((before + 40))
no_way 10.95.12.66
no_way 10.95.12.7

# ---- another build of hawser-dpd follows, under load ----
numbered() { # SECONDS [WINDOW PATIENCE]: numbered datagrams from c1 to c2
    two python3 "$E2E_LIB/../bpf/numbered.py" receive 9000 >"$E2E_DIR/numbers" 2>&1 &
    receiver=$!
    wait_for 20 two grep -q ':2328 ' /proc/net/udp || return
    one python3 "$E2E_LIB/../bpf/numbered.py" send 10.95.12.7 9000 "$@" &
    sender=$!
}
dpd_pid() { cat "$LXD_DIR/dpd/dpd.pid" 2>/dev/null || pgrep -f "hawser-dpd .*--dir $LXD_DIR/dpd" | head -1; }
runs_new() { [ "$(dpd_pid)" != "$old" ] && [ "$(readlink "/proc/$(dpd_pid)/exe")" = "$E2E_DIR/bin/hawser-dpd" ] && port_is_fast c2; }
programs() { # which the interfaces have
    local link
    for link in "$LXD_DIR"/dpd/bpf/fast/*gress_*; do /usr/sbin/bpftool -j link show pinned "$link" | jq .prog_id; done | sort -u | tr '\n' ' '
}
others() { [ "$(programs)" != "$before" ]; }
held() { plane | jq -c '[.packets.off, .packets.generation]'; }
upgrade() { # as a package does it: a new file in the old one's place, then the old process is asked to end
    cp "$dpd" "$E2E_DIR/bin/next"
    printf 'build %s' "$RANDOM" >>"$E2E_DIR/bin/next"
    mv "$E2E_DIR/bin/next" "$E2E_DIR/bin/hawser-dpd"
    old=$(dpd_pid)
    kill -TERM "$old"
    wait_for 30 runs_new
}
numbered 10
one python3 "$E2E_LIB/planepackets.py" tcp 10.95.12.7 7100 30000000 >"$E2E_DIR/tcp" 2>&1 &
bulk=$!
hits=$(count hit)
must wait_for 20 grew hit $((hits + 5000))
held=$(held) before=$(programs)
claim 'another build follows' upgrade
claim 'its programs are at the interfaces' wait_for 10 others
claim 'and one more' upgrade
wait $sender; wait $receiver
shows 'under load, nothing was lost or twice' 'lost 0 twice 0' cat "$E2E_DIR/numbers"
e2e_diag <"$E2E_DIR/numbers"
claim 'bulk TCP brought every byte' wait $bulk
same 'for nothing that was learned was forgotten, or held' "$held" held

# ---- one that keeps its tables in another way: flows end, packets don't (bulk TCP would overwhelm the switch) ----
relayout() { # what hawser-dpd has pinned says that it is of another layout
    local config=$LXD_DIR/dpd/bpf/fast/haw_config value
    value=$(/usr/sbin/bpftool -j map lookup pinned "$config" key 0 0 0 0 | jq -r '.value | join(" ")')
    # shellcheck disable=SC2086
    /usr/sbin/bpftool map update pinned "$config" key 0 0 0 0 value 0x63 ${value#* }
}
numbered 10 150 2 # they take the slow way for a while: no more than its sockets hold
hits=$(count hit)
must wait_for 20 grew hit $((hits + 5000))
before=$(programs)
must relayout
claim 'one of another layout follows' upgrade
claim 'with programs of its own' wait_for 10 others
wait $sender; wait $receiver
shows 'though flows ended, nothing was lost or twice' 'lost 0 twice 0' cat "$E2E_DIR/numbers"
e2e_diag <"$E2E_DIR/numbers"
claim 'and flows are fast again' wait_for 30 fast_by 30 pings -c 25 -i 0.05 10.95.12.7

# ---- one that may not load programs: what its forerunner left does not swallow packets ----
mkdir "$E2E_DIR/bin/plain"
cp "$dpd" "$E2E_DIR/bin/plain/hawser-dpd"
printf '#!/bin/sh\nexec setpriv --bounding-set -bpf,-sys_admin,-perfmon "%s" "$@"\n' "$E2E_DIR/bin/plain/hawser-dpd" >"$E2E_DIR/bin/next"
chmod 755 "$E2E_DIR/bin/next"
mv "$E2E_DIR/bin/next" "$E2E_DIR/bin/hawser-dpd"
unavailable() { plane | jq -e '.available == false and (.why | contains("CAP_BPF"))' >/dev/null; }
kill -TERM "$(dpd_pid)"
claim 'a hawser-dpd that may not load programs says so' wait_for 30 unavailable
claim 'and echoes arrive' wait_for 60 pings -c 3 10.95.12.7
claim 'the next one may' upgrade
claim 'and they are fast again' wait_for 30 fast_by 30 pings -c 25 -i 0.05 10.95.12.7

# ---- the end ----
must lxc delete -f vm c1 c2
e2e_end
