#!/bin/bash
# lxc_instances: the life of containers, as the unmodified lxc client sees it: launch, states, rename,
# copy, snapshots, configuration, limits, id maps, protection, agents that restart.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
conf() { lxc config get "$@"; }
pid_of() { lxc info "$1" | awk '/^PID:/ {print $2}'; }
state() { lxc list "^$1\$" -f csv -c s; }
in_c1() { lxc exec c1 -- "$@"; }

# ---- states ----
claim 'a container launches' lxc launch busybox c1
shows 'it is listed as running' '^c1,RUNNING,CONTAINER' lxc list -f csv -c nst
same 'it sees its name' c1 in_c1 hostname
claim 'it gets an address from the managed bridge' \
    wait_for 20 sh -c 'lxc list -f csv -c 4 c1 | grep -q "^10\.94\.7\..* (eth0)"'
claim 'its init is not root on the host' \
    sh -c 'test "$(stat -c %u /proc/$(lxc info c1 | awk "/^PID:/ {print \$2}"))" -gt 0'
same 'inside it is root' 0 in_c1 id -u
refuse 'starting it again is refused' 'already running' lxc start c1
refuse 'a second one of that name is refused' 'already exists' lxc init busybox c1
claim 'it can be paused' lxc pause c1
same 'and shows so' FROZEN state c1
claim 'it can be resumed' lxc start c1
same 'and runs again' RUNNING state c1
claim 'a restart' lxc restart -f c1
same 'runs afterwards' RUNNING state c1
claim 'a clean stop' lxc stop c1
same 'shows it stopped' STOPPED state c1
refuse 'stopping it again is refused' 'already stopped' lxc stop c1
refuse 'exec in a stopped one is refused' 'not running' lxc exec c1 -- true
claim 'it starts again' lxc start c1
claim 'a forced stop' lxc stop -f c1
claim 'its rootfs lies where LXD has it' test -d "$LXD_DIR/storage-pools/default/containers/c1/rootfs"
claim 'and the link to it' test -L "$LXD_DIR/containers/c1"
claim 'its log directory exists' test -d "$LXD_DIR/logs/c1"
shows 'info names the image architecture' "Architecture: $(uname -m)" lxc info c1
refuse 'a bad name is refused' '[Ii]nvalid|name' lxc init busybox 'a_b'
refuse 'a name with a dot is refused' '[Ii]nvalid|name' lxc init busybox 'a.b'
refuse 'an image that is not there is refused' 'not be found|not found' lxc init nosuch c9
refuse 'an instance that is not there is refused' 'not found' lxc start nosuch

# ---- configuration ----
claim 'a user key is set' lxc config set c1 user.color blue
same 'and read back' blue conf c1 user.color
claim 'and unset' lxc config unset c1 user.color
same 'and gone' '' conf c1 user.color
refuse 'an unknown key is refused' 'nknown configuration key|nknown.*key' lxc config set c1 no.such.key 1
refuse 'a bad boolean is refused' '[Ii]nvalid value' lxc config set c1 boot.autostart perhaps
refuse 'a bad memory limit is refused' '[Ii]nvalid|parse' lxc config set c1 limits.memory lots
refuse 'a bad cpu limit is refused' '[Ii]nvalid' lxc config set c1 limits.cpu x-y
claim 'the configuration can be edited as YAML' \
    sh -c 'lxc config show c1 | sed "s/^description: .*/description: edited/" | lxc config edit c1'
shows 'and shows the change' '^description: edited' lxc config show c1
shows 'expanded shows the profile' 'network: e2ebr0|nictype: bridged' lxc config show -e c1
hides 'not expanded hides it' 'e2ebr0' lxc config show c1
shows 'the image is named in the configuration' 'image.os: Busybox' lxc config show c1
claim 'metadata can be read' sh -c 'lxc config metadata show c1 | grep -q "os: Busybox"'
shows 'templates are listed' 'hostname.tpl' lxc config template list c1
shows 'and shown' 'container.name' lxc config template show c1 hostname.tpl

# ---- rename, copy ----
claim 'a rename' lxc rename c1 c2
refuse 'the old name is gone' 'not found' lxc info c1
claim 'the directory followed' test -d "$LXD_DIR/storage-pools/default/containers/c2/rootfs"
claim 'it starts under its new name' lxc start c2
refuse 'a running one keeps its name' 'running' lxc rename c2 c3
same 'the hostname template was applied again' c2 lxc exec c2 -- cat /etc/hostname
claim 'and stops' lxc stop -f c2
claim 'back again' lxc move c2 c1
claim 'a copy' lxc copy c1 copied
same 'is there, stopped' STOPPED state copied
hides 'a copy has another address' "$(conf c1 volatile.eth0.hwaddr)" conf copied volatile.eth0.hwaddr
claim 'the copy starts' lxc start copied
same 'under its own name' copied lxc exec copied -- hostname
claim 'and goes' lxc delete -f copied

