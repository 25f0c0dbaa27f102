#!/bin/bash
# restricted: what a restricted certificate and a restricted project keep in, through the unmodified
# lxc client and raw HTTPS; limits that no profile gets around; how strangers are let in.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need openssl
daemon_start
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address 127.0.0.1:18453
URL=https://127.0.0.1:18453

# A request with the restricted certificate: method, path, body. Prints the status, leaves the body.
rest() {
    local body=()
    [ -z "${3:-}" ] || body=(-d "$3")
    curl -sk --max-time 30 --cert "$E2E_DIR/r.crt" --key "$E2E_DIR/r.key" -X "$1" "${body[@]}" \
        -o "$E2E_DIR/rest" -w '%{http_code}\n' "$URL$2"
}
anyone() { curl -sk --max-time 30 -o "$E2E_DIR/rest" -w '%{http_code}\n' -X "$1" "$URL$2" "${@:3}"; }
body() { cat "$E2E_DIR/rest"; }
client_pair() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -keyout "$E2E_DIR/$1.key" -nodes \
        -out "$E2E_DIR/$1.crt" -days 5 -subj "/CN=$1" 2>>"$E2E_DIR/log"
}
client_pair r

# ---- strangers ----
same 'a stranger reads no profiles' 403 anyone GET /1.0/profiles
same 'a stranger sees /1.0' 200 anyone GET /1.0
hides 'without configuration' '"config"|"environment"' body
same 'X-LXD-authenticated refuses what is public' 403 anyone GET /1.0 -H 'X-LXD-authenticated: true'
same 'a stranger adds no certificate' 403 anyone POST /1.0/certificates -d '{"type":"client"}'
same 'nor with some password' 403 anyone POST /1.0/certificates -d '{"type":"client","password":"x"}'
same 'nor with a made-up token' 403 anyone POST /1.0/certificates -d \
    "{\"type\":\"client\",\"password\":\"$(printf '{"client_name":"x","fingerprint":"y","addresses":[],"secret":"zzzzzzzz"}' | base64 -w0)\"}"

# ---- a restricted certificate ----
must lxc project create p1
must lxc project create shares -c features.images=false -c features.profiles=false \
    -c features.storage.volumes=false
must lxc config trust add "$E2E_DIR/r.crt" --name r --restricted --projects p1,shares
same 'it is let in' 200 rest GET /1.0
hides 'and sees no configuration' 'core.https_address' body
same 'it lists its projects' 200 rest GET /1.0/projects
same 'and only those' '/1.0/projects/p1 /1.0/projects/shares' \
    sh -c "jq -r '.metadata|join(\" \")' $E2E_DIR/rest"
same 'another project is forbidden' 403 rest GET /1.0/projects/default
same 'and its profiles' 403 rest GET /1.0/profiles
same 'also when asked for by name' 403 rest GET '/1.0/profiles?project=default'
same 'no other spelling of a path leads there' 404 rest GET '/1.0/%70rofiles?project=default'
same 'and all projects at once' 403 rest GET '/1.0/profiles?all-projects=true'
same 'its own are open' 200 rest GET '/1.0/profiles?project=p1'
same 'and can be made' 201 rest POST '/1.0/profiles?project=p1' '{"name":"mine"}'
same 'borrowed profiles can be read' 200 rest GET '/1.0/profiles/default?project=shares'
same 'and not changed' 403 rest PATCH '/1.0/profiles/default?project=shares' '{"description":"x"}'
same 'nor made' 403 rest POST '/1.0/profiles?project=shares' '{"name":"theirs"}'
same 'nor deleted' 403 rest DELETE '/1.0/profiles/default?project=shares'
same 'networks of the default project are not made through it' 403 \
    rest POST '/1.0/networks?project=shares' '{"name":"e2er0","type":"bridge"}'
same 'nor volumes' 403 rest POST '/1.0/storage-pools/default/volumes/custom?project=shares' '{"name":"v"}'
must lxc network zone create theirs.example.net
same 'zones of the default project are not listed' 403 rest GET /1.0/network-zones
same 'nor read' 403 rest GET /1.0/network-zones/theirs.example.net
same 'nor their records' 403 rest GET /1.0/network-zones/theirs.example.net/records
same 'nor are records made' 403 rest POST /1.0/network-zones/theirs.example.net/records '{"name":"x"}'
same 'borrowed zones can be read' 200 rest GET '/1.0/network-zones/theirs.example.net?project=shares'
same 'and not changed' 403 \
    rest PATCH '/1.0/network-zones/theirs.example.net?project=shares' '{"description":"x"}'
