#!/bin/bash
# vm_guest: inside a running virtual machine through hawser-guest: exec of every kind, files both ways, state,
# shares, the config share, 50 sessions at once, an agent and a guest that go away in the middle.
. "$(dirname "$0")/lib.sh"
e2e_begin
need qemu-system-x86_64 qemu-img
daemon_start
e2e_defaults
e2e_vm_image vm
E2E_COMMAND_S=120

# Boots without firmware's long way: the kernel by raw.qemu.
boot=$(e2e_boot_dir "$E2E_GUEST")
direct="-kernel $boot/linux -initrd $boot/initrd"
mkdir -p "$E2E_DIR/shared" "$E2E_DIR/fixed"
echo 'from the host' >"$E2E_DIR/shared/note"
echo 'not to be written' >"$E2E_DIR/fixed/note"
claim 'a virtual machine is made' lxc init vm v1 --vm -c security.secureboot=false -c limits.memory=512MiB \
    -c raw.qemu="$direct -append '$(cat "$E2E_GUEST/cmdline")'" \
    -c cloud-init.user-data='#cloud-config
password: quite secret' -c user.network-config='version: 2'
quiet lxc config device add v1 shared disk source="$E2E_DIR/shared" path=/mnt/shared
quiet lxc config device add v1 fixed disk source="$E2E_DIR/fixed" path=/mnt/fixed readonly=true
# Templates: one for each start, one for what a creation asks for, one that leaves alone what is there.
template() { curl -sf --unix-socket "$LXD_DIR/unix.socket" -X POST "http://x/1.0/instances/v1/metadata/templates?path=$1" --data-binary "$2" -H 'Content-Type: application/octet-stream'; }
quiet template each.tpl '{{ instance.name }} {{ trigger }} {{ config_get("user.colour", "none") }}'
quiet template once.tpl 'made by {{ trigger }}'
api_meta GET /1.0/instances/v1/metadata | jq '.templates = {
    "/tmp/planted/deep/each": {when: ["start"], template: "each.tpl"},
    "/tmp/planted/once": {when: ["create"], template: "once.tpl"},
    "/etc/passwd": {when: ["start"], template: "each.tpl", create_only: true}}' >"$E2E_DIR/metadata"
quiet api PUT /1.0/instances/v1/metadata "$(cat "$E2E_DIR/metadata")"
refuse 'exec needs it to run' 'not running' lxc exec v1 -- true
must lxc start v1
outside() { api GET /1.0/metrics | grep -E "^lxd_$1.*type=.virtual-machine" | sed 's/.* //' | sort -n | tail -n 1; }
more_than() { awk -v low="$1" -v got="$(outside "$2")" 'BEGIN { exit !(got > low) }'; }
claim 'before that QEMU is measured: CPU time' wait_for 60 more_than 0 cpu_seconds_total
claim 'memory' wait_for 60 more_than 500000000 memory_MemTotal_bytes
refuse 'before its agent is there, exec says so' "VM agent isn't currently running" lxc exec v1 -- true
inside() { lxc exec v1 -- "$@"; }
claim 'its agent comes' wait_for 180 inside true
[ $e2e_status = 0 ] || e2e_bail 'without an agent there is nothing to test'

# ---- exec ----
same 'a command answers' 'hello' lxc exec v1 -- echo hello
same 'its exit status is ours' 3 status_of lxc exec v1 -- sh -c 'exit 3'
same 'what is not there is 127' 127 status_of lxc exec v1 -- nothing-there
same 'stderr is apart' 'err' sh -c "lxc exec v1 -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null"
same 'stdin is passed, to its end' 'through' sh -c "echo through | lxc exec v1 -- cat"
same 'environment, user and directory are obeyed' 'blue 65534 /tmp' \
    lxc exec v1 --env COLOUR=blue --user 65534 --cwd /tmp -- sh -c 'echo $COLOUR $(id -u) $(pwd)'
same 'a terminal is one' 'a tty' sh -c "lxc exec v1 -t -- sh -c 'tty >/dev/null && echo a tty' | tr -d '\r'"
recorded() {
    local op
    op=$(api POST /1.0/instances/v1/exec '{"command":["echo","kept"],"record-output":true}' | jq -r .operation)
    lxc query "/1.0/$(lxc query "$op/wait" | jq -r '.metadata.output["1"]' | sed 's#^/1.0/##')"
}
same 'output is recorded' 'kept' recorded

