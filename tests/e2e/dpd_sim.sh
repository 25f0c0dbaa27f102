#!/bin/bash
# dpd_sim: hawser-dpd over the simulated NIC: claims, exhaustion, releases; restarted between every two steps, killed at
# every numbered crash point; afterwards every function, representor and bridge is byte for byte what it was.
#
# The same walk runs on the kernel's own simulators under the lab kernel: see hw/lab.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/dpd.sh"
e2e_begin
need ovsdb-server ovsdb-tool ovs-vsctl jq flock
dpd_bridges
dpd_backend=sim:$E2E_DIR/nic
dpd_start
must dpd_settle_links sim0 sim1
dpd_snapshot "$E2E_DIR/before"
# The NIC's file under its lock, as hw/simstate.h has it.
sim_edit() { flock "$E2E_DIR/nic/lock" sh -c 'jq -c "$1" "$2" >"$2.new" && mv "$2.new" "$2"' - "$1" "$E2E_DIR/nic/sim.json"; }
# As a driver's coming and going would, it tells that something is different.
sim_event() { ip link set dev sim0 alias other && ip link set dev sim0 alias ''; }
sim_fault() { sim_edit ".fail = {call: \"$1\", nth: $2, text: \"$3\"}"; }
# No representor of the first PF for so many milliseconds.
sim_hide() {
    local until
    until=$(awk -v ms="$1" '{printf "%.0f", ($1 * 1000 + ms) * 1000}' /proc/uptime)
    sim_edit ".hidden = {pf0vf0: $until, pf0vf1: $until, pf0vf2: $until, pf0vf3: $until}"
}
vswitchd_says() { { wait_for 20 ovs-vsctl --no-wait get Interface vhu0 type && ovs-vsctl --no-wait set Interface vhu0 "$1"; } >>"$E2E_DIR/log" 2>&1 & }
no_claims() { [ "$(count_claims)" = 0 ]; }
as_before() { dpd_snapshot "$E2E_DIR/after" && diff "$E2E_DIR/before" "$E2E_DIR/after"; }

# ---- claims ----
shows 'a function is claimed and set up' '^a ready vf sim0v0 sim0 0 ' ctl up id=a kind=vf mac=00:16:3e:00:00:01 mtu=1400
shows 'its interface has the MAC' '00:16:3e:00:00:01' ip link show sim0v0
shows 'its interface has the MTU' 'mtu 1400' ip link show sim0v0
shows 'its function has the MAC' 'vf 0 .*00:16:3e:00:00:01|^00:16:3e:00:00:01$' vf_mac 0000:f0:00.0 0
shows 'the next goes to the PF with fewer' '^b ready vf sim1v0 ' ctl up id=b kind=vf
shows 'a wish for a parent is followed' '^c ready vf sim1v1 ' ctl up id=c kind=vf parent=sim1
shows 'asked again it is the same one' '^a ready vf sim0v0 ' ctl up id=a kind=vf mac=00:16:3e:00:00:01 mtu=1400
refuse 'an unknown parent is named' '"eth77" is no SR-IOV device' ctl up id=x kind=vf parent=eth77
shows 'many at once each get their own' '^8$' all_at_once
refuse 'with all in use the error says so' 'All virtual functions of sriov device .* already in use: .*hawser hw prepare' \
    ctl up id=ninth kind=vf
shows 'what failed is not held' '^8$' count_claims
quiet ctl all
same 'given back, nothing differs' '' as_before

# ---- on a bridge ----
shows 'a function with a logical port has its representor on br-int' '^a ready vf sim0v0 sim0 0 0000:f0:02.0 sim0r0 ' \
    ctl up id=a kind=vf iface_id=lsp-a mac=00:16:3e:00:00:01
