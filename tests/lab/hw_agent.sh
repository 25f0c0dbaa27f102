# The agent on a kernel with NICs of its own: `hawser hw` and resources over netdevsim, vdpa_sim and soft RoCE.
. tests/lab/lib.sh
export HAWSER_DIR=/tmp/hawser HAWSER_CONF=/tmp/conf HAWSER_HW=kernel

netdevsim 1 0
pf=$(ls /sys/bus/netdevsim/devices/netdevsim1/net)
ip link set "$pf" up
"$HAWSER_BUILD/agent/hawserd" --dir "$HAWSER_DIR" >/tmp/agent.log 2>&1 &
agent=$!
hawser() { timeout 60 "$HAWSER_BUILD/ctl/hawser" "$@"; }
hawser waitready -t 60 || { nok "the agent starts"; sed 's/^/# /' /tmp/agent.log; done_lab; }

like "a PF without VFs says what to do" "*,netdevsim,*legacy,*run \`hawser hw prepare $pf --vfs 4 --mode switchdev\`*" "$(hawser hw list -f csv)"
like "VFs and the eswitch's mode are prepared" "*virtual functions: 4, was 0*eswitch: switchdev*" "$(hawser hw prepare "$pf" --vfs 4 2>&1)"
is "devlink says so" switchdev "$(devlink -j dev eswitch show netdevsim/netdevsim1 | jq -r '.[][].mode')"
is "so does sysfs" 4 "$(cat /sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs)"
before=$(devlink port show; ip -d link)
like "the second time changes nothing" "*'$pf' was so already*" "$(hawser hw prepare "$pf" --vfs 4 2>&1)"
is "to the byte" "$before" "$(devlink port show; ip -d link)"
is "representors are shown" 4 "$(hawser hw show "$pf" | grep -c '^  representor:')"
like "more than there can be is refused" "*can have 4 virtual functions*" "$(hawser hw prepare "$pf" --vfs 5 2>&1)"
like "another number goes through none, and back to switchdev" "*virtual functions: 2, was 4*eswitch: switchdev*" "$(hawser hw prepare "$pf" --vfs 2 2>&1)"
is "with so many representors" 2 "$(hawser hw list -f json | jq '.representors | length')"

checks=$(hawser hw doctor -f json)
check() { jq -r ".[] | select(.subject == \"$1\" and .check == \"$2\") | .status" <<<"$checks" | head -n 1; }
is "the doctor reads the kernel's configuration" ok "$(check kernel configuration)"
is "sees that there is no IOMMU" warning "$(check host iommu)"
is "knows the eswitch" ok "$(check "$pf" eswitch)"
is "knows the firmware" ok "$(check "$pf" firmware)"
is "and gives a next step for all that is not well" "" "$(jq -r '.[] | select(.status != "ok" and (.next // "") == "") | .check' <<<"$checks")"

# A reboot, in short: the VFs are gone, the unit runs.
echo 0 >/sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs
devlink dev eswitch set netdevsim/netdevsim1 mode legacy
succeeds "the boot unit carries out what was prepared" "$HAWSER_BUILD/agent/hawserd" forkprepare "$HAWSER_DIR/hw-prepare.json"
is "VFs are back" 2 "$(cat /sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs)"
is "in switchdev mode" switchdev "$(devlink -j dev eswitch show netdevsim/netdevsim1 | jq -r '.[][].mode')"

rdma link add rxe0 type rxe netdev "$pf"
cards=$(hawser query /1.0/resources | jq .network)
is "resources have the NIC with its VFs" "2 4" "$(jq -r '.cards[] | select(.sriov != null) | .sriov | "\(.current_vfs) \(.maximum_vfs)"' <<<"$cards")"
like "its port has the RDMA device" "uverbs0 ?*:?*" "$(jq -r ".cards[].ports[] | select(.id == \"$pf\") | .infiniband | \"\(.verb_name) \(.verb_device)\"" <<<"$cards")"
is "hw lists it with its interface" "rxe0 $pf" "$(hawser hw list -f json | jq -r '.rdma[] | "\(.name) \(.netdev)"')"
kill "$agent"
wait "$agent"
is "the agent ends cleanly" 0 $?
is "no sanitizer had anything to say" "" "$(grep -E 'ERROR: .*Sanitizer|runtime error' /tmp/agent.log)"
done_lab
