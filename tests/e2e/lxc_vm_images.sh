#!/bin/bash
# lxc_vm_images: virtual machines that don't run: images in both of LXD's forms, hostile ones refused; created,
# sized, copied, renamed, snapshotted, restored, published, backed up and deleted by the unmodified lxc client.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need qemu-img tar
PATH=$PATH:/usr/sbin:/sbin
daemon_start
e2e_defaults
MIB=1048576
pools=$LXD_DIR/storage-pools

# A disk of 16 MiB: a GPT, a mark at the beginning of its partition, and holes.
disk=$E2E_DIR/disk.raw
truncate -s 16M "$disk"
printf 'label: gpt\nstart=2048, size=8192, type=linux, name=data\n' | sfdisk -q "$disk" >/dev/null
printf 'the mark' | dd of="$disk" bs=1M seek=1 conv=notrunc status=none
metadata() { # text
    printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: none\n  description: %s\n' "$1"
}
mkdir "$E2E_DIR/vm"
metadata one >"$E2E_DIR/vm/metadata.yaml"
qemu-img convert -f raw -O qcow2 "$disk" "$E2E_DIR/vm/rootfs.img"
tar -C "$E2E_DIR/vm" -czf "$E2E_DIR/vm.tar.gz" metadata.yaml rootfs.img
metadata split >"$E2E_DIR/vm/metadata.yaml"
tar -C "$E2E_DIR/vm" -czf "$E2E_DIR/meta.tar.gz" metadata.yaml
cp "$E2E_DIR/vm/rootfs.img" "$E2E_DIR/disk.qcow2"
img() { echo "$pools/default/virtual-machines/$1/root.img"; }
size_of() { stat -c %s "$(img "$1")"; }
mark_of() { dd if="$(img "$1")" bs=1M skip=1 count=1 status=none | head -c 8; }
write_mark() { printf '%s' "$2" | dd of="$(img "$1")" bs=1M seek=1 conv=notrunc status=none; }

# ---- images ----
claim 'a unified image is imported' lxc image import "$E2E_DIR/vm.tar.gz" --alias vm
shows 'it is one of a virtual machine' 'VIRTUAL-MACHINE' lxc image list -f csv -c Lt
claim 'a split one as well' lxc image import "$E2E_DIR/meta.tar.gz" "$E2E_DIR/disk.qcow2" --alias split
same 'both are for virtual machines' 2 sh -c 'lxc image list -f csv type=virtual-machine | wc -l'
claim 'a split one is exported' lxc image export split "$E2E_DIR/out"
claim 'as it came' cmp "$E2E_DIR/out.root" "$E2E_DIR/disk.qcow2"
made() { api POST /1.0/instances "{\"name\":\"x1\",\"type\":\"$1\",\"source\":{\"type\":\"image\",\"alias\":\"$2\"}}" | jq -r .operation; }
shows 'a container of it is refused' "doesn.t match instance type" sh -c "lxc query '$(made container vm)/wait' | jq -r .err"
shows 'a virtual machine of a container image, too' "doesn.t match instance type" \
    sh -c "lxc query '$(made virtual-machine busybox)/wait' | jq -r .err"

# ---- hostile disks ----
hostile() { # name: makes $E2E_DIR/bad.tar.gz of $E2E_DIR/bad.qcow2
    rm -rf "$E2E_DIR/bad"; mkdir "$E2E_DIR/bad"
    metadata "$1" >"$E2E_DIR/bad/metadata.yaml"
    cp "$E2E_DIR/bad.qcow2" "$E2E_DIR/bad/rootfs.img"
    tar -C "$E2E_DIR/bad" -czf "$E2E_DIR/bad.tar.gz" metadata.yaml rootfs.img
    tar -C "$E2E_DIR/bad" -czf "$E2E_DIR/badmeta.tar.gz" metadata.yaml
}
echo 'secret of the host' >"$E2E_DIR/secret"; truncate -s 1M "$E2E_DIR/secret"
qemu-img create -q -f qcow2 -b "$E2E_DIR/secret" -F raw "$E2E_DIR/bad.qcow2"
hostile backing
refuse 'a backing file is refused at the import of a split image' 'names another file' \
    lxc image import "$E2E_DIR/badmeta.tar.gz" "$E2E_DIR/bad.qcow2" --alias bad
