# dpd.sh: a hawser-dpd of the suite's own, for the suites that source it after lib.sh.
#     dpd_bridges            an Open_vSwitch database of our own with a br-int; `ovs-vsctl` speaks to it
#     dpd_backend=…          "kernel" or "sim:/DIR"; set it before dpd_start
#     dpd_start / dpd_stop / dpd_kill / dpd_restart
#     dpd_no_fast            from the next start on without the fast path: its programs take most of a start's time
#     ctl COMMAND…           dpdctl.c
#     dpd_snapshot FILE      links, bridges and what PFs and drivers say, as it is now
#     dpd_settle_links PF…   each function and representor up and down once: a queue that was never used shows otherwise
dpd_program=${HAWSER_DPD:-$HAWSER_BUILD/dataplane/hawser-dpd}
dpd_ctl=$HAWSER_BUILD/tests/e2e/dpdctl
dpd_pid=
[ -x "$dpd_program" ] && [ -x "$dpd_ctl" ] || e2e_skip_all 'hawser-dpd is not built'

dpd_bridges() {
    local dir=$E2E_DIR/ovs schema
    mkdir -p "$dir"
    schema=$(ls /usr/share/openvswitch/vswitch.ovsschema 2>/dev/null) || e2e_skip_all 'openvswitch-switch is not installed'
    must ovsdb-tool create "$dir/conf.db" "$schema"
    ovsdb-server --remote=punix:"$dir/db.sock" --no-chdir --unixctl="$dir/ctl" --log-file=/dev/null "$dir/conf.db" \
        >>"$E2E_DIR/ovs.log" 2>&1 </dev/null &
    e2e_ovs=unix:$dir/db.sock
    wait_for 10 ovs-vsctl --no-wait init || e2e_bail 'ovsdb-server did not come up'
    must ovs-vsctl --no-wait add-br br-int
}
ovs-vsctl() { command timeout 10 ovs-vsctl --db="$e2e_ovs" "$@"; }
on_bridge() { ovs-vsctl list-ports br-int | grep -qx "$1"; }
ctl() { ASAN_OPTIONS=detect_leaks=0 timeout 60 "$dpd_ctl" "$E2E_DIR/dpd/dpd.socket" "$@"; }

dpd_start() {
    env ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:abort_on_error=1:disable_coredump=1}" \
        "$dpd_program" --dir "$E2E_DIR/dpd" --backend "$dpd_backend" ${e2e_ovs:+--ovsdb "$e2e_ovs"} ${DPD_ARGS:-} \
        >>"$E2E_DIR/dpd.log" 2>&1 </dev/null &
    dpd_pid=$!
    # One that a crash point ends early (status 1) is the test's business.
    local status=0
    ASAN_OPTIONS=detect_leaks=0 timeout 120 "$dpd_ctl" "$E2E_DIR/dpd/dpd.socket" await $dpd_pid 90 >>"$E2E_DIR/log" 2>&1 || status=$?
    [ $status -le 1 ] || e2e_bail 'hawser-dpd did not come up'
}
dpd_no_fast() {
    : >"$E2E_DIR/no-bpffs"
    DPD_ARGS="--bpf $E2E_DIR/no-bpffs"
}
dpd_kill() { kill -KILL "$dpd_pid" 2>/dev/null; wait "$dpd_pid" 2>/dev/null; return 0; }
dpd_stop() { kill -TERM "$dpd_pid" 2>/dev/null || return 1; wait "$dpd_pid"; }
dpd_restart() { dpd_stop; dpd_start; }
dpd_second() { timeout 20 "$dpd_program" --dir "$E2E_DIR/dpd" --backend "$dpd_backend" 2>&1; }

hush() { "$@" >>"$E2E_DIR/log" 2>&1; }
count_claims() { ctl status | grep -c ^claim; return 0; }
# In one request: each port has a fiber of its own.
all_at_once() {
    ctl up id=m1 kind=vf --- id=m2 kind=vf iface_id=lsp-m2 --- id=m3 kind=vf --- id=m4 kind=vf --- id=m5 kind=vf >/dev/null
    ctl status | sed -n 's/^claim \([^ ]*\) .*/\1/p' | sort -u | wc -l
}
# What the PF keeps for its function, and the function's driver: of the simulator's file, or of the kernel.
vf_mac() { jq -r --arg pf "$1" --argjson vf "$2" '.pfs[] | select(.dev == $pf) | .vfs[$vf].mac' "${dpd_backend#sim:}/sim.json"; }
vf_driver() { jq -r --arg vf "$1" '.pfs[].vfs[] | select(.dev == $vf) | .driver' "${dpd_backend#sim:}/sim.json"; }
dpd_settle_links() {
    local pf link
    # The first look at a simulated NIC makes its interfaces; the last one made says that all are there.
    wait_for 10 ctl up id=settle kind=vf parent="${*: -1}" && ctl down settle >/dev/null || return 1
    for pf in "$@"; do
        for link in $(ip -o link show | sed -n "s/^[0-9]*: \(${pf}[vr][0-9]*\)[@:].*/\1/p"); do
            ip link set "$link" up
        done
        for link in $(ip -o link show | sed -n "s/^[0-9]*: \(${pf}[vr][0-9]*\)[@:].*/\1/p"); do
            ip link set "$link" down
        done
    done
}
dpd_snapshot() {
    {
        ip -d link
        case $dpd_backend in
        sim:*) jq -S '.pfs, .vdpas' "${dpd_backend#sim:}/sim.json" ;;
        *) devlink port show 2>/dev/null; vdpa dev show 2>/dev/null ;;
        esac
        [ -z "${e2e_ovs:-}" ] || ovs-vsctl --columns name,external_ids,type list Interface
    } >"$1"
}
