#!/bin/bash
# bad_input: what must be answered with a clear 4xx or 5xx in LXD's error form and leave nothing behind: malformed
# HTTP, wrong JSON, wrong types, unknown names, paths that climb, half uploads, a full disk.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need python3
daemon_start
e2e_defaults
T=$E2E_DIR
sock=$LXD_DIR/unix.socket
must lxc init busybox c1
alive() { [ "$(api_code GET /1.0)" = 200 ]; }

# ---- HTTP ----
raw() { # CASE REGEX
    shows "$1 is answered or closed" "^($2)\$" python3 "$E2E_LIB/rawhttp.py" "$sock" "$1"
}
raw noise '400|closed'
raw no-version '400|closed|200'
raw bad-version '[45]..|closed|200'
raw no-host '400|200'
raw nul-in-path '4..|closed'
raw bad-percent '4..|closed'
raw not-utf8-path '4..|closed'
raw long-path '4..|5..|closed'
raw long-header '4..|5..|closed'
raw many-headers '4..|5..|closed|200'
raw negative-length '4..|closed'
raw huge-length '4..|closed|silence'
raw two-lengths '4..|closed|silence|2..'
only_lxd || raw oversize-json '4..|closed'
only_lxd || raw oversize-chunked '4..|closed'
raw bad-chunk '4..|5..|closed'
raw cut-body '4..|closed|silence' # until the time-out of connections
raw deep-json '4..|5..'
raw nul-in-json '4..|5..'
raw not-utf8-json '4..|5..|2..'
raw array-for-object '4..|5..'
raw number-for-object '4..|5..'
raw null-for-object '4..|5..'
raw slow-header 200
raw body-on-get '200|4..|closed'
claim 'the agent lives on' alive
crowd() {
    timeout 50 python3 - "$sock" <<'END'
import socket, sys, http.client
links = []
for _ in range(200):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(5)
    try:
        link.connect(sys.argv[1]); link.sendall(b"GET /1.0 HT")
    except OSError:
        break
    links.append(link)
print(len(links))
END
    alive
}
claim 'a crowd that sends half a request does not lock others out' crowd

# ---- JSON of the wrong shape, on every door ----
bad() { # METHOD PATH JSON: 4xx or 5xx in the error form
    local reply
    reply=$(api "$1" "$2" "$3")
    if [ "$(jq -r .type <<<"$reply")" = async ]; then
        reply=$(api GET "$(jq -r .operation <<<"$reply")/wait?timeout=30")
        [ "$(jq -r .metadata.status_code <<<"$reply")" = 400 ] && [ -n "$(jq -r .metadata.err <<<"$reply")" ]
        return
    fi
    echo "$reply"
    jq -e '.type == "error" and .error_code >= 400 and (.error | length > 0)' <<<"$reply" >/dev/null
}
claim 'an empty body' bad POST /1.0/profiles ' '
claim 'half JSON' bad POST /1.0/profiles '{"name":'
for path in instances profiles projects networks storage-pools network-acls certificates images/aliases \
    storage-pools/default/volumes/custom networks/e2ebr0/forwards instances/c1/snapshots instances/c1/exec; do
    claim "POST $path: an array" bad POST "/1.0/$path" '[]'
    claim "POST $path: a number for the name" bad POST "/1.0/$path" '{"name":5,"target":7,"command":5}'
    [ $path = instances/c1/snapshots ] || # it has no config to begin with
        claim "POST $path: a list for the config" bad POST "/1.0/$path" '{"name":"ok","config":["a"],"command":"x","type":4}'
done
for path in profiles/default projects/default networks/e2ebr0 storage-pools/default; do
    claim "PUT $path: unknown key" bad PUT "/1.0/$path" '{"config":{"no.such.key":"1"}}'
    claim "PATCH $path: a number for a value" bad PATCH "/1.0/$path" '{"config":{"user.n":[1]}}'