# ---- files ----
head -c 100M /dev/urandom >"$E2E_DIR/big"
E2E_COMMAND_S=300
claim '100 MiB go in' lxc file push "$E2E_DIR/big" v1/tmp/big --uid 12 --gid 34 --mode 0640
same 'unharmed' "$(sha256sum <"$E2E_DIR/big" | cut -c1-64)" sh -c "lxc exec v1 -- sha256sum /tmp/big | cut -c1-64"
same 'with owner and mode' '640 12 34' lxc exec v1 -- stat -c '%a %u %g' /tmp/big
claim 'and out' lxc file pull v1/tmp/big "$E2E_DIR/back"
claim 'the same' cmp "$E2E_DIR/big" "$E2E_DIR/back"
quiet lxc exec v1 -- rm /tmp/big
E2E_COMMAND_S=120
mkdir -p "$E2E_DIR/tree/sub"; echo leaf >"$E2E_DIR/tree/sub/leaf"
claim 'a tree goes in' lxc file push -r "$E2E_DIR/tree" v1/tmp/
claim 'and out' lxc file pull -r v1/tmp/tree "$E2E_DIR/out"
same 'whole' leaf cat "$E2E_DIR/out/tree/sub/leaf"
claim 'a file is deleted' lxc file delete v1/tmp/tree/sub/leaf
refuse 'and is gone then' 'ot [Ff]ound' lxc file pull v1/tmp/tree/sub/leaf "$E2E_DIR/none"
same 'a link tells its target' /etc/passwd sh -c \
    "lxc exec v1 -- ln -s /etc/passwd /tmp/link; curl -s --unix-socket $LXD_DIR/unix.socket 'http://x/1.0/instances/v1/files?path=/tmp/link'"

# ---- state ----
state() { api_meta GET /1.0/instances/v1/state; }
shows 'memory is the guest'"'"'s' '^[1-9][0-9]{7,}$' sh -c "lxc query /1.0/instances/v1/state | jq .memory.usage"
shows 'processes are counted' '^[1-9]' sh -c "lxc query /1.0/instances/v1/state | jq .processes"
shows 'its loopback is among the interfaces' 127.0.0.1 sh -c "lxc query /1.0/instances/v1/state | jq -c .network.lo"
shows 'lxc info shows them' 'Processes: [1-9]' lxc info v1

shows 'metrics have its processes' '^lxd_procs_total.name="v1",project="default",type="virtual-machine". [1-9]' api GET /1.0/metrics
shows 'and its disks' '^lxd_filesystem_size_bytes.*ext4.*name="v1"' api GET /1.0/metrics

# ---- shares ----
same 'a directory of the host is mounted' 'from the host' lxc exec v1 -- cat /mnt/shared/note
claim 'it can be written' lxc exec v1 -- sh -c 'echo back >/mnt/shared/answer'
same 'from both sides' back cat "$E2E_DIR/shared/answer"
same 'a read-only one can be read' 'not to be written' lxc exec v1 -- cat /mnt/fixed/note
refuse 'and not written' 'ead-only' lxc exec v1 -- sh -c 'mount -o remount,rw /mnt/fixed; echo x >/mnt/fixed/note'
mkdir "$E2E_DIR/late"; echo late >"$E2E_DIR/late/note"
claim 'a directory is plugged in' lxc config device add v1 late disk source="$E2E_DIR/late" path=/mnt/late
same 'and mounted' late lxc exec v1 -- cat /mnt/late/note
claim 'and taken away' lxc config device remove v1 late
refuse 'for good' 'o such' lxc exec v1 -- cat /mnt/late/note

# ---- the config share ----
shows 'cloud-init finds its seed' 'quite secret' lxc exec v1 -- cat /run/agent/cloud-init/user-data
shows 'with an id and a name' '^local-hostname: v1$' lxc exec v1 -- cat /run/agent/cloud-init/meta-data
same 'and its network' 'version: 2' lxc exec v1 -- cat /run/agent/cloud-init/network-config
claim 'LXD'"'"'s names are there' lxc exec v1 -- sh -c 'cd /run/agent && test -x lxd-agent && test -f systemd/lxd-agent.service -a -f install.sh -a -f udev/99-lxd-agent.rules -a -f agent.conf'
shows 'only its QEMU reads it on the host' '^500 21[0-9]{8}$' stat -c '%a %u' "$LXD_DIR/virtual-machines/v1/config"

