# Prints the fixture tests/fixtures/hw/netdevsim.txt: the kernel's own NICs, recorded in the lab.
#   hw/lab/run tests/lab/record.sh >tests/fixtures/hw/netdevsim.txt
# On a machine with a card, as root, without the lab: build/tests/lab/hw_record >tests/fixtures/hw/NAME.txt
. tests/lab/lib.sh
exec 3>&1 >/dev/null # standard error is printed with the output
netdevsim 1 4 switchdev
pf=$(look '.pfs[0].netdev')
hw set-vf "$pf" 1 mac=02:00:00:00:00:09 vlan=7 spoofchk=1 trust=1 link_state=1
netdevsim 2 2 legacy
hw vdpa-add vdpasim_net haw0 02:00:00:00:00:05
ip link add rnic0 type dummy
ip link set rnic0 up
rdma link add rxe0 type rxe netdev rnic0
ip link add lag0 type bond mode 802.3ad
"$HAWSER_BUILD/tests/lab/hw_record" >&3
