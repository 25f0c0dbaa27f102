#!/bin/bash
# lxc_remotes: HTTPS, trust and two agents: tokens, passwords, restricted certificates, TLS floor, images and
# containers that move between servers, as the unmodified lxc client sees it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need openssl
daemon_start
e2e_defaults
T=$E2E_DIR
A=127.0.0.1:18443 B=127.0.0.1:18444
tls() { curl -sk --max-time 20 "$@"; }

# ---- HTTPS ----
claim 'HTTPS live' lxc config set core.https_address $A
claim 'answers untrusted callers' sh -c "curl -sk https://$A/1.0 | jq -e '.metadata.auth == \"untrusted\"'"
same 'but not more than that' 403 sh -c "curl -sk -o /dev/null -w '%{http_code}' https://$A/1.0/instances"
claim 'moved, live' lxc config set core.https_address 127.0.0.1:18445
claim 'answers there' tls https://127.0.0.1:18445/1.0
refuse 'no more here' '' tls https://$A/1.0
must lxc config set core.https_address $A
claim 'the certificate is ECDSA' sh -c "echo | openssl s_client -connect $A 2>/dev/null | openssl x509 -noout -text | grep -qi id-ecPublicKey"
claim 'TLS 1.3 is spoken' sh -c "echo | openssl s_client -connect $A -tls1_3 2>&1 | grep -q 'TLSv1.3'"
claim 'TLS 1.1 is not' sh -c "echo | openssl s_client -connect $A -tls1_1 -cipher ALL@SECLEVEL=0 2>&1 | grep -q 'Cipher is (NONE)'"
if only_hawser; then
    claim 'TLS 1.2 is the floor' sh -c "echo | openssl s_client -connect $A -tls1_2 2>&1 | grep -q 'TLSv1.2'"
fi

# ---- trust by token ----
client() { # a client with a home of its own, which talks to a remote only
    local who=$1; shift
    mkdir -p "$T/$who/.config/lxc"
    HOME=$T/$who LXD_DIR=/nonexistent lxc "$@"
}
token=$(lxc config trust add --name ann -q 2>/dev/null | tail -n 1)
claim 'a token is issued' test -n "$token"
shows 'and listed' '^ann' lxc config trust list-tokens -f csv
claim 'adds a remote' client ann remote add far "$token" --accept-certificate
shows 'that is trusted' '^auth: trusted' client ann info far:
refuse 'a token serves once' '' client bob remote add far "$token" --accept-certificate
shows 'the client is in the trust list' '^client,ann' lxc config trust list -f csv
claim 'it sees containers' client ann list far:
claim 'launches' client ann launch far:busybox far:t1
same 'executes' hi client ann exec far:t1 -- echo hi
claim 'pushes files' sh -c "echo x >$T/x; HOME=$T/ann LXD_DIR=/nonexistent lxc file push $T/x far:t1/root/x"
same 'and pulls them' x client ann file pull far:t1/root/x -
claim 'deletes' client ann delete -f far:t1
claim 'the certificate is removed' sh -c 'lxc config trust remove $(lxc config trust list -f csv | grep ,ann, | cut -d, -f4)'
refuse 'and trusted no more' '' client ann list far:

# ---- trust by password ----
claim 'a password' lxc config set core.trust_password secret
same 'is never shown' true lxc config get core.trust_password
refuse 'a wrong one is refused' '' client bob remote add far $A --accept-certificate --password wrong
claim 'the right one is taken' client bob remote add far $A --accept-certificate --password secret
claim 'and works' client bob list far:
must lxc config unset core.trust_password
refuse 'not once it is unset' '' client carl remote add far $A --accept-certificate --password secret

# ---- restricted certificates ----
must lxc project create fenced
must lxc profile device add default root disk path=/ pool=default --project fenced
must lxc image import "$T/busybox.tar.gz" --project fenced --alias busybox
token=$(lxc config trust add --name dora --restricted --projects fenced -q 2>/dev/null | tail -n 1)
claim 'a restricted token' client dora remote add far "$token" --accept-certificate
claim 'its project is open' client dora list far: --project fenced
refuse 'others are not' '' client dora list far: --project default
shows 'it sees only its project' '^fenced' client dora project list far: -f csv
hides 'none other' '^default' client dora project list far: -f csv
claim 'it may create there' client dora init far:busybox far:r1 --project fenced
refuse 'the server configuration is closed' '' client dora config set far: core.trust_password x
refuse 'so are pools' '' client dora storage create far:other dir
refuse 'and certificates' '' client dora config trust add far: --name evil
refuse 'and projects' '' client dora project create far:mine
claim 'it may delete its own' client dora delete far:r1 --project fenced
# ---- a certificate given by hand ----
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout "$T/c.key" -out "$T/c.crt" -days 3 -subj /CN=hand 2>/dev/null
claim 'a certificate file is added' lxc config trust add "$T/c.crt" --name hand
same 'and works' trusted sh -c "curl -sk --cert $T/c.crt --key $T/c.key https://$A/1.0 | jq -r .metadata.auth"
refuse 'twice is refused' 'already' lxc config trust add "$T/c.crt" --name hand
claim 'its name can be edited' sh -c 'f=$(lxc config trust list -f csv | grep ,hand, | cut -d, -f4); lxc config trust show $f | sed "s/^name:.*/name: foot/" | lxc config trust edit $f'
shows 'is kept' ',foot,' lxc config trust list -f csv