# ---- snapshots ----
must lxc start c1
claim 'a file inside' in_c1 sh -c 'echo one >/root/state'
claim 'a snapshot of the running container' lxc snapshot c1 one
claim 'another without a name' lxc snapshot c1
same 'is called snap0' snap0 sh -c 'lxc query /1.0/instances/c1/snapshots?recursion=1 | jq -r .[].name | grep snap'
refuse 'a snapshot name taken is refused' 'already exists|exists' lxc snapshot c1 one
claim 'a change' in_c1 sh -c 'echo two >/root/state'
shows 'info lists them' '^\| one|one ' lxc info c1
claim 'restore' lxc restore c1 one
same 'gives the old content back, running' one in_c1 cat /root/state
claim 'a snapshot renamed' lxc rename c1/snap0 c1/other
claim 'shows its new name' sh -c 'lxc query /1.0/instances/c1/snapshots | grep -q snapshots/other'
claim 'a container from a snapshot' lxc copy c1/one fromsnap
claim 'starts' lxc start fromsnap
same 'with its content' one lxc exec fromsnap -- cat /root/state
claim 'and goes' lxc delete -f fromsnap
claim 'a copy takes snapshots along' lxc copy c1 withsnaps --allow-inconsistent
same 'both' 2 sh -c 'lxc query /1.0/instances/withsnaps/snapshots | jq length'
claim 'and goes with them' lxc delete withsnaps
claim 'a copy may leave them' lxc copy c1 nosnaps --instance-only --allow-inconsistent
same 'none' 0 sh -c 'lxc query /1.0/instances/nosnaps/snapshots | jq length'
must lxc delete nosnaps
claim 'a snapshot is deleted' lxc delete c1/other
refuse 'and gone' 'not found' lxc delete c1/other
claim 'its directory, too' sh -c "test ! -e '$LXD_DIR/storage-pools/default/containers-snapshots/c1/other'"
claim 'a naming pattern' lxc config set c1 snapshots.pattern 'auto-%d'
claim 'is used' lxc snapshot c1
claim 'and counted' sh -c 'lxc query /1.0/instances/c1/snapshots | grep -q "snapshots/auto-0"'
claim 'an expiry is kept' lxc config set c1 snapshots.expiry 1d
must lxc snapshot c1 dated
claim 'and computed for new snapshots' \
    sh -c 'lxc query /1.0/instances/c1/snapshots/dated | jq -e ".expires_at | startswith(\"0001\") | not"'
claim 'none on demand' lxc snapshot c1 undated --no-expiry
same 'is for ever' 0001-01-01T00:00:00Z sh -c 'lxc query /1.0/instances/c1/snapshots/undated | jq -r .expires_at'
refuse 'a bad schedule is refused' '[Ii]nvalid|[Ee]xpected|cron' lxc config set c1 snapshots.schedule 'some day'
claim 'a schedule is kept' lxc config set c1 snapshots.schedule '0 6 * * *'

# ---- limits and isolation ----
cgroup_of() { # pid controller → its directory, v1 or v2
    local path
    path=$(awk -F: -v c="$2" '{n = split($2, a, ","); for (i = 1; i <= n; i++) if (a[i] == c) print $3}' "/proc/$1/cgroup")
    if [ -n "$path" ]; then echo "/sys/fs/cgroup/$2$path"; else
        echo "/sys/fs/cgroup$(awk -F: '$1 == 0 {print $3}' "/proc/$1/cgroup")"; fi
}
memory_limit() { cat "$(cgroup_of "$(pid_of c1)" memory)"/memory.limit_in_bytes 2>/dev/null ||
    cat "$(cgroup_of "$(pid_of c1)" memory)"/memory.max; }