claim 'a unified one is not unpacked at its import' lxc image import "$E2E_DIR/bad.tar.gz" --alias bad
refuse 'but refused when it is' 'names another file' lxc init bad vbad --vm
quiet lxc image delete bad
qemu-img create -q -f qcow2 -o "data_file=$E2E_DIR/secret,data_file_raw=on" "$E2E_DIR/bad.qcow2" 1M
hostile data
refuse 'an external data file is refused' 'names another file' \
    lxc image import "$E2E_DIR/badmeta.tar.gz" "$E2E_DIR/bad.qcow2" --alias bad
qemu-img create -q -f vmdk "$E2E_DIR/bad.qcow2" 1M
hostile vmdk
quiet lxc image import "$E2E_DIR/bad.tar.gz" --alias bad
refuse 'another format is refused' 'Unexpected image format' lxc init bad vbad --vm
quiet lxc image delete bad
head -c 3000 "$E2E_DIR/disk.qcow2" >"$E2E_DIR/bad.qcow2"
hostile short
claim 'one that is cut short gets in' lxc image import "$E2E_DIR/badmeta.tar.gz" "$E2E_DIR/bad.qcow2" --alias bad
claim 'its virtual machine is what there was' sh -c 'lxc init bad vbad --vm -d root,size=16MiB; true'
quiet lxc delete vbad
quiet lxc image delete bad
hides 'nothing of them is left' 'vbad' lxc list -f csv -c n

# ---- creation and sizes ----
claim 'a virtual machine from an image' lxc init vm v1 --vm -d root,size=32MiB
shows 'is listed as one' '^v1,STOPPED,VIRTUAL-MACHINE' lxc list -f csv -c nst
same 'its disk has the size of its root device' $((32 * MIB)) size_of v1
same 'and the content of the image' 'the mark' mark_of v1
claim 'which takes no more space than it has content' sh -c "[ \$(du -k '$(img v1)' | cut -f1) -lt 8192 ]"
claim 'its partition table has moved to the new end' sh -c "sfdisk --verify '$(img v1)' 2>&1 | grep -q 'No errors'"
same 'its volume is a block volume' block sh -c 'lxc storage volume get default virtual-machine/v1 user.x; lxc query /1.0/storage-pools/default/volumes/virtual-machine/v1 | jq -r .content_type'
shows 'it has a uuid' '^[0-9a-f-]{36}$' lxc config get v1 volatile.uuid
same 'and a generation' "$(lxc config get v1 volatile.uuid)" lxc config get v1 volatile.uuid.generation
hides 'but no id map' 'idmap' lxc config show v1
shows 'its state is known' '^Status: STOPPED' lxc info v1
refuse 'a root disk smaller than the image is refused' 'exceeds specified volume size' lxc init vm v2 --vm -d root,size=8MiB
claim 'one without an image' lxc init v3 --vm --empty
same 'has the usual size' $((10240 * MIB)) size_of v3
claim 'and takes nothing' sh -c "[ \$(du -k '$(img v3)' | cut -f1) -lt 128 ]"
quiet lxc delete v3
claim 'the pool says otherwise' lxc storage set default volume.size=64MiB
claim 'one from the split image' lxc init split v3 --vm
same 'has the size of the pool' $((64 * MIB)) size_of v3
same 'and its content' 'the mark' mark_of v3
claim 'the root disk grows' lxc config device override v3 root size=96MiB
same 'and with it the file' $((96 * MIB)) size_of v3
refuse 'it does not shrink' 'cannot be shrunk|Cannot be shrunk' lxc config device set v3 root size=32MiB
same 'and is as before' 96MiB lxc config device get v3 root size
refuse 'keys of containers are refused' 'Unknown configuration key: security.nesting' lxc config set v3 security.nesting=true
refuse 'and those of virtual machines on containers' 'Unknown configuration key: security.secureboot' \
    lxc init busybox c1 -c security.secureboot=false
claim 'a profile may have both' sh -c 'lxc profile create both && lxc profile set both security.nesting=true security.secureboot=false'

