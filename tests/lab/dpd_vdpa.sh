# hawser-dpd and the kernel's vDPA simulator: a device with the NIC's MAC, bound to vhost-vdpa, handed to a QEMU; a stop
# never hangs, also under concurrent ones; 200 starts and stops leave nothing behind.
. tests/lab/lib.sh
. tests/lab/dpd.sh
dpd_start
like "a vDPA device is made and bound" "v ready vdpa *haw* /dev/vhost-vdpa-*" \
    "$(ctl up id=v kind=vdpa parent=vdpasim_net mac=00:16:3e:00:00:05)"
name=$(ctl list | awk '{print $9}')
like "it has the NIC's MAC" "*00:16:3e:00:00:05*" "$(vdpa dev config show "$name")"
is "its driver is vhost_vdpa" vhost_vdpa "$(basename "$(readlink "/sys/bus/vdpa/devices/$name/driver")")"
is "the device is handed over as a descriptor" yes "$(ctl exec v sh -c '[ -c /proc/self/fd/3 ] && echo yes')"
is "the same again is the same device" "$name" "$(ctl up id=v kind=vdpa parent=vdpasim_net mac=00:16:3e:00:00:05 | awk '{print $9}')"

# A QEMU boots a guest of its own with the descriptor, which sees the MAC and moves packets.
ulimit -l unlimited
ctl exec v qemu-system-x86_64 -accel tcg -m 64 -display none -serial file:$E2E_DIR/guest -monitor none -no-reboot -nic none \
    -kernel "$HAWSER_BUILD/tests/lab/vnetguest" -netdev vhost-vdpa,id=n0,vhostfd=3 \
    -device virtio-net-pci,netdev=n0,mac=00:16:3e:00:00:05,romfile=,disable-legacy=on,iommu_platform=on >>$E2E_DIR/log 2>&1 </dev/null &
guest=$!
wait_for 90 grep -q GUEST-SENT $E2E_DIR/guest && ok "a QEMU boots a guest with it, and it sends" ||
    nok "no guest: $(tail -n 3 $E2E_DIR/log)"
like "the guest sees the MAC" "*GUEST-MAC 00163e000005*" "$(cat $E2E_DIR/guest)"
pkill -KILL qemu-system-x86
wait $guest 2>/dev/null

# Somebody holds it open: the stop is refused in time, the rest goes on, and it ends when the holder does.
ctl exec v sleep 15 &
holder=$!
wait_for 30 pgrep -f "^sleep 15" >/dev/null || nok "nobody holds it"
began=$SECONDS
like "under its user it is not removed, and the answer comes" "*v *" "$(ctl down v)"
[ $((SECONDS - began)) -lt 20 ] && ok "within 20 s" || nok "it took $((SECONDS - began)) s"
like "meanwhile others are served" "w ready vdpa *" "$(ctl up id=w kind=vdpa parent=vdpasim_net mac=00:16:3e:00:00:06)"
like "and go" "w gone *" "$(ctl down w)"
wait $holder
wait_for 60 sh -c "! vdpa dev show | grep -q $name" && ok "it goes once its user has ended" || nok "it stays: $(vdpa dev show)"

# 200 cycles, two at a time, each with the device opened.
timeout 200 env ASAN_OPTIONS=detect_leaks=0 "$dpd_ctl" "$E2E_DIR/dpd/dpd.socket" cycle 100 id=c1 kind=vdpa parent=vdpasim_net mac=00:16:3e:00:01:01 >$E2E_DIR/c1 2>>$E2E_DIR/log &
other=$!
timeout 200 env ASAN_OPTIONS=detect_leaks=0 "$dpd_ctl" "$E2E_DIR/dpd/dpd.socket" cycle 100 id=c2 kind=vdpa parent=vdpasim_net mac=00:16:3e:00:01:02 >$E2E_DIR/c2 2>>$E2E_DIR/log
wait $other
is "200 cycles, two at a time, all succeed" "0 0" "$(cat $E2E_DIR/c1) $(cat $E2E_DIR/c2)"
is "no device is left" "" "$(vdpa dev show)"
is "no port is left" "" "$(ctl list)"

# Killed while a device is made: the next life removes it.
for point in 1 2; do
    dpd_stop
    HAWSER_CRASH=bind:$point dpd_start
    hush ctl up id=k kind=vdpa parent=vdpasim_net mac=00:16:3e:00:00:07
    dpd_kill
    dpd_start
    hush ctl all
    is "killed at bind:$point, no device is left" "" "$(vdpa dev show)"
done
done_lab
