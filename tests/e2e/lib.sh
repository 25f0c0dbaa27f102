# lib.sh: the harness of the end-to-end suites: a daemon of its own, the unmodified `lxc` client, TAP.
#
# A suite is a bash script beside this file, named after what it proves, and listed in meson.build:
#
#     #!/bin/bash
#     # containers: create, start, stop and delete, as the lxc client sees them.
#     . "$(dirname "$0")/lib.sh"
#     e2e_begin                       # own namespaces; everything below runs inside them, as root
#     daemon_start                    # $LXD_DIR and $HOME are set; `lxc` talks to it
#     e2e_defaults                    # pool 'default' (dir), network 'e2ebr0', profile, image 'busybox'
#     claim 'a container launches' lxc launch busybox c1
#     shows 'it is listed as running' '^c1,RUNNING' lxc list -f csv -c ns
#     same  'exec gives the exit status' 3 status_of lxc exec c1 -- sh -c 'exit 3'
#     refuse 'a second one of that name is refused' 'already exists' lxc init busybox c1
#     e2e_end                         # stops the daemon, checks that nothing is left, prints the plan
#
# Assertions (each is one TAP line, and the suite goes on after a failure):
#     claim  NAME CMD…            CMD exits 0
#     refuse NAME TEXT CMD…       CMD fails, and its output has TEXT (extended regex, '' for any)
#     same   NAME WANT CMD…       CMD's stdout is exactly WANT
#     shows  NAME REGEX CMD…      CMD exits 0 and a line of its stdout matches (extended regex)
#     hides  NAME REGEX CMD…      CMD exits 0 and no line of its stdout matches
#     skip   NAME REASON          counted as skipped
# Each command gets $E2E_COMMAND_S (60) seconds, an empty stdin, and no terminal.
# Tools:
#     wait_for SECONDS CMD…       tries CMD five times a second until it succeeds
#     quiet CMD…                  CMD with its output in the log only: for preparations
#     must CMD…                   as quiet, but a failure ends the suite (Bail out!)
#     status_of CMD…              prints CMD's exit status
#     api METHOD PATH [JSON]      the response body; PATH is relative to the unix socket ("/1.0/…")
#     api_meta METHOD PATH [JSON] its .metadata, through jq; waits for operations and gives theirs
#     api_code METHOD PATH [JSON] the HTTP status ("404"); CURL_ARGS adds options to all three
#     daemon_start [NAME]         a further agent 'NAME' in $E2E_DIR/NAME; DAEMON_ENV="A=b …" adds to
#                                 its environment, DAEMON_ARGS to its arguments
#     daemon_use NAME             LXD_DIR now means this one ("main" is the first)
#     daemon_kill [NAME]          SIGKILL, as a crash;  daemon_stop [NAME]: SIGTERM, waits for its end
#     daemon_restart [NAME]       daemon_stop and daemon_start in the same directory
#     e2e_image [ALIAS]           imports the busybox test image (see busybox_image)
#     busybox_image FILE [TEXT]   writes a unified image archive; TEXT makes its fingerprint different
#     e2e_vm_image [ALIAS]        imports the virtual machine of tests/guest/image, which boots by UEFI and
#                                 directly; $E2E_GUEST is the directory with its parts (made once a build)
#     need CMD… / need_root       skips the whole suite (with a reason) when it is missing
# Environment: HAWSER_BUILD (build directory, set by meson), HAWSER_E2E_DAEMON=lxd runs the suite
# against Debian's LXD 5.0.2, which tells whether its expectations are right; `only_hawser` and
# `only_lxd` succeed accordingly. HAWSER_E2E_KEEP=1 keeps the directory. E2E_POOL_DRIVER (dir).
# E2E_LEAKS=1, set by a suite before it reads this file: the agent's end looks for leaks.
#
# Isolation: mount, network, pid and cgroup trees are the suite's own. The pid namespace ends with the
# script, however that ends, and with it every process and mount; then the outer half removes the
# directory and the cgroups.

