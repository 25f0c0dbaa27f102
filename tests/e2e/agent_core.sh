#!/bin/bash
# agent_core: start and stop, one agent a directory, Debian's `lxd` tool as a client, /1.0 and resources, server
# configuration, operations, events, ETag, PUT against PATCH, recursion, filters, warnings, unix socket rights.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need python3
daemon_start
T=$E2E_DIR
sock=$LXD_DIR/unix.socket
q() { lxc query "$@"; }

# ---- start and stop ----
if only_hawser; then
    claim 'a second agent on the same directory is refused' sh -c "! timeout 10 '$(hawserd_path)' --dir '$LXD_DIR' >$T/second.log 2>&1"
    shows 'and says why' 'already|runs|running|lock|in use' cat "$T/second.log"
    claim 'the first one lives on' q /1.0
fi
same 'the socket is for root and the group' 660 stat -c %a "$sock"
claim 'waitready of our tool' sh -c "! test -x '$(hawser_path)' || '$(hawser_path)' waitready --timeout 5"
if [ -x /usr/bin/lxd ]; then
    claim "LXD's own waitready" /usr/bin/lxd waitready --timeout 10
    claim "LXD's own init --auto" /usr/bin/lxd init --auto --storage-backend dir
    claim 'made a pool' q /1.0/storage-pools/default
    shows "LXD's own init --dump" '^storage_pools' /usr/bin/lxd init --dump
    claim "LXD's own init --preseed" sh -c 'printf "config:\n  user.seed: \"yes\"\nprofiles:\n- name: seeded\n  config:\n    user.a: b\n" | /usr/bin/lxd init --preseed'
    same 'made the profile' b lxc profile get seeded user.a
    must lxc profile delete seeded
else
    skip "LXD's own tool" "Debian's lxd is not installed"
    must lxc storage create default dir
    must lxc profile device add default root disk path=/ pool=default
fi
e2e_image busybox

# ---- /1.0, resources, configuration ----
shows 'the root lists the version' '"/1.0"' q /
claim '/1.0 says trusted' sh -c 'lxc query /1.0 | jq -e ".auth == \"trusted\" and .api_status == \"stable\" and .api_version == \"1.0\""'
claim 'and what it is' sh -c 'lxc query /1.0 | jq -e ".environment | .server and .kernel_version and (.architectures | length > 0) and .storage and .driver"'
only_lxd || same 'by name' hawser sh -c 'lxc query /1.0 | jq -r .environment.server'
claim 'api extensions are listed' sh -c 'lxc query /1.0 | jq -e ".api_extensions | index(\"storage\") and index(\"network\")"'
for part in cpu.total memory.total; do
    claim "resources: $part" sh -c "lxc query /1.0/resources | jq -e '.$part > 0'"
done
claim 'resources: sockets, cores and threads' sh -c 'lxc query /1.0/resources | jq -e ".cpu.sockets[0].cores[0].threads[0].online"'
for part in network storage pci system; do
    claim "resources: $part" sh -c "lxc query /1.0/resources | jq -e '.$part != null'"
done
claim 'a server key' lxc config set core.shutdown_timeout 3
same 'is kept' 3 lxc config get core.shutdown_timeout
refuse 'an unknown one is refused' 'unknown key' lxc config set core.nothing 1
refuse 'a bad value is refused' '' lxc config set core.shutdown_timeout soon
claim 'user keys are free' lxc config set user.anything yes
code() { # WANT METHOD PATH [JSON]
    [ "$(api_code "$2" "$3" "${4:-}")" = "$1" ]
}
claim 'PATCH merges' code 200 PATCH /1.0 '{"config":{"user.two":"2"}}'
same 'the other is still there' yes lxc config get user.anything
claim 'PUT replaces' code 200 PUT /1.0 '{"config":{"user.two":"3"}}'
same 'the timeout is back at its default' '' lxc config get core.shutdown_timeout
claim 'values are strings' code 400 PATCH /1.0 '{"config":{"images.remote_cache_expiry":5}}'

# ---- ETag ----
etag_of() { curl -s -D - -o /dev/null --unix-socket "$sock" "http://x$1" | tr -d '\r' | awk 'tolower($1) == "etag:" {print $2}'; }
must lxc profile create tagged
tag=$(etag_of /1.0/profiles/tagged)
claim 'an ETag is given' test -n "$tag"
same 'it is stable' "$tag" etag_of /1.0/profiles/tagged
with_tag() { CURL_ARGS="-H If-Match:$1" code "$2" PUT /1.0/profiles/tagged '{"config":{"user.x":"1"},"description":"","devices":{}}'; }
claim 'a wrong one is refused' with_tag '"0000"' 412
claim 'the right one is taken' with_tag "$tag" 200
claim 'the old one is stale afterwards' with_tag "$tag" 412
claim 'PATCH of a profile merges' code 200 PATCH /1.0/profiles/tagged '{"config":{"user.y":"2"}}'
same 'both are there' '1 2' sh -c 'lxc query /1.0/profiles/tagged | jq -r "[.config[\"user.x\",\"user.y\"]] | join(\" \")"'