# ---- copies, renames, snapshots ----
claim 'it is copied' lxc copy v1 v4
same 'as a virtual machine' VIRTUAL-MACHINE sh -c 'lxc list v4 -f csv -c t'
same 'with its content' 'the mark' mark_of v4
same 'and its size' $((32 * MIB)) size_of v4
claim 'under a uuid of its own' sh -c '[ "$(lxc config get v1 volatile.uuid)" != "$(lxc config get v4 volatile.uuid)" ]'
claim 'a copy may be larger' lxc copy v1 v5 -d root,size=48MiB
same 'and is' $((48 * MIB)) size_of v5
refuse 'but not smaller' 'shrunk' lxc copy v1 v6 -d root,size=20MiB
hides 'and leaves nothing' v6 lxc list -f csv -c n
quiet lxc delete v5
claim 'it is renamed' lxc move v4 w4
same 'with its content' 'the mark' mark_of w4
claim 'a snapshot is taken' lxc snapshot v1 first
write_mark v1 'second! '
claim 'another one' lxc snapshot v1 two
shows 'both are listed' '^  *\| two|two' lxc info v1
generation=$(lxc config get v1 volatile.uuid.generation)
claim 'the first one is restored' lxc restore v1 first
same 'and its content is back' 'the mark' mark_of v1
claim 'the generation has changed' sh -c "[ '$generation' != \"\$(lxc config get v1 volatile.uuid.generation)\" ]"
claim 'a copy of a snapshot' lxc copy v1/two v6
same 'has its content' 'second! ' mark_of v6
quiet lxc delete v6
claim 'a snapshot is renamed' lxc move v1/two v1/three
claim 'a copy with its snapshots' lxc copy v1 v6
shows 'has them' 'three' lxc info v6
claim 'a snapshot is deleted' lxc delete v6/three
claim 'a refreshed copy' lxc copy v1 v6 --refresh
same 'has what its source has' 'the mark' mark_of v6
quiet lxc delete v6
claim 'a copy on another pool' sh -c 'lxc storage create second dir && lxc copy v1 v7 -s second'
claim 'has the content' cmp "$(img v1)" "$pools/second/virtual-machines/v7/root.img"
claim 'and moves back' lxc move v7 v8 -s default
same 'with it' 'the mark' mark_of v8
claim 'and to another project' sh -c 'lxc project create p1 -c features.images=false -c features.profiles=false && lxc move v8 v8 --target-project p1'
shows 'where it is one' '^v8,VIRTUAL-MACHINE' lxc list --project p1 -f csv -c nt
claim 'a limit of virtual machines counts them' lxc project set p1 limits.virtual-machines=1
refuse 'and holds' 'Reached maximum number' lxc init vm v9 --vm --project p1 -d root,size=32MiB
quiet lxc delete v8 --project p1

# ---- publishing ----
claim 'it is published' lxc publish v1 --alias mine description=mine
shows 'as an image of a virtual machine' '^mine,VIRTUAL-MACHINE' lxc image list mine -f csv -c Lt
claim 'a snapshot as well' lxc publish v1/three --alias snapped
claim 'the image is exported' lxc image export mine "$E2E_DIR/mine"
claim 'and has a qcow2 disk' sh -c "cd '$E2E_DIR' && tar -xf mine.tar.gz rootfs.img && qemu-img info rootfs.img | grep -q 'file format: qcow2'"
claim 'a virtual machine of it' lxc init mine v9 --vm -d root,size=32MiB
claim 'is the same disk' cmp "$(img v1)" "$(img v9)"
quiet lxc delete v9
claim 'one of the snapshot' lxc init snapped v9 --vm -d root,size=32MiB
same 'has what that had' 'second! ' mark_of v9
quiet lxc delete v9

# ---- backups ----
claim 'it is exported' lxc export v1 "$E2E_DIR/v1.tar.gz"
shows 'in the layout of LXD' '^backup/virtual-machine.img$' tar -tf "$E2E_DIR/v1.tar.gz"
shows 'with its snapshots' '^backup/virtual-machine-snapshots/first.img$' tar -tf "$E2E_DIR/v1.tar.gz"
shows 'and its type' '^type: virtual-machine' tar -xOf "$E2E_DIR/v1.tar.gz" backup/index.yaml
sum=$(sha256sum <"$(img v1)")
claim 'it goes' lxc delete v1
claim 'and comes back' lxc import "$E2E_DIR/v1.tar.gz"
same 'as it was' "$sum" sh -c "sha256sum <'$(img v1)'"
shows 'as a virtual machine' '^v1,VIRTUAL-MACHINE' lxc list v1 -f csv -c nt
claim 'with a snapshot that can be restored' lxc restore v1 three
same 'to what it was' 'second! ' mark_of v1
claim 'under another name' lxc import "$E2E_DIR/v1.tar.gz" again
same 'as well' "$sum" sh -c "sha256sum <'$(img again)'"

# ---- the end ----
claim 'all are deleted' lxc delete v1 v3 w4 again
claim 'and their directories gone' sh -c "[ -z \"\$(ls '$pools/default/virtual-machines')\" ]"
claim 'and their images' sh -c 'lxc image delete vm split mine snapped && lxc storage unset default volume.size'
e2e_end
