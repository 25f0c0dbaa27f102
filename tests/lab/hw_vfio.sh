# A NIC changes drivers behind QEMU's IOMMU: e1000e, vfio-pci, and back. Needs LAB_QEMU as in meson.build.
. tests/lab/lib.sh

dev=$(for d in /sys/bus/pci/devices/*; do [ "$(cat "$d/class")" = 0x020000 ] && basename "$d"; done | head -n 1)
driver() { basename "$(readlink "/sys/bus/pci/devices/$dev/driver")"; }
netdev() { ls "/sys/bus/pci/devices/$dev/net" 2>/dev/null; }
is "the NIC starts with its own driver" e1000e "$(driver)"
is "the IOMMU is seen" true "$(look .iommu)"
name=$(netdev)
mac=$(cat "/sys/class/net/$name/address")
group=$(basename "$(readlink "/sys/bus/pci/devices/$dev/iommu_group")")

for round in 1 2; do
    succeeds "round $round: vfio-pci takes it" "$HAWSER_BUILD/tests/lab/hw_call" bind "$dev" vfio-pci
    is "round $round: and has it" vfio-pci "$(driver)"
    [ -c "/dev/vfio/$group" ] && ok "round $round: its group is there" || nok "round $round: no /dev/vfio/$group"
    is "round $round: its interface is gone" "" "$(netdev)"
    succeeds "round $round: its own driver takes it back" "$HAWSER_BUILD/tests/lab/hw_call" bind "$dev" e1000e
    is "round $round: and has it" e1000e "$(driver)"
    is "round $round: no override stays" "(null)" "$(cat "/sys/bus/pci/devices/$dev/driver_override")"
done
is "with the MAC that it had" "$mac" "$(cat "/sys/class/net/$(netdev)/address")"
succeeds "the same driver again changes nothing" "$HAWSER_BUILD/tests/lab/hw_call" bind "$dev" e1000e
succeeds "it may be left without" "$HAWSER_BUILD/tests/lab/hw_call" bind "$dev" ''
is "then nobody has it" . "$(basename "$(readlink "/sys/bus/pci/devices/$dev/driver" || echo .)")"
like "a driver that isn't there is named, with the next step" "*no driver 'mlx9_core' (modprobe mlx9_core)*" "$(hw bind "$dev" mlx9_core 2>&1)"
like "one that refuses is named" "*'igb' did not take '$dev'*" "$(hw bind "$dev" igb 2>&1)"
like "a device that isn't there is named" "*no PCI device '0000:ff:1f.7'*" "$(hw bind 0000:ff:1f.7 vfio-pci 2>&1)"
succeeds "after all that its own driver takes it back" "$HAWSER_BUILD/tests/lab/hw_call" bind "$dev" e1000e
is "no override stays" "(null)" "$(cat "/sys/bus/pci/devices/$dev/driver_override")"
done_lab
