#!/bin/bash
# lxc_syscalls: system calls that the agent makes for containers (security.syscalls.intercept.*): devices,
# overlayfs's marks, mounts, schedulers, sysinfo, device programs; and what it does not make.
. "$(dirname "$0")/lib.sh"
e2e_begin
need gcc getfattr mkfs.ext4 losetup
daemon_start
e2e_defaults
T=$E2E_DIR K=security.syscalls.intercept
gcc -static -O1 -o "$T/calls" "$E2E_LIB/syscalls.c" || e2e_skip_all "no static C library"
root_of() { echo "$LXD_DIR/containers/$1/rootfs"; }

# ---- without ----
must lxc launch busybox plain
must lxc file push "$T/calls" plain/bin/calls --mode 755
refuse 'by itself a container makes no device' '' lxc exec plain -- mknod /root/null c 1 3
same 'nor a mark of overlayfs' EPERM lxc exec plain -- calls opaque /root

# ---- with ----
refuse 'a list of programs has a form' "not of the form 'filesystem=fuse-binary'" \
    lxc config set plain $K.mount.fuse=ext4
refuse 'a type is mounted one way' 'cannot appear in' \
    lxc config set plain $K.mount.fuse=ext4=fuse2fs $K.mount.allowed=ext4
must lxc init busybox c1
must lxc config set c1 $K.mknod=true $K.setxattr=true $K.mount=true $K.mount.allowed=ext4 \
    $K.sched_setscheduler=true $K.sysinfo=true $K.bpf=true $K.bpf.devices=true limits.memory=96MiB
claim 'a container starts with all of them' lxc start c1
must lxc file push "$T/calls" c1/bin/calls --mode 755
in_c1() { lxc exec c1 -- "$@"; }

claim 'a device that does no harm' in_c1 mknod -m 666 /root/null c 1 3
same 'is one' 'character special file 1 3' in_c1 stat -c '%F %t %T' /root/null
claim 'and works' in_c1 sh -c 'echo x >/root/null'
same 'it is the container'"'"'s' '0 0' in_c1 stat -c '%u %g' /root/null
claim 'by a name that is relative' in_c1 sh -c 'cd /root && mknod here c 1 5 && test -c here'
claim 'and in a root of its own' in_c1 sh -c 'mkdir /root/jail && cp /bin/busybox /root/jail && chroot /root/jail /busybox mknod /zero c 1 5; test -c /root/jail/zero'
same 'a whiteout' 0:0 in_c1 sh -c 'mknod /root/white c 0 0 && stat -c %t:%T /root/white'
same 'below a directory that is open' 0 in_c1 calls mknodat /root
claim 'which it is then' in_c1 test -c /root/by-fd
refuse 'no other device' '' in_c1 mknod /root/mem c 1 1
refuse 'nor a disk' '' in_c1 mknod /root/disk b 8 0
refuse 'a name that is taken' 'exists' in_c1 mknod /root/null c 1 3
refuse 'a user of it makes none' '' lxc exec c1 --user 1000 -- mknod /tmp/null c 1 3
claim 'pipes are made as ever' in_c1 mknod /root/pipe p

same 'a directory is marked opaque' 0 in_c1 calls opaque /root/jail
same 'on the disk' y getfattr --only-values -n trusted.overlay.opaque "$(root_of c1)/root/jail"
same 'no other attribute of that kind' EPERM in_c1 calls trusted /root/jail
same 'a user of it marks none' EPERM lxc exec c1 --user 1000 -- calls opaque /tmp
same 'its own attributes are as ever' 0 in_c1 calls user /root/jail

