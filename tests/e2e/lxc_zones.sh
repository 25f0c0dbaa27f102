#!/bin/bash
# lxc_zones: network zones and their records as the lxc client sees them, and as secondaries do: dig, and a BIND that keeps
# a copy. Access by address and by key, zones of more than one message, bad requests.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'what the server answers is more than LXD 5.0.2 can'
e2e_begin
need dig named python3
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
D='@127.0.0.1 -p 5353 +time=5 +tries=1'
axfr() { timeout 20 dig $D +noall +answer +tcp AXFR "$@"; }
SECRET=$(head -c 32 /dev/urandom | base64 -w0)
OTHER=$(head -c 32 /dev/urandom | base64 -w0)

# ---- zones ----
claim 'a zone' lxc network zone create lxd.example.net
shows 'is listed' '^lxd.example.net,' lxc network zone list -f csv
refuse 'a second one of that name' 'already exists' lxc network zone create lxd.example.net
refuse 'an unknown key' 'Invalid config option' lxc network zone set lxd.example.net colour=red
refuse 'a peer whose address is none' 'peers.b.address' lxc network zone set lxd.example.net peers.b.address=nothing
refuse 'a key that is not base64' 'base64' lxc network zone set lxd.example.net peers.b.key='!!'
refuse 'a name that is none' 'Invalid network zone name' lxc query -X POST -d '{"name":"a b"}' /1.0/network-zones
claim 'reverse zones' sh -c 'lxc network zone create 7.94.10.in-addr.arpa &&
    lxc network zone create 0.0.0.0.7.0.0.0.4.9.0.0.2.4.d.f.ip6.arpa'
claim 'name servers' lxc network zone set lxd.example.net dns.nameservers=ns1.example.net,ns2.example.net
refuse 'a zone that is not there' 'nothere' lxc network create zbr0 dns.zone.forward=nothere
claim 'a network names them' lxc network create zbr0 ipv4.address=10.94.7.1/24 ipv4.nat=true \
    ipv6.address=fd42:94:7::1/64 ipv6.nat=false dns.zone.forward=lxd.example.net \
    dns.zone.reverse.ipv4=7.94.10.in-addr.arpa dns.zone.reverse.ipv6=0.0.0.0.7.0.0.0.4.9.0.0.2.4.d.f.ip6.arpa
refuse 'a zone in use stays' 'in use' lxc network zone delete lxd.example.net
shows 'used by the network' '/1.0/networks/zbr0' sh -c 'lxc query /1.0/network-zones/lxd.example.net | jq -r .used_by[]'
claim 'a container with a static address' lxc init busybox c1
claim 'on it' lxc config device add c1 eth0 nic network=zbr0 ipv4.address=10.94.7.20

# ---- records ----
claim 'a record' lxc network zone record create lxd.example.net web
claim 'entries' sh -c 'lxc network zone record entry add lxd.example.net web A 192.0.2.7 --ttl 60 &&
    lxc network zone record entry add lxd.example.net web TXT "\"hello world\""'
refuse 'the same twice' 'Duplicate' lxc network zone record entry add lxd.example.net web A 192.0.2.7
refuse 'an address that is none' 'Bad DNS record' lxc network zone record entry add lxd.example.net web A nothing
refuse 'a second line' 'Bad DNS record' lxc query -X PUT \
    -d '{"entries":[{"type":"A","value":"1.2.3.4\n$INCLUDE /etc/passwd","ttl":60}]}' /1.0/network-zones/lxd.example.net/records/web
refuse 'a directive as a name' 'Invalid DNS name' lxc query -X POST -d '{"name":"$INCLUDE /etc/passwd"}' \
    /1.0/network-zones/lxd.example.net/records
claim 'the apex' lxc query -X POST -d '{"name":"@","entries":[{"type":"MX","value":"10 mail.example.net.","ttl":0}]}' \
    /1.0/network-zones/lxd.example.net/records
shows 'are listed' '^web,' lxc network zone record list lxd.example.net -f csv

