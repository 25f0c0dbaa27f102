# vmpair.sh: what the suites of live moves share: two agents in network namespaces of their own with a segment between
# them, "main" here and "second" there, which trust each other; and a guest that writes its memory and answers pings.
# Sourced first, in place of lib.sh, which it reads.
#     vm_make RATE      makes 'vm', whose guest is to write RATE MB/s; vm_ready starts it and waits for its guest
#     agent_here, agent_there     start an agent (again); $DAEMON_ENV is added to its environment
#     pages_right       "bad=0" when every page of the guest is what it wrote
#     left AGENT        what is there of 'vm': QEMU, memory, volume, run directory
#     settled           one QEMU runs, and just the agent that has it says so
#     home              back to "main", whoever has it
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
e2e_begin "$@"
need python3 qemu-system-x86_64 rsync ping nsenter
guest=$HAWSER_BUILD/guest
"$E2E_LIB/../guest/build" "$guest" >>"$E2E_DIR/log" 2>&1 || e2e_skip_all "no kernel for a test guest"
boot=$(e2e_boot_dir "$guest")
T=$E2E_DIR
E2E_COMMAND_S=150

# ---- two hosts: one segment between them, a bridge on each ----
A=10.94.50.1 B=10.94.50.2
mkdir -p /run/netns
must mount -t tmpfs none /run/netns # names of our own
must ip netns add there
must ip link add wire type veth peer name wire netns there
must ip link add vmbr type bridge forward_delay 0
must ip link set wire master vmbr
must ip addr add $A/24 dev vmbr
ip link set wire up; ip link set vmbr up
far() { ip netns exec there "$@"; }
must far ip link add vmbr type bridge forward_delay 0
must far ip link set wire master vmbr
must far ip addr add $B/24 dev vmbr
far ip link set wire up; far ip link set vmbr up; far ip link set lo up

# ---- two agents ----
# A guest's memory is a mount: an agent that is started again there has to see those of the one before it.
ip netns exec there sleep infinity &
there_pid=$!
agent_there() { # starts the second one in its namespace
    # shellcheck disable=SC2086
    daemon_use second
    mkdir -p "$LXD_DIR"; chmod 711 "$LXD_DIR"
    nsenter -t $there_pid -m -n env ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:disable_coredump=1" ${DAEMON_ENV:-} \
        "$(hawserd_path)" --dir "$LXD_DIR" --group root >>"$T/second.log" 2>&1 </dev/null &
    e2e_pid[second]=$!
    daemon_ready second || e2e_bail "agent 'second' did not become ready"
}
agent_here() { daemon_start main; }
agent_here
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default size=64MiB
must lxc config set core.https_address $A:8443
agent_there
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default size=64MiB
must lxc config set core.https_address $B:8443
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
must lxc remote add second "$token" --accept-certificate

# ---- a guest ----
# QEMU is in the directory that it may write, and makes the console's socket there.
ask_of() { python3 "$E2E_LIB/../guest/ask.py" "$T/$1/qemu/serial" "$2" "$3" "${4:-60}" 2>/dev/null; } # agent/run/machine
ask_at() { local at=$1; shift; ask_of "$at/run/vm" "$@"; }
ask() { ask_at main "$@" || ask_at second "$@"; }
hears() { ask gap 'gap us' 3; }
vm_make() { # rate
    must lxc init vm --vm --empty -c limits.memory=192MiB -c security.secureboot=false -c security.csm=true \
        -c migration.stateful=true -c raw.qemu="-serial unix:serial,server=on,wait=off -kernel $boot/kernel -initrd $boot/initrd -append 'console=ttyS1 quiet panic=-1 guest.fill=48 guest.hot=24 guest.rate=$1 guest.ip=10.94.50.9/24'"
    must lxc config device add vm eth0 nic nictype=bridged parent=vmbr
}
vm_ready() { must lxc start vm; wait_for 90 hears || e2e_bail "the guest does not come up"; wait_for 60 pings; }
pings() { ping -n -q -c 1 -W 1 10.94.50.9; } >/dev/null 2>&1
pages_right() { ask check checked | grep -o 'bad=[0-9]*'; }
pages_right_of() { ask_of "$1" check checked | grep -o 'bad=[0-9]*'; }
now_ms() { date +%s%3N; }
runs_at() { [ "$(state_of "$1")" = vm,RUNNING ]; }
state_of() { lxc list "$1" -f csv -c ns 2>/dev/null | tr -d '\r'; }
# What is there of it: QEMUs, memory mounts, taps, rows.
left() { # agent's name
    find "$T/$1/memory" -mindepth 1 2>/dev/null | sed "s,$T/,,"
    find "$T/$1/virtual-machines" "$T/$1/run" -mindepth 1 -maxdepth 1 2>/dev/null | sed "s,$T/,,"
    e2e_qemus "$T/$1"
}
one_qemu() { e2e_qemus "$T" | wc -l; }

# ---- what came of a move ----
settled() { # one QEMU, and the agent that has it says so; the other has nothing of it
    [ "$(one_qemu)" = 1 ] || return 1
    case "$(state_of vm)/$(state_of second:vm)" in
    vm,RUNNING/) [ -z "$(left second)" ] ;;
    vm,STOPPED/vm,RUNNING | /vm,RUNNING) true ;;
    *) return 1 ;;
    esac
}
home() { # back to the first agent, whoever has it
    [ "$(state_of second:vm)" = vm,RUNNING ] || return 0
    quiet lxc delete -f vm
    lxc move second:vm vm >>"$T/log" 2>&1
}
