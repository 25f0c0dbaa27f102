# vDPA from making a device to a guest that moves packets through it: vdpa_sim_net, vhost-vdpa, a QEMU in the lab.
. tests/lab/lib.sh
ulimit -l unlimited

# guest FILE: a QEMU with the device, its serial port in FILE; $guest is its pid
guest() {
    qemu-system-x86_64 -accel tcg -m 64 -display none -serial "file:$1" -monitor none -no-reboot -nic none \
        -kernel "$HAWSER_BUILD/tests/lab/vnetguest" -netdev vhost-vdpa,id=n0,vhostdev=/dev/vhost-vdpa-0 \
        -device virtio-net-pci,netdev=n0,mac=02:00:00:00:00:05,romfile= >/tmp/qemu.log 2>&1 </dev/null &
    guest=$!
}
said() { # FILE TEXT: within a minute
    local turn
    for ((turn = 0; turn < 300; turn++)); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.2
    done
    sed 's/^/# /' /tmp/qemu.log "$1"
    return 1
}

is "a device is made, with a MAC, and given to vhost_vdpa" /dev/vhost-vdpa-0 "$(hw vdpa-add vdpasim_net haw0 02:00:00:00:00:05)"
guest /tmp/first
if said /tmp/first GUEST-MAC; then ok "a guest boots with it"; else nok "a guest boots with it"; fi
like "and sees its MAC" "*GUEST-MAC 020000000005*" "$(cat /tmp/first)"
if said /tmp/first GUEST-SENT; then ok "it sends"; else nok "it sends"; fi
if said /tmp/first GUEST-RECEIVED; then ok "and receives"; else nok "and receives"; fi
like "the device is not taken from under it, at once" "*'haw0' is in use: whoever has '/dev/vhost-vdpa-0' open must end first*" \
    "$(timeout 20 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0 2>&1)"
kill -KILL "$guest"
wait "$guest" 2>/dev/null
start=$SECONDS
succeeds "once the guest is gone, so is the device" timeout 20 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0
[ $((SECONDS - start)) -lt 10 ] && ok "that does not hang" || nok "that does not hang: $((SECONDS - start)) s"
is "nothing is left" "" "$(vdpa dev show)"

is "a second life of the same name" /dev/vhost-vdpa-0 "$(hw vdpa-add vdpasim_net haw0 02:00:00:00:00:05)"
guest /tmp/second
if said /tmp/second GUEST-RECEIVED; then ok "works as the first"; else nok "works as the first"; fi
kill "$guest"
wait "$guest" 2>/dev/null
succeeds "and ends as the first" timeout 20 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-del haw0

# Two operations at a time, 200 lives.
timeout 100 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-cycles vdpasim_net one 100 >/tmp/one 2>&1 &
one=$!
timeout 100 "$HAWSER_BUILD/tests/lab/hw_call" vdpa-cycles vdpasim_net two 100 >/tmp/two 2>&1 &
two=$!
wait $one
is "a hundred devices come, are used, are refused to go, and go" "0 " "$? $(cat /tmp/one)"
wait $two
is "beside a hundred others" "0 " "$? $(cat /tmp/two)"
is "nothing is left of them" "" "$(vdpa dev show; ls /dev/vhost-vdpa-* 2>/dev/null)"
like "a management device that isn't there is named" "*add vDPA device 'x' on 'pci/0000:01:00.0'*" \
    "$(hw vdpa-add pci/0000:01:00.0 x 02:00:00:00:00:01 2>&1)"
done_lab
