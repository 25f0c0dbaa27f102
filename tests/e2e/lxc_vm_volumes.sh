#!/bin/bash
# lxc_vm_volumes: disks without a guest: custom block volumes, virtual machines on each kind of pool, the devices that
# each kind of instance may have, and virtual machines that go to another server, as the unmodified lxc client asks.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need qemu-img tar rsync
daemon_start
e2e_defaults
T=$E2E_DIR MIB=1048576
pools=$LXD_DIR/storage-pools
must lxc storage set default volume.size=24MiB
must lxc storage create fast btrfs size=400MiB volume.size=24MiB
must lxc storage create over overlay volume.size=24MiB

qemu-img create -q -f raw "$T/disk.raw" 8M
printf 'the mark' | dd of="$T/disk.raw" bs=1M seek=1 conv=notrunc status=none
mkdir "$T/vm"
printf 'architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: none\n' >"$T/vm/metadata.yaml"
qemu-img convert -f raw -O qcow2 "$T/disk.raw" "$T/vm/rootfs.img"
tar -C "$T/vm" -czf "$T/vm.tar.gz" metadata.yaml rootfs.img
must lxc image import "$T/vm.tar.gz" --alias vm
mark_of() { dd if="$1" bs=1M skip=1 count=1 status=none | head -c 8; }
put_mark() { printf '%s' "$2" | dd of="$1" bs=1M seek=1 conv=notrunc status=none; }

# ---- custom block volumes ----
for pool in default fast over; do
    file=$pools/$pool/custom/default_b1/root.img
    claim "$pool: a block volume" lxc storage volume create $pool b1 --type=block size=16MiB
    same "$pool: is a file of its size" $((16 * MIB)) stat -c %s "$file"
    same "$pool: and shown as one" block sh -c "lxc storage volume show $pool b1 | sed -n 's/^content_type: //p'"
    put_mark "$file" 'original'
    claim "$pool: it grows" lxc storage volume set $pool b1 size=20MiB
    same "$pool: to what was asked" $((20 * MIB)) stat -c %s "$file"
    refuse "$pool: and does not shrink" 'cannot be shrunk' lxc storage volume set $pool b1 size=8MiB
    claim "$pool: a snapshot" lxc storage volume snapshot $pool b1 s1
    put_mark "$file" 'changed!'
    claim "$pool: is restored" lxc storage volume restore $pool b1 s1
    same "$pool: with what it had" original mark_of "$file"
    claim "$pool: a copy" lxc storage volume copy $pool/b1 $pool/b2
    claim "$pool: is equal" cmp "$file" "$pools/$pool/custom/default_b2/root.img"
    claim "$pool: a backup" lxc storage volume export $pool b1 "$T/b1.tar.gz"
    claim "$pool: comes back" lxc storage volume import $pool "$T/b1.tar.gz" b3
    claim "$pool: equal" cmp "$file" "$pools/$pool/custom/default_b3/root.img"
    same "$pool: with its snapshot" original mark_of "$pools/$pool/custom-snapshots/default_b3/s1/root.img"
    must lxc storage volume delete $pool b2
    must lxc storage volume delete $pool b3
done
claim 'a block volume goes to another pool' lxc storage volume copy default/b1 fast/b4
claim 'as it is' cmp "$pools/default/custom/default_b1/root.img" "$pools/fast/custom/default_b4/root.img"
same 'one has the usual size' $((24 * MIB)) sh -c "lxc storage volume create over b5 --type=block >/dev/null && stat -c %s '$pools/over/custom/default_b5/root.img'"
must lxc storage volume delete fast b4
must lxc storage volume delete over b5
ln -s /etc/hostname "$T/volume.img"
tar -xzf "$T/b1.tar.gz" -C "$T" backup/index.yaml
ln -s /etc/passwd "$T/backup/volume.img"
tar -C "$T" -czf "$T/bad.tar.gz" backup
refuse 'a backup whose disk is a link is refused' 'no plain file' lxc storage volume import default "$T/bad.tar.gz" bad
hides 'and leaves nothing' bad lxc storage volume list default -f csv -c n

