#!/bin/bash
# lxc_file_mount: `lxc file mount`: a container's files through sshfs, and through the SFTP listener that the client makes.
# Both as the unmodified lxc client has them, over the agent's SFTP connection.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need sshfs sftp fusermount3
[ -c /dev/fuse ] || e2e_skip_all 'needs /dev/fuse'
daemon_start
e2e_defaults
T=$E2E_DIR
must lxc launch busybox c1
must mkdir -p "$T/mnt" "$T/home/.ssh"
in_c1() { lxc exec c1 -- "$@"; }
mounted() { grep -q " $T/mnt fuse.sshfs " /proc/self/mounts; }
must in_c1 sh -c 'mkdir -p /srv/d && echo hello >/srv/d/file && ln -s file /srv/d/link && chown 1000:1000 /srv/d/file'

# ---- mounted ----
lxc file mount c1/srv "$T/mnt" >"$T/mount.log" 2>&1 </dev/null &
client=$!
claim 'the directory is mounted' wait_for 20 mounted
same 'files are read' hello cat "$T/mnt/d/file"
same 'a link leads on' hello cat "$T/mnt/d/link"
same 'owners are the container’s' 1000:1000 stat -c %u:%g "$T/mnt/d/file"
claim 'files are written' sh -c "echo out >$T/mnt/d/new"
same 'and are in the container' out in_c1 cat /srv/d/new
must head -c 3000000 /dev/urandom | tee "$T/big" >"$T/mnt/big"
claim 'large ones whole' wait_for 10 sh -c "lxc exec c1 -- cat /srv/big | cmp - $T/big"
claim 'renamed' mv "$T/mnt/d/new" "$T/mnt/d/old"
same 'there, too' out in_c1 cat /srv/d/old
claim 'and removed' rm "$T/mnt/d/old" "$T/mnt/big"
refuse 'what is gone is gone' 'No such file' in_c1 cat /srv/d/old
claim 'a directory' mkdir "$T/mnt/made"
claim 'is one there' in_c1 test -d /srv/made
claim 'modes change' chmod 600 "$T/mnt/d/file"
same 'and are seen' 600 in_c1 stat -c %a /srv/d/file
claim 'unmounted' fusermount3 -u "$T/mnt"
claim 'the client ends' wait_for 10 sh -c "! kill -0 $client 2>/dev/null"

# ---- a listener ----
lxc file mount c1 --listen 127.0.0.1:0 --no-auth >"$T/listen.log" 2>&1 </dev/null &
client=$!
claim 'a listener says where it is' wait_for 20 grep -qE '127\.0\.0\.1:[0-9]+' "$T/listen.log"
port=$(grep -oE '127\.0\.0\.1:[0-9]+' "$T/listen.log" | head -1 | cut -d: -f2)
by_sftp() {
    printf '%s\n' "$@" | timeout 20 sftp -q -P "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o PreferredAuthentications=none -b - user@127.0.0.1
}
claim 'sftp fetches' by_sftp "get /srv/d/file $T/got"
same 'what is there' hello cat "$T/got"
claim 'and puts' by_sftp "put $T/got /srv/d/put"
same 'where it ought to be' hello in_c1 cat /srv/d/put
refuse 'what is not there is said' 'not found|No such file' by_sftp 'get /srv/none /dev/null'
kill $client 2>/dev/null
e2e_end
