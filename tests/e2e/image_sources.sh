#!/bin/bash
# image_sources: images from a simplestreams server, from a URL, by token; their updates; and what a full
# disk, a wrong hash, a lying server or a crash leaves behind (nothing).
. "$(dirname "$0")/lib.sh"
e2e_begin
need python3 openssl tar xz mksquashfs
only_hawser || e2e_skip_all "uses crash points and /internal"
SCRIPTS=$E2E_LIB/../../scripts
W=$E2E_DIR/www T=$E2E_DIR
mkdir -p "$W"/streams/v1 "$W"/files
files_left() { ls "$LXD_DIR/images"; }
list() { lxc image list -f csv -c "$1"; }
sha() { cat "$@" | sha256sum | cut -d' ' -f1; }

# ---- a simplestreams tree: one product, a squashfs and a tar root ----
# version NAME: adds a version whose image differs from all others
version() {
    local v=$1 d=$W/files/$1
    mkdir -p "$d"
    "$SCRIPTS/build-image-busybox" --property "note=$v" --rootfs "$d/rootfs.squashfs" "$d/lxd.tar.xz"
    "$SCRIPTS/build-image-busybox" --property "note=$v" --rootfs "$d/root.tar.xz" "$T/unused.tar.xz"
    jq -n --arg v "$v" --arg a "$(sha "$d/lxd.tar.xz" "$d/rootfs.squashfs")" --arg b "$(sha "$d/lxd.tar.xz" "$d/root.tar.xz")" \
        --arg m "$(sha "$d/lxd.tar.xz")" --arg r "$(sha "$d/rootfs.squashfs")" --arg t "$(sha "$d/root.tar.xz")" \
        --argjson ms "$(stat -c %s "$d/lxd.tar.xz")" --argjson rs "$(stat -c %s "$d/rootfs.squashfs")" --argjson ts "$(stat -c %s "$d/root.tar.xz")" \
        '{($v): {items: {
            "lxd.tar.xz": {ftype: "lxd.tar.xz", path: "files/\($v)/lxd.tar.xz", sha256: $m, size: $ms,
                combined_squashfs_sha256: $a, combined_rootxz_sha256: $b, combined_sha256: $b},
            "root.squashfs": {ftype: "squashfs", path: "files/\($v)/rootfs.squashfs", sha256: $r, size: $rs},
            "root.tar.xz": {ftype: "root.tar.xz", path: "files/\($v)/root.tar.xz", sha256: $t, size: $ts}}}}' >"$T/$v.json"
}
publish() { # the versions that the server tells of
    local arch; arch=$(dpkg --print-architecture)
    for v in "$@"; do cat "$T/$v.json"; done | jq -s --arg arch "$arch" \
        '{format: "products:1.0", datatype: "image-downloads", content_id: "images", products: {"busybox:1:\($arch)":
          {aliases: "busybox/1,busybox", os: "Busybox", release: "one", release_title: "One", arch: $arch, versions: add}}}' \
        >"$W/streams/v1/images.json"
    jq '{format: "index:1.0", index: {images: {datatype: "image-downloads", path: "streams/v1/images.json",
          format: "products:1.0", products: (.products | keys)}}}' "$W/streams/v1/images.json" >"$W/streams/v1/index.json"
}
version 20240101_0000; version 20240202_0000
publish 20240101_0000

# ---- its server: https with an authority that only this suite trusts ----
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=localhost \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$T/s.key" -out "$T/s.crt" 2>/dev/null
cat /etc/ssl/certs/ca-certificates.crt "$T/s.crt" >"$T/bundle.crt" 2>/dev/null
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || mount --bind "$T/bundle.crt" /etc/ssl/certs/ca-certificates.crt
export SSL_CERT_FILE=$T/bundle.crt
cat >"$T/serve.py" <<'END'
import http.server, os, ssl, sys
root, crt, key = sys.argv[1:4]
class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *a): super().__init__(*a, directory=root)
    def do_HEAD(self):
        if self.path.startswith("/pointer"):
            self.send_response(200)
            for line in open(root + "/pointer"):
                self.send_header(*line.strip().split(" ", 1))
            self.end_headers()
        else: super().do_HEAD()
    def log_message(self, *a): open(root + "/../requests", "a").write(self.command + " " + self.path + "\n")