# ---- devices ----
must lxc init vm v1 --vm
must lxc init busybox c1
must lxc storage volume create default files
claim 'a block volume is attached to a virtual machine' lxc config device add v1 disk2 disk pool=default source=b1
claim 'and counts as used' sh -c 'lxc storage volume show default b1 | grep -q /1.0/instances/v1'
refuse 'so that it is not deleted' 'in use' lxc storage volume delete default b1
claim 'it is renamed' lxc storage volume rename default b1 b0
same 'and its device follows' b0 lxc config device get v1 disk2 source
refuse 'a block volume has no path' 'cannot have a path' lxc config device add v1 disk3 disk pool=fast source=b1 path=/mnt
refuse 'a volume of files needs one' 'require a path' lxc config device add v1 disk3 disk pool=default source=files
claim 'and has one' lxc config device add v1 disk3 disk pool=default source=files path=/mnt
refuse 'a container takes no block volume' 'cannot be used on containers' lxc config device add c1 disk2 disk pool=default source=b0
refuse 'nor one through its own devices at its creation' 'cannot be used on containers' \
    lxc query -X POST --wait -d '{"name":"c2","source":{"type":"none"},"devices":{"d":{"type":"disk","pool":"default","source":"b0"}}}' /1.0/instances
claim 'a file of the host is a disk' lxc config device add v1 disk4 disk source="$T/disk.raw"
refuse 'for a virtual machine only' 'missing the required "path"' lxc config device add c1 disk4 disk source="$T/disk.raw"
refuse 'a directory needs a path' 'Missing mount "path"' lxc config device add v1 disk5 disk source="$T"
refuse 'a virtual machine has no unix-char' 'Unsupported device type' lxc config device add v1 zero unix-char source=/dev/zero
refuse 'nor unix-block' 'Unsupported device type' lxc config device add v1 loop unix-block source=/dev/loop0
refuse 'nor unix-hotplug' 'Unsupported device type' lxc config device add v1 hot unix-hotplug vendorid=1234
refuse 'a container no pci' 'Unsupported device type' lxc config device add c1 card pci address=00:00.0
refuse 'proxies of virtual machines are nat' 'Only NAT mode' lxc config device add v1 web proxy listen=tcp:127.0.0.1:81 connect=tcp:127.0.0.1:80
claim 'a TPM needs no path' lxc config device add v1 chip tpm
refuse 'but on a container' 'Required value' lxc config device add c1 chip tpm
must lxc profile create odd
must lxc profile device add odd zero unix-char source=/dev/zero
claim 'a profile may have what only containers can' lxc profile add v1 odd
claim 'secure boot off' lxc config set v1 security.secureboot=false
same 'makes the firmware start anew' true lxc config get v1 volatile.apply_nvram
must lxc delete v1 c1

# ---- virtual machines on every kind of pool ----
for pool in default fast over; do
    file=$pools/$pool/virtual-machines/v1/root.img
    claim "$pool: a virtual machine" lxc init vm v1 --vm -s $pool
    same "$pool: of the pool's size" $((24 * MIB)) stat -c %s "$file"
    same "$pool: and the image's content" 'the mark' mark_of "$file"
    must lxc snapshot v1 s1
    put_mark "$file" 'changed!'
    claim "$pool: a copy with its snapshot" lxc copy v1 v2
    claim "$pool: is equal" cmp "$file" "$pools/$pool/virtual-machines/v2/root.img"
    claim "$pool: a restored copy" lxc restore v2 s1
    same "$pool: is what it was" 'the mark' mark_of "$pools/$pool/virtual-machines/v2/root.img"
    claim "$pool: it grows" lxc config device set v1 root size=32MiB
    same "$pool: to its size" $((32 * MIB)) stat -c %s "$file"
    must lxc delete v2
    for other in default fast over; do
        [ $other != $pool ] || continue
        claim "$pool: to $other" lxc copy v1 v3 -s $other
        claim "$pool: arrives there" cmp "$file" "$pools/$other/virtual-machines/v3/root.img"
        must lxc delete v3
    done
    must lxc delete v1
done