# ---- the server ----
refuse 'an address that is none' '' lxc config set core.dns_address 'x y'
claim 'the server listens' lxc config set core.dns_address 127.0.0.1:5353
shows 'nobody may ask yet' 'NXDOMAIN|Transfer failed' sh -c "dig $D +tcp AXFR lxd.example.net; true"
claim 'a secondary by address' lxc network zone set lxd.example.net peers.local.address=127.0.0.1
axfr lxd.example.net >"$E2E_DIR/zone" 2>&1
shows 'gets the zone: the SOA' '^lxd\.example\.net\.\s+3600\s+IN\s+SOA\s+lxd\.example\.net\. ns1\.example\.net\. [0-9]+ 120 60 86400 30' cat "$E2E_DIR/zone"
same 'first and last' 2 sh -c "grep -c SOA $E2E_DIR/zone"
shows 'name servers' 'IN\s+NS\s+ns2\.example\.net' cat "$E2E_DIR/zone"
shows 'the gateway' '^zbr0\.gw\.lxd\.example\.net\.\s+300\s+IN\s+A\s+10\.94\.7\.1' cat "$E2E_DIR/zone"
shows 'the container' '^c1\.lxd\.example\.net\.\s+300\s+IN\s+A\s+10\.94\.7\.20' cat "$E2E_DIR/zone"
shows 'its IPv6 address' '^c1\.lxd\.example\.net\.\s+300\s+IN\s+AAAA\s+fd42:94:7' cat "$E2E_DIR/zone"
shows 'records' '^web\.lxd\.example\.net\.\s+60\s+IN\s+A\s+192\.0\.2\.7' cat "$E2E_DIR/zone"
shows 'texts' 'IN\s+TXT\s+"hello world"' cat "$E2E_DIR/zone"
shows 'at the apex' '^lxd\.example\.net\.\s+300\s+IN\s+MX\s+10 mail' cat "$E2E_DIR/zone"
shows 'SOA over UDP' 'SOA' dig $D +noall +answer SOA lxd.example.net
shows 'authoritative' 'flags:.* aa' dig $D SOA lxd.example.net
shows 'other types are not implemented' 'NOTIMP' dig $D A c1.lxd.example.net
shows 'IXFR is a full transfer' 'c1\.lxd\.example\.net' dig $D +noall +answer +tcp IXFR=1 lxd.example.net
shows 'an unknown zone is not there' 'NXDOMAIN' dig $D SOA nothere.example.net
claim 'network.nat=false' lxc network zone set lxd.example.net network.nat=false
axfr lxd.example.net >"$E2E_DIR/zone" 2>&1
hides 'leaves translated families out' '10\.94\.7\.20' cat "$E2E_DIR/zone"
shows 'and keeps the others' 'AAAA' cat "$E2E_DIR/zone"
quiet lxc network zone unset lxd.example.net network.nat
quiet lxc network zone set 7.94.10.in-addr.arpa peers.local.address=127.0.0.1
quiet lxc network zone set 0.0.0.0.7.0.0.0.4.9.0.0.2.4.d.f.ip6.arpa peers.local.address=127.0.0.1
shows 'pointers' '^20\.7\.94\.10\.in-addr\.arpa\.\s+300\s+IN\s+PTR\s+c1\.lxd\.example\.net\.' axfr 7.94.10.in-addr.arpa
shows 'of IPv6' 'ip6\.arpa\.\s+300\s+IN\s+PTR\s+c1\.lxd\.example\.net\.' axfr 0.0.0.0.7.0.0.0.4.9.0.0.2.4.d.f.ip6.arpa

# ---- keys ----
claim 'a key instead of an address' sh -c "lxc network zone unset lxd.example.net peers.local.address &&
    lxc network zone set lxd.example.net peers.sec.key=$SECRET"
shows 'without it nothing' 'NXDOMAIN|Transfer failed' sh -c "dig $D +tcp AXFR lxd.example.net; true"
for algorithm in hmac-sha1 hmac-sha224 hmac-sha256 hmac-sha384 hmac-sha512; do
    shows "with it, $algorithm" 'c1\.lxd\.example\.net' axfr -y "$algorithm:lxd.example.net_sec:$SECRET" lxd.example.net
done
hides 'the answer is signed rightly' 'verify|WARNING|failed' \
    sh -c "dig $D +tcp -y hmac-sha256:lxd.example.net_sec:$SECRET AXFR lxd.example.net 2>&1"
shows 'a wrong secret' 'BADSIG|NOTAUTH' sh -c "dig $D +tcp -y hmac-sha256:lxd.example.net_sec:$OTHER SOA lxd.example.net 2>&1; true"
shows 'an unknown key' 'BADKEY|NOTAUTH' sh -c "dig $D +tcp -y hmac-sha256:lxd.example.net_no:$SECRET SOA lxd.example.net 2>&1; true"
claim 'a key and an address' lxc network zone set lxd.example.net peers.sec.address=192.0.2.99
shows 'both count' 'NOTAUTH|BADKEY' sh -c "dig $D +tcp -y hmac-sha256:lxd.example.net_sec:$SECRET SOA lxd.example.net 2>&1; true"
quiet lxc network zone set lxd.example.net peers.sec.address=127.0.0.1

