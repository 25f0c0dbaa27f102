#!/bin/bash
# lxc_storage: pools of each driver, instance volumes, custom volumes and their snapshots, copies, growth,
# quotas, and what a crash must not leave, as the unmodified lxc client sees it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
T=$E2E_DIR
pools='default'
claim 'a pool of dir exists' lxc storage show default
same 'its driver' dir sh -c 'lxc storage show default | awk "/^driver:/ {print \$2}"'
refuse 'twice is refused' 'already exists' lxc storage create default dir
refuse 'an unknown driver' '[Uu]n.*driver|driver' lxc storage create odd nosuch
refuse 'an unknown key' 'option|key' lxc storage create odd dir colour=red
refuse 'a pool in use is kept' 'in use|used' lxc storage delete default
mkdir "$T/elsewhere"
claim 'a dir pool on a given directory' lxc storage create onpath dir source="$T/elsewhere"
claim 'is deleted' lxc storage delete onpath
if command -v mkfs.btrfs >/dev/null; then
    claim 'a btrfs pool on a loop file' lxc storage create bt btrfs size=512MiB
    pools="$pools bt"
    claim 'with its file where LXD has it' test -f "$LXD_DIR/disks/bt.img"
    claim 'mounted where LXD has it' mountpoint -q "$LXD_DIR/storage-pools/bt"
else
    skip 'btrfs' 'mkfs.btrfs is not installed'
fi
if only_hawser; then
    claim 'an overlay pool' lxc storage create ov overlay
    pools="$pools ov"
fi
shows 'pools are listed' '^default,dir' lxc storage list -f csv
claim 'resources of a pool' sh -c 'lxc query /1.0/storage-pools/default/resources | jq -e ".space.total > 0"'

for pool in $pools; do
    # ---- instances ----
    claim "$pool: a container" lxc launch busybox "c-$pool" -s "$pool"
    must lxc exec "c-$pool" -- sh -c 'echo one >/root/f; mkdir -p /root/d; chown 1000:1000 /root/d; ln -s f /root/l'
    claim "$pool: a snapshot" lxc snapshot "c-$pool" s1
    must lxc exec "c-$pool" -- sh -c 'echo two >/root/f; rm -r /root/d; mkdir /root/new'
    must lxc stop -f "c-$pool"
    claim "$pool: a copy" lxc copy "c-$pool" "k-$pool"
    claim "$pool: restore" lxc restore "c-$pool" s1
    must lxc start "c-$pool"
    same "$pool: the content is back" 'one f 1000:1000' lxc exec "c-$pool" -- sh -c 'echo $(cat /root/f) $(readlink /root/l) $(stat -c %u:%g /root/d)'
    same "$pool: what came later is gone" 1 status_of lxc exec "c-$pool" -- test -e /root/new
    must lxc start "k-$pool"
    same "$pool: the copy has the other" two lxc exec "k-$pool" -- cat /root/f
    same "$pool: with its snapshot" 1 sh -c "lxc query /1.0/instances/k-$pool/snapshots | jq length"
    must lxc stop -f "k-$pool"
    claim "$pool: a rename" lxc rename "k-$pool" "r-$pool"
    claim "$pool: restore under the new name" lxc restore "r-$pool" s1
    must lxc start "r-$pool"
    same "$pool: works" one lxc exec "r-$pool" -- cat /root/f
    claim "$pool: all goes" lxc delete -f "r-$pool"
    claim "$pool: nothing stays of it" sh -c "! ls -d $LXD_DIR/storage-pools/$pool/containers/r-$pool $LXD_DIR/storage-pools/$pool/containers-snapshots/r-$pool $LXD_DIR/containers/r-$pool 2>/dev/null | grep ."
    for other in $pools; do
        [ "$other" != "$pool" ] || continue
        claim "$pool to $other: a copy between pools" lxc copy "c-$pool/s1" "x-$pool" -s "$other"
        must lxc start "x-$pool"
        same "$pool to $other: the content came along" one lxc exec "x-$pool" -- cat /root/f
        must lxc delete -f "x-$pool"
    done

    # ---- custom volumes ----
    claim "$pool: a custom volume" lxc storage volume create "$pool" vol
    refuse "$pool: twice is refused" 'already exists' lxc storage volume create "$pool" vol
    shows "$pool: is listed" 'custom,vol' lxc storage volume list "$pool" -f csv
    claim "$pool: attached live" lxc storage volume attach "$pool" vol "c-$pool" /mnt/vol
    claim "$pool: is written from inside" lxc exec "c-$pool" -- sh -c 'echo kept >/mnt/vol/file'
    refuse "$pool: one in use is kept" 'in use|used|attached' lxc storage volume delete "$pool" vol
    claim "$pool: a snapshot of the volume" lxc storage volume snapshot "$pool" vol v1
    must lxc exec "c-$pool" -- sh -c 'echo lost >/mnt/vol/file'
    claim "$pool: detached" lxc storage volume detach "$pool" vol "c-$pool"
    same "$pool: gone inside" 1 status_of lxc exec "c-$pool" -- test -e /mnt/vol/file
    claim "$pool: restored" lxc storage volume restore "$pool" vol v1
    must lxc storage volume attach "$pool" vol "c-$pool" /mnt/vol
    same "$pool: has the old content" kept lxc exec "c-$pool" -- cat /mnt/vol/file
    must lxc storage volume detach "$pool" vol "c-$pool"
    claim "$pool: a volume is copied" lxc storage volume copy "$pool/vol" "$pool/vol2"
    claim "$pool: with its snapshot" sh -c "lxc query /1.0/storage-pools/$pool/volumes/custom/vol2/snapshots | grep -q v1"
    claim "$pool: and renamed" lxc storage volume rename "$pool" vol2 vol3
    claim "$pool: its configuration" lxc storage volume set "$pool" vol3 user.note hello
    same "$pool: is kept" hello lxc storage volume get "$pool" vol3 user.note
    refuse "$pool: unknown keys are refused" '' lxc storage volume set "$pool" vol3 colour red
    claim "$pool: deleted with its snapshots" lxc storage volume delete "$pool" vol3
    claim "$pool: a snapshot is deleted" lxc storage volume delete "$pool" vol/v1
    claim "$pool: and the volume" lxc storage volume delete "$pool" vol
    claim "$pool: nothing stays of them" sh -c "! ls $LXD_DIR/storage-pools/$pool/custom $LXD_DIR/storage-pools/$pool/custom-snapshots | grep vol"
    shows "$pool: instance volumes are listed" "container,c-$pool" lxc storage volume list "$pool" -f csv
