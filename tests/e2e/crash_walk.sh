#!/bin/bash
# crash_walk: kills the agent at numbered points of each operation that changes the world, restarts it, and checks that
# rows, volumes, mounts, links and interfaces agree again, and that the operation then works.
#
# "AREA:N" in the file $arm kills it at the Nth crash_point("AREA") (base/crash.h). N grows until the operation survives.
# WALK_AREAS and WALK_POOLS choose some of them; vmcreate is create for a virtual machine, and so on.
. "$(dirname "$0")/lib.sh"
need /usr/bin/python3
only_hawser() { [ "$E2E_DAEMON" = hawserd ]; }
only_hawser || e2e_skip_all 'only Hawser has crash points'
e2e_begin
areas=${WALK_AREAS:-create start stop snapshot restore copy move replace rename delete pool volume image network vmcreate vmcopy}
pools=${WALK_POOLS:-dir overlay btrfs}
E2E_LOG_LINES=15
daemon_start
must lxc network create walkbr0 ipv4.address=10.94.30.1/24 ipv6.address=none
for pool in $pools; do
    options=
    [ "$pool" != btrfs ] || options=size=400MiB
    # shellcheck disable=SC2086
    must lxc storage create "$pool" "$pool" $options
done
e2e_image busybox
busybox_image "$E2E_DIR/second.tar.gz" second
case $areas in
*vm*)
    mkdir "$E2E_DIR/vm"
    printf 'architecture: x86_64\ncreation_date: 1700000000\n' >"$E2E_DIR/vm/metadata.yaml"
    qemu-img create -q -f qcow2 "$E2E_DIR/vm/rootfs.img" 4M
    tar -C "$E2E_DIR/vm" -czf "$E2E_DIR/vm.tar.gz" metadata.yaml rootfs.img
    must lxc image import "$E2E_DIR/vm.tar.gz" --alias vm
    ;;
esac
must lxc storage set "${pools%% *}" volume.size=16MiB # what a virtual machine gets
daemon_stop || e2e_bail 'the agent does not stop'

# What each area does: before (from a clean state), the operation itself, and what must hold after its success.
before() {
    case $1 in
    create | pool | vmcreate) ;;
    vmcopy) lxc init vm w --vm -s "$pool" -n walkbr0 && lxc snapshot w old ;;
    start) lxc init busybox w -s "$pool" -n walkbr0 ;;
    stop | delete_running) lxc launch busybox w -s "$pool" -n walkbr0 ;;
    snapshot | copy | rename | delete | move) lxc init busybox w -s "$pool" -n walkbr0 && lxc snapshot w old ;;
    restore) lxc init busybox w -s "$pool" -n walkbr0 && lxc snapshot w old ;;
    replace) lxc init busybox w -s "$pool" -n walkbr0 && lxc copy w w2 && lxc snapshot w old ;;
    volume) lxc storage volume create "$pool" v ;;
    esac
}
# The first of the pools that is not the one in hand.
other_pool() {
    local each
    for each in $pools; do
        [ "$each" = "$pool" ] || { echo "$each"; return; }
    done
}
operation() {
    case $1 in
    create) lxc init busybox w -s "$pool" -n walkbr0 ;;
    vmcreate) lxc init vm w --vm -s "$pool" -n walkbr0 ;;
    vmcopy) lxc copy w w2 ;;
    start) lxc start w ;;
    stop) lxc stop -f w ;;
    snapshot) lxc snapshot w new ;;
    restore) lxc restore w old ;;
    copy) lxc copy w w2 ;;
    move) lxc move w --storage "$(other_pool)" ;;
    replace) lxc copy w w2 --refresh ;;
    pool) lxc storage create walkp "$pool" ;;
    rename) lxc rename w w3 ;;
    delete) lxc delete -f w ;;
    volume) lxc storage volume snapshot "$pool" v vs && lxc storage volume copy "$pool/v" "$pool/v2" &&
        lxc storage volume rename "$pool" v2 v3 && lxc storage volume delete "$pool" v3 ;;
    image) lxc image import "$E2E_DIR/second.tar.gz" --alias second && lxc image delete second ;;
    network) lxc network create walkbr1 ipv4.address=10.94.31.1/24 ipv6.address=none && lxc network delete walkbr1 ;;
    esac
}
# The same again after the crash: it may have happened already.
again() {
    case $1 in
    create | vmcreate) lxc info w || operation "$1" ;;
    start) lxc list '^w$' -f csv -c s | grep -q RUNNING || operation start ;;
    stop) lxc list '^w$' -f csv -c s | grep -q STOPPED || operation stop ;;
    snapshot) lxc query /1.0/instances/w/snapshots/new || operation snapshot ;;
    copy | vmcopy) lxc info w2 || operation "$1" ;;
    pool) lxc storage show walkp || operation pool ;;
    move) lxc query /1.0/instances/w | jq -e --arg p "$(other_pool)" '.expanded_devices.root.pool == $p' || operation move ;;
    rename) lxc info w3 || operation rename ;;
    delete) ! lxc info w || operation delete ;;
    volume) clean_volumes && before volume && operation volume ;;
    image) lxc image delete second; operation image ;;
    network) lxc network delete walkbr1; operation network ;;
    *) operation "$1" ;;
    esac
}
clean_volumes() {
    local each
    for each in $(lxc storage volume list "$pool" -f csv -c tn | sed -n 's/^custom,//p'); do
        lxc storage volume delete "$pool" "$each" || return 1
    done
}
clean() {
    local each
    for each in $(lxc list -f csv -c n); do
        lxc delete -f "$each" || return 1
    done
    clean_volumes
    lxc storage delete walkp 2>/dev/null
    lxc image delete second 2>/dev/null
    lxc network delete walkbr1 2>/dev/null
    return 0
}

# shellcheck disable=SC2086
world() { timeout 60 /usr/bin/python3 "$E2E_LIB/crash_world.py" "$LXD_DIR" $pools; }

arm=$E2E_DIR/arm
DAEMON_ENV=HAWSER_CRASH=@$arm
disarmed_start() {
    rm -f "$arm"
    daemon_start
}
alive() { kill -0 "${e2e_pid[main]}" 2>/dev/null && [ "$(api_code GET /1.0 2>/dev/null)" = 200 ]; }
for area in $areas; do
    for pool in $pools; do
        case $area in
        image | network | stop | vm*) [ "$pool" = "${pools%% *}" ] || continue ;; # these do not touch the pool
        esac
        disarmed_start
        for ((n = 1; n <= 40; n++)); do
            must before "$area"
            echo "${area#vm}:$n" >"$arm.new" && mv "$arm.new" "$arm"
            quiet operation "$area"
            result=$e2e_status
            if alive; then
                same "$area on $pool has $((n - 1)) crash points, and works without a crash" 0 echo "$result"
                claim "$area on $pool: the world agrees" world
                must clean
                break
            fi
            daemon_kill
            disarmed_start
            claim "$area on $pool, killed at $n: the world agrees again" wait_for 15 world
            claim "$area on $pool, killed at $n: it works afterwards" again "$area"
            claim "$area on $pool, killed at $n: and agrees still" world
            must clean
            claim "$area on $pool, killed at $n: nothing is left" world
        done
        daemon_kill
        [ $n -gt 1 ] || skip "$area on $pool" 'it has no crash points'
    done
done
disarmed_start
e2e_end