same 'nor their records' 403 \
    rest POST '/1.0/network-zones/theirs.example.net/records?project=shares' '{"name":"x"}'
same 'nor deleted' 403 rest DELETE '/1.0/network-zones/theirs.example.net?project=shares'
must lxc network zone delete theirs.example.net
same 'instances of all projects are listed' 200 rest GET '/1.0/instances?all-projects=true'
must lxc init --empty c1 --project p1 -s default
same 'an instance does not move to a project of others' 403 \
    rest POST '/1.0/instances/c1?project=p1' '{"name":"c1","migration":true,"project":"default"}'
same 'nor is it told which there are' 403 \
    rest POST '/1.0/instances/c1?project=p1' '{"name":"c1","migration":true,"project":"nowhere"}'
must lxc init --empty hidden -s default
same 'a pool is shown' 200 rest GET '/1.0/storage-pools?recursion=1'
shows 'with what it has of its own' '/1.0/instances/c1\?project=p1' body
hides 'without the instances of others' 'hidden' body
hides 'nor where it is' 'source' body
same 'a profile that is borrowed, too' 200 rest GET '/1.0/profiles/default?project=shares'
hides 'without who else has it' 'hidden' body
must lxc delete hidden
must lxc delete c1 --project p1
same 'server settings are not changed' 403 rest PATCH /1.0 '{"config":{"user.x":"y"}}'
same 'projects are not made' 403 rest POST /1.0/projects '{"name":"p9"}'
same 'pools are not made' 403 rest POST /1.0/storage-pools '{"name":"p9","driver":"dir"}'
same 'warnings are not shown' 403 rest GET /1.0/warnings
same 'tokens are not issued' 403 rest POST /1.0/certificates '{"type":"client","token":true,"name":"t"}'
same 'only its own certificate is listed' 200 rest GET /1.0/certificates
same 'just that one' 1 sh -c "jq '.metadata|length' $E2E_DIR/rest"
same 'it does not lift its restriction' 403 rest PATCH \
    "/1.0/certificates/$(lxc config trust list -f csv | head -1 | cut -d, -f4)" '{"restricted":false}'
must lxc config trust add --name other
must lxc project set p1 user.a=b
must lxc query -X POST -d '{"type_code":20,"message":"m","project":"default"}' \
    /internal/testing/warnings
shows 'a warning is listed for admins' 'Network unavailable,NEW,HIGH,1,default' \
    lxc warning list -f csv
must sh -c "lxc config trust list -f csv | grep -q '^client,r,'"
quiet lxc query -X PATCH "/1.0/certificates/$(lxc config trust list -f csv | head -1 | cut -d, -f4)" \
    -d '{"projects":["p1","shares","default"]}'
same 'tokens of others are not in its operations' 200 rest GET '/1.0/operations?recursion=1&project=default'
hides 'not a secret of them' 'secret' body
quiet lxc query -X PATCH "/1.0/certificates/$(lxc config trust list -f csv | head -1 | cut -d, -f4)" \
    -d '{"projects":["p1"]}'
same 'projects taken away are gone at once' 403 rest GET '/1.0/profiles?project=shares'

# ---- tokens and passwords ----
lxc config trust add --name lap --restricted --projects p1 2>/dev/null | tail -1 >"$E2E_DIR/token"
claim 'a token lets a client in' env LXD_CONF="$E2E_DIR/c1" \
    sh -c "mkdir -p $E2E_DIR/c1; lxc remote add lap \$(cat $E2E_DIR/token)"
shows 'with the name and restriction of the token' '^lap true p1$' sh -c \
    "lxc query '/1.0/certificates?recursion=1' | jq -r '.[]|select(.name==\"lap\")|\"\(.name) \(.restricted) \(.projects[0])\"'"
refuse 'and only once' 'No matching certificate add operation' env LXD_CONF="$E2E_DIR/c2" \
    sh -c "mkdir -p $E2E_DIR/c2; lxc remote add lap \$(cat $E2E_DIR/token)"
must lxc config set core.remote_token_expiry 1S
lxc config trust add --name late 2>/dev/null | tail -1 >"$E2E_DIR/token"
sleep 1.5
refuse 'a token expires' 'Token has expired' env LXD_CONF="$E2E_DIR/c3" \
    sh -c "mkdir -p $E2E_DIR/c3; lxc remote add late \$(cat $E2E_DIR/token)"
must lxc config unset core.remote_token_expiry
must lxc config set core.trust_password 'long sekret'
same 'the password is not shown' true lxc config get core.trust_password
refuse 'a wrong one is refused' 'not authorized' env LXD_CONF="$E2E_DIR/c4" \
    sh -c "mkdir -p $E2E_DIR/c4; lxc remote add pw $URL --accept-certificate --password wrong"