same 'br-int has it, under its iface-id' 'sim0r0' ovs-vsctl --bare --columns name find Interface external_ids:iface-id=lsp-a
shows 'the representor is up' 'UP' ip -br link show sim0r0
must ip link add vhost0 type veth peer name vguest0
shows 'a veth is bound' '^v ready veth vhost0 ' ctl up id=v kind=veth netdev=vhost0 iface_id=lsp-v mac=00:16:3e:00:00:02
shows 'and up' 'UP' ip -br link show vhost0
refuse 'one that is not there is refused' 'veth-none' ctl up id=w kind=veth netdev=veth-none iface_id=lsp-w
hides 'and never on the bridge' 'veth-none' ovs-vsctl list-ports br-int
refuse 'a bridge that is not there is named' 'no bridge "br-none"' ctl up id=w kind=veth netdev=vhost0 iface_id=l bridge=br-none
shows 'a port that moves to another logical port leaves the first' '^v ready' ctl up id=v kind=veth netdev=vhost0 iface_id=lsp-v2
same 'only the new id is bound' '' ovs-vsctl --bare --columns name find Interface external_ids:iface-id=lsp-v
shows 'the port is taken off' '^v gone' ctl down v
hides 'br-int no longer has it' 'vhost0' ovs-vsctl list-ports br-int
must ovs-vsctl --no-wait del-port br-int sim0r0
claim 'a port that somebody removes comes back' wait_for 5 on_bridge sim0r0
must ip link del vhost0
quiet ctl all
same 'given back, nothing differs' '' as_before

# ---- vfio and vDPA ----
shows 'a function goes to vfio-pci' '^d ready vf - sim0 0 0000:f0:02.0 - - /dev/vfio/' ctl up id=d kind=vf vfio=1
same 'its driver is vfio-pci' vfio-pci vf_driver 0000:f0:02.0
quiet dpd_restart
shows 'it is still there after a restart' '^d ready vf - sim0 0 0000:f0:02.0 - - /dev/vfio/' ctl list
quiet ctl down d
shows 'a vDPA device is made' '^e ready vdpa - sim0 0 0000:f0:02.0 sim0r0 haw[0-9a-f]+ ' ctl up id=e kind=vdpa iface_id=lsp-e
quiet ctl all
same 'given back, nothing differs' '' as_before

# ---- what the host does to us ----
# Its reboot keeps the ledger; the function is what its driver makes of it.
rebooted() { ip link set sim0v0 address 02:f0:00:00:00:00 && sim_edit '.pfs[0].vfs[0].mac = "00:00:00:00:00:00"'; }
has_macs() { ip link show sim0v0 | grep -q 00:16:3e:00:00:07 && vf_mac 0000:f0:00.0 0 | grep -q 00:16:3e:00:00:07; }
must ctl up id=r kind=vf mac=00:16:3e:00:00:07 parent=sim0
quiet dpd_stop
must rebooted
quiet dpd_start
claim "after the host's reboot a claimed function has its MACs again" wait_for 20 has_macs
quiet ctl down r
same 'given back, nothing differs' '' as_before
# No ovs-vswitchd runs here: its word on a port of ours is the suite's.
vswitchd_says ofport=7
shows 'a port of vhost-user is on the bridge' '^u ready vhost-user' ctl up id=u kind=vhost-user netdev=vhu0 path=/run/vhu0.sock iface_id=lsp-u
shows 'as a client of its socket' 'vhost-server-path="/run/vhu0.sock"' \
    ovs-vsctl --bare -- get Interface vhu0 type -- get Interface vhu0 options
quiet dpd_restart
shows 'and after a restart' '^u ready vhost-user' ctl list
quiet ctl down u
hides 'and gone with it' vhu0 ovs-vsctl list-ports br-int
vswitchd_says error='"no such thing"'
refuse 'what Open vSwitch says against one is told' 'cannot open port "vhu0": no such thing' \
    ctl up id=u kind=vhost-user netdev=vhu0 path=/run/vhu0.sock iface_id=lsp-u
hides 'and it is off the bridge' vhu0 ovs-vsctl list-ports br-int
quiet sim_edit '.pfs[0].vfs[0].driver = "vfio-pci"'
shows 'a function that somebody else took since the last look is left alone' '^s ready vf sim0v1 ' ctl up id=s kind=vf parent=sim0
quiet ctl down s
quiet sim_edit '.pfs[0].vfs[0].driver = "hawser-sim-vf"'
quiet sim_event
quiet sim_hide 2000
shows 'a representor that is late is waited for' '^l ready vf sim0v0 .* sim0r0 ' ctl up id=l kind=vf parent=sim0 iface_id=lsp-l
quiet ctl down l
quiet sim_hide 3600000
refuse 'one that does not come is named, with the next step' "no representor 'pf0vf0' on switch .*hawser hw doctor" \
    ctl up id=l kind=vf parent=sim0 iface_id=lsp-l