# ---- envelopes ----
claim 'a sync reply' sh -c "curl -s --unix-socket $sock http://x/1.0/profiles | jq -e '.type == \"sync\" and .status_code == 200 and .operation == \"\" and .error_code == 0'"
claim 'an error reply' sh -c "curl -s --unix-socket $sock http://x/1.0/instances/none | jq -e '.type == \"error\" and .error_code == 404 and .metadata == null'"
claim 'unknown paths' code 404 GET /1.0/nothing
claim 'unknown methods' code 501 DELETE /1.0/profiles
claim 'recursion 0 gives URLs' sh -c 'lxc query /1.0/profiles | jq -e ".[0] | startswith(\"/1.0/profiles/\")"'
claim 'recursion 1 gives objects' sh -c 'lxc query /1.0/profiles?recursion=1 | jq -e ".[0].name"'

# ---- operations ----
must lxc init busybox c1
background() { api POST /1.0/instances/c1/exec "$1" | jq -r .operation; }
must lxc start c1
op=$(background '{"command":["sleep","30"],"wait-for-websocket":true,"interactive":false}')
claim 'an operation has its URL' test "${op#/1.0/operations/}" != "$op"
claim 'is shown' sh -c "lxc query $op | jq -e '.class == \"websocket\" and .status == \"Running\" and .resources.instances[0] == \"/1.0/instances/c1\"'"
shows 'and listed' "${op##*/}" lxc query /1.0/operations
claim 'by status' sh -c 'lxc query /1.0/operations | jq -e ".running | length > 0"'
claim 'lxc lists them' sh -c "lxc operation list -f csv | grep -q ${op##*/}"
claim 'a wait ends by its time' sh -c "test \$(curl -s --max-time 10 --unix-socket $sock 'http://x$op/wait?timeout=1' | jq .metadata.status_code) = 103"
same 'the longest wait does not end at once' 28 sh -c "curl -s -o /dev/null --max-time 1 --unix-socket $sock 'http://x$op/wait?timeout=9223372036854775807'; echo \$?"
claim 'a secret is asked for' sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket $sock 'http://x$op/websocket?secret=wrong' | grep -E '^[45]'"
claim 'cancelling an exec is answered' sh -c "c=\$(curl -s -o /dev/null -w '%{http_code}' -X DELETE --unix-socket $sock http://x$op); test \$c = 200 -o \$c = 400"
claim 'an operation that is not there' code 404 GET /1.0/operations/00000000-0000-0000-0000-000000000000
claim 'lxc waits for restarts' lxc restart -f c1

# ---- events ----
monitor() { # seconds file lxc-monitor-arguments
    local seconds=$1 file=$2; shift 2
    timeout "$seconds" lxc monitor "$@" >"$file" 2>&1 &
    local before=${listening:-0}
    wait_for 5 listeners $((before + 1))
    listening=$((before + 1))
}
# Established connections of the API's socket that the agent holds: one more is a listener that was let in.
listeners() { [ "$(ss -xH state established src "$sock" | wc -l)" -ge "$1" ]; }
monitor 6 "$T/life" --type=lifecycle --format=json
monitor 6 "$T/ops" --type=operation --format=json
monitor 6 "$T/all" --format=json
quiet lxc config set c1 user.event 1
quiet lxc stop -f c1
quiet lxc start c1
quiet lxc snapshot c1 ev
quiet lxc delete c1/ev
wait_for 8 sh -c "! pgrep -f '[l]xc monitor --type=lifecycle' >/dev/null"
for action in instance-updated instance-stopped instance-started instance-snapshot-created instance-snapshot-deleted; do
    claim "event $action" grep -q "\"action\":\"$action\"" "$T/life"
done
shows 'names its source' '"source":"/1.0/instances/c1"' cat "$T/life"
shows 'and who did it' '"requestor":\{' cat "$T/life"
hides 'the filter holds' '"type":"operation"' cat "$T/life"
shows 'operations are told' '"type":"operation"' cat "$T/ops"
shows 'with their end' '"status":"Success"' cat "$T/ops"
hides 'and nothing else there' '"type":"lifecycle"' cat "$T/ops"
shows 'without a filter all types come' '"type":"lifecycle"' cat "$T/all"
same 'events without a WebSocket' 400 api_code GET /1.0/events

# ---- filters, warnings ----
same 'a filter on profiles or instances' 1 sh -c 'lxc query "/1.0/instances?recursion=1&filter=status+eq+Running" | jq length'
same 'that takes none' 0 sh -c 'lxc query "/1.0/instances?recursion=1&filter=name+eq+other" | jq length'
claim 'a broken filter is refused' sh -c "c=\$(curl -s -o /dev/null -w '%{http_code}' --unix-socket $sock 'http://x/1.0/instances?recursion=1&filter=status+foo'); test \$c = 400 -o \$c = 500"
claim 'warnings are listed' q /1.0/warnings
claim 'metrics or their refusal' sh -c "curl -s --unix-socket $sock http://x/1.0/metrics | head -c 100"

# ---- shutdown ----
must lxc config set core.shutdown_timeout 2
if [ -x /usr/bin/lxd ]; then
    started=$SECONDS
    claim "LXD's own shutdown" timeout 55 /usr/bin/lxd shutdown --timeout 50
    claim 'in time' test $((SECONDS - started)) -lt 45
    claim 'the process has ended' daemon_wait_end main 10
    refuse 'and with it the containers' '' pgrep -f '[l]xc monitor.* c1'
    daemon_start
    claim 'they run again after it' wait_for 15 sh -c 'lxc list ^c1\$ -f csv -c s | grep -q RUNNING'
fi
claim 'SIGTERM leaves containers alone' daemon_stop
claim 'they run' pgrep -f '[l]xc monitor.* c1'
daemon_start
same 'and are found again' RUNNING sh -c 'lxc list ^c1\$ -f csv -c s'
must lxc delete -f c1
e2e_end