done
claim 'instances: no source' bad POST /1.0/instances '{"name":"x1"}'
claim 'instances: an unknown source' bad POST /1.0/instances '{"name":"x1","source":{"type":"foo"}}'
claim 'instances: an unknown type' bad POST /1.0/instances '{"name":"x1","type":"spaceship","source":{"type":"none"}}'
claim 'instances: an unknown profile' bad POST /1.0/instances '{"name":"x1","profiles":["nope"],"source":{"type":"none"}}'
claim 'instances: no root disk' bad POST /1.0/instances '{"name":"x1","profiles":[],"source":{"type":"none"}}'
claim 'instances: a device of no type' bad POST /1.0/instances '{"name":"x1","devices":{"d":{}},"source":{"type":"none"}}'
claim 'instances: an unknown architecture' bad POST /1.0/instances '{"name":"x1","architecture":"vax","source":{"type":"none"}}'
for name in '' '-a' 'a-' '1a' 'a_b' 'a/b' '..' 'a b' 'ä' "$(printf 'a%.0s' {1..64})"; do
    claim "instances: the name '$name'" bad POST /1.0/instances "{\"name\":\"$name\",\"source\":{\"type\":\"none\"},\"profiles\":[\"nope\"]}"
done
same 'none of them is there' '' sh -c 'lxc list -f csv -c n | grep -v ^c1\$'
claim 'an unknown state action' bad PUT /1.0/instances/c1/state '{"action":"dance"}'
claim 'exec without a command' bad POST /1.0/instances/c1/exec '{}'
claim 'an unknown project' bad GET '/1.0/profiles?project=nope'
claim 'project and all-projects' bad GET '/1.0/instances?project=default&all-projects=true'

# ---- paths that climb ----
climb() { # a status of 4xx, and nothing of /etc in the reply
    curl -s --path-as-is --unix-socket "$sock" "http://x$1" >"$T/climbed"
    ! grep -q 'root:' "$T/climbed"
}
for path in '/1.0/../../../etc/shadow' '/1.0/instances/..%2F..%2F..%2Fetc/logs/shadow' \
    '/1.0/instances/c1/logs/..%2F..%2F..%2F..%2F..%2F..%2Fetc%2Fshadow' \
    '/1.0/instances/c1/logs/..' '/1.0/images/..%2F..%2Fserver.key/export' \
    '/1.0/instances/c1/metadata/templates?path=../../../../../../../etc/shadow' \
    '/1.0/storage-pools/..%2F..%2Fx' '/1.0/networks/..%2Flo' '/1.0/instances/c1/files?path=../../../../../etc/shadow'; do
    claim "nothing leaks by $path" climb "$path"
done
claim 'a template outside its directory' bad POST '/1.0/instances/c1/metadata/templates?path=../../escaped.tpl' 'x'
claim 'a file of a directory that is not there' bad POST '/1.0/instances/c1/files?path=/no/such/dir/file' 'x'
claim 'files without a path' bad GET /1.0/instances/c1/files
claim 'nothing appeared beside the tree' sh -c "! find $LXD_DIR -name 'escaped*' | grep ."

# ---- half uploads ----
half() {
    timeout 10 python3 - "$sock" "$T/busybox.tar.gz" <<'END'
import socket, sys
data = open(sys.argv[2], "rb").read()
link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.connect(sys.argv[1])
link.sendall(b"POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(data))
link.sendall(data[:len(data) // 2])
link.close()
END
}
before=$(find "$LXD_DIR" -xdev -path '*images*' -type f | sort)
claim 'an upload that breaks off' half
claim 'leaves no file' wait_for 5 sh -c "test \"\$(find $LXD_DIR -xdev -path '*images*' -type f | sort)\" = '$before'"
claim 'nor an image' sh -c 'test $(lxc image list -f csv | wc -l) = 1'

# ---- a full disk ----
mkdir -p "$T/small" && mount -t tmpfs -o size=6m tmpfs "$T/small"
chmod 711 "$T/small"
claim 'a pool on a small disk' lxc storage create small dir source="$T/small"
head -c 12000000 /dev/urandom >"$T/big"
must lxc start c1
must lxc file push "$T/big" c1/root/big
must lxc stop -f c1
must lxc snapshot c1 s1
refuse 'a copy that does not fit' '' lxc copy c1 nofit -s small
refuse 'leaves no row' 'not found' lxc info nofit
claim 'nor a directory' sh -c "! ls $T/small/containers/nofit $LXD_DIR/containers/nofit $T/small/containers-snapshots/nofit 2>/dev/null | grep ."
must lxc publish c1 --alias fat
refuse 'a container of it does not fit' '' lxc init fat nofit2 -s small
refuse 'and leaves no row' 'not found' lxc info nofit2
claim 'nor a directory' sh -c "! ls $T/small/containers/nofit2 2>/dev/null | grep ."
claim 'small things still fit' lxc storage volume create small tiny
must lxc storage volume delete small tiny
must lxc image delete fat
claim 'the small pool is deleted' lxc storage delete small
claim 'the agent lives on' alive
must lxc delete -f c1
e2e_end
