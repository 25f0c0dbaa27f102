#!/bin/bash
# hostile: images, backups and clients of restricted projects that reach for what is not theirs: links and pipes
# where files are expected, keys that only the server writes, other people's projects.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need openssl python3
daemon_start
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
echo 'of the host' >"$E2E_DIR/secret"
alive() { [ "$(timeout 10 curl -s -o /dev/null -w '%{http_code}' --unix-socket "$LXD_DIR/unix.socket" http://lxd/1.0)" = 200 ]; }

# An archive from another one: the program below, with the tree in directory 'd', changes it. Ids are root's.
rewrite() { # from to python
    local dir
    dir=$(mktemp -d "$E2E_DIR/tree-XXXXXX")
    mkdir "$dir/d"
    tar -C "$dir/d" -xpf "$1" --numeric-owner || return 1
    (cd "$dir/d" && SECRET=$E2E_DIR/secret python3 -c "
import os, re, shutil
secret = os.environ['SECRET']
def edit(name, change):
    text = open(name).read()
    os.unlink(name)
    open(name, 'w').write(change(text))
$3") || return 1
    tar -C "$dir/d" -cpf "$2" --numeric-owner .
    rm -rf "$dir"
}

# ---- images ----
evil_image() { # name python
    rewrite "$E2E_DIR/busybox.tar.gz" "$E2E_DIR/$1.tar" "$2" &&
        lxc image import "$E2E_DIR/$1.tar" --alias "$1"
}
stolen() { lxc file pull "$1/etc/stolen" - 2>/dev/null | grep -q 'of the host'; }
told='
edit("metadata.yaml", lambda t: re.sub(r"templates:.*", "", t, flags=re.S) + """
templates:
  /etc/stolen:
    when: [create]
    template: stolen.tpl
""")
'
must evil_image link "$told
os.symlink(secret, 'templates/stolen.tpl')"
quiet lxc launch link link
refuse 'a template that is a link shows no file of the host' '' stolen link
must evil_image dir "$told
shutil.rmtree('templates')
os.symlink(os.path.dirname(secret), 'templates')
edit('metadata.yaml', lambda t: t.replace('stolen.tpl', 'secret'))"
quiet lxc launch dir dir
refuse 'nor do templates in a linked directory' '' stolen dir
must evil_image pipe "$told
os.mkfifo('templates/stolen.tpl')"
must lxc init pipe pipe
refuse 'a template that is a pipe is not read' 'Error' timeout 20 lxc config template show pipe stolen.tpl
same 'nor written' 400 timeout 20 curl -s -o /dev/null -w '%{http_code}\n' --unix-socket "$LXD_DIR/unix.socket" \
    -X POST -H 'Content-Type: application/octet-stream' --data x \
    'http://lxd/1.0/instances/pipe/metadata/templates?path=stolen.tpl'
claim 'and nobody waits for it' alive
refuse 'not a start either' '' timeout 20 lxc start pipe
must lxc delete -f link dir pipe

# ---- backups ----
must lxc project create p1 -c features.images=false
must lxc profile device add default root disk path=/ pool=default --project p1
must lxc init busybox c1 --project p1
must lxc config set c1 user.mark=then --project p1
must lxc snapshot c1 s0 --project p1
must lxc config unset c1 user.mark --project p1
must lxc config set c1 user.mark=now --project p1
must lxc export c1 "$E2E_DIR/c1.tar" --compression none --project p1
must lxc delete c1 --project p1
must lxc project set p1 restricted=true restricted.snapshots=allow restricted.backups=allow
evil_backup() { rewrite "$E2E_DIR/c1.tar" "$E2E_DIR/$1.tar" "$2"; }
import() { lxc import "$E2E_DIR/$1.tar" "$1" --project p1; }
must evil_backup rootlink "shutil.rmtree('backup/container/rootfs')
os.symlink('/', 'backup/container/rootfs')"
refuse 'no rootfs that is a link' 'no directory' import rootlink
must evil_backup snaplink "shutil.rmtree('backup/snapshots/s0/rootfs')
os.symlink('/', 'backup/snapshots/s0/rootfs')"
refuse 'nor one of a snapshot' 'no directory' import snaplink
must evil_backup pipes "os.unlink('backup/container/metadata.yaml')
os.mkfifo('backup/container/metadata.yaml')"
quiet import pipes
refuse 'a pipe for metadata.yaml is not waited for' '' timeout 20 lxc config metadata show pipes --project p1
quiet timeout 20 lxc publish pipes --alias pipes --project p1
claim 'nor when it is published' alive
quiet lxc image delete pipes
quiet lxc delete -f pipes --project p1

# ---- keys that no request may bring ----
must evil_backup keys "edit('backup/index.yaml', lambda t: t.replace('user.mark: then', 'security.privileged: \"true\"')
    .replace('user.mark: now', 'volatile.eth0.host_name: lo'))"