pids_limit() { cat "$(cgroup_of "$(pid_of c1)" pids)"/pids.max; }
cpus() { cat "$(cgroup_of "$(pid_of c1)" cpuset)"/cpuset.cpus; }
claim 'a memory limit, live' lxc config set c1 limits.memory 128MiB
same 'is in the cgroup' 134217728 memory_limit
claim 'a process limit, live' lxc config set c1 limits.processes 200
same 'is in the cgroup' 200 pids_limit
claim 'a cpu pin, live' lxc config set c1 limits.cpu 0-0
same 'is in the cgroup' 0 cpus
claim 'a cpu allowance' lxc config set c1 limits.cpu.allowance 50ms/100ms
claim 'a sysctl' lxc config set c1 linux.sysctl.net.ipv4.ip_forward 1
must lxc restart -f c1
same 'the limits hold after a restart' '134217728 200 0' sh -c "echo $(memory_limit) $(pids_limit) $(cpus)"
same 'the sysctl is set at start' 1 in_c1 cat /proc/sys/net/ipv4/ip_forward
claim 'raw.lxc' lxc config set c1 raw.lxc 'lxc.environment = FROM_RAW=yes'
must lxc restart -f c1
same 'reaches liblxc' yes in_c1 sh -c 'echo $FROM_RAW'
claim 'environment.*' lxc config set c1 environment.LOOK here
same 'reaches exec' here in_c1 sh -c 'echo $LOOK'
claim 'an isolated id map' lxc config set c1 security.idmap.isolated true
claim 'is applied at restart' lxc restart -f c1
claim 'with 65536 ids of its own' sh -c 'lxc exec c1 -- cat /proc/self/uid_map | awk "{exit !(\$1 == 0 && \$3 == 65536)}"'
same 'files still belong to root inside' 0 in_c1 stat -c %u /etc/passwd
claim 'privileged' lxc config set c1 security.privileged true
claim 'restarts' lxc restart -f c1
same 'is root on the host' 0 sh -c 'stat -c %u /proc/$(lxc info c1 | awk "/^PID:/ {print \$2}")'
same 'files belong to root' 0 in_c1 stat -c %u /etc/passwd
must lxc config unset c1 security.privileged
must lxc config unset c1 security.idmap.isolated
claim 'and back' lxc restart -f c1
same 'files belong to root inside' 0 in_c1 stat -c %u /etc/passwd
claim 'nesting' lxc config set c1 security.nesting true
must lxc restart -f c1
same 'still runs' RUNNING state c1

# ---- protection, ephemeral, autostart ----
claim 'protected' lxc config set c1 security.protection.delete true
must lxc stop -f c1
refuse 'a protected one is not deleted' 'rotected' lxc delete c1
must lxc config unset c1 security.protection.delete
claim 'an ephemeral one' lxc launch busybox eph -e
claim 'is gone after its stop' sh -c 'lxc stop -f eph; for i in 1 2 3 4 5 6 7 8 9 10; do lxc info eph >/dev/null 2>&1 || exit 0; sleep 0.3; done; exit 1'
must lxc start c1
must lxc launch busybox auto -c boot.autostart=true
must lxc init busybox manual -c boot.autostart=false
claim 'containers outlive a restart of the agent' daemon_restart
same 'c1 runs on' RUNNING state c1
before=$(pid_of c1)
daemon_kill
claim 'and kill -9' daemon_start
same 'as the same process' "$before" pid_of c1
same 'exec works in it' inside in_c1 echo inside
lxc stop -f auto
claim 'the agent restarts' daemon_restart
claim 'what is to start at boot is started' wait_for 10 sh -c 'lxc list ^auto\$ -f csv -c s | grep -q RUNNING'
same 'what is not is not' STOPPED state manual

# ---- state ----
must wait_for 20 sh -c 'lxc list -f csv -c 4 c1 | grep -q 10.94.7'
state_json() { lxc query /1.0/instances/c1/state; }
claim 'state counts processes' sh -c 'lxc query /1.0/instances/c1/state | jq -e ".processes > 0"'
claim 'memory' sh -c 'lxc query /1.0/instances/c1/state | jq -e ".memory.usage > 0"'
claim 'cpu' sh -c 'lxc query /1.0/instances/c1/state | jq -e ".cpu.usage > 0"'
claim 'network counters' sh -c 'lxc query /1.0/instances/c1/state | jq -e ".network.eth0.counters.bytes_received > 0"'
claim 'and the host side of its veth' sh -c 'test -d /sys/class/net/$(lxc query /1.0/instances/c1/state | jq -r .network.eth0.host_name)'
claim 'recursion=2 carries states' sh -c 'lxc query "/1.0/instances?recursion=2" | jq -e "map(select(.name == \"c1\"))[0].state.pid > 0"'
same 'filters' c1 sh -c 'lxc query "/1.0/instances?recursion=1&filter=name+eq+c1" | jq -r .[].name'
same 'the old path still lists containers' /1.0/containers/c1 sh -c 'lxc query /1.0/containers | jq -r .[] | grep c1'
e2e_end