# ---- large: LXD breaks at 64 KiB ----
python3 - "$LXD_DIR/unix.socket" >"$E2E_DIR/large.log" 2>&1 <<'P'
import http.client, json, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
for n in range(20): # BIND takes no more than 100 records of a name
    entries = [{"type": "TXT", "value": '"%s"' % ("%02d%03d" % (n, i) * 40), "ttl": 60} for i in range(75)]
    link = Unix("x", timeout=30)
    link.request("POST", "/1.0/network-zones/lxd.example.net/records",
                 json.dumps({"name": "large%d" % n, "entries": entries}), {"Content-Type": "application/json"})
    answer = link.getresponse()
    print(answer.status, answer.read())
    assert answer.status < 300
P
same 'a zone of 300 KiB' 20 sh -c "lxc network zone record list lxd.example.net -f csv | grep -c '^large'"
same 'is transferred whole' 1500 sh -c "timeout 30 dig $D +noall +answer +tcp -y hmac-sha256:lxd.example.net_sec:$SECRET AXFR lxd.example.net | grep -c '^large'"
shows 'in several messages, each signed' 'messages ([2-9]|[1-9][0-9])' \
    sh -c "timeout 30 dig $D +tcp -y hmac-sha256:lxd.example.net_sec:$SECRET AXFR lxd.example.net | grep 'XFR size'"
shows 'over UDP it is truncated' 'tc' sh -c "timeout 20 dig $D +notcp +ignore -y hmac-sha256:lxd.example.net_sec:$SECRET IXFR=1 lxd.example.net 2>&1"

# ---- a real secondary ----
mkdir -p "$E2E_DIR/bind"; chmod 777 "$E2E_DIR/bind"
cat >"$E2E_DIR/bind/named.conf" <<C
options { directory "$E2E_DIR/bind"; pid-file "$E2E_DIR/bind/pid"; session-keyfile "$E2E_DIR/bind/session.key";
    listen-on port 5454 { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; dnssec-validation no; notify no; };
controls { };
key "lxd.example.net_sec" { algorithm hmac-sha256; secret "$SECRET"; };
server 127.0.0.1 { keys { "lxd.example.net_sec"; }; };
zone "lxd.example.net" { type secondary; primaries port 5353 { 127.0.0.1 key "lxd.example.net_sec"; }; file "copy"; };
C
named -4 -g -c "$E2E_DIR/bind/named.conf" >"$E2E_DIR/bind/log" 2>&1 &
bind=$!
copy() { timeout 5 dig @127.0.0.1 -p 5454 +time=2 +tries=1 +short +tcp "$@" | grep -q '^10'; }
claim 'BIND fetches the zone' wait_for 30 copy A c1.lxd.example.net
shows 'and answers from it' '^10\.94\.7\.20$' dig @127.0.0.1 -p 5454 +short A c1.lxd.example.net
same 'the large records are whole' 75 sh -c "dig @127.0.0.1 -p 5454 +short +tcp TXT large19.lxd.example.net | wc -l"
kill $bind 2>/dev/null

# ---- projects, bad bytes, the end ----
must lxc project create pz -c features.networks.zones=true -c features.images=false \
    -c restricted=true -c restricted.networks.zones=pz.example.net
claim 'a restricted project makes its zones' lxc network zone create a.pz.example.net --project pz
refuse 'and no others' 'allowed' lxc network zone create b.example.org --project pz
hides 'each project sees its own' 'pz' lxc network zone list -f csv
quiet lxc network zone delete a.pz.example.net --project pz
quiet lxc project delete pz
python3 - <<'P'
import os, socket, struct
for size in (0, 1, 11, 12, 13, 40, 512):
    for _ in range(20):
        bytes_ = os.urandom(size)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(bytes_, ("127.0.0.1", 5353))
        with socket.create_connection(("127.0.0.1", 5353), 5) as s: s.sendall(struct.pack(">H", size) + bytes_)
P
shows 'noise does not disturb it' 'SOA' dig $D +noall +answer -y "hmac-sha256:lxd.example.net_sec:$SECRET" SOA lxd.example.net
must daemon_restart
claim 'it listens after a restart' wait_for 10 dig $D -y "hmac-sha256:lxd.example.net_sec:$SECRET" SOA lxd.example.net
claim 'it stops' lxc config unset core.dns_address
refuse 'and is gone' '' dig $D SOA lxd.example.net
quiet lxc delete -f c1
quiet lxc network delete zbr0
claim 'zones are deleted, with their records' sh -c 'lxc network zone delete lxd.example.net &&
    lxc network zone delete 7.94.10.in-addr.arpa && lxc network zone delete 0.0.0.0.7.0.0.0.4.9.0.0.2.4.d.f.ip6.arpa'
e2e_end