# ---- backups that lie ----
must lxc init vm v1 --vm
must lxc export v1 "$T/v1.tar.gz"
bad() { # link: a backup with a link in it
    rm -rf "$T/x"; mkdir "$T/x"; tar -C "$T/x" -xzf "$T/v1.tar.gz"
    rm -f "$T/x/$1"; ln -s /etc/passwd "$T/x/$1"
    tar -C "$T/x" -czf "$T/bad.tar.gz" backup
}
bad backup/virtual-machine.img
refuse 'a disk that is a link is refused' 'no plain file' lxc import "$T/bad.tar.gz" vbad
bad backup/virtual-machine/qemu.nvram
refuse 'firmware variables that are a link as well' 'no plain file' lxc import "$T/bad.tar.gz" vbad
bad backup/virtual-machine/root.img
hides 'nothing is left' vbad lxc list -f csv -c n
claim 'a link with the name of the disk' lxc import "$T/bad.tar.gz" vbad
claim 'gives way to the disk' sh -c "[ ! -L '$pools/default/virtual-machines/vbad/root.img' ] && cmp '$pools/default/virtual-machines/vbad/root.img' '$pools/default/virtual-machines/v1/root.img'"
must lxc delete vbad
same 'and nothing was written to' "$(sha256sum </etc/passwd)" sh -c 'sha256sum </etc/passwd'

# ---- to another server ----
must lxc config set core.https_address 127.0.0.1:18453
daemon_start second
for pool in 'default dir' 'fast btrfs size=400MiB'; do
    # shellcheck disable=SC2086
    must lxc storage create $pool
done
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address 127.0.0.1:18454
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
theirs=$LXD_DIR/storage-pools
daemon_use main
must lxc remote add second "$token" --accept-certificate
must lxc snapshot v1 s1
put_mark "$pools/default/virtual-machines/v1/root.img" 'changed!'
echo variables >"$pools/default/virtual-machines/v1/qemu.nvram"
must lxc config set v1 user.note kept
for mode in pull push relay; do
    claim "a virtual machine is copied ($mode)" lxc copy v1 second:v1 --mode $mode
    claim "with its disk ($mode)" cmp "$pools/default/virtual-machines/v1/root.img" "$theirs/default/virtual-machines/v1/root.img"
    same "its size ($mode)" $((24 * MIB)) stat -c %s "$theirs/default/virtual-machines/v1/root.img"
    same "its snapshot ($mode)" 'the mark' mark_of "$theirs/default/virtual-machines-snapshots/v1/s1/root.img"
    same "its variables ($mode)" variables cat "$theirs/default/virtual-machines/v1/qemu.nvram"
    same "its configuration ($mode)" kept lxc config get second:v1 user.note
    shows "as a virtual machine ($mode)" '^v1,VIRTUAL-MACHINE' lxc list second:v1 -f csv -c nt
    [ $mode = pull ] || { must lxc delete second:v1; continue; }
    put_mark "$pools/default/virtual-machines/v1/root.img" 'again!!!'
    claim 'a copy is refreshed' lxc copy v1 second:v1 --refresh
    same 'and has what is new' 'again!!!' mark_of "$theirs/default/virtual-machines/v1/root.img"
    must lxc delete second:v1
done
claim 'from a directory to btrfs' lxc copy v1 second:v2 -s fast
claim 'it arrives' cmp "$pools/default/virtual-machines/v1/root.img" "$theirs/fast/virtual-machines/v2/root.img"
claim 'and back, to overlay' lxc move second:v2 v2 -s over
claim 'as it was' cmp "$pools/default/virtual-machines/v1/root.img" "$pools/over/virtual-machines/v2/root.img"
must lxc copy v1 v3 -s fast
claim 'from btrfs to btrfs' lxc move v3 second:v3 -s fast
claim 'it is there' cmp "$pools/default/virtual-machines/v1/root.img" "$theirs/fast/virtual-machines/v3/root.img"
same 'with its snapshot' 'the mark' mark_of "$theirs/fast/virtual-machines-snapshots/v3/s1/root.img"
hides 'and not here' '^v3' lxc list -f csv -c n
claim 'a block volume goes over' lxc storage volume copy fast/b1 second:fast/b1
claim 'as it is' cmp "$pools/fast/custom/default_b1/root.img" "$theirs/fast/custom/default_b1/root.img"
claim 'and to a directory' lxc storage volume copy fast/b1 second:default/b1
claim 'as it is' cmp "$pools/fast/custom/default_b1/root.img" "$theirs/default/custom/default_b1/root.img"

# ---- the end ----
claim 'all are deleted' lxc delete v1 v2 second:v3
e2e_end
