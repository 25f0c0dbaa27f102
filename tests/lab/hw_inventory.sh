# The inventory of a kernel's own NICs: netdevsim in switchdev mode, the vDPA simulator, soft RoCE, bonds.
. tests/lab/lib.sh

is "a host without such NICs has none" "0 0 0" "$(look '"\(.pfs|length) \(.representors|length) \(.rdma|length)"')"

netdevsim 1 4 legacy
is "a PF in legacy mode says so" "netdevsim1 legacy 4" "$(look '.pfs[0] | "\(.device) \(.eswitch) \(.num_vfs)"')"
is "there are no representors then" 0 "$(look '.representors | length')"
devlink dev eswitch set netdevsim/netdevsim1 mode switchdev
is "in switchdev mode it says that" switchdev "$(look '.pfs[0].eswitch')"
is "each VF has its representor" "pf0vf0 pf0vf1 pf0vf2 pf0vf3" "$(look '[.representors[].port] | join(" ")')"
pf=$(look '.pfs[0].netdev')
for vf in 0 1 2 3; do
    wanted=$(devlink -j port show | jq -r ".port[] | select(.flavour == \"pcivf\" and .vfnum == $vf) | .netdev")
    is "VF $vf has the one that devlink names" "$wanted" "$(look ".pfs[0].vfs[$vf].representor")"
done
is "all ports are of the PF's switch" true "$(look '.pfs[0].switch_id as $id | [.representors[].switch_id == $id] | all')"
is "the VF's interface is found" "$(ls /sys/bus/netdevsim/devices/netdevsim1002/net)" "$(look '.pfs[0].vfs[2].netdev')"
is "firmware is that of devlink" "$(devlink -j dev info netdevsim/netdevsim1 | jq -r '.info[].versions.running.fw // empty, (.info[].versions.running | to_entries[0].value)' | head -n 1)" \
    "$(look '.pfs[0].firmware')"

before=$(ip -d link show "$pf")
succeeds "a VF's MAC, VLAN, spoof check, trust and link state are set" \
    "$HAWSER_BUILD/tests/lab/hw_call" set-vf "$pf" 1 mac=02:00:00:00:00:09 vlan=7 spoofchk=1 trust=1 link_state=1
is "and read back" "02:00:00:00:00:09 7 true true enable" \
    "$(look '.pfs[0].vfs[1].properties | "\(.mac) \(.vlan) \(.spoofchk) \(.trust) \(.link_state)"')"
like "ip(8) sees the same" "*vf 1*02:00:00:00:00:09*vlan 7, spoof checking on, link-state enable, trust on*" "$(ip link show "$pf" | grep 'vf 1')"
succeeds "they are given back" \
    "$HAWSER_BUILD/tests/lab/hw_call" set-vf "$pf" 1 mac=00:00:00:00:00:00 vlan=0 spoofchk=0 trust=0 link_state=0
is "to the byte" "$before" "$(ip -d link show "$pf")"
like "a driver's refusal is told in its own words" "*configure VF 1 of '$pf'*" "$(hw set-vf "$pf" 1 max_mbps=5 2>&1)"
like "a VF that isn't there is named" "*'$pf' has no VF 9*" "$(hw set-vf "$pf" 9 vlan=3 2>&1)"
succeeds "putting back what is so asks the driver for nothing" "$HAWSER_BUILD/tests/lab/hw_call" set-vf "$pf" 1 max_mbps=0

switch=$(look '.pfs[0].switch_id')
is "a representor is found at once" "$(look '.representors[3].netdev')" "$(hw rep-wait "$switch" pf0vf3 0)"
like "another controller's is another port" "*no representor 'c1pf0vf3'*after 200 ms*" "$(hw rep-wait "$switch" c1pf0vf3 200 2>&1)"
echo 0 >/sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs
# netdevsim falls back to legacy mode when its VFs go.
(sleep 1; echo 2 >/sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs; devlink dev eswitch set netdevsim/netdevsim1 mode switchdev) &
like "a late one is waited for" "?*" "$(hw rep-wait "$switch" pf0vf1 20000)"
wait

is "the vDPA simulator is listed" "vdpasim_net true" "$(look '.vdpa.management[0] | "\(.handle) \(.net)"')"
is "a vDPA device has its character device" /dev/vhost-vdpa-0 "$(hw vdpa-add vdpasim_net haw0 02:00:00:00:00:05)"
is "with its MAC and driver" "02:00:00:00:00:05 vhost_vdpa" "$(look '.vdpa.devices[0] | "\(.mac) \(.driver)"')"
like "its name is taken" "*add vDPA device 'haw0' on 'vdpasim_net'*" "$(hw vdpa-add vdpasim_net haw0 02:00:00:00:00:05 2>&1)"
exec 9<>/dev/vhost-vdpa-0
like "it is not removed under its user, and nobody hangs" "*'haw0' is in use*" "$(timeout 20 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0 2>&1)"
exec 9<&-
succeeds "it goes once that one ended" "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0
succeeds "what is gone may be removed again" "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0
is "nothing is left" "" "$(vdpa dev show)"

ip link add rnic0 type dummy
ip link set rnic0 up
rdma link add rxe0 type rxe netdev rnic0
is "an RDMA device is listed with its interface" "rxe0 rnic0 1" "$(look '.rdma[0] | "\(.name) \(.netdev) \(.ports)"')"

ip link add lag0 type bond mode 802.3ad
is "a bond is listed with its mode" 4 "$(look '.bonds[] | select(.netdev == "lag0") | .mode')"

# ---- a recording is the machine: from the text of a fixture the inventory sees all of it again ----
must_do() { "$@" >/dev/null || nok "$*"; }
must_do hw set-vf "$pf" 1 mac=02:00:00:00:00:09 vlan=7 spoofchk=1 trust=1
must_do hw vdpa-add vdpasim_net haw1 02:00:00:00:00:06
succeeds "the machine is recorded" sh -c "'$HAWSER_BUILD/tests/lab/hw_record' >/tmp/recorded.txt"
is "the recording gives the same inventory, to the byte" "$(hw list)" "$("$HAWSER_BUILD/tests/lab/hw_record" look /tmp/recorded.txt)"
must_do hw vdpa-del haw1
done_lab
