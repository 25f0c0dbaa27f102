#!/bin/bash
# lxc_volumes: sources of pools, custom volumes across projects and pools, blocks, exports, refreshes,
# schedules and leftovers, as the unmodified lxc client sees them.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
T=$E2E_DIR
must lxc storage create other dir

# ---- where pools can be ----
mkdir "$T/full" "$T/empty"
touch "$T/full/file"
refuse 'a directory with something in it' "isn't empty" lxc storage create p1 dir source="$T/full"
refuse 'a directory that is not there' "doesn't exist" lxc storage create p1 dir source="$T/none"
refuse 'a directory of the agent itself' 'within the LXD directory' lxc storage create p1 dir source="$LXD_DIR/logs"
refuse 'size is no key of dir' 'Invalid option "size"' lxc storage create p1 dir size=1GiB
refuse 'names without slashes' 'slashes|URL|not found' lxc storage create a/b dir
refuse 'names without blanks' 'white space' lxc storage create 'a b' dir
must lxc storage create p1 dir source="$T/empty"
must lxc storage volume create p1 v
claim 'a pool on a directory keeps its bytes there' test -d "$T/empty/custom/default_v"
refuse 'its source stays' 'cannot be changed' lxc storage set p1 source "$T/full"
claim 'a note is kept' lxc storage set p1 user.note hello
same 'and shown' hello lxc storage get p1 user.note
refuse 'unknown keys' 'Invalid option' lxc storage set p1 colour red
must lxc storage volume delete p1 v
claim 'it is deleted' lxc storage delete p1
claim 'and leaves the directory empty' sh -c "test -z \"\$(ls -A $T/empty)\""
if command -v mkfs.btrfs >/dev/null; then
    truncate -s 300M "$T/disk.img"
    dev=$(losetup -f --show "$T/disk.img")
    claim 'btrfs on a block device' lxc storage create bd btrfs source="$dev"
    claim 'is mounted' mountpoint -q "$LXD_DIR/storage-pools/bd"
    refuse 'it has no loop file to grow' 'non-loopback|unknown|Invalid' lxc storage set bd size 1GiB
    claim 'mount options change' lxc storage set bd btrfs.mount_options=noatime,user_subvol_rm_allowed
    shows 'at once' noatime grep " $LXD_DIR/storage-pools/bd " /proc/self/mountinfo
    truncate -s 300M "$T/host.img"
    mkdir "$T/host"
    must mkfs.btrfs -q "$T/host.img"
    must mount -o loop "$T/host.img" "$T/host"
    claim 'btrfs below a directory of another' lxc storage create bp btrfs source="$T/host/inner"
    must lxc storage volume create bp v
    must lxc storage volume snapshot bp v s0
    must lxc storage volume delete bp v
    claim 'is deleted' lxc storage delete bp
    claim 'with its subvolume' test ! -e "$T/host/inner"
    umount "$T/host"
    claim 'the pool on the device, too' lxc storage delete bd
    refuse 'a used device needs source.wipe' '' lxc storage create bd btrfs source="$dev"
    claim 'and takes it' lxc storage create bd btrfs source="$dev" source.wipe=true
    must lxc storage delete bd
    losetup -d "$dev"
    refuse 'a directory that is no btrfs' 'does not reside on a btrfs' lxc storage create bx btrfs source="$T/full"
    claim 'a failed pool leaves no row' sh -c "! lxc storage show bx 2>/dev/null"
    claim 'and no directory' test ! -e "$LXD_DIR/storage-pools/bx"
else
    skip 'btrfs sources' 'mkfs.btrfs is not installed'
fi

# ---- volumes between pools and projects ----
put() { echo "$2" >"$LXD_DIR/storage-pools/$1/file"; }
must lxc storage volume create default v1 user.a=b
put default/custom/default_v1 one
must lxc storage volume snapshot default v1 s0
put default/custom/default_v1 two
claim 'a copy to another pool' lxc storage volume copy default/v1 other/v1
same 'has the content' two cat "$LXD_DIR/storage-pools/other/custom/default_v1/file"
same 'the snapshot' one cat "$LXD_DIR/storage-pools/other/custom-snapshots/default_v1/s0/file"
same 'and the configuration' b lxc storage volume get other v1 user.a
claim 'a copy without snapshots' lxc storage volume copy default/v1 other/v2 --volume-only
same 'has none' '[]' sh -c 'lxc query /1.0/storage-pools/other/volumes/custom/v2/snapshots | tr -d " \n"'
claim 'a copy of a snapshot' lxc storage volume copy default/v1/s0 other/v3
same 'has its content' one cat "$LXD_DIR/storage-pools/other/custom/default_v3/file"
must lxc storage volume snapshot default v1 s1
must lxc storage volume delete default v1/s0
put default/custom/default_v1 three
claim 'a refresh' lxc storage volume copy default/v1 other/v1 --refresh
same 'brings the content' three cat "$LXD_DIR/storage-pools/other/custom/default_v1/file"
same 'and the same snapshots' s1 ls "$LXD_DIR/storage-pools/other/custom-snapshots/default_v1"
claim 'a move to another pool' lxc storage volume move other/v2 default/v2
refuse 'leaves nothing behind' 'not found' lxc storage volume show other v2
must lxc project create pr -c features.images=false -c features.profiles=false
claim 'a project has volumes of its own' lxc storage volume create default v1 --project pr
same 'on disk by its name' pr_v1 sh -c "ls $LXD_DIR/storage-pools/default/custom | grep ^pr_"
same 'and lists them alone' v1 sh -c 'lxc query "/1.0/storage-pools/default/volumes/custom?project=pr&recursion=1" | jq -r ".[].name"'
same 'all projects are listed on demand' 'default default default pr' sh -c 'lxc query "/1.0/storage-pools/default/volumes/custom?all-projects=true&recursion=1" | jq -r "[.[].project] | join(\" \")"'
claim 'a move to another project' lxc storage volume move default/v2 default/v2 --project default --target-project pr
claim 'is found there' lxc storage volume show default v2 --project pr
must lxc storage volume delete default v2 --project pr
must lxc storage volume delete default v1 --project pr
claim 'then the project goes' lxc project delete pr