plain = http.server.ThreadingHTTPServer(("127.0.0.1", 18500), Handler)
tls = http.server.ThreadingHTTPServer(("127.0.0.1", 18501), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(crt, key)
tls.socket = context.wrap_socket(tls.socket, server_side=True)
if os.fork() == 0: plain.serve_forever()
tls.serve_forever()
END
python3 "$T/serve.py" "$W" "$T/s.crt" "$T/s.key" >"$T/serve.log" 2>&1 &
wait_for 10 curl -sf http://127.0.0.1:18500/streams/v1/index.json
daemon_start
pull() { # SOURCE-JSON [more of ImagesPost]
    api_meta POST /1.0/images "$(jq -nc --argjson s "$1" --argjson m "${2:-null}" '{source: ({type: "image", mode: "pull"} + $s)} + ($m // {})')"
}
S='"server":"http://127.0.0.1:18500","protocol":"simplestreams"'

# ---- simplestreams ----
claim 'the lxc client takes it as a remote' lxc remote add ss https://localhost:18501 --protocol simplestreams
shows 'and lists it' busybox lxc image list ss: -f csv
claim 'an image is copied from it' lxc image copy ss:busybox local: --alias fromss --auto-update
one=$(sha "$W/files/20240101_0000/lxd.tar.xz" "$W/files/20240101_0000/rootfs.squashfs")
same 'by its combined fingerprint' "$one" list F
shows 'with the properties that the server tells' 'os: Busybox' lxc image info fromss
shows 'auto-update is on' 'Auto update: enabled' lxc image info fromss
shows 'and the source is known' '"alias": ?"busybox"' lxc query /1.0/images/"$one"
same 'two files' 2 sh -c "ls $LXD_DIR/images | wc -l"
again() { rm -f "$T/requests"; pull "{$S,\"alias\":\"busybox\"}" && ! grep -q files/ "$T/requests"; }
claim 'again is no second download' again
refuse 'an alias that it has not' "couldn't be found" pull "{$S,\"alias\":\"vax/1\"}"
refuse 'a server that is not there' 'connect' pull '{"server":"http://127.0.0.1:1","protocol":"simplestreams","alias":"busybox"}'
refuse 'a protocol that is none' 'Unsupported protocol' pull '{"server":"http://127.0.0.1:18500","protocol":"gopher","alias":"busybox"}'

# ---- refresh: the server has a newer one ----
shows 'nothing newer: nothing refreshed' '"refreshed": false' api_meta POST "/1.0/images/$one/refresh" '{}'
publish 20240101_0000 20240202_0000
two=$(sha "$W/files/20240202_0000/lxd.tar.xz" "$W/files/20240202_0000/rootfs.squashfs")
shows 'a newer version is refreshed' '"refreshed": true' api_meta POST "/1.0/images/$one/refresh" '{}'
same 'the new one is there, the old one gone' "$two" list F
same 'the alias has moved' fromss list l
same 'with its files only' 2 sh -c "ls $LXD_DIR/images | wc -l"
publish 20240101_0000
claim 'the hourly update goes by the source, too' api GET /internal/testing/image-refresh
wait_for 10 sh -c "[ \"\$(lxc image list -f csv -c F)\" = $one ]"
same 'and takes what the server has now' "$one" list F
must lxc image delete fromss

# ---- a server that lies ----
cp "$W/files/20240101_0000/rootfs.squashfs" "$T/keep.squashfs"
printf 'tampered' | dd of="$W/files/20240101_0000/rootfs.squashfs" bs=1 seek=5000 conv=notrunc status=none
refuse 'a tampered root is refused' "fingerprints don't match" pull "{$S,\"alias\":\"busybox\"}"
same 'and leaves nothing' '' files_left
head -c 100000 "$T/keep.squashfs" >"$W/files/20240101_0000/rootfs.squashfs"
refuse 'a cut one, too' "fingerprints don't match" pull "{$S,\"alias\":\"busybox\"}"
rm "$W/files/20240101_0000/rootfs.squashfs"
refuse 'a missing one, too' 'answered 404' pull "{$S,\"alias\":\"busybox\"}"
same 'nothing is left of them' '' files_left
cp "$T/keep.squashfs" "$W/files/20240101_0000/rootfs.squashfs"
cp "$W/streams/v1/index.json" "$T/index.json"; echo '{' >"$W/streams/v1/index.json"
refuse 'an index that is no JSON' 'no JSON' pull "{$S,\"alias\":\"busybox\"}"
cp "$T/index.json" "$W/streams/v1/index.json"

# ---- certificates ----
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=other -keyout "$T/o.key" -out "$T/o.crt" 2>/dev/null
pinned() { pull "$(jq -nc --rawfile c "$1" '{server: "https://127.0.0.1:18501", protocol: "simplestreams", alias: "busybox", certificate: $c}')"; }
refuse 'another certificate than the given one' '' pinned "$T/o.crt"
claim 'the given certificate' pinned "$T/s.crt"
must lxc image delete "$one"

# ---- a URL ----
"$SCRIPTS/build-image-busybox" --property kind=direct "$W/files/direct.tar.xz"
direct=$(sha "$W/files/direct.tar.xz")
printf 'LXD-Image-Hash %s\nLXD-Image-URL http://127.0.0.1:18500/files/direct.tar.xz\n' "$direct" >"$W/pointer"
claim 'an image by URL' api_meta POST /1.0/images '{"source":{"type":"url","url":"http://127.0.0.1:18500/pointer"},"aliases":[{"name":"byurl"}],"properties":{"more":"yes"},"public":true}'
same 'has the fingerprint that was announced' "$direct" list F
shows 'and what the request said' 'more: yes' lxc image info byurl
must lxc image delete byurl
printf 'LXD-Image-Hash %064d\nLXD-Image-URL http://127.0.0.1:18500/files/direct.tar.xz\n' 0 >"$W/pointer"
refuse 'another hash than announced' "fingerprints don't match" api_meta POST /1.0/images '{"source":{"type":"url","url":"http://127.0.0.1:18500/pointer"}}'
echo 'X-Nothing here' >"$W/pointer"
refuse 'a URL without the headers' 'Missing LXD-Image-Hash' api_meta POST /1.0/images '{"source":{"type":"url","url":"http://127.0.0.1:18500/pointer"}}'
refuse 'a URL that is a local file' '' api_meta POST /1.0/images '{"source":{"type":"url","url":"file:///etc/passwd"}}'
same 'nothing is left' '' files_left

# ---- secrets ----
must lxc config set core.https_address 127.0.0.1:18443
must lxc image import "$W/files/direct.tar.xz" --alias mine
stranger() { curl -sk --max-time 20 -o "$T/got" -w '%{http_code}' "https://127.0.0.1:18443$1"; }
same 'a stranger sees no private image' '[]' sh -c 'curl -sk https://127.0.0.1:18443/1.0/images | jq -c .metadata'
same 'nor gets it' 404 stranger "/1.0/images/$direct"
same 'nor its file' 404 stranger "/1.0/images/$direct/export"
secret=$(api POST "/1.0/images/$direct/secret" '{}' | jq -r .metadata.metadata.secret)
claim 'a secret is made' test "${#secret}" -ge 32
same 'a wrong one opens nothing' 404 stranger "/1.0/images/$direct/export?secret=${secret}x"
same 'it shows the image' 200 stranger "/1.0/images/$direct?secret=$secret"
same 'and gives the file' 200 stranger "/1.0/images/$direct/export?secret=$secret"
same 'as it is' "$direct" sha "$T/got"
same 'once' 404 stranger "/1.0/images/$direct/export?secret=$secret"
same 'a stranger may not import' 403 sh -c "curl -sk -o /dev/null -w '%{http_code}' -X POST -H 'Content-Type: application/octet-stream' --data-binary @$W/files/direct.tar.xz https://127.0.0.1:18443/1.0/images"
same 'nor with a made-up token' 403 sh -c "curl -sk -o /dev/null -w '%{http_code}' -X POST -H 'X-LXD-secret: x' -H 'X-LXD-fingerprint: $direct' -H 'Content-Type: application/octet-stream' --data-binary @$W/files/direct.tar.xz https://127.0.0.1:18443/1.0/images"
claim 'made public, it is' sh -c 'lxc image show mine | sed "s/^public:.*/public: true/" | lxc image edit mine'
same 'seen' "/1.0/images/$direct" sh -c 'curl -sk https://127.0.0.1:18443/1.0/images | jq -r .metadata[]'
same 'and its alias' 200 stranger /1.0/images/aliases/mine
same 'a HEAD tells the size' "$(stat -c %s "$W/files/direct.tar.xz")" sh -c "curl -skI https://127.0.0.1:18443/1.0/images/$direct/export | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: //p'"

# ---- the object ----
etag=$(curl -s -D - -o /dev/null --unix-socket "$LXD_DIR/unix.socket" "http://x/1.0/images/$direct" | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p')
claim 'it has an ETag' test -n "$etag"
same 'PATCH adds a property' 200 api_code PATCH "/1.0/images/$direct" '{"properties":{"x":"1"}}'
shows 'and keeps the others' 'kind: direct' lxc image info mine
CURL_ARGS="-H If-Match:$etag" same 'a stale ETag is refused' 412 api_code PUT "/1.0/images/$direct" '{"properties":{}}'
same 'PUT replaces' 200 api_code PUT "/1.0/images/$direct" '{"properties":{"only":"this"},"public":false}'
hides 'what it had' 'kind: direct' lxc image info mine
same 'a property that is no text is refused' 400 api_code PATCH "/1.0/images/$direct" '{"properties":{"x":[1]}}'
same 'an unknown profile is refused' 400 api_code PUT "/1.0/images/$direct" '{"profiles":["nosuch"]}'
same 'filter by property' "$direct" sh -c "curl -sG --unix-socket $LXD_DIR/unix.socket --data-urlencode recursion=1 --data-urlencode 'filter=properties.only eq this' http://x/1.0/images | jq -r .metadata[].fingerprint"
same 'filter that fits none' 0 sh -c "curl -sG --unix-socket $LXD_DIR/unix.socket --data-urlencode recursion=1 --data-urlencode 'filter=properties.only eq that' http://x/1.0/images | jq '.metadata | length'"
same 'a broken body is refused' 400 api_code POST /1.0/images '{"source":'
same 'a source that is none' 500 api_code POST /1.0/images '{"source":{"type":"moon"}}'
same 'aliases with a slash' 201 api_code POST /1.0/images/aliases "{\"name\":\"a/b c\",\"target\":\"$direct\"}"
same 'are found' "$direct" sh -c "curl -s --unix-socket $LXD_DIR/unix.socket http://x/1.0/images/aliases/a%2Fb%20c | jq -r .metadata.target"
same 'an alias of nothing' 404 api_code POST /1.0/images/aliases '{"name":"n","target":"0000"}'
must lxc image delete mine

# ---- hostile images: refused when they are unpacked, and nothing of them stays ----
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default
python3 - "$T" <<'END'
import io, os, sys, tarfile
top = sys.argv[1]
meta = b"architecture: %s\ncreation_date: 1700000000\n" % os.uname().machine.encode()
def make(name, *entries):
    with tarfile.open(f"{top}/evil-{name}.tar", "w") as tar:
        info = tarfile.TarInfo("metadata.yaml"); info.size = len(meta)
        tar.addfile(info, io.BytesIO(meta))
        info = tarfile.TarInfo("rootfs/etc"); info.type = tarfile.DIRTYPE; info.mode = 0o755
        tar.addfile(info)
        for path, kind, arg in entries:
            info = tarfile.TarInfo(path); info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE): info.linkname = arg
            elif kind in (tarfile.BLKTYPE, tarfile.CHRTYPE): info.devmajor, info.devminor = arg
            data = b"owned" if kind == tarfile.REGTYPE else b""
            info.size = len(data); tar.addfile(info, io.BytesIO(data))
R, S, L = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
make("absolute", (top + "/escaped", R, None))
make("dotdot", ("rootfs/../../../../../../../.." + top + "/escaped", R, None))
make("symlink", ("rootfs/way", S, top), ("rootfs/way/escaped", R, None))
make("hardlink", ("rootfs/etc/shadow", L, "/etc/shadow"))
make("disk", ("rootfs/disk", tarfile.BLKTYPE, (8, 0)))
make("mem", ("rootfs/etc/mem", tarfile.CHRTYPE, (1, 1)))
END
for kind in absolute dotdot symlink hardlink disk mem; do
    quiet lxc image import "$T/evil-$kind.tar" --alias evil
    refuse "$kind: no container comes of it" 'archive entry|absolute' lxc init evil victim
    same "$kind: nothing is left" '' sh -c "ls -A $LXD_DIR/storage-pools/default/containers $LXD_DIR/storage-pools/default/images | grep -v ':$' | grep .; lxc list -f csv -c n"
    claim "$kind: nothing is outside" test ! -e "$T/escaped"
    quiet lxc image delete evil
done
head -c 300000 "$T/keep.squashfs" >"$T/cut.squashfs"
quiet lxc image import "$W/files/20240101_0000/lxd.tar.xz" "$T/cut.squashfs" --alias evil
refuse 'a cut squashfs gives no container' 'squashfs' lxc init evil victim
same 'and leaves nothing' '' sh -c "ls -A $LXD_DIR/storage-pools/default/containers; lxc list -f csv -c n"
quiet lxc image delete evil

# ---- a body that ends early, a full disk ----
python3 - "$LXD_DIR/unix.socket" "$W/files/direct.tar.xz" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); data = open(sys.argv[2], "rb").read()
s.sendall(b"POST /1.0/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(data))
s.sendall(data[:len(data) // 2]); s.close()
END
no_file_left() { [ -z "$(files_left)" ]; }
claim 'half an upload leaves no file' wait_for 20 no_file_left
same 'and no image' '[]' sh -c 'lxc query /1.0/images | jq -c'
daemon_stop
mkdir -p "$LXD_DIR/images" && mount -t tmpfs -o size=300k none "$LXD_DIR/images"
daemon_start
refuse 'a full disk is an error' 'No space left' pull "{$S,\"alias\":\"busybox\"}"
refuse 'for an upload, too' 'No space left' lxc image import "$W/files/direct.tar.xz"
same 'and nothing stays' '' files_left
daemon_stop; umount "$LXD_DIR/images"

# ---- crashes: at each numbered point, then a start ----
split() { lxc image import "$W/files/20240202_0000/lxd.tar.xz" "$W/files/20240202_0000/rootfs.squashfs" --alias boom; }
killed() { daemon_wait_end main 10; [ $? = 137 ]; }
left() { echo $(list F | wc -l) $(files_left | wc -l); }
for point in 1 2 3; do
    DAEMON_ENV="HAWSER_CRASH=image:$point" daemon_start
    quiet split
    claim "killed at import's point $point" killed
    daemon_start
    same 'the next start finds no row and leaves no file' '0 0' left
    daemon_stop
done
for point in 1 2; do
    daemon_start
    must split
    daemon_stop
    DAEMON_ENV="HAWSER_CRASH=image:$point" daemon_start
    quiet lxc image delete boom
    claim "killed at delete's point $point" killed
    daemon_start
    same 'row and files are gone' '0 0' left
    daemon_stop
done
daemon_start
e2e_end