# ---- templates ----
shows "a template of every start is where it belongs" '^v1 [a-z]* ' lxc exec v1 -- cat /tmp/planted/deep/each
same "one of the creation as well" 'made by create' lxc exec v1 -- cat /tmp/planted/once
shows "what is there is left alone, if it says so" '^root:' lxc exec v1 -- cat /etc/passwd
same 'the creation is done with' '' lxc config get v1 volatile.apply_template

# ---- /dev/lxd ----
gcc -static -O1 -o "$E2E_DIR/unixget" "$E2E_LIB/unixget.c" || e2e_bail 'no static program'
must lxc file push --mode 0755 "$E2E_DIR/unixget" v1/tmp/unixget
asks() { inside /tmp/unixget /dev/lxd/sock "$@"; }
answers() { asks /1.0 | grep -q api_version; }
claim 'the guest has a socket of its own' wait_for 30 answers
shows 'which says what it is' '"instance_type":"virtual-machine"' asks /1.0
must lxc config set v1 user.colour blue
shows 'it reads its configuration' blue asks /1.0/config/user.colour
shows 'its devices' '"path":"/mnt/shared"' asks /1.0/devices
shows 'its cloud-init data' 'local-hostname: v1' asks /1.0/meta-data
shows 'nobody but root' ' 401 ' lxc exec v1 --user 1000 -- /tmp/unixget /dev/lxd/sock /1.0
(lxc exec v1 -- timeout 60 /tmp/unixget /dev/lxd/sock /1.0/events >"$E2E_DIR/events" 2>&1 &)
red() { lxc config set v1 user.colour "red$RANDOM"; grep -q '"key":"user.colour"' "$E2E_DIR/events"; }
claim 'events come' wait_for 30 red
forty() {
    inside sh -c 'for i in $(seq 40); do /tmp/unixget /dev/lxd/sock /1.0/config/user.colour >/tmp/answer.$i & done; wait
        grep -l red /tmp/answer.* | wc -l'
}
same '40 questions at once are all answered' 40 forty
must lxc config set v1 security.devlxd false
shows 'when it is closed, nothing is told' ' 403 ' asks /1.0/config
must lxc config unset v1 security.devlxd

# ---- many ----
many() {
    local i pids=() bad=0
    for i in $(seq 50); do
        (timeout 200 lxc exec v1 -- sh -c "echo $i; sleep 1; exit $i" >"$E2E_DIR/many.$i" 2>&1; echo $? >>"$E2E_DIR/many.$i") &
        pids+=($!)
    done
    wait "${pids[@]}"
    for i in $(seq 50); do
        [ "$(tr '\n' ' ' <"$E2E_DIR/many.$i")" = "$i $i " ] || { bad=$((bad + 1)); cat "$E2E_DIR/many.$i"; }
    done
    echo "$bad bad"
}
same '50 sessions at once have their own answers' '0 bad' many

# ---- going away ----
lxc exec v1 -- sleep 1000 >"$E2E_DIR/cut" 2>&1 &
sleeper=$!
claim 'a long command runs' wait_for 60 inside pidof sleep
quiet lxc exec v1 -- killall -9 hawser-guest
wait_end() { ! kill -0 "$1" 2>/dev/null; }
claim 'it fails when the guest'"'"'s agent is killed' wait_for 60 wait_end "$sleeper"
claim 'whose next one answers' wait_for 120 inside true
same 'no child of the first is left' '' sh -c 'lxc exec v1 -- pidof sleep || true'
daemon_kill
daemon_start
claim 'an agent that was killed finds the guest again' wait_for 120 inside true
claim 'and answers its socket' wait_for 60 answers
claim 'the guest is asked to stop, and does' lxc stop v1 --timeout 60
claim 'it starts again' lxc start v1
claim 'with its agent' wait_for 180 inside true
shows 'and its templates' '^v1 start red' lxc exec v1 -- cat /tmp/planted/deep/each
same 'but those of a creation' 'gone' lxc exec v1 -- sh -c 'cat /tmp/planted/once 2>/dev/null || echo gone'
same 'and its shares' 'from the host' lxc exec v1 -- cat /mnt/shared/note
quiet lxc stop v1 --force
claim 'no daemon of shares is left' wait_for 20 sh -c '! pgrep -x virtiofsd'
claim 'it is deleted' lxc delete v1
e2e_end