truncate -s 32M "$T/fs"
mkdir "$T/tree" && echo inside >"$T/tree/f"
must mkfs.ext4 -q -d "$T/tree" -E root_owner=0:0 "$T/fs"
loop=$(losetup --find --show "$T/fs")
trap 'losetup -d "$loop"' EXIT
must lxc config device add c1 disk unix-block source="$loop" path=/dev/disk
claim 'a listed file system is mounted' in_c1 mount -t ext4 /dev/disk /mnt
same 'and there' inside in_c1 cat /mnt/f
same 'with ids that are not its own' 65534 in_c1 stat -c %u /mnt
claim 'and unmounted' in_c1 umount /mnt
refuse 'no other one' '' in_c1 mount -t squashfs /dev/disk /mnt
refuse 'a broken one' '' in_c1 mount -t ext4 /dev/null /mnt
claim 'ids are shifted' lxc config set c1 $K.mount.shift true
claim 'from then on' in_c1 mount -t ext4 -o ro,noexec /dev/disk /mnt
same 'so root is root' 0 in_c1 stat -c %u /mnt
shows 'with the options' '/mnt ext4 ro,.*noexec' in_c1 cat /proc/mounts
claim 'unmounted' in_c1 umount /mnt
claim 'tmpfs is mounted as ever' in_c1 sh -c 'mount -t tmpfs none /mnt && umount /mnt'
if grep -q hugetlbfs /proc/filesystems; then
    must lxc config set c1 $K.mount.allowed=ext4,hugetlbfs
    claim 'huge pages have a file system' in_c1 mount -t hugetlbfs -o uid=1000,pagesize=2M none /mnt
    same 'whose owner is an id of the container' '1000 0' in_c1 stat -c '%u %g' /mnt
    must lxc exec c1 -- umount /mnt
fi
must lxc config set c1 $K.mount.allowed= $K.mount.fuse=ext4=fuse2fs
printf '#!/bin/sh\necho "$@" >/root/asked\nid -u >>/root/asked\n' >"$T/mount.fuse"
must lxc file push "$T/mount.fuse" c1/bin/mount.fuse --mode 755
claim 'a program of the container mounts' in_c1 mount -t ext4 -o ro /dev/disk /mnt
same 'with what was asked for' 'fuse2fs#/dev/disk /mnt -o ro' in_c1 head -n 1 /root/asked
same 'as its root' 0 in_c1 tail -n 1 /root/asked

same 'a batch scheduler needs nobody' 0 in_c1 calls batch 0
same 'a user of it has no real-time one' EPERM lxc exec c1 --user 1000 -- calls fifo 0
if [ -e /sys/fs/cgroup/cpu/cpu.rt_runtime_us ]; then
    skip 'a real-time scheduler' 'the kernel gives no group real-time unasked (CONFIG_RT_GROUP_SCHED)'
else
    same 'a real-time one' 0 in_c1 calls fifo 0
    in_c1 sh -c 'sleep 600 >/dev/null 2>&1 & echo $! >/root/pid'
    same 'for another process, too' 0 in_c1 sh -c 'calls fifo $(cat /root/pid)'
    shows 'which has it' '^41 1$' in_c1 sh -c 'awk "{ print \$40 + 40, \$41 }" /proc/$(cat /root/pid)/stat'
fi

same 'sysinfo tells the limit' $((96 * 1024 * 1024)) in_c1 calls memory x
claim 'and an age that is less than the host'"'"'s' sh -c 'test "$(lxc exec c1 -- calls age x)" -lt "$(cut -d. -f1 /proc/uptime)"'

same 'a program for devices is loaded' 0 in_c1 calls bpf -
same 'no other program' EPERM in_c1 calls bpf-other -
# liblxc's attaching fails here now and then, most on a busy host, and is done again.
users_when_busy() {
    local busy=()
    for _ in 1 2 3; do
        while :; do :; done &
        busy+=($!)
    done
    for _ in $(seq 40); do
        in_c1 readlink /proc/self/ns/user
    done | sort | uniq -c | awk '{print $1, $2}'
    kill "${busy[@]}"
}
same 'on a busy host no command is left outside' "40 $(in_c1 readlink /proc/1/ns/user)" users_when_busy
group=$(in_c1 sh -c 'for d in /sys/fs/cgroup/unified /sys/fs/cgroup; do test -e $d/cgroup.procs && echo $d; done | head -n 1')
if [ -n "$group" ]; then
    same 'attached to a group of its own, and taken away' 0 in_c1 calls bpf "$group"
else
    skip 'attached to a group of its own' 'no unified cgroup in the container'
fi
must lxc config set c1 $K.bpf.devices=false
must lxc stop -f c1
must lxc start c1
same 'not without a policy' EPERM in_c1 calls bpf -
same 'no listener of its own comes first' EINVAL in_c1 calls listener x

# ---- the agent goes and comes ----
daemon_kill
daemon_start
claim 'calls are taken over by the next agent' wait_for 30 lxc exec c1 -- mknod -m 666 /root/after c 1 3
must lxc delete -f c1 plain
losetup -d "$loop"
trap - EXIT
e2e_end