done

# ---- the agent restarts; pools come back ----
claim 'the agent restarts' daemon_restart
for pool in $pools; do
    same "$pool: containers run on" RUNNING sh -c "lxc list ^c-$pool\$ -f csv -c s"
    must lxc stop -f "c-$pool"
    claim "$pool: and start again" lxc start "c-$pool"
done
if [[ $pools == *bt* ]]; then
    claim 'a quota on btrfs' lxc config device set c-bt root size=60MiB
    same 'holds' 0 sh -c 'lxc exec c-bt -- dd if=/dev/urandom of=/root/big bs=1M count=120 2>/dev/null; test $? != 0; echo $?'
    quiet lxc exec c-bt -- rm -f /root/big
    if only_hawser; then
        claim 'the loop file grows' lxc storage set bt size 768MiB
        same 'to its new size' $((768 * 1048576)) stat -c %s "$LXD_DIR/disks/bt.img"
    fi
fi
for pool in $pools; do
    must lxc delete -f "c-$pool"
done
# ---- limits of a disk, whose pool lies on a partition: the kernel limits the disk ----
limits_of() { # the container's, whatever the version of its control group
    find /sys/fs/cgroup -path "*$1*" \( -name blkio.throttle.read_bps_device -o -name blkio.throttle.write_iops_device -o -name io.max \) \
        -exec cat {} + | grep -o "^$2 .*" | LC_ALL=C sort -u | tr '\n' ' '
}
truncate -s 256M "$T/disk"
loop=$(losetup --find --show --partscan "$T/disk")
if only_hawser && command -v mkfs.ext4 addpart >/dev/null && addpart "$loop" 1 2048 500000; then
    # made by hand: nobody fills /dev in a container
    mknod "$T/node" b $(tr : ' ' <"/sys/class/block/${loop#/dev/}p1/dev") && mkfs.ext4 -q "$T/node" &&
        mkdir "$T/part" && mount "$T/node" "$T/part" && mkdir "$T/part/pool" || e2e_bail 'no file system on a partition'
    whole=$(cat "/sys/class/block/${loop#/dev/}/dev")
    losetup -d "$loop" # goes with the mount
    must lxc storage create part dir source="$T/part/pool"
    claim 'a disk that is limited' lxc launch busybox cpart -s part -d root,limits.read=3MB -d root,limits.write=200iops
    want="$whole 200 $whole 3000000 "
    [ -e /sys/fs/cgroup/blkio ] || want="$whole rbps=3000000 wbps=max riops=max wiops=200 "
    same 'is so in the kernel' "$want" limits_of cpart "$whole"
    claim 'a limit that is lifted' lxc config device set cpart root limits.read= limits.write=
    same 'is so in the kernel' '' limits_of cpart "$whole"
    claim 'a limit that is set while it runs' lxc config device set cpart root limits.max=5MB
    shows 'is so in the kernel' "$whole .*5000000" limits_of cpart "$whole"
    quiet lxc exec cpart -- dd if=/dev/zero of=/root/f bs=64k count=4 conv=fsync
    shows 'what is written is counted' "lxd_disk_written_bytes_total.device=\"${loop#/dev/}\",name=\"cpart\".* [1-9]" lxc query /1.0/metrics
    must lxc delete -f cpart
    must lxc storage delete part
    umount "$T/part"
else
    losetup -d "$loop"
    skip 'limits of a disk' 'no partition can be made of a loop device here'
fi
if [[ $pools == *bt* ]]; then
    claim 'images of a pool go with their last use' sh -c 'lxc image delete busybox && lxc storage delete bt'
    claim 'with the loop file' test ! -e "$LXD_DIR/disks/bt.img"
    claim 'and the mount' sh -c "! mountpoint -q $LXD_DIR/storage-pools/bt"
    hides 'and the loop device' bt.img losetup -a
fi
e2e_end