E2E_LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
E2E_SUITE=$(basename "$0" .sh)
E2E_DAEMON=${HAWSER_E2E_DAEMON:-hawserd}
E2E_POOL_DRIVER=${E2E_POOL_DRIVER:-dir}
HAWSER_BUILD=${HAWSER_BUILD:-$E2E_LIB/../../build}
e2e_count=0 e2e_failed=0
declare -A e2e_pid=()

only_hawser() { [ "$E2E_DAEMON" = hawserd ]; }
only_lxd() { [ "$E2E_DAEMON" = lxd ]; }

# ---- TAP ----
e2e_skip_all() { e2e_done=1; echo "1..0 # SKIP $*"; exit 0; }
need_root() { [ "$(id -u)" = 0 ] || e2e_skip_all "needs root"; }
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || e2e_skip_all "'$tool' is not installed"
    done
}
e2e_bail() { echo "Bail out! $*"; echo "bailed out: $*" >&2; e2e_logs; exit 1; }
# What explains a failure goes to stderr, too: that is what meson prints of a test that failed.
e2e_diag() { sed -e 's/^/# /' | cut -c1-400 | tee -a /dev/stderr; }
e2e_result() { # ok? name
    e2e_count=$((e2e_count + 1))
    local name=${2//#/}
    if [ "$1" = 0 ]; then
        echo "ok $e2e_count - $name"
    else
        e2e_failed=$((e2e_failed + 1))
        echo "not ok $e2e_count - $name"
        { echo "not ok: $name"
          echo "command: ${e2e_cmd[*]} (status $e2e_status)"
          [ -z "${3:-}" ] || echo "wanted: $3"
          echo "stdout:"; tail -n 20 "$E2E_DIR/.out"
          echo "stderr:"; tail -n 20 "$E2E_DIR/.err"; } | e2e_diag
    fi
}
e2e_run() { # runs the rest, leaving out, err and e2e_status
    e2e_cmd=("$@")
    echo "$ $*" >>"$E2E_DIR/log"
    local before=$EPOCHREALTIME
    # A program that hangs must not take the suite along; functions are made of programs.
    if [ "$(type -t "$1")" = file ]; then
        set -- timeout -k 5 "${E2E_COMMAND_S:-60}" "$@"
    fi
    "$@" >"$E2E_DIR/.out" 2>"$E2E_DIR/.err" </dev/null
    e2e_status=$?
    [ -z "${HAWSER_E2E_TIMES:-}" ] ||
        echo "# $(((${EPOCHREALTIME/./} - ${before/./}) / 1000)) ms: $*"
    { cat "$E2E_DIR/.out" "$E2E_DIR/.err"; echo "= $e2e_status"; } >>"$E2E_DIR/log"
    return $e2e_status
}
claim() { local name=$1; shift; e2e_run "$@"; e2e_result $e2e_status "$name"; }
refuse() {
    local name=$1 text=$2; shift 2
    e2e_run "$@"
    [ $e2e_status != 0 ] && echo | cat "$E2E_DIR/.out" "$E2E_DIR/.err" - | grep -qE -- "$text"
    e2e_result $? "$name" "failure with /$text/"
}
same() {
    local name=$1 want=$2; shift 2
    e2e_run "$@"
    [ "$(cat "$E2E_DIR/.out")" = "$want" ]
    e2e_result $? "$name" "$want"
}
shows() {
    local name=$1 regex=$2; shift 2
    e2e_run "$@" && grep -qE -- "$regex" "$E2E_DIR/.out"
    e2e_result $? "$name" "/$regex/"
}
hides() {
    local name=$1 regex=$2; shift 2
    e2e_run "$@" && ! grep -qE -- "$regex" "$E2E_DIR/.out"
    e2e_result $? "$name" "no /$regex/"
}
skip() { e2e_count=$((e2e_count + 1)); echo "ok $e2e_count - $1 # SKIP $2"; }

# ---- tools ----
wait_for() {
    local until=$((SECONDS + $1)); shift
    until "$@" >>"$E2E_DIR/log" 2>&1; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}
quiet() { e2e_run "$@"; return $e2e_status; }
must() {
    e2e_run "$@" && return 0
    tail -n 20 "$E2E_DIR/.err" | e2e_diag
    e2e_bail "needed for the rest of the suite: $*"
}
status_of() { "$@" >>"$E2E_DIR/log" 2>&1; echo $?; }
e2e_curl() { # method path json, more curl arguments after them
    local method=$1 path=$2 json=${3:-}; shift; shift; [ $# = 0 ] || shift
    local body=()
    [ -z "$json" ] || body=(-H 'Content-Type: application/json' --data-binary "$json")
    # shellcheck disable=SC2086
    curl -sS --max-time 120 --unix-socket "$LXD_DIR/unix.socket" -X "$method" "${body[@]}" \
        ${CURL_ARGS:-} "$@" "http://lxd$path"
}
api() { e2e_curl "$1" "$2" "${3:-}"; }
api_code() { e2e_curl "$1" "$2" "${3:-}" -o /dev/null -w '%{http_code}\n'; }
api_meta() {
    local reply op
    reply=$(e2e_curl "$1" "$2" "${3:-}") || return 1
    if [ "$(jq -r .type <<<"$reply")" = error ]; then
        echo "$reply"; return 1
    fi
    op=$(jq -r '.operation // ""' <<<"$reply")
    if [ -n "$op" ]; then
        reply=$(e2e_curl GET "$op/wait?timeout=60") || return 1
        jq .metadata <<<"$reply"
        [ "$(jq .metadata.status_code <<<"$reply")" = 200 ]; return
    fi
    jq .metadata <<<"$reply"
}

# ---- namespaces ----
e2e_begin() {
    need_root
    need lxc curl jq unshare ip dnsmasq nft
    if [ -z "${E2E_INSIDE:-}" ]; then
        e2e_outer "$@"
    fi
    mount --make-rprivate /
    ip link set lo up
    e2e_remount_sysfs
    mkdir -p /run/lxc && mount -t tmpfs none /run/lxc
    export HOME=$E2E_DIR/home XDG_CONFIG_HOME= LXC_CONF=
    unset XDG_CONFIG_HOME LXC_CONF LXD_CONF
    mkdir -p "$HOME/.config/lxc"
    : >"$E2E_DIR/log"; : >"$E2E_DIR/.out"; : >"$E2E_DIR/.err"
    cd "$E2E_DIR" || exit 1
    trap 'e2e_finish' EXIT
    trap 'exit 143' TERM INT
}
# The QEMUs of the agents whose directories are at or below $1: the run directory is open in them.
e2e_qemus() {
    local pid
    for pid in $(pgrep -f qemu-system); do
        case $(readlink "/proc/$pid/fd/5") in "$1"/*) echo "$pid" ;; esac
    done
    true
}
# A directory of the suite's with the kernels and initrds of the one that is given, for QEMU to read: its user
# may not enter a directory that is only the builder's.
e2e_boot_dir() {
    local file
    mkdir -p "$E2E_DIR/boot"
    for file in kernel linux initrd; do
        [ ! -e "$1/$file" ] || install -m 644 "$1/$file" "$E2E_DIR/boot/" || return 1
    done
    echo "$E2E_DIR/boot"
}
# The outer half: makes directory and cgroups, runs the script again in new namespaces, cleans up.
e2e_outer() {
    export E2E_INSIDE=1
    E2E_DIR=$(mktemp -d "${TMPDIR:-/tmp}/hawser-e2e-$E2E_SUITE-XXXXXX")
    export E2E_DIR
    chmod 711 "$E2E_DIR"
    local group=hawser-e2e-$$
    ( e2e_enter_cgroups "$group"
      exec unshare --mount --net --pid --ipc --fork --kill-child --mount-proc bash "$0" "$@" ) &
    local child=$!
    # shellcheck disable=SC2064
    trap "kill -KILL $child 2>/dev/null" TERM INT
    local status
    wait $child; status=$?
    while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
    e2e_leave_cgroups "$group"
    if [ -n "${HAWSER_E2E_KEEP:-}" ]; then
        echo "# kept: $E2E_DIR"
    else
        chattr -R -i -a "$E2E_DIR" 2>/dev/null
        rm -rf --one-file-system "$E2E_DIR" 2>/dev/null
    fi
    exit $status
}
e2e_enter_cgroups() { # runs in the subshell that becomes the namespaces' first process
    local top dir
    for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
        [ -e "$top/cgroup.procs" ] && [ ! -L "$top" ] || continue
        case $top in
        /sys/fs/cgroup/*/) continue ;;
        esac
        mountpoint -q "$top" || continue
        dir=$top/$1
        if [ -e "$top/cgroup.controllers" ]; then
            # Processes may only live in leaves; liblxc strips init.scope from its base.
            mkdir -p "$dir/init.scope"
            local c
            for c in $(cat "$top/cgroup.controllers"); do
                echo "+$c" >"$top/cgroup.subtree_control"
                echo "+$c" >"$dir/cgroup.subtree_control"
            done 2>/dev/null
            dir=$dir/init.scope
        else
            mkdir -p "$dir"
            if [ -e "$dir/cpuset.cpus" ]; then
                cat "$top/cpuset.cpus" >"$dir/cpuset.cpus"
                cat "$top/cpuset.mems" >"$dir/cpuset.mems"
                echo 1 >"$dir/cgroup.clone_children"
            fi
        fi
        echo "$BASHPID" >"$dir/cgroup.procs"
    done 2>/dev/null
}
# /sys/class/net shows the network namespace that its mount was made in.
e2e_remount_sysfs() {
    local keep=$E2E_DIR/cgroup
    mkdir -p "$keep"
    mount --rbind /sys/fs/cgroup "$keep"
    umount -l /sys/fs/cgroup
    mount -t sysfs sysfs /sys
    mount --move "$keep" /sys/fs/cgroup || mount --rbind "$keep" /sys/fs/cgroup
    rmdir "$keep" 2>/dev/null
    [ ! -d /sys/kernel/security ] || mount -t securityfs securityfs /sys/kernel/security
    [ ! -d /sys/fs/bpf ] || mount -t bpf bpf /sys/fs/bpf
} 2>/dev/null
e2e_leave_cgroups() {
    local tries
    for tries in 1 2 3 4 5; do
        find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} + 2>/dev/null
        [ -n "$(find /sys/fs/cgroup -type d -name "$1" -print -quit)" ] || return 0
        sleep 0.2
    done
}
e2e_logs() {
    local name
    for name in "${!e2e_pid[@]}"; do
        echo "---- log of agent '$name' (its end)"
        tail -n "${E2E_LOG_LINES:-40}" "$E2E_DIR/$name.log"
    done | e2e_diag
}
e2e_finish() { # runs however the script ends
    local status=$?
    trap - EXIT
    if [ -z "${e2e_done:-}" ]; then
        echo "Bail out! the suite ended early (status $status, after $e2e_count assertions)"
        e2e_logs
        status=1
    fi
    local name
    for name in "${!e2e_pid[@]}"; do
        kill -KILL "${e2e_pid[$name]}" 2>/dev/null
    done
    exit $status
}
e2e_end() {
    if [ -n "${e2e_pid[main]:-}" ]; then
        daemon_use main
        # shellcheck disable=SC2046
        quiet lxc delete -f $(lxc list -f csv -c n --all-projects 2>/dev/null | head -200)
        local name
        for name in "${!e2e_pid[@]}"; do
            claim "agent '$name' ends cleanly" daemon_stop "$name"
        done
        if only_hawser; then
            for name in "${!e2e_pid[@]}"; do
                hides "no sanitizer report from agent '$name'" \
                    'ERROR: (Address|Leak|Undefined)|runtime error:|CRITICAL \*\*|Assertion.*failed' \
                    cat "$E2E_DIR/$name.log"
            done
        fi
    fi
    [ $e2e_failed = 0 ] || e2e_logs
    echo "1..$e2e_count"
    e2e_done=1
    exit $((e2e_failed > 0))
}

