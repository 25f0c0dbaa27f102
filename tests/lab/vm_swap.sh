# A running virtual machine with a vDPA device is copied live: software stands in for the function while memory goes, and
# both machines have functions afterwards. The source and the target are one agent, reached by its two addresses.
. tests/lab/lib.sh
. tests/lab/agent.sh
guest() { hawser query "/1.0/instances/$1/console" 2>/dev/null; }
times() { guest "$1" | grep -c "$2"; }
reached() { [ "$(times "$1" "$2")" -ge "$3" ]; }
vdpa_of() { hawser config get "$1" volatile.eth0.last_state.vdpa.name; }
plain() { hawser config get "$1" volatile.eth0.hawser.plain; }
has_vdpa() { [ -n "$(vdpa_of "$1")" ] && [ -z "$(plain "$1")" ]; }
# Where eth0 is in the machine, and what is behind it there.
place() { jq -c '.devices.eth0' "$HAWSER_DIR/run/$1/layout.json"; }
holds_vdpa() { readlink /proc/"$(cat "$HAWSER_DIR/run/$1/qemu.pid")"/fd/* | grep -c vhost-vdpa; }
has_open() { [ "$(holds_vdpa "$1")" = 1 ]; }
none_left() { [ -z "$(vdpa dev show)" ]; }

command -v lxc >/dev/null || { echo "1..0 # SKIP no lxc: it asks for a live copy"; exit 0; }
ulimit -l unlimited
netdevsim 1 2 switchdev
agent_start
agent_ovn
vs set Open_vSwitch . other_config:hw-offload=true
must hawser config set core.https_address 127.0.0.1:8443
agent_remote_self
agent_vm v1
must hawser config device add v1 eth0 nic network=o1 acceleration=vdpa
must hawser start v1
wait_for 400 reached v1 GUEST-RECEIVED 1 && ok "the guest drives a vDPA device" || nok "the guest: $(guest v1)"
before=$(place v1)
function=$(vdpa_of v1)

copy_live() { timeout 300 lxc copy v1 self:v2 </dev/null; }
succeeds "it is copied while it runs" copy_live
[ "$failed" = 0 ] || tail -n 40 /tmp/agent.log | sed "s,^,# ,"
is "the source runs on" RUNNING "$(hawser list v1 -f csv -c s)"
is "the copy runs" RUNNING "$(hawser list v2 -f csv -c s)"
wait_for 60 has_vdpa v1 && ok "the source has its function back" || nok "v1: $(vdpa_of v1), $(plain v1)"
wait_for 60 has_vdpa v2 && ok "and the copy has one of its own" || nok "v2: $(vdpa_of v2), $(plain v2)"
like "which is another" "haw*" "$(vdpa_of v2)"
[ "$(vdpa_of v1)" != "$(vdpa_of v2)" ] && ok "than the source's" || nok "both have $function"
# The copy's NIC goes out once more, for an address of its own.
wait_for 60 has_open v1 && ok "QEMU of the source has it open" || nok "QEMU of the source has $(holds_vdpa v1) open"
wait_for 60 has_open v2 && ok "QEMU of the copy has its own" || nok "QEMU of the copy has $(holds_vdpa v2) open"
is "the NIC is where it was in the machine" "$before" "$(place v1)"
is "in the copy as well" "$before" "$(place v2)"
wait_for 120 reached v1 GUEST-SENT 3 && ok "the guest drove the function, software's, the function again" || nok "the guest: $(guest v1)"
wait_for 120 reached v2 GUEST-SENT 1 && ok "in the copy the function in software's place" || nok "the guest: $(guest v2)"
succeeds "the copy stops" hawser stop -f v2
succeeds "the source, too" hawser stop -f v1
wait_for 20 none_left && ok "no vDPA device is left" || nok "$(vdpa dev show)"
agent_end
done_lab