claim 'a backup is imported' import keys
same 'without what it tells of a host' '' lxc config get keys volatile.eth0.host_name --project p1
refuse 'its snapshot brings no privileges back' 'Privileged containers are forbidden' \
    lxc restore keys s0 --project p1
same 'nothing of it' '' lxc config get keys security.privileged --project p1
must lxc storage create other dir
move() { # project name config
    api_meta POST "/1.0/instances/$2?project=$1" \
        "{\"name\":\"$2\",\"migration\":true,\"pool\":\"other\",\"config\":$3}"
}
refuse 'a move sets no notes of ours' 'is forbidden' move p1 keys '{"volatile.eth0.host_name":"lo"}'
must lxc init busybox plain
refuse 'nor whose ids are on the disk' 'idmap keys' \
    move default plain '{"volatile.idmap.next":"[{}]"}'
claim 'without them it goes' move default plain '{"user.a":"b"}'
must lxc delete plain
must lxc delete keys --project p1

# ---- volumes of others ----
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -keyout "$E2E_DIR/r.key" -nodes \
    -out "$E2E_DIR/r.crt" -days 5 -subj /CN=r 2>>"$E2E_DIR/log"
must lxc config set core.https_address 127.0.0.1:18463
must lxc project create shares -c features.images=false -c features.storage.volumes=false
must lxc project create small -c features.images=false -c limits.disk=100MiB
must lxc project create own
must lxc config trust add "$E2E_DIR/r.crt" --name r --restricted --projects p1,shares,small,own
rest() { # method path body
    curl -sk --max-time 30 --cert "$E2E_DIR/r.crt" --key "$E2E_DIR/r.key" -X "$1" -d "$3" \
        -o "$E2E_DIR/rest" -w '%{http_code}\n' "https://127.0.0.1:18463$2"
}
must lxc storage volume create default v1 size=200MiB --project p1
V=/1.0/storage-pools/default/volumes/custom
same 'a volume does not move to a project that only borrows' 403 \
    rest POST "$V/v1?project=p1" '{"name":"v1","project":"shares"}'
refuse 'nor where it is too much' 'Reached maximum' \
    api_meta POST "$V/v1?project=p1" '{"name":"v1","project":"small"}'
claim 'it is where it was' lxc storage volume show default v1 --project p1
refuse 'a copy takes no keys that volumes have not' 'Invalid option' \
    api_meta POST "$V?project=p1" \
    '{"name":"v2","config":{"raw.mount":"x"},"source":{"type":"copy","name":"v1","pool":"default"}}'
claim 'but its own' api_meta POST "$V?project=p1" \
    '{"name":"v2","config":{"user.a":"b"},"source":{"type":"copy","name":"v1","pool":"default"}}'

# ---- images of others ----
fingerprint=$(lxc image list -f json | jq -r '.[]|select(.aliases[].name=="busybox").fingerprint')
cat >"$E2E_DIR/liar.py" <<END
import http.server
class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('LXD-Image-Hash', '$fingerprint')
        self.send_header('LXD-Image-URL', 'http://127.0.0.1:18464/image')
        self.end_headers()
    do_HEAD = do_GET
http.server.HTTPServer(('127.0.0.1', 18464), Liar).serve_forever()
END
python3 "$E2E_DIR/liar.py" >>"$E2E_DIR/log" 2>&1 & liar=$!
must wait_for 5 curl -s -o /dev/null http://127.0.0.1:18464/
same 'somebody says that he has an image of others' 202 rest POST '/1.0/images?project=own' \
    '{"source":{"type":"url","mode":"pull","url":"http://127.0.0.1:18464/"}}'
op=$(jq -r .operation "$E2E_DIR/rest")
quiet rest GET "$op/wait?timeout=20" ''
same 'and does not get it by that' 404 rest GET "/1.0/images/$fingerprint?project=own" ''
must api_meta POST '/1.0/images?project=own' \
    '{"source":{"type":"url","mode":"pull","url":"http://127.0.0.1:18464/"}}'
same 'who may see it does' 200 rest GET "/1.0/images/$fingerprint?project=own" ''
kill $liar; wait $liar 2>/dev/null

# ---- what a container writes into a volume is no layer of a root ----
if ! quiet lxc storage create lay overlay; then
    skip 'a volume is no overlay of its own making' 'no overlay on this file system'