# ---- what is wrong is told ----
refuse 'an unknown key' 'Invalid option for volume' lxc storage volume create default bad colour=red
refuse 'a bad size' 'Invalid value' lxc storage volume create default bad size=huge
refuse 'both ways of shifting' 'mutually exclusive' lxc storage volume create default bad security.shifted=true security.unmapped=true
same 'a name out of the pool' 400 api_code POST /1.0/storage-pools/default/volumes/custom '{"name":".."}'
same 'a name of the wrong type' 400 api_code POST /1.0/storage-pools/default/volumes/custom '{"name":7}'
same 'a source that is not there' 404 api_code GET /1.0/storage-pools/default/volumes/custom/none
stale() { CURL_ARGS='-H If-Match:stale' api_code PUT /1.0/storage-pools/default/volumes/custom/v1 '{"config":{}}'; }
same 'a stale ETag' 412 stale
claim 'nothing is left of them' sh -c "! ls $LXD_DIR/storage-pools/default/custom | grep -E 'bad|\\.\\.'"

# ---- blocks ----
claim 'a block volume' lxc storage volume create default blk --type=block size=64MiB
same 'is a raw file of its size' $((64 * 1048576)) stat -c %s "$LXD_DIR/storage-pools/default/custom/default_blk/root.img"
claim 'it grows' lxc storage volume set default blk size 96MiB
same 'to the byte' $((96 * 1048576)) stat -c %s "$LXD_DIR/storage-pools/default/custom/default_blk/root.img"
refuse 'and never shrinks' 'cannot be shrunk' lxc storage volume set default blk size 1MiB
claim 'a snapshot of it' lxc storage volume snapshot default blk s0
claim 'is restored' lxc storage volume restore default blk s0

# ---- exports ----
claim 'an export' lxc storage volume export default v1 "$T/v1.tar.gz"
claim 'has an index' sh -c "tar tzf $T/v1.tar.gz | grep -q '^backup/index.yaml'"
claim 'comes back under another name' lxc storage volume import default "$T/v1.tar.gz" back
same 'with its content' three cat "$LXD_DIR/storage-pools/default/custom/default_back/file"
same 'and its snapshot' two cat "$LXD_DIR/storage-pools/default/custom-snapshots/default_back/s1/file"
claim 'an export of a block volume' lxc storage volume export default blk "$T/blk.tar.gz"
claim 'comes back' lxc storage volume import other "$T/blk.tar.gz" blk
same 'at its size' $((96 * 1048576)) stat -c %s "$LXD_DIR/storage-pools/other/custom/default_blk/root.img"
head -c 100000 /dev/urandom >"$T/junk"
refuse 'junk is refused' '' lxc storage volume import default "$T/junk" junk
mkdir -p "$T/evil/backup/volume"
printf 'name: evil\nbackend: dir\npool: default\ntype: custom\nconfig:\n  volume: {}\n' >"$T/evil/backup/index.yaml"
ln -s /etc "$T/evil/backup/volume/out"
tar -C "$T/evil" -cf "$T/evil.tar" backup/index.yaml backup/volume
tar -C "$T/evil" --transform 's,^x$,backup/volume/out/owned,' -rf "$T/evil.tar" -C "$T" --add-file=junk 2>/dev/null
tar -C "$T" --transform 's,junk,backup/volume/../../../../escaped,' -P -rf "$T/evil.tar" junk
refuse 'a name that leads out is refused' '' lxc storage volume import default "$T/evil.tar" evil
claim 'nothing got out' sh -c "! find $LXD_DIR $T -name escaped | grep ."
claim 'nothing is left of either' sh -c "! ls $LXD_DIR/storage-pools/default/custom | grep -E 'junk|evil'"
claim 'no file of the exports is left' sh -c "! find $LXD_DIR/backups/custom -type f | grep ."

# ---- schedules ----
must lxc storage volume set default v1 snapshots.pattern 'auto-{{ creation_date }}'
must lxc storage volume set default v1 snapshots.expiry 1M
must lxc storage volume set default v1 snapshots.schedule '* * * * *'
claim 'a scheduled snapshot is made' wait_for 90 sh -c "lxc query /1.0/storage-pools/default/volumes/custom/v1/snapshots | grep -q auto-"
must lxc storage volume unset default v1 snapshots.schedule
shows 'it will expire' '"expires_at": "20' sh -c 'lxc query "/1.0/storage-pools/default/volumes/custom/v1/snapshots?recursion=1" | jq "[.[] | select(.name | test(\"auto-\"))][0]"'

# ---- a crash in the middle ----
daemon_kill
mkdir -p "$LXD_DIR/storage-pools/default/custom/default_stray" "$LXD_DIR/storage-pools/default/.new/x/y"
daemon_start
claim 'leftovers are gone after the next start' wait_for 5 sh -c "! ls -A $LXD_DIR/storage-pools/default/.new $LXD_DIR/storage-pools/default/.gone | grep -v ':\$' | grep . && ! test -e $LXD_DIR/storage-pools/default/custom/default_stray"
same 'volumes are not' three cat "$LXD_DIR/storage-pools/default/custom/default_v1/file"
e2e_end
