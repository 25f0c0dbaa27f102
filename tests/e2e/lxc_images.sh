#!/bin/bash
# lxc_images: import of unified and split archives, aliases, properties, visibility, export, publish,
# expiry, and what must be refused, as the unmodified lxc client sees it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need tar xz zstd bzip2 mksquashfs
daemon_start
e2e_defaults
fingerprints() { lxc image list -f csv -c F; }
unpack() { rm -rf "$E2E_DIR/tree"; mkdir -p "$E2E_DIR/tree"; tar -C "$E2E_DIR/tree" -xf "$E2E_DIR/busybox.tar.gz"; }
unpack
tree=$E2E_DIR/tree

# ---- import ----
sha=$(sha256sum "$E2E_DIR/busybox.tar.gz" | cut -d' ' -f1)
same 'the fingerprint is the SHA-256 of the file' "$sha" fingerprints
claim 'the file lies where LXD has it' test -f "$LXD_DIR/images/$sha"
refuse 'the same file again is refused' 'same fingerprint already exists' lxc image import "$E2E_DIR/busybox.tar.gz"
for kind in tar:c tar.xz:cJ tar.bz2:cj tar.zst:c; do
    ending=${kind%:*}
    echo "$ending" >"$tree/rootfs/etc/image-text"
    if [ "$ending" = tar.zst ]; then
        [ "$E2E_DAEMON" = hawserd ] || continue # 5.0.2 has no zstd
        tar -C "$tree" -c . | zstd -q -o "$E2E_DIR/i.$ending" -f
    else
        tar -C "$tree" -${kind#*:}f "$E2E_DIR/i.$ending" metadata.yaml rootfs templates
    fi
    claim "a unified $ending" lxc image import "$E2E_DIR/i.$ending" --alias "a-${ending//./-}"
    claim "gives a container" lxc launch "a-${ending//./-}" t1
    same "with its content ($ending)" "$ending" lxc exec t1 -- cat /etc/image-text
    quiet lxc delete -f t1
    quiet lxc image delete "a-${ending//./-}"
done
mksquashfs "$tree/rootfs" "$E2E_DIR/split.squashfs" -quiet -no-progress >/dev/null
tar -C "$tree" -czf "$E2E_DIR/split.tar.gz" metadata.yaml templates
claim 'a split image: metadata and squashfs' lxc image import "$E2E_DIR/split.tar.gz" "$E2E_DIR/split.squashfs" --alias split
split=$(cat "$E2E_DIR/split.tar.gz" "$E2E_DIR/split.squashfs" | sha256sum | cut -d' ' -f1)
shows 'its fingerprint covers both' "$split" fingerprints
claim 'the second file lies beside the first' test -f "$LXD_DIR/images/$split.rootfs"
claim 'it gives a container' lxc launch split t2
same 'that runs' t2 lxc exec t2 -- hostname
quiet lxc delete -f t2
tar -C "$tree/rootfs" -czf "$E2E_DIR/root.tar.gz" .
claim 'a split image with a tar as rootfs' lxc image import "$E2E_DIR/split.tar.gz" "$E2E_DIR/root.tar.gz" --alias splittar
claim 'launches' lxc launch splittar t3
quiet lxc delete -f t3

# ---- properties, aliases ----
shows 'properties come from the metadata' 'os: Busybox' lxc image info busybox
claim 'properties at import' sh -c "cp $E2E_DIR/i.tar $E2E_DIR/p.tar; lxc image import $E2E_DIR/p.tar --alias props flavour=plain"
shows 'are kept' 'flavour: plain' lxc image info props
claim 'a property is set' lxc image set-property props flavour rich
same 'and read' rich lxc image get-property props flavour
claim 'and unset' lxc image unset-property props flavour
hides 'and gone' flavour lxc image info props
claim 'an image is edited as YAML' sh -c 'lxc image show props | sed "s/^public: .*/public: true/" | lxc image edit props'
shows 'and is public now' '^public: true|Public: yes' lxc image show props
claim 'an alias is added' lxc image alias create again "$sha"
shows 'and listed' '^again,' lxc image alias list -f csv
refuse 'twice is refused' 'already exists' lxc image alias create again "$sha"
claim 'renamed' lxc image alias rename again other
claim 'resolves' lxc image info other
claim 'and deleted' lxc image alias delete other
refuse 'and gone' 'not found' lxc image info other
claim 'a short fingerprint resolves' lxc image info "${sha:0:8}"
shows 'the alias is shown with its image' 'busybox' lxc image list -f csv -c l
must lxc image set-property busybox one only
same 'filters' busybox lxc image list os=Busybox one=only -f csv -c l

# ---- export ----
claim 'a unified image is exported' lxc image export busybox "$E2E_DIR/exported"
same 'byte for byte' "$sha" sh -c "sha256sum $E2E_DIR/exported.tar.gz | cut -d' ' -f1"
claim 'a split one gives two files' sh -c "mkdir -p $E2E_DIR/two; lxc image export split $E2E_DIR/two/x"
same 'byte for byte, too' "$split" sh -c "cat $E2E_DIR/two/x $E2E_DIR/two/x.root | sha256sum | cut -d' ' -f1"

# ---- publish ----
must lxc launch busybox src
must lxc exec src -- sh -c 'echo published >/root/mark'
refuse 'publishing a running one needs force' 'running' lxc publish src --alias pub
must lxc stop -f src
claim 'a stopped one is published' lxc publish src --alias pub os=Mine
shows 'with the given properties' 'os: Mine' lxc image info pub
claim 'and launches' lxc launch pub t4
same 'with its content' published lxc exec t4 -- cat /root/mark
same 'and owners' 0 lxc exec t4 -- stat -c %u /root/mark
quiet lxc delete -f t4
must lxc snapshot src s1
claim 'a snapshot is published' lxc publish src/s1 --alias snappub --public
claim 'it is public' sh -c 'lxc image info snappub | grep -q "Public: yes"'
claim 'uncompressed' lxc publish src --alias plainpub --compression none
claim 'an expiry at publish' lxc publish src --alias exppub --expire 2031-01-02T03:04:05Z os=Other
shows 'is kept' '2031' lxc image info exppub
must lxc delete src

# ---- what must be refused ----
head -c 5000 /dev/urandom >"$E2E_DIR/noise.tar.gz"
refuse 'noise is no image' '' lxc image import "$E2E_DIR/noise.tar.gz"
head -c 20000 "$E2E_DIR/busybox.tar.gz" >"$E2E_DIR/cut.tar.gz"
refuse 'a cut archive is refused, at import or launch' '' \
    sh -c "lxc image import $E2E_DIR/cut.tar.gz --alias cut && lxc launch cut t5"
quiet lxc delete -f t5
quiet lxc image delete cut
mkdir -p "$E2E_DIR/nometa/rootfs"; tar -C "$E2E_DIR/nometa" -czf "$E2E_DIR/nometa.tar.gz" rootfs
refuse 'an archive without metadata.yaml' 'metadata' lxc image import "$E2E_DIR/nometa.tar.gz"
mkdir -p "$E2E_DIR/badmeta/rootfs"; printf 'architecture: [\n' >"$E2E_DIR/badmeta/metadata.yaml"
tar -C "$E2E_DIR/badmeta" -czf "$E2E_DIR/badmeta.tar.gz" metadata.yaml rootfs
refuse 'broken YAML in metadata.yaml' '' lxc image import "$E2E_DIR/badmeta.tar.gz"
printf 'architecture: vax\ncreation_date: 1\n' >"$E2E_DIR/badmeta/metadata.yaml"
tar -C "$E2E_DIR/badmeta" -czf "$E2E_DIR/badarch.tar.gz" metadata.yaml rootfs
refuse 'an unknown architecture, at import or init' '' \
    sh -c "lxc image import $E2E_DIR/badarch.tar.gz --alias vax && lxc init vax t6"
quiet lxc image delete vax
# Names that point out of the tree: nothing may appear outside.
python3 - "$E2E_DIR" "$tree" <<'END'
import io, sys, tarfile
top, tree = sys.argv[1:]
def add(tar, name, data=b"owned\n", kind=None, link=""):
    info = tarfile.TarInfo(name); info.size = 0 if kind else len(data)
    if kind: info.type, info.linkname = kind, link
    tar.addfile(info, None if kind else io.BytesIO(data))
def make(name, fill):
    with tarfile.open(f"{top}/{name}.tar", "w") as tar:
        tar.add(f"{tree}/metadata.yaml", "metadata.yaml")
        fill(tar)
        tar.add(f"{tree}/rootfs", "rootfs")
make("dotdot", lambda t: add(t, "rootfs/../../../../../../../../../" + top.lstrip("/") + "/escaped"))
make("absolute", lambda t: add(t, top + "/escaped"))
make("symlink", lambda t: (add(t, "rootfs/way", kind=tarfile.SYMTYPE, link=top), add(t, "rootfs/way/escaped")))
make("hardlink", lambda t: (add(t, "rootfs/hard", kind=tarfile.LNKTYPE, link="/etc/shadow")))
END
for kind in dotdot absolute symlink hardlink; do
    quiet sh -c "lxc image import $E2E_DIR/$kind.tar --alias $kind && lxc launch $kind t7"
    claim "an archive with $kind names leaves nothing outside" test ! -e "$E2E_DIR/escaped"
    if [ $kind = hardlink ]; then
        claim 'nor a link to a file of the host' sh -c "! cmp -s '$LXD_DIR/storage-pools/default/containers/t7/rootfs/hard' /etc/shadow"
    fi
    quiet lxc delete -f t7
    quiet lxc image delete $kind
done
same 'a wrong announced fingerprint is refused' 400 sh -c \
    "curl -s --unix-socket '$LXD_DIR/unix.socket' -X POST -H 'X-LXD-fingerprint: deadbeef' -H 'Content-Type: application/octet-stream' --data-binary @$E2E_DIR/i.tar.xz http://x/1.0/images >$E2E_DIR/r; op=\$(jq -r .operation $E2E_DIR/r); curl -s --unix-socket '$LXD_DIR/unix.socket' http://x\$op/wait | jq .metadata.status_code"
claim 'no half image stays behind' sh -c "test \$(ls $LXD_DIR/images | grep -vc rootfs) = \$(lxc image list -f csv -c F | wc -l)"

# ---- delete, cached images ----
refuse 'an image that is not there' 'not found' lxc image delete nosuch
claim 'an image is deleted while a container of it exists' sh -c 'lxc init props keep && lxc image delete props'
claim 'the container still starts' lxc start keep
quiet lxc delete -f keep
claim 'all images go' sh -c 'for f in $(lxc image list -f csv -c F); do lxc image delete $f || exit 1; done'
same 'nothing is left of them' 0 sh -c "ls $LXD_DIR/images | wc -l"
e2e_end