# ---- daemons ----
daemon_use() { export LXD_DIR=$E2E_DIR/$1; export HAWSER_DIR=$LXD_DIR; }
hawserd_path() {
    local path
    for path in "${HAWSERD:-}" "$HAWSER_BUILD/agent/hawserd" "$HAWSER_BUILD/hawserd"; do
        [ -n "$path" ] && [ -x "$path" ] && { readlink -f "$path"; return; }
    done
    return 1
}
hawser_path() {
    local path
    for path in "${HAWSER:-}" "$HAWSER_BUILD/ctl/hawser" "$HAWSER_BUILD/hawser"; do
        [ -n "$path" ] && [ -x "$path" ] && { readlink -f "$path"; return; }
    done
    return 1
}
daemon_start() {
    local name=${1:-main} program
    daemon_use "$name"
    mkdir -p "$LXD_DIR"
    chmod 711 "$LXD_DIR"
    if only_lxd; then
        program=/usr/bin/lxd
        [ -x $program ] || e2e_skip_all "Debian's lxd is not installed"
        set -- env LXD_SKIP_INSTANCE_TYPES_UPDATE=1 $program --group root
    else
        program=$(hawserd_path) || e2e_skip_all "hawserd is not built"
        set -- "$program" --dir "$LXD_DIR" --group root
    fi
    # shellcheck disable=SC2086
    env ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=${E2E_LEAKS:-0}:abort_on_error=1:disable_coredump=1}" \
        UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}" ${DAEMON_ENV:-} \
        "$@" ${DAEMON_ARGS:-} >>"$E2E_DIR/$name.log" 2>&1 </dev/null &
    e2e_pid[$name]=$!
    daemon_ready "$name" && return 0
    [ -z "${DAEMON_MAY_DIE:-}" ] || return 1
    e2e_bail "agent '$name' did not become ready"
}
daemon_ready() {
    local name=$1 until=$((SECONDS + 60))
    while [ $SECONDS -lt $until ]; do
        kill -0 "${e2e_pid[$name]}" 2>/dev/null || return 1
        [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 \
            --unix-socket "$LXD_DIR/unix.socket" http://lxd/internal/ready)" = 200 ] && return 0
        sleep 0.1
    done
    return 1
}
daemon_wait_end() { # name seconds
    local until=$((SECONDS + $2))
    while kill -0 "${e2e_pid[$1]}" 2>/dev/null; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.05
    done
    wait "${e2e_pid[$1]}" 2>/dev/null
}
daemon_kill() {
    local name=${1:-main}
    kill -KILL "${e2e_pid[$name]}" 2>/dev/null
    daemon_wait_end "$name" 10
    return 0
}
daemon_stop() {
    local name=${1:-main}
    kill -TERM "${e2e_pid[$name]}" 2>/dev/null || return 1
    local status
    daemon_wait_end "$name" "${DAEMON_STOP_S:-30}"; status=$?
    only_lxd || return $status
}
daemon_restart() { daemon_stop "${1:-main}"; daemon_start "${1:-main}"; }

# ---- the usual world: pool, network, profile, image ----
e2e_defaults() {
    must lxc storage create default "$E2E_POOL_DRIVER"
    must lxc profile device add default root disk path=/ pool=default
    must lxc network create e2ebr0 ipv4.address=10.94.7.1/24 ipv4.nat=true ipv6.address=none
    must lxc profile device add default eth0 nic network=e2ebr0 name=eth0
    e2e_image busybox
}
e2e_image() {
    busybox_image "$E2E_DIR/${1:-busybox}.tar.gz" "${1:-busybox}"
    must lxc image import "$E2E_DIR/${1:-busybox}.tar.gz" --alias "${1:-busybox}"
}
e2e_vm_image() {
    local status=0
    E2E_GUEST=$HAWSER_BUILD/guest-image
    "$E2E_LIB/../guest/image" "$E2E_GUEST" >>"$E2E_DIR/log" 2>&1 || status=$?
    [ $status != 77 ] || e2e_skip_all "no kernel for a guest: install linux-image-amd64"
    [ $status = 0 ] || e2e_bail "tests/guest/image failed"
    must lxc image import "$E2E_GUEST/vm.tar.gz" --alias "${1:-vm}"
}
# A small root file system: busybox as init, shell and DHCP client; answers a clean stop.
busybox_image() {
    local file=$1 text=${2:-busybox} dir applet
    [ -x /bin/busybox ] || e2e_skip_all "busybox-static is not installed"
    dir=$(mktemp -d "$E2E_DIR/image-XXXXXX")
    mkdir -p "$dir"/rootfs/{bin,sbin,dev,etc/network,proc,sys,tmp,root,run,mnt,usr/bin,usr/sbin} \
        "$dir"/rootfs/{usr/share/udhcpc,var/log} "$dir/templates"
    cp /bin/busybox "$dir/rootfs/bin/busybox"
    for applet in $(/bin/busybox --list); do
        case $applet in
        init | halt | poweroff | reboot | ifconfig | route | udhcpc | sysctl | ip) 
            ln -s ../bin/busybox "$dir/rootfs/sbin/$applet" ;;
        busybox) ;;
        *) ln -s busybox "$dir/rootfs/bin/$applet" ;;
        esac
    done
    cat >"$dir/rootfs/etc/inittab" <<'END'