same 'and nothing stays claimed' 0 count_claims
quiet sim_hide 0
quiet sim_fault bind_driver 1 'the driver is stuck'
refuse 'a function that does not leave its driver is named' 'give "0000:f0:02.0" to vfio-pci: .*the driver is stuck' \
    ctl up id=f kind=vf vfio=1 parent=sim0
same 'and not claimed' 0 count_claims
quiet ctl up id=f kind=vf vfio=1 parent=sim0
quiet sim_fault bind_driver 1 'the driver is stuck'
refuse 'nor does it get lost on the way back' 'the driver is stuck' ctl down f
claim 'a second try gives it back' wait_for 20 no_claims
quiet ctl all
same 'given back, nothing differs' '' as_before
quiet sim_edit '.iommu = false'
quiet dpd_restart
refuse 'without an IOMMU there is no vfio-pci' 'IOMMU' ctl up id=i kind=vf vfio=1 parent=sim0
quiet sim_edit '.iommu = true'
quiet dpd_restart
same 'nothing differs' '' as_before

# ---- restarts between every two steps ----
for id in r1 r2 r3; do
    quiet ctl up id=$id kind=vf iface_id=lsp-$id mac=00:16:3e:00:01:0${id#r}
    quiet dpd_restart
done
same 'three restarts later there are three claims' 3 count_claims
shows 'they are ready' '^r3 ready vf ' ctl list
for id in r1 r2 r3; do
    quiet ctl down $id
    quiet dpd_restart
done
same 'released between restarts, nothing differs' '' as_before

# ---- killed at every numbered point ----
# walk AREA KEYS…: the point grows until the operation survives; each time the ports of before are asked for again.
walk() {
    local area=$1 point alive bad=0
    shift
    for ((point = 1; point < 40; point++)); do
        dpd_stop
        HAWSER_CRASH=$area:$point dpd_start
        hush ctl up "$@"
        [ "$area" != release ] || hush ctl down w
        alive=0
        hush ctl status && alive=1 # a dead one may still be a zombie, which kill -0 takes for alive
        dpd_kill
        dpd_start
        [ $((point % 2)) = 1 ] || hush ctl up "$@"
        hush ctl all
        if ! as_before >>"$E2E_DIR/log" || [ "$(count_claims)" != 0 ]; then
            bad=$((bad + 1))
            echo "$area:$point differs:" "$(diff "$E2E_DIR/before" "$E2E_DIR/after" | head -5)" "$(ctl list)"
        fi
        [ $alive = 0 ] || break
    done
    echo "$((point - 1)) points, $bad wrong"
}
dpd_no_fast
for area in claim plug release; do
    shows "killed at every point of '$area', nothing is left" '^[1-9][0-9]* points, 0 wrong$' \
        walk $area id=w kind=vf iface_id=lsp-w mac=00:16:3e:00:02:01 mtu=1400
done
for area in bind release; do
    shows "the same at '$area' with vfio-pci" '^[1-9][0-9]* points, 0 wrong$' walk $area id=w kind=vf vfio=1 iface_id=lsp-w
    shows "the same at '$area' with vDPA" '^[1-9][0-9]* points, 0 wrong$' walk $area id=w kind=vdpa iface_id=lsp-w
done

# ---- the socket ----
same 'bytes that are no frame end the connection' closed ctl garbage
same 'so does a descriptor that nobody asked for' closed ctl fds
same 'a version ahead that knows ours is spoken with' hello ctl hello 1 2
refuse 'one that does not is told what to do' 'install the same release of both' ctl hello 2 3
refuse 'another user is refused' 'may not use hawser-dpd|Permission denied|DENIED' \
    setpriv --reuid 65534 --clear-groups "$dpd_ctl" "$E2E_DIR/dpd/dpd.socket" status
refuse 'a second one in the directory is refused' 'another hawser-dpd runs' dpd_second
claim 'it ends cleanly' dpd_stop
hides 'no sanitizer report' 'ERROR: (Address|Leak|Undefined)|runtime error:|CRITICAL \*\*|Assertion.*failed' cat "$E2E_DIR/dpd.log"
e2e_end
