# Virtual machines that the agent starts, with hardware handed to them: a vDPA device on an OVN network (netdevsim's
# function and representor, the kernel's vDPA simulator), and a whole NIC by vfio-pci behind QEMU's IOMMU, whose wire
# leads to the lab's second NIC. A guest of its own drives both. Needs LAB_QEMU as in meson.build.
. tests/lab/lib.sh
. tests/lab/agent.sh
guest() { hawser query "/1.0/instances/$1/console" 2>/dev/null; }
said() { guest "$1" | grep -q "$2"; }
# vm NAME: empty, with the lab's guest for a kernel
vm() {
    lab_kernel
    must hawser init --empty --vm "$1" -c security.secureboot=false -c security.csm=true -c limits.memory=64MiB \
        -c raw.qemu="-kernel $vnetguest"
}
now() { ip -d link show "$pf"; devlink port show; vdpa dev show; }
as_before() { [ "$before" = "$(now)" ]; }
qemu_of() { cat "$HAWSER_DIR/run/$1/qemu.pid"; }

ulimit -l unlimited
netdevsim 1 2 switchdev
pf=$(ls /sys/bus/netdevsim/devices/netdevsim1/net | head -n 1)
for link in $(look '.pfs[0].vfs[].netdev, .pfs[0].vfs[].representor'); do ip link set "$link" up; done
for link in $(look '.pfs[0].vfs[].netdev, .pfs[0].vfs[].representor'); do ip link set "$link" down; done
agent_start
agent_ovn
vs set Open_vSwitch . other_config:hw-offload=true
before=$(now)

# ---- vDPA ----
vm v1
must hawser config device add v1 eth0 nic network=o1 acceleration=vdpa hwaddr=00:16:3e:00:00:05
succeeds "a VM starts with a vDPA device" hawser start v1
name=$(hawser config get v1 volatile.eth0.last_state.vdpa.name)
like "its name is known" "haw*" "$name"
like "it has the NIC's MAC" "*00:16:3e:00:00:05*" "$(vdpa dev config show "$name")"
is "QEMU has its character device open" "/dev/$(basename "$(readlink -f /sys/bus/vdpa/devices/"$name"/vhost-vdpa-*)")" \
    "$(readlink /proc/"$(qemu_of v1)"/fd/* | grep vhost-vdpa)"
rep=$(hawser hw list -f json | jq -r '.pfs[].vfs[] | select(.state == "used") | .representor')
like "the function's representor is on br-int, for the VM's logical port" "*eth0*" "$(vs get Interface "$rep" external_ids:iface-id)"
wait_for 120 said v1 GUEST-RECEIVED && ok "the guest sends and receives" || nok "the guest: $(guest v1)"
like "it sees the MAC" "*GUEST-MAC 00163e000005*" "$(guest v1)"
agent_kill
agent_start
is "the agent killed and started again, the VM runs on" RUNNING "$(hawser list v1 -f csv -c s)"
is "with its device" vhost_vdpa "$(basename "$(readlink "/sys/bus/vdpa/devices/$name/driver")")"
succeeds "a stop does not hang" hawser stop -f v1
is "no vDPA device is left" "" "$(vdpa dev show)"
is "nothing of it is on br-int" "" "$(vs list-ports br-int | grep -x "$rep")"
wait_for 20 as_before && ok "the function is as it was, to the byte" || nok "it differs: $(diff <(echo "$before") <(now))"

# ---- vfio-pci ----
nics=$(grep -l 0x10d3 /sys/class/net/*/device/device | cut -d/ -f5)
card=$(sed -n 1p <<<"$nics") far=$(sed -n 2p <<<"$nics")
slot=$(basename "$(readlink "/sys/class/net/$card/device")")
driver() { basename "$(readlink "/sys/bus/pci/devices/$slot/driver")"; }
back() { [ "$(driver)" = e1000e ] && [ "$card_before" = "$(ip -d link show "$card" | sed 's/^[0-9]*: //')" ]; }
ip link set "$far" up
card_before=$(ip -d link show "$card" | sed 's/^[0-9]*: //')
vm v2
must hawser config device add v2 eth0 nic nictype=physical parent="$card"
like "a VLAN can't be set on a NIC that is given away" "*Invalid device option \"vlan\"*" "$(hawser config device set v2 eth0 vlan=5 2>&1)"
succeeds "a VM starts with a NIC of the host" hawser start v2
is "vfio-pci has it" vfio-pci "$(driver)"
is "its interface is gone" "" "$(ls /sys/class/net | grep -x "$card")"
is "what it was is remembered" "$slot e1000e" "$(hawser config get v2 volatile.eth0.last_state.pci.slot.name) $(hawser config get v2 volatile.eth0.last_state.pci.driver)"
like "another VM can't have it" "*doesn't exist*" "$(vm v3; hawser config device add v3 eth0 nic nictype=physical parent="$card"; hawser start v3 2>&1)"
wait_for 120 said v2 GUEST-SENT && ok "the guest sends through it" || nok "the guest: $(guest v2)"
received=$(cat "/sys/class/net/$far/statistics/rx_packets")
[ "$received" -gt 0 ] && ok "and the frame comes out of the wire" || nok "no frame came out of the wire"
heard() { ip neigh flush dev "$far"; ping -c 1 -W 1 10.99.0.9; said v2 GUEST-RECEIVED; } # who-has is a broadcast
ip addr add 10.99.0.1/24 dev "$far"
wait_for 60 heard && ok "what is sent into the wire arrives" || nok "the guest: $(guest v2)"
succeeds "it stops" hawser stop -f v2
wait_for 20 back && ok "the NIC is back with its driver, to the byte as before" || nok "it differs: $(driver) $(ip -d link show "$card")"

must hawser config device remove v3 eth0
must hawser config set v3 boot.autostart=false
must hawser config device add v3 card pci address="${slot#0000:}"
succeeds "a VM starts with it as a PCI device" hawser start v3
is "vfio-pci has it again" vfio-pci "$(driver)"

# ---- everybody who could give it back dies at once ----
agent_kill
kill -KILL $(pgrep -x hawser-dpd) "$(qemu_of v3)"
is "killed, nobody gives it back" vfio-pci "$(driver)"
agent_start
wait_for 60 back && ok "the next agent does, to the byte as before" || nok "it differs: $(driver) $(ip -d link show "$card")"
is "the VM is told as stopped" STOPPED "$(hawser list v3 -f csv -c s)"
agent_end
done_lab