::sysinit:/bin/hostname -F /etc/hostname
::sysinit:/sbin/ifconfig lo up
::respawn:/sbin/udhcpc -f -q -i eth0 -t 3 -A 1 -s /usr/share/udhcpc/default.script
console::respawn:/bin/sh
::ctrlaltdel:/sbin/poweroff
END
    # udhcpc -q leaves after a lease; the loop then renews. It stays quiet where eth0 is missing.
    sed -i 's|^::respawn:/sbin/udhcpc.*|::once:/etc/network/dhcp|' "$dir/rootfs/etc/inittab"
    cat >"$dir/rootfs/etc/network/dhcp" <<'END'
#!/bin/sh
while :; do
    [ -e /sys/class/net/eth0 ] && udhcpc -f -i eth0 -t 5 -T 1 -A 1 -s /usr/share/udhcpc/default.script
    sleep 1
done >/dev/null 2>&1
END
    cat >"$dir/rootfs/usr/share/udhcpc/default.script" <<'END'
#!/bin/sh
case $1 in
bound | renew)
    ip addr flush dev $interface
    ip addr add $ip/$mask dev $interface
    ip link set $interface up
    [ "$mask" != 32 ] || for r in $router; do ip route replace $r dev $interface; done
    for r in $router; do ip route replace default via $r dev $interface; done
    for d in $dns; do echo "nameserver $d"; done >/etc/resolv.conf ;;