# ---- CORS keys ----
must lxc config set core.https_allowed_origin '*'
shows 'the allowed origin is announced' '[Aa]ccess-[Cc]ontrol-[Aa]llow-[Oo]rigin: \*' curl -sk -D - -o /dev/null -H 'Origin: http://x' https://$A/1.0

# ---- a second agent ----
daemon_start second
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address $B
second_token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
claim 'the other agent as a remote' lxc remote add second "$second_token" --accept-certificate
shows 'is listed' '^second,https://127.0.0.1:18444' lxc remote list -f csv
for mode in pull push relay; do
    claim "an image is copied ($mode)" lxc image copy busybox second: --alias "via-$mode" --mode $mode
    claim 'and is there' lxc image info "second:via-$mode"
    quiet lxc image delete "second:via-$mode"
done
claim 'with its aliases' lxc image copy busybox second: --copy-aliases
claim 'resolves there' lxc image info second:busybox
claim 'a public image' sh -c 'lxc image show busybox | sed "s/^public:.*/public: true/" | lxc image edit busybox'
claim 'is seen by strangers' sh -c "curl -sk https://$A/1.0/images?recursion=1 | jq -e '.metadata | length == 1'"
claim 'as a public remote' client eve remote add open https://$A --public --accept-certificate
shows 'it is listed' busybox client eve image list open: -f csv
claim 'a launch straight from the other server' lxc launch second:busybox here -s default
same 'runs' here lxc exec here -- hostname
must lxc exec here -- sh -c 'echo travels >/root/f'
must lxc stop -f here
must lxc snapshot here s1
quiet lxc copy here second:there
if grep -q 'not supported by this server' "$T/.err"; then
    skip 'containers between servers' 'this agent does not offer migration'
else
    quiet lxc delete -f second:there
    for mode in pull push relay; do
        claim "a container is copied ($mode)" lxc copy here second:there --mode $mode
        same 'with its snapshot' 1 sh -c 'lxc query second:/1.0/instances/there/snapshots | jq length'
        must lxc config device add second:there eth0 none
        claim 'starts there' lxc start second:there
        same 'with its content' travels lxc exec second:there -- cat /root/f
        same 'and owners' 0 lxc exec second:there -- stat -c %u /root/f
        must lxc delete -f second:there
    done
    claim 'a container moves' lxc move here second:moved
    refuse 'and is gone here' 'not found' lxc info here
    claim 'and there' lxc info second:moved
    must lxc delete second:moved
fi
claim 'a volume is created' lxc storage volume create default vol
if quiet lxc storage volume copy default/vol second:default/vol; then
    claim 'and copied to the other server' lxc storage volume show second:default vol
else
    only_lxd || skip 'volumes between servers' 'this agent does not offer migration'
fi

# ---- a proxy in front ----
if only_hawser; then
    need socat
    must lxc config trust add "$T/ann/.config/lxc/client.crt" --name behind
    lxc monitor --type lifecycle >"$T/requestors" 2>&1 &
    monitor=$!
    socat TCP-LISTEN:18450,bind=127.0.0.1,fork,reuseaddr TCP:$A,bind=127.0.0.9 &
    relay=$!
    wait_for 20 sh -c 'ss -ltn | grep -q 127.0.0.1:18450'
    wait_for 20 sh -c "lxc profile create probe; lxc profile delete probe; grep -q profile-deleted $T/requestors"
    through() { # curl's options: over the relay, from 127.0.0.5, as ann
        curl -sk --max-time 20 --interface 127.0.0.5 --cert "$T/ann/.config/lxc/client.crt" \
            --key "$T/ann/.config/lxc/client.key" "$@" https://127.0.0.1:18450/1.0/profiles
    }
    told() { # name of a profile; prints the address of who made it
        wait_for 20 grep -q "name: $1\|profiles/$1" "$T/requestors" &&
            sed -n "/address:/h; /profiles\/$1/{x;s/.*address: //p}; /profiles\/$1/,/address:/s/.*address: //p" \
                "$T/requestors" | tail -n 1 | cut -d: -f1
    }
    claim 'a connection through a relay' through -f -d '{"name":"plainly"}'
    same 'has its address' 127.0.0.9 told plainly
    refuse 'and a PROXY header of a stranger is no TLS' '' through -f --haproxy-protocol -d '{"name":"stranger"}'
    refuse 'a trusted proxy is an address' 'IP' lxc config set core.https_trusted_proxy host.example
    must lxc config set core.https_trusted_proxy '127.0.0.8, 127.0.0.9'
    claim 'a trusted proxy says whom it speaks for' through -f --haproxy-protocol -d '{"name":"proxied"}'
    same 'which is then the address' 127.0.0.5 told proxied
    claim 'it need not' through -f -d '{"name":"silent"}'
    same 'and is itself the client then' 127.0.0.9 told silent
    must lxc config unset core.https_trusted_proxy
    kill "$monitor" "$relay"
fi
claim 'a remote is renamed and removed' sh -c 'lxc remote rename second other && lxc remote remove other'
e2e_end
