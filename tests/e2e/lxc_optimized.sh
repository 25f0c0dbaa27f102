#!/bin/bash
# lxc_optimized: backups as streams of the storage driver (--optimized-storage): what is in them, and what comes
# back of them, subvolumes of the container's own included.
. "$(dirname "$0")/lib.sh"
e2e_begin
need tar btrfs openssl jq
daemon_start
e2e_defaults
T=$E2E_DIR
must lxc storage create fast btrfs size=512MiB
must lxc init busybox c1 -s fast
root=$LXD_DIR/storage-pools/fast/containers/c1/rootfs
must lxc start c1
must lxc exec c1 -- sh -c 'echo one >/root/f'
must btrfs subvolume create "$root/srv-a"
must btrfs subvolume create "$root/srv-a/sub"
echo deep >"$root/srv-a/sub/f"
must lxc snapshot c1 s1
must lxc exec c1 -- sh -c 'echo two >/root/f; head -c 100000 /dev/urandom >/root/blob'
must lxc snapshot c1 s2
must lxc exec c1 -- sh -c 'echo three >/root/f; chown 7:8 /root/f'
sum=$(lxc exec c1 -- sha256sum /root/blob)

claim 'a backup of a running container' lxc export c1 "$T/c1.tar.gz" --optimized-storage
tar -tzf "$T/c1.tar.gz" >"$T/names"
shows 'has the volume as a stream' '^backup/container\.bin$' cat "$T/names"
shows 'snapshots as well' '^backup/snapshots/s1\.bin$' cat "$T/names"
shows 'and what the container made inside' '^backup/container_rootfs-srv--a-sub\.bin$' cat "$T/names"
shows 'says so' '^backup/optimized_header\.yaml$' cat "$T/names"
hides 'and has no files' rootfs/ cat "$T/names"
shows 'in its index, too' '^optimized: true$' tar -xzOf "$T/c1.tar.gz" backup/index.yaml
claim 'without snapshots' lxc export c1 "$T/only.tar.gz" --optimized-storage --instance-only
hides 'there are none' snapshots sh -c "tar -tzf '$T/only.tar.gz' | grep -v yaml"
must lxc query -X POST -d '{"name":"b1","optimized_storage":true}' --wait /1.0/instances/c1/backups
same 'a kept one says what it is' true sh -c 'lxc query /1.0/instances/c1/backups/b1 | jq .optimized_storage'
same 'no stream is left lying about' 0 sh -c "find '$LXD_DIR/backups' -name '.*' -type d | wc -l"

claim 'it comes back under another name' lxc import "$T/c1.tar.gz" c2
same 'with its snapshots' 's1 s2 ' sh -c "lxc query /1.0/instances/c2/snapshots?recursion=1 | jq -r '.[].name' | tr '\n' ' '"
must lxc start c2
same 'content' three lxc exec c2 -- cat /root/f
same 'owners' '7 8' lxc exec c2 -- stat -c '%u %g' /root/f
same 'all of it' "$sum" lxc exec c2 -- sha256sum /root/blob
same 'subvolumes' deep lxc exec c2 -- cat /srv-a/sub/f
claim 'which are some' btrfs subvolume show "$LXD_DIR/storage-pools/fast/containers/c2/rootfs/srv-a/sub"
must lxc stop -f c2
claim 'a snapshot of it is restored' lxc restore c2 s1
must lxc start c2
same 'and is what it was' one lxc exec c2 -- cat /root/f
must lxc delete -f c2

# Subvolumes stay subvolumes, and read-only ones read-only, wherever btrfs goes to btrfs.
must lxc storage create near btrfs size=512MiB
must btrfs property set "$root/srv-a" ro true
must lxc snapshot c1 s3
kept() { # CONTAINER POOL
    local at=$LXD_DIR/storage-pools/$2/containers/$1/rootfs
    btrfs property get "$at/srv-a" ro && btrfs property get "$at/srv-a/sub" ro && cat "$at/srv-a/sub/f"
}
for pool in fast near; do
    claim "a copy to the pool '$pool'" lxc copy c1 "c-$pool" -s $pool
    same 'keeps subvolumes as they were' 'ro=true ro=false deep ' sh -c "$(declare -f kept); LXD_DIR=$LXD_DIR; kept c-$pool $pool | tr '\n' ' '"
    must lxc restore "c-$pool" s3
    same 'in snapshots as well' 'ro=true ro=false deep ' sh -c "$(declare -f kept); LXD_DIR=$LXD_DIR; kept c-$pool $pool | tr '\n' ' '"
    must lxc start "c-$pool"
    refuse 'which holds inside' 'ead-only' lxc exec "c-$pool" -- touch /srv-a/w
    claim 'for that one alone' lxc exec "c-$pool" -- touch /srv-a/sub/w
    must lxc delete -f "c-$pool"
done
must btrfs property set "$root/srv-a" ro false
must lxc storage delete near
must lxc delete -f c1
claim 'under its own name' lxc import "$T/only.tar.gz"
same 'alone' 0 sh -c 'lxc query /1.0/instances/c1/snapshots | jq length'
must lxc delete c1
refuse 'to another driver it does not come back' 'differs from the target storage pool' lxc import "$T/c1.tar.gz" -s default
refuse 'and nothing is left' 'not found' lxc info c1

if only_hawser; then
    must openssl req -x509 -newkey rsa:2048 -nodes -keyout "$T/r.key" -out "$T/r.crt" -subj /CN=r -days 2
    must lxc config trust add "$T/r.crt" --restricted --projects default
    must lxc config set core.https_address 127.0.0.1:18443
    brings() { # an archive, as the restricted client
        curl -sk --max-time 30 --cert "$T/r.crt" --key "$T/r.key" -H 'Content-Type: application/octet-stream' \
            -H 'X-LXD-name: r1' --data-binary @"$1" https://127.0.0.1:18443/1.0/instances | jq -r '.error // .status'
    }
    shows 'a restricted client brings none' "^Restricted clients can't import optimized" brings "$T/c1.tar.gz"
fi

mkdir -p "$T/x" && tar -xzf "$T/c1.tar.gz" -C "$T/x"
sed -i 's|path: /rootfs/srv-a/sub|path: /rootfs/../../../x|' "$T/x/backup/optimized_header.yaml"
tar -czf "$T/evil.tar.gz" -C "$T/x" backup
refuse 'a path that climbs out' 'Invalid path of a subvolume' lxc import "$T/evil.tar.gz"
tar -xzf "$T/c1.tar.gz" -C "$T/x" && rm "$T/x/backup/container.bin" && ln -s /etc/shadow "$T/x/backup/container.bin"
tar -czf "$T/evil.tar.gz" -C "$T/x" backup
refuse 'a link in place of a stream' 'has no stream|through a link' lxc import "$T/evil.tar.gz"
rm "$T/x/backup/container.bin" && head -c 5000 /dev/urandom >"$T/x/backup/container.bin"
tar -czf "$T/evil.tar.gz" -C "$T/x" backup
refuse 'a stream that is none' 'Receive' lxc import "$T/evil.tar.gz"
same 'leave nothing' 0 sh -c "find '$LXD_DIR/storage-pools/fast/.new' '$LXD_DIR/storage-pools/fast/containers' -mindepth 1 -maxdepth 1 | wc -l"
e2e_end