claim 'the right one lets a client in' env LXD_CONF="$E2E_DIR/c4" \
    lxc remote add pw "$URL" --accept-certificate --password 'long sekret'
hides 'neither log nor database has it' 'long sekret' \
    sh -c "cat $E2E_DIR/main.log; strings $LXD_DIR/database/* 2>/dev/null || cat $LXD_DIR/database/*"
must lxc config unset core.trust_password

# ---- CORS, TLS, live address ----
must lxc config set core.https_allowed_origin='*' core.https_allowed_methods=GET
shows 'CORS headers are sent' '^Access-Control-Allow-Origin: \*' \
    curl -sk -o /dev/null -D - -H 'Origin: https://x' "$URL/1.0"
claim 'TLS 1.2 is the floor' curl -sk -o /dev/null --tls-max 1.2 "$URL/1.0"
refuse 'nothing below' '' curl -sk -o /dev/null --tlsv1.0 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 "$URL/1.0"
claim 'the address changes live' lxc config set core.https_address 127.0.0.1:18454
claim 'it answers there' curl -sk -o /dev/null https://127.0.0.1:18454/1.0
refuse 'and no longer here' '' curl -sk -o /dev/null "$URL/1.0"
refuse 'an address that is not ours is refused' 'Cannot listen on network HTTPS socket' \
    lxc config set core.https_address 198.51.100.1
same 'and the old one stays' 127.0.0.1:18454 lxc config get core.https_address
claim 'and answers' curl -sk -o /dev/null https://127.0.0.1:18454/1.0

# ---- limits ----
must lxc project create lim -c features.images=false
must lxc profile device add default root disk path=/ pool=default --project lim
must lxc init --empty c1 --project lim -c limits.memory=512MiB
must lxc init --empty c2 --project lim
must lxc profile set default limits.memory 256MiB --project lim
claim 'a limit that fits is taken' lxc project set lim limits.memory 1GiB
refuse 'a lower one is not' 'too low' lxc project set lim limits.memory 600MiB
refuse 'an instance does not grow past it' 'Reached maximum aggregate value' \
    lxc config set c1 limits.memory 900MiB --project lim
refuse 'nor by its profile' 'Reached maximum aggregate value' \
    lxc profile set default limits.memory 800MiB --project lim
refuse 'a new one counts' 'Reached maximum' lxc init --empty c3 --project lim -c limits.memory=500MiB
shows 'the state says how much' '"Usage": 805306368' lxc query /1.0/projects/lim/state
must lxc profile create px --project lim
must lxc profile assign c2 default,px --project lim
claim 'a used profile is renamed' lxc profile rename px py --project lim
shows 'and stays in use' '^- py$' lxc config show c2 --project lim
must lxc project unset lim limits.memory
must lxc project set lim restricted true
refuse 'snapshots want leave' "doesn't allow for snapshot creation" lxc snapshot c1 --project lim
refuse 'backups, too' "doesn't allow for backup creation" lxc export c1 x.tgz --project lim
refuse 'volatile keys are not for users' 'is forbidden' lxc config set c1 volatile.x y --project lim
refuse 'no privileges' 'Privileged containers are forbidden' \
    lxc config set c1 security.privileged true --project lim
refuse 'not by a profile either' 'Privileged containers are forbidden' \
    lxc profile set default security.privileged true --project lim
refuse 'no host paths' 'not backed by a pool' \
    lxc config device add c1 d disk source=/etc path=/x --project lim
must lxc project set lim restricted.devices.disk=allow restricted.devices.disk.paths="$E2E_DIR/home"
mkdir -p "$E2E_DIR/home"; ln -s /etc "$E2E_DIR/home/link"
refuse 'no climbing out of the allowed one' 'not allowed' \
    lxc config device add c1 d disk source="$E2E_DIR/home/../log" path=/x --project lim
claim 'a link is seen when it is followed' \
    lxc config device add c1 d disk source="$E2E_DIR/home/link" path=/x --project lim
refuse 'not out of the allowed one' 'outside of restricted parent' lxc start c1 --project lim
must lxc config device remove c1 d --project lim
claim 'what is below it is fine' \
    lxc config device add c1 d disk source="$E2E_DIR/home" path=/x --project lim
only_hawser && {
    must lxc init v --vm --empty --project lim
    must lxc config device add v d disk source="$E2E_DIR/home/link/passwd" --project lim
    refuse 'nor for a virtual machine' 'outside of restricted parent' lxc start v --project lim
}
e2e_end
