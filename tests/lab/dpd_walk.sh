# hawser-dpd over netdevsim in switchdev mode: claim all, exhaust, release, restart between every two steps, kill -9 at
# every numbered crash point; at the end every function is byte for byte what it was, by ip(8) and devlink(8).
. tests/lab/lib.sh
. tests/lab/dpd.sh
netdevsim 1 4 switchdev
pf=$(look '.pfs[0].netdev')
vfs=$(look '.pfs[0].vfs[].netdev')
reps=$(look '.pfs[0].vfs[].representor')
dpd_bridges
# A queue that was never used shows otherwise: everything up and down once.
for link in $pf $vfs $reps; do ip link set "$link" up; done
for link in $vfs $reps; do ip link set "$link" down; done
dpd_start
dpd_snapshot "$E2E_DIR/before"
as_before() { dpd_snapshot "$E2E_DIR/after" && diff "$E2E_DIR/before" "$E2E_DIR/after"; }

is "four ports get four functions" 4 "$(ctl up id=p1 kind=vf mac=00:16:3e:00:00:01 iface_id=l1 --- id=p2 kind=vf \
    mac=00:16:3e:00:00:02 iface_id=l2 mtu=1400 --- id=p3 kind=vf mac=00:16:3e:00:00:03 spoof_check=on --- id=p4 kind=vf \
    mac=00:16:3e:00:00:04 vlan=7 trust=on | grep -c ' ready vf ')"
is "each its own" 4 "$(ctl status | sed -n 's/^claim \([^ ]*\) .*/\1/p' | sort -u | wc -l)"
# Which one gets which is not said.
settings=$(ip link show "$pf")
is "the PF has their MACs" 4 "$(grep -c '00:16:3e:00:00:0[1-4] ' <<<"$settings")"
is "the settings are where they ought to be" 2 "$(grep -cE '00:00:03 .*spoof checking on|00:00:04 .*vlan 7.*trust on' <<<"$settings")"
is "bridged ones have their representors on br-int" 2 "$(ovs-vsctl list-ports br-int | wc -l)"
like "the fifth is refused, with the next step" "*All virtual functions of sriov device*already in use*hawser hw prepare*" "$(ctl up id=p5 kind=vf)"
for n in 1 2 3 4; do
    ctl down p$n >/dev/null
    hush dpd_restart
    is "after $n releases and a restart there are $((4 - n)) claims" $((4 - n)) "$(count_claims)"
done
is "given back, nothing differs" "" "$(as_before)"

walk() { # AREA KEYS…
    local area=$1 point alive said bad=0
    shift
    for ((point = 1; point < 40; point++)); do
        dpd_stop
        HAWSER_CRASH=$area:$point dpd_start
        said=$(ctl up "$@" 2>&1)
        [ "$area" != release ] || hush ctl down w
        alive=0
        hush ctl status && alive=1 # a dead one may still be a zombie, which kill -0 takes for alive
        dpd_kill
        dpd_start
        [ $((point % 2)) = 1 ] || hush ctl up "$@"
        hush ctl all
        if ! as_before >>"$E2E_DIR/log" || [ "$(count_claims)" != 0 ]; then
            bad=$((bad + 1))
            echo "# $area:$point differs:" "$(diff "$E2E_DIR/before" "$E2E_DIR/after" | head -5)" "$(ctl list)"
        fi
        [ $alive = 0 ] || break
    done
    dpd_stop # here: which one runs is not known outside of this subshell
    [ $point -gt 1 ] || echo "# it met no point: $said"
    echo "$((point - 1)) points, $bad wrong"
}
dpd_stop
dpd_no_fast
for area in claim plug release; do
    like "killed at every point of '$area', nothing is left" "[1-9]* points, 0 wrong" \
        "$(walk $area id=w kind=vf iface_id=lw mac=00:16:3e:00:02:01 mtu=1400)"
done
dpd_start

# What can be wrong with the hardware.
like "an unknown PF is named" "*\"ens9f9\" is no SR-IOV device*" "$(ctl up id=x kind=vf parent=ens9f9)"
like "a NIC without an IOMMU can't give a function to vfio-pci" "*failed*" "$(ctl up id=x kind=vf vfio=1)"
devlink dev eswitch set netdevsim/netdevsim1 mode legacy
like "in legacy mode a port on a bridge is refused, with the next step" "*switchdev*" "$(ctl up id=x kind=vf iface_id=l)"
is "what failed is not held" 0 "$(count_claims)"
devlink dev eswitch set netdevsim/netdevsim1 mode switchdev
taken=$(ctl up id=t kind=vf iface_id=lt | awk '{print $4}')
echo 0 >/sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs
like "a function that vanished under its port leaves no claim" "t gone *" "$(ctl down t)"
is "none" 0 "$(count_claims)"
ctl all >/dev/null
[ -n "$taken" ] && ok "it had one before" || nok "it had one before"
done_lab
