#!/bin/bash
# ovn_host: the OVN behind the networks: the embedded one starts with the first network, outlives the agent, is mended
# when a daemon dies, ends with the last network; a named one is reached over TCP and TLS, with a chassis name that is
# no UUID; a database that is away is named, and what it missed it is told when it is back.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl ovs-vsctl ovs-appctl openssl
export OVS_RUNDIR=$E2E_DIR/none # no system-wide Open vSwitch, whatever this machine has
T=$E2E_DIR
hawser=$(hawser_path) || e2e_skip_all 'hawser is not built'
daemon_start
O=$LXD_DIR/ovn
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
daemons() { pgrep -cf "$O/" || true; }
none_runs() { [ "$(daemons)" = 0 ]; }
pid_of() { cut -d' ' -f1 "$O/$1.run"; }
pids() { cat "$O"/*.run | cut -d' ' -f1 | sort | tr '\n' ' '; }
ovn() { timeout 30 "$hawser" network ovn "$@"; }
clean() { [ -z "$(ovn diff -f csv)" ]; }
not_clean() { ! clean; }
liberal() { timeout 10 ovs-appctl -t "$O/ovs-vswitchd.ctl" dpctl/ct-get-tcp-seq-chk | grep -q disabled; }
other_pid() { [ "$(pid_of "$1")" != "$2" ] && kill -0 "$(pid_of "$1")"; }
make_net() { lxc network create "$1" --type=ovn network=none "ipv4.address=$2" ipv6.address=none; }

# ---- embedded ----
same 'nothing runs before the first network' 0 daemons
shows 'and none is said to' 'mode: "?off' ovn info
claim 'the first network starts it' make_net e1 10.96.1.1/24
same 'six daemons run' 6 daemons
shows 'it is the embedded one' 'mode: embedded' ovn info
claim 'conntrack is liberal' wait_for 10 liberal
claim 'nothing differs' clean
before=$(pids)
daemon_kill main
same 'the daemons outlive a killed agent' 6 daemons
daemon_start
claim 'the next agent finds its rows as they are' wait_for 20 clean
same 'and adopts the daemons' "$before" pids
for daemon in ovs-vswitchd ovsdb-server-ovnnb ovsdb-server-ovnsb ovsdb-server-db ovn-northd ovn-controller; do
    pid=$(pid_of "$daemon")
    quiet kill -KILL "$pid"
    claim "$daemon is started again when it dies" wait_for 20 other_pid "$daemon" "$pid"
done
claim 'vswitchd forgets that conntrack is liberal, and is told again' wait_for 20 liberal
claim 'a network can be made after all that' wait_for 20 make_net e2 10.96.2.1/24
claim 'and nothing differs' wait_for 20 clean

# ---- what others do to our rows ----
ls1=$(nb --bare --columns=name list Logical_Switch | grep ls-int | head -1)
daemon_stop main
must nb ls-del "$ls1"
must nb ls-add operators
must nb set Logical_Router "${ls1%-ls-int}-lr" enabled=false external_ids:note=mine
pid=$(pid_of ovsdb-server-ovnnb)
quiet kill -STOP "$pid" # the agent can't mend what it does not see
daemon_start
quiet kill -CONT "$pid"
claim 'a switch that was deleted comes back' wait_for 20 nb get Logical_Switch "$ls1" name
claim 'nothing differs then' wait_for 20 clean
same "an operator's switch stays" operators nb --bare get Logical_Switch operators name
same "and an operator's mark on a row of ours" mine nb --bare get Logical_Router "${ls1%-ls-int}-lr" external_ids:note
claim 'reconcile can be asked for' ovn reconcile

# ---- a database that is away ----
hold() { # keeps it down: its file is not where the daemon looks
    mv "$O/ovnnb.db" "$O/away.db"; kill -KILL "$(pid_of ovsdb-server-ovnnb)"
}
release() { mv "$O/away.db" "$O/ovnnb.db"; }
quiet hold
refuse 'a network is refused while the database is away, by its name' 'northbound database.*ovnnb.sock' \
    make_net e3 10.96.3.1/24
hides 'and nothing is half-made' 'e3' lxc network list -f csv
quiet release
claim 'it comes back by itself' wait_for 40 make_net e3 10.96.3.1/24
claim 'and nothing differs afterwards' wait_for 20 clean

# ---- the end ----
for net in e1 e2 e3; do
    claim "network $net goes" lxc network delete $net
done
same 'the daemons end with the last network' 0 daemons
hides 'and leave no interface behind' 'ovs-|br-int|lxdovn' ip -br link
claim 'and come back with the next' make_net e4 10.96.4.1/24
shows "an operator's switch is still there" operators nb --bare --columns=name list Logical_Switch
claim 'a shutdown with the instances' timeout 60 "$hawser" shutdown
claim 'ends the agent' daemon_wait_end main 30
claim 'and the daemons' wait_for 10 none_runs
daemon_start
claim 'the next start brings them back' wait_for 20 clean
same 'all six' 6 daemons
must lxc network delete e4

# ---- a named one: an OVN of its own, over TCP and TLS ----
S=$T/system
mkdir -p "$S"
export OVS_RUNDIR=$S OVN_RUNDIR=$S OVS_LOGDIR=$S OVN_LOGDIR=$S OVS_DBDIR=$S OVN_DBDIR=$S
key() { # name, usage
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj "/CN=$1" \
        -addext "extendedKeyUsage=$2" -keyout "$S/$1.key" -out "$S/$1.crt"
}
must key db serverAuth
must key us clientAuth
must ovsdb-tool create "$S/conf.db" /usr/share/openvswitch/vswitch.ovsschema
must ovsdb-tool create "$S/nb.db" /usr/share/ovn/ovn-nb.ovsschema
must ovsdb-tool create "$S/sb.db" /usr/share/ovn/ovn-sb.ovsschema
serve() { "$@" >>"$T/log" 2>&1 </dev/null & }
serve_nb() {
    serve ovsdb-server --remote="punix:$S/nb.sock" --remote=ptcp:16641:127.0.0.1 --remote=pssl:16642:127.0.0.1 \
        --certificate="$S/db.crt" --private-key="$S/db.key" --ca-cert="$S/us.crt" --unixctl="$S/nb.ctl" \
        --pidfile="$S/nb.pid" "$S/nb.db"
}
serve ovsdb-server --remote="punix:$S/db.sock" --unixctl="$S/conf.ctl" "$S/conf.db"
serve ovsdb-server --remote="punix:$S/sb.sock" --unixctl="$S/sb.ctl" "$S/sb.db"
serve_nb
must wait_for 10 ovs-vsctl --no-wait init
must ovs-vsctl --no-wait set Open_vSwitch . external_ids:system-id='rack 7/left' "external_ids:ovn-remote=unix:$S/sb.sock" \
    external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=127.0.0.1 \
    external_ids:ovn-bridge-datapath-type=netdev
serve ovs-vswitchd --pidfile
serve ovn-northd --ovnnb-db="unix:$S/nb.sock" --ovnsb-db="unix:$S/sb.sock"
serve ovn-controller
snb() { timeout 20 ovn-nbctl --db="unix:$S/nb.sock" "$@"; }
O=$T/named/ovn
daemon_start named
refuse 'a connection that is none is refused' 'must be unix:PATH' \
    lxc config set network.ovn.northbound_connection banana
refuse 'a certificate that is none, too' 'PEM' lxc config set network.ovn.ca_cert banana
must lxc config set network.ovn.northbound_connection tcp:127.0.0.1:16641
claim 'a network on the named one, over TCP' make_net n1 10.97.1.1/24
shows 'it is not the embedded one' 'mode: external' ovn info
shows 'the chassis has its own name' 'system_id: rack 7/left' ovn info
shows 'its rows are there' 'ls-int' snb --bare --columns=name list Logical_Switch
shows 'with that chassis' 'rack 7/left' snb --bare --columns=chassis_name list HA_Chassis
same 'and nothing of an embedded one' 0 daemons

must lxc config set network.ovn.northbound_connection ssl:127.0.0.1:16642
refuse 'TLS without a CA is refused, with the next step' 'network.ovn.ca_cert' make_net n2 10.97.2.1/24
set_pem() { lxc config set "network.ovn.$1=$(cat "$S/$2")"; }
must set_pem ca_cert us.crt
must set_pem client_cert us.crt
must set_pem client_key us.key
refuse 'the wrong CA is told' 'not of the given CA' make_net n2 10.97.2.1/24
must set_pem ca_cert db.crt
claim 'a network over TLS' make_net n2 10.97.2.1/24
hides 'the key is not shown' 'BEGIN .*PRIVATE' lxc config show
shows 'the session is over TLS' 'remote: ssl:127.0.0.1:16642' ovn info
claim 'nothing differs' clean

# Two remotes, the first of which is away.
must lxc config set network.ovn.northbound_connection tcp:127.0.0.1:9,tcp:127.0.0.1:16641
claim 'the second remote is taken when the first is away' wait_for 20 make_net n3 10.97.3.1/24

quiet kill -KILL "$(cat "$S/nb.pid")"
refuse 'a named database that is away is named' '127.0.0.1:16641' make_net n4 10.97.4.1/24
hides 'and nothing is half-made' n4 lxc network list -f csv
serve_nb
claim 'and found again' wait_for 40 make_net n4 10.97.4.1/24
claim 'nothing differs afterwards' wait_for 20 clean
for net in n1 n2 n3 n4; do
    must lxc network delete $net
done
same 'nothing of it stays' '' snb --bare --columns=name list Logical_Switch

# ---- the host's own, that nobody has set up ----
must ovs-vsctl --no-wait remove Open_vSwitch . external_ids ovn-remote
ln -s "$S/nb.sock" "$S/ovnnb_db.sock"
ln -s "$S/sb.sock" "$S/ovnsb_db.sock"
O=$T/host/ovn
daemon_start host
claim 'a network on the host, with nothing configured' make_net h1 10.98.1.1/24
shows 'its Open vSwitch is told where OVN is' "unix:$S/ovnsb_db.sock" \
    ovs-vsctl --no-wait get Open_vSwitch . external_ids:ovn-remote
shows 'and keeps its name' 'rack 7/left' ovs-vsctl --no-wait get Open_vSwitch . external_ids:system-id
must lxc network delete h1
e2e_end
