#!/bin/bash
# hw: `hawser hw` and the hardware in REST, on a simulated NIC of two PFs: list, show, doctor, prepare.
. "$(dirname "$0")/lib.sh"
need jq
e2e_begin
nic=$E2E_DIR/nic
DAEMON_ENV="HAWSER_HW=sim:$nic" daemon_start
export HAWSER_DIR=$LXD_DIR HAWSER_CONF=$HOME/.config/hawser
PATH=$HAWSER_BUILD/ctl:$PATH

# ---- looking ----
shows 'both PFs are listed, ready, with their VFs' '^sim0,0000:f0:00.0,hawser-sim,0,switchdev,"0 used, 4 free, max 8",on,ready' hawser hw list -f csv
shows 'the second one too' '^sim1,' hawser hw list -f csv
same 'the table is what REST says' 2 sh -c 'hawser hw list -f json | jq ".pfs | length"'
shows 'a PF is shown by its interface' 'representor: sim0r3' hawser hw show sim0
shows 'and by its address' 'netdev: sim1' hawser hw show 0000:f0:00.1
refuse 'one that is not there is named, with the next step' "no PF 'eth77' .*hawser hw list" hawser hw show eth77
same 'completion offers PFs' 'sim0 sim1' sh -c 'hawser __complete hw show sim | cut -f1 | sort | xargs'
must ip netns add hwother
must ip link set sim0v1 netns hwother
shows 'a VF in another namespace is used' '"1 used, 3 free, max 8"' hawser hw list -f csv

# ---- what stands in the way ----
shows 'the doctor knows the eswitch' '^sim0,eswitch,ok,' hawser hw doctor -f csv
shows 'and hw-tc-offload' '^sim0,hw-tc-offload,ok,' hawser hw doctor -f csv
shows 'and the kernel' '^kernel,version,ok,Linux ' hawser hw doctor -f csv
same 'whatever is not ok has a next step' '' sh -c 'hawser hw doctor -f json | jq -r ".[] | select(.status != \"ok\" and (.next // \"\") == \"\") | .check"'

# ---- preparing ----
refuse 'VFs in use are not taken away' "VF 1 of 'sim0' .* is in use by another network namespace: stop what uses" \
    hawser hw prepare sim0 --vfs 8
shows 'and nothing has changed' '"1 used, 3 free, max 8"' hawser hw list -f csv
must ip netns del hwother
shows 'what is so already is left alone' "'sim0' was so already" hawser hw prepare sim0 --vfs 4
shows 'more VFs are made' 'virtual functions: 8, was 4' hawser hw prepare sim0 --vfs 8 --mode switchdev
shows 'they are there' '"0 used, 8 free, max 8"' hawser hw list -f csv
shows 'a second time changes nothing' 'was so already' hawser hw prepare sim0 --vfs 8 --mode switchdev
refuse 'more than there can be is refused' "'sim0' can have 8 virtual functions" hawser hw prepare sim0 --vfs 9
refuse 'a number is needed' 'how many virtual functions' hawser hw prepare sim0
refuse 'no such mode' '"mode" is "switchdev" or "legacy"' hawser hw prepare sim0 --vfs 8 --mode fast
shows 'legacy mode' 'eswitch: legacy' hawser hw prepare sim1 --vfs 2 --mode legacy
shows 'is told, with the way out' '^sim1,.*,legacy,.*legacy mode: run `hawser hw prepare sim1 --vfs 2 --mode switchdev`' hawser hw list -f csv
shows 'the doctor says so, too' '^sim1,eswitch,ERROR,.*,hawser hw prepare sim1' hawser hw doctor -f csv

# ---- after a boot ----
shows 'what was prepared is kept by address' '"0000:f0:00.0"' cat "$LXD_DIR/hw-prepare.json"
must rm -f "$nic/sim.json"
for link in sim0 sim1; do quiet ip link del "$link"; quiet ip link del "${link}b"; for i in 0 1 2 3 4 5 6 7; do quiet ip link del "${link}r$i"; quiet ip link del "${link}x$i"; done; done
same 'a new NIC is as made' 4,switchdev sh -c 'hawser hw list -f json | jq -r ".pfs[1] | \"\(.num_vfs),\(.eswitch)\""'
claim 'the boot unit carries it out' env HAWSER_HW="sim:$nic" ASAN_OPTIONS=detect_leaks=0 "$HAWSER_BUILD/agent/hawserd" forkprepare "$LXD_DIR/hw-prepare.json"
same 'on the first PF' 8,switchdev sh -c 'hawser hw list -f json | jq -r ".pfs[0] | \"\(.num_vfs),\(.eswitch)\""'
same 'and on the second' 2,legacy sh -c 'hawser hw list -f json | jq -r ".pfs[1] | \"\(.num_vfs),\(.eswitch)\""'
claim 'a boot without anything kept is fine' env HAWSER_HW="sim:$nic" "$HAWSER_BUILD/agent/hawserd" forkprepare "$E2E_DIR/none.json"
must sh -c "echo '{' >'$E2E_DIR/bad.json'"
refuse 'a broken file is named' "bad.json', line [12]" env HAWSER_HW="sim:$nic" "$HAWSER_BUILD/agent/hawserd" forkprepare "$E2E_DIR/bad.json"
shows 'a PF is forgotten' 'virtual functions: 0' hawser hw prepare sim1 --vfs 0 --mode legacy
hides 'and not in the file any more' '0000:f0:00.1' cat "$LXD_DIR/hw-prepare.json"

# ---- resources, in LXD's form ----
cards() { api_meta GET /1.0/resources | jq -r "$1"; }
same 'resources have a card for each PF' '0000:f0:00.0 0000:f0:00.1' cards '[.network.cards[] | select(.driver == "hawser-sim") | .pci_address] | sort | join(" ")'
same 'with its VFs as cards' '8 8 8' cards '.network.cards[] | select(.pci_address == "0000:f0:00.0").sriov | "\(.current_vfs) \(.maximum_vfs) \(.vfs | length)"'
same 'each with its port' sim0v2 cards '.network.cards[] | select(.pci_address == "0000:f0:00.0").sriov.vfs[2].ports[0].id'
same 'the total counts them' true cards '(.network.cards | length) == .network.total'

# ---- REST ----
same 'GET of one PF' 200 api_code GET /1.0/hawser/hw/pfs/sim0
same 'of none: 404' 404 api_code GET /1.0/hawser/hw/pfs/none
same 'a body without a number: 400' 400 api_code PUT /1.0/hawser/hw/pfs/sim0 '{"vfs":"8","mode":"switchdev"}'
same 'a negative number: 400' 400 api_code PUT /1.0/hawser/hw/pfs/sim0 '{"vfs":-1,"mode":"switchdev"}'
same 'an unknown mode: 400' 400 api_code PUT /1.0/hawser/hw/pfs/sim0 '{"vfs":1,"mode":7}'
e2e_end