else
    mkdir "$E2E_DIR/victim"; echo kept >"$E2E_DIR/victim/file"
    must lxc init busybox lay -s lay
    must lxc storage volume create lay shared
    must lxc config device add lay shared disk pool=lay source=shared path=/shared
    must lxc start lay
    mkdir "$E2E_DIR/work"
    must lxc exec lay -- sh -c "mkdir -p /shared/.layers /shared/rootfs &&
        ln -s $E2E_DIR/victim /shared/.layers/upper && ln -s $E2E_DIR/work /shared/.layers/work &&
        printf %s $fingerprint >/shared/.layers/below"
    must lxc stop -f lay
    must lxc start lay
    must lxc storage volume export lay shared "$E2E_DIR/shared.tar" --compression none
    hides 'a volume is no overlay of its own making' 'rootfs/file' tar -tf "$E2E_DIR/shared.tar"
    same 'and is mounted as ever' "$fingerprint" lxc exec lay -- cat /shared/.layers/below
    must lxc delete -f lay
    must lxc storage volume delete lay shared
fi

# ---- a file whose bytes never come ----
if ! gcc -static -O1 -o "$E2E_DIR/stallfs" "$E2E_LIB/stallfs.c"; then
    skip 'a file that stalls its reader stalls nobody else' 'no static C library'
else
    must lxc launch busybox stall
    must lxc file push "$E2E_DIR/stallfs" stall/bin/stallfs --mode 755
    must lxc exec stall -- sh -c 'mkdir -p /mnt/low /mnt/low-empty /mnt/all
        stallfs /mnt/low /mnt/all >/tmp/stall 2>&1 &'
    if ! wait_for 5 lxc exec stall -- grep -q ready /tmp/stall; then
        skip 'a file that stalls its reader stalls nobody else' \
            "no such mounts: $(lxc exec stall -- cat /tmp/stall)"
    else
        timeout 20 lxc file pull stall/mnt/all/file - >/dev/null 2>&1 & pulling=$!
        sleep 2
        claim 'a file that stalls its reader stalls nobody else' alive
        kill $pulling 2>/dev/null; wait $pulling
        must lxc exec stall -- sh -c 'rm -rf /snap; ln -s /mnt/all/slow /snap'
        claim 'nor does a name' timeout 20 lxc exec stall -- true
        claim 'whatever asks for it' alive
        must lxc storage volume create default slow
        must lxc config device add stall slow disk pool=default source=slow path=/data/slow
        must lxc exec stall -- sh -c 'mkdir -p /mnt/low2 /mnt/low2-empty
            stallfs /mnt/low2 /data >/tmp/stall2 2>&1 &'
        must wait_for 5 lxc exec stall -- grep -q ready /tmp/stall2
        claim 'nor do its disks in the metrics' timeout 20 curl -s -o /dev/null \
            --unix-socket "$LXD_DIR/unix.socket" http://lxd/1.0/metrics
    fi
    must lxc delete -f stall
fi

# ---- two at a time ----
both() { # times, function with a number: runs each number's twice at once, and waits
    local i
    for ((i = 0; i < $1; i++)); do
        "$2" "$i" & "$2" "$i" &
    done
    wait $(jobs -p | grep -vx "${e2e_pid[main]}")
}
must lxc project create few -c features.images=false -c limits.instances=3
must lxc profile device add default root disk path=/ pool=default --project few
one_instance() { api_meta POST '/1.0/instances?project=few' \
    "{\"name\":\"i$1-$BASHPID\",\"source\":{\"type\":\"none\"}}"; }
both 6 one_instance >>"$E2E_DIR/log" 2>&1
same 'limits hold for instances that come together' 3 sh -c 'lxc list -f csv -c n --project few | wc -l'
must lxc init busybox c2
must lxc storage volume create default v3
one_backup() { api_meta POST /1.0/instances/c2/backups "{\"name\":\"b$1\"}"; }
one_volume_backup() { api_meta POST "$V/v3/backups" "{\"name\":\"b$1\"}"; }
both 3 one_backup >>"$E2E_DIR/log" 2>&1
both 3 one_volume_backup >>"$E2E_DIR/log" 2>&1
for i in 0 1 2; do
    same "backup $i is there, once made twice" 200 api_code GET "/1.0/instances/c2/backups/b$i/export"
    same "and the volume's" 200 api_code GET "$V/v3/backups/b$i/export"
done
must lxc network create n1 ipv4.address=10.94.8.1/24 ipv6.address=none
must lxc network create n2 ipv4.address=10.94.9.1/24 ipv6.address=none
one_forward() {
    api POST /1.0/networks/n1/forwards "{\"listen_address\":\"192.0.2.$1\"}" &
    api POST /1.0/networks/n2/forwards "{\"listen_address\":\"192.0.2.$1\"}"
    wait $!
}
both 5 one_forward >>"$E2E_DIR/log" 2>&1
same 'an address is one network'"'"'s' 5 sh -c \
    'for n in n1 n2; do lxc network forward list $n -f csv; done | cut -d, -f1 | grep -c .'
must lxc network delete n1
must lxc network delete n2

e2e_end