deconfig) ip link set $interface up ;;
esac
END
    chmod 755 "$dir/rootfs/etc/network/dhcp" "$dir/rootfs/usr/share/udhcpc/default.script"
    echo "root:x:0:0:root:/root:/bin/sh" >"$dir/rootfs/etc/passwd"
    echo "user:x:1000:1000:user:/tmp:/bin/sh" >>"$dir/rootfs/etc/passwd"
    echo "root:x:0:" >"$dir/rootfs/etc/group"
    echo "user:x:1000:" >>"$dir/rootfs/etc/group"
    echo busybox >"$dir/rootfs/etc/hostname"
    echo "$text" >"$dir/rootfs/etc/image-text"
    chmod 1777 "$dir/rootfs/tmp"
    echo '{{ container.name }}' >"$dir/templates/hostname.tpl"
    cat >"$dir/metadata.yaml" <<END
architecture: $(uname -m)
creation_date: 1700000000
expiry_date: 0
properties:
  architecture: $(uname -m)
  description: Busybox $text
  name: busybox-$(uname -m)
  os: Busybox
  release: $text
templates:
  /etc/hostname:
    when: [create, copy, rename]
    template: hostname.tpl
END
    tar -C "$dir" --sort=name --mtime=@1700000000 --numeric-owner --owner=0 --group=0 -czf "$file" \
        metadata.yaml rootfs templates
    rm -rf "$dir"
}
