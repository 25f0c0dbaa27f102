/* Do the drivers btrfs (on a loop device), overlay and dir keep what pooldriver.h promises on this kernel?
 * Needs root. */
#include "tests/fakes/store_fixture.h"

#include "agent/store/mnt.h"
#include "agent/store/subvol.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define FP         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define POOL_BYTES "300MiB"

static const Vol c1 = {.pool = "p1", .project = "default", .type = VOL_CONTAINER, .name = "c1"};
static const Vol c1s0 = {
    .pool = "p1", .project = "default", .type = VOL_CONTAINER, .name = "c1", .snap = "s0"};
static const Vol c2 = {.pool = "p1", .project = "default", .type = VOL_CONTAINER, .name = "c2"};
static const Vol v1 = {.pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v1"};
static const Vol v1s0 = {
    .pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v1", .snap = "s0"};
static const Vol image = {.pool = "p1", .project = "default", .type = VOL_IMAGE, .name = FP};

/* ---- tools ---- */

static bool
fill_image(const char *path, void *data, GError **error)
{
    g_autofree char *etc = g_build_filename(path, "rootfs/etc", NULL);
    g_autofree char *file = g_build_filename(etc, "issue", NULL);
    g_autofree char *meta = g_build_filename(path, "metadata.yaml", NULL);
    g_autofree char *big = g_build_filename(path, "rootfs/big", NULL);
    g_autofree char *bytes = g_malloc0(1 << 20);
    bool ok = fd_mkdir_p(etc, 0755, error) && g_file_set_contents(file, "image", -1, NULL) &&
              g_file_set_contents(meta, "architecture: x", -1, NULL) &&
              g_file_set_contents(big, bytes, 1 << 20, NULL);
    return ok && chown(file, 33, 33) == 0;
}

static void
launch(Fixture *f, const Vol *vol)
{
    g_autoptr(GError) error = NULL;
    vol_create_from_image(f->table, vol, FP, NULL, fill_image, NULL, &error);
    g_assert_no_error(error);
}

/* A file under the mounted volume. */
static char *
mounted(Fixture *f, const Vol *vol, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    vol_mount(f->table, vol, &path, &error);
    g_assert_no_error(error);
    return g_build_filename(path, name, NULL);
}

static void
put(Fixture *f, const Vol *vol, const char *name, const char *text)
{
    g_autofree char *file = mounted(f, vol, name);
    haw_autofd int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    g_assert_cmpint(fd, >=, 0);
    g_assert_true(fd_write_all(fd, text, strlen(text), file, NULL));
    fd_close(&fd);
    g_assert_true(vol_unmount(f->table, vol, NULL));
}

static void
expect(Fixture *f, const Vol *vol, const char *name, const char *text)
{
    g_autofree char *file = mounted(f, vol, name);
    g_autofree char *now = NULL;
    if (!g_file_get_contents(file, &now, NULL, NULL)) {
        now = g_strdup("(missing)");
    }
    g_assert_true(vol_unmount(f->table, vol, NULL));
    g_assert_cmpstr(now, ==, text);
}

static bool
there(Fixture *f, const Vol *vol)
{
    g_autofree char *path = vol_path(f->table, vol);
    return access(path, F_OK) == 0;
}

/* ---- claims on both drivers ---- */

static void
launches_share_the_image_and_not_their_writes(Fixture *f, const char *dir)
{
    launch(f, &c1);
    launch(f, &c2);
    put(f, &c1, "rootfs/etc/issue", "one");
    expect(f, &c1, "rootfs/etc/issue", "one");
    expect(f, &c2, "rootfs/etc/issue", "image");
    g_autofree char *link = g_build_filename(dir, "containers/c1/metadata.yaml", NULL);
    g_assert_true(access(link, F_OK) == 0);
}

static void
snapshot_restore_and_copy_hold_their_content(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    launch(f, &c1);
    put(f, &c1, "rootfs/etc/issue", "one");
    vol_snapshot(f->table, &c1s0, 0, &error);
    g_assert_no_error(error);
    put(f, &c1, "rootfs/etc/issue", "two");
    expect(f, &c1s0, "rootfs/etc/issue", "one");
    vol_copy(f->table, &c1, &c2, true, NULL, &error);
    g_assert_no_error(error);
    vol_restore(f->table, &c1s0, &error);
    g_assert_no_error(error);
    expect(f, &c1, "rootfs/etc/issue", "one");
    expect(f, &c2, "rootfs/etc/issue", "two");
    Vol c2s0 = c2;
    c2s0.snap = "s0";
    expect(f, &c2s0, "rootfs/etc/issue", "one");
}

static void
volume_goes_to_another_pool_whole(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make_pool(f, "p2", "dir", NULL);
    launch(f, &c1);
    put(f, &c1, "rootfs/etc/issue", "one");
    vol_snapshot(f->table, &c1s0, 0, &error);
    put(f, &c1, "rootfs/new", "two");
    Vol moved = c1;
    moved.pool = "p2";
    moved.name = "moved";
    vol_copy(f->table, &c1, &moved, true, NULL, &error);
    g_assert_no_error(error);
    expect(f, &moved, "rootfs/etc/issue", "one");
    expect(f, &moved, "rootfs/new", "two");
    moved.snap = "s0";
    expect(f, &moved, "rootfs/etc/issue", "one");
    expect(f, &moved, "rootfs/new", "(missing)");
}

static void
delete_all(Fixture *f, const char *dir)
{
    g_assert_true(vol_delete(f->table, &c1, NULL));
    g_assert_true(vol_delete(f->table, &image, NULL));
    shelf_drain(shelf_pool(f->table, "p1", true, NULL));
    static const char *const empty[] = {"containers", "containers-snapshots", "images", ".new",
                                        ".gone"};
    for (size_t i = 0; i < G_N_ELEMENTS(empty); i++) {
        g_autofree char *path = g_build_filename(dir, "storage-pools/p1", empty[i], NULL);
        g_assert_true(disktree_is_empty(path));
    }
}

static void
everything_is_gone_after_deletion(Fixture *f, const char *dir)
{
    launch(f, &c1);
    g_assert_true(vol_snapshot(f->table, &c1s0, 0, NULL));
    delete_all(f, dir);
}

static void
pool_goes_without_a_trace(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    launch(f, &c1);
    g_assert_true(vol_delete(f->table, &c1, NULL));
    pool_delete(f->table, "p1", &error);
    g_assert_no_error(error);
    g_autofree char *pool = g_build_filename(dir, "storage-pools/p1", NULL);
    g_autofree char *disk = g_build_filename(dir, "disks/p1.img", NULL);
    g_assert_true(access(pool, F_OK) < 0 && access(disk, F_OK) < 0);
}

static void
pool_is_mounted_again_at_the_next_start(Fixture *f, const char *dir)
{
    launch(f, &c1);
    put(f, &c1, "rootfs/etc/issue", "one");
    down(f);
    g_autofree char *pool = g_build_filename(dir, "storage-pools/p1", NULL);
    g_assert_false(mnt_is_mounted(pool));
    *f = (Fixture){0};
    up(f, dir);
    expect(f, &c1, "rootfs/etc/issue", "one");
}

/* ---- btrfs ---- */

static void
full_pool_is_told_and_leaves_nothing(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make_pool(f, "src", "dir", NULL);
    Vol big = v1, to = v1;
    big.pool = "src";
    g_assert_true(vol_create(f->table, &big, NULL, NULL, NULL, NULL));
    g_autofree char *file = mounted(f, &big, "big");
    haw_autofd int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(posix_fallocate(fd, 0, (off_t) 400 << 20), ==, 0);
    g_assert_false(vol_copy(f->table, &big, &to, false, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_LIMIT);
    g_assert_nonnull(strstr(error->message, "No space left on device"));
    g_assert_false(there(f, &to));
    shelf_drain(shelf_pool(f->table, "p1", true, NULL));
    g_autofree char *new_dir = g_build_filename(dir, "storage-pools/p1/.new", NULL);
    g_assert_true(disktree_is_empty(new_dir));
    g_assert_true(vol_unmount(f->table, &big, NULL));
}

static void
quota_on(Fixture *f, const Vol *vol)
{
    g_autoptr(GError) error = NULL;
    gint64 used = 0, total = 0;
    json_t *config = json_pack("{s:s}", "size", "20MiB");
    g_assert_true(vol_create(f->table, vol, config, NULL, NULL, NULL));
    json_decref(config);
    g_autofree char *file = mounted(f, vol, "big");
    haw_autofd int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_autofree char *chunk = g_malloc(1 << 20);
    memset(chunk, 'x', 1 << 20);
    int written = 0;
    while (written < 40 && write(fd, chunk, 1 << 20) == 1 << 20 && fsync(fd) == 0) {
        written++;
    }
    g_assert_cmpint(written, <=, 21);
    g_assert_cmpint(written, >=, 15);
    vol_usage(f->table, vol, &used, &total, &error);
    g_assert_no_error(error);
    g_assert_cmpint(total, ==, 20 << 20);
    g_assert_cmpint(used, >, 10 << 20);
    g_assert_true(vol_set_quota(f->table, vol, 0, NULL));
    g_assert_cmpint(pwrite(fd, chunk, 1 << 20, 30 << 20), ==, 1 << 20);
    g_assert_cmpint(fsync(fd), ==, 0);
    g_assert_true(vol_unmount(f->table, vol, NULL));
}

static void
quota_stops_writes_and_is_shown(Fixture *f, const char *dir)
{
    quota_on(f, &v1);
}

/* A filesystem with project quotas, as an operator would mount it; the pool 'p2' of 'dir' on it. */
static void
project_quota_stops_writes(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *disk = g_build_filename(dir, "ext4.img", NULL);
    g_autofree char *host = g_build_filename(dir, "host", NULL);
    g_autofree char *source = g_build_filename(host, "pool", NULL);
    haw_autofd int fd = open(disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    haw_autofd int loop = -1;
    if (ftruncate(fd, 200 << 20) < 0 ||
        !proc_runv(NULL, &error, "mkfs.ext4", "-q", "-O", "quota,project", "-E",
                   "quotatype=prjquota", disk, NULL)) {
        g_test_skip("mkfs.ext4 makes no project quotas");
        return;
    }
    g_autofree char *device = mnt_loop_attach(disk, &loop, &error);
    g_assert_no_error(error);
    g_assert_true(fd_mkdir_p(host, 0711, NULL));
    if (!mnt_mount(device, host, "ext4", "prjquota", false, NULL)) {
        g_test_skip("the kernel has no project quotas");
        return;
    }
    g_assert_true(fd_mkdir_p(source, 0711, NULL));
    json_t *config = json_pack("{s:s}", "source", source);
    pool_create(f->table, "p2", "dir", "", config, &error);
    g_assert_no_error(error);
    json_decref(config);
    Vol vol = v1;
    vol.pool = "p2";
    quota_on(f, &vol);
    g_assert_true(vol_delete(f->table, &vol, NULL));
    g_assert_true(pool_delete(f->table, "p2", NULL));
    g_assert_true(mnt_unmount(host, true, NULL));
}

static void
pool_grows_and_never_shrinks(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(dir, "storage-pools/p1", NULL);
    json_t *config = json_deep_copy(shelf_pool(f->table, "p1", true, NULL)->row->config);
    json_object_set_new(config, "size", json_string("400MiB"));
    pool_update(f->table, "p1", "", config, &error);
    g_assert_no_error(error);
    struct statvfs fs;
    g_assert_cmpint(statvfs(path, &fs), ==, 0);
    g_assert_cmpint((gint64) fs.f_blocks * (gint64) fs.f_frsize, ==, (gint64) 400 << 20);
    json_object_set_new(config, "size", json_string("200MiB"));
    g_assert_false(pool_update(f->table, "p1", "", config, &error));
    g_assert_cmpstr(error->message, ==, "Pool cannot be shrunk");
    json_decref(config);
}

static void
inner_subvolumes_are_copied_and_removed(Fixture *f, const char *dir)
{
    launch(f, &c1);
    g_autofree char *inner = mounted(f, &c1, "rootfs/inner");
    g_autofree char *deep = g_build_filename(inner, "deep", NULL);
    g_assert_true(subvol_create(inner, NULL) && subvol_create(deep, NULL));
    put(f, &c1, "rootfs/inner/deep/file", "x");
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    g_assert_true(vol_snapshot(f->table, &c1s0, 0, NULL));
    expect(f, &c1s0, "rootfs/inner/deep/file", "x");
    g_assert_true(vol_restore(f->table, &c1s0, NULL));
    expect(f, &c1, "rootfs/inner/deep/file", "x");
    delete_all(f, dir);
}

/* Of what a container has made in its root; the last directory has a subvolume. */
static void
inner_subvolumes_below_any_depth_are_removed(Fixture *f, const char *dir)
{
    launch(f, &c1);
    g_autofree char *inner = mounted(f, &c1, "rootfs/inner");
    g_autofree char *rootfs = g_path_get_dirname(inner);
    g_autofree char *before = g_get_current_dir();
    g_autoptr(GError) error = NULL;
    g_assert_true(subvol_create(inner, NULL));
    g_assert_cmpint(chdir(rootfs), ==, 0);
    for (int i = 0; i < 40000; i++) {
        g_assert_true(mkdir("d", 0755) == 0 && chdir("d") == 0);
    }
    g_assert_true(subvol_create("bottom", NULL));
    g_assert_cmpint(chdir(before), ==, 0);
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    g_assert_false(vol_snapshot(f->table, &c1s0, 0, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_LIMIT);
    delete_all(f, dir);
}

/* As a copy onto a pool of another driver does it: file by file. */
static void
inner_subvolumes_travel_to_other_pools(Fixture *f, const char *dir)
{
    launch(f, &c1);
    g_autofree char *inner = mounted(f, &c1, "rootfs/inner");
    g_assert_true(subvol_create(inner, NULL));
    put(f, &c1, "rootfs/inner/file", "x");
    g_autofree char *rootfs = g_path_get_dirname(inner);
    g_autofree char *covered = g_build_filename(rootfs, "covered", NULL);
    g_assert_true(mkdir(covered, 0700) == 0 && mount("none", covered, "tmpfs", 0, NULL) == 0);
    put(f, &c1, "rootfs/covered/other", "y");
    g_autofree char *target = g_build_filename(dir, "elsewhere", NULL);
    g_assert_cmpint(mkdir(target, 0700), ==, 0);
    g_assert_true(disktree_copy(rootfs, target, NULL, NULL));
    g_autofree char *there = g_build_filename(target, "inner/file", NULL);
    g_autofree char *not_there = g_build_filename(target, "covered/other", NULL);
    g_assert_true(g_file_test(there, G_FILE_TEST_IS_REGULAR));
    g_assert_false(g_file_test(not_there, G_FILE_TEST_EXISTS));
    g_assert_cmpint(umount(covered), ==, 0);
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    delete_all(f, dir);
}

static void
snapshots_are_read_only(Fixture *f, const char *dir)
{
    g_assert_true(vol_create(f->table, &v1, NULL, NULL, NULL, NULL));
    g_assert_true(vol_snapshot(f->table, &v1s0, 0, NULL));
    g_autofree char *path = vol_path(f->table, &v1s0);
    g_autofree char *file = g_build_filename(path, "file", NULL);
    g_assert_true(creat(file, 0600) < 0 && errno == EROFS);
}

/* ---- overlay ---- */

/* Runs fn in a child that is root of a user namespace with host ids from 1000000; its exit status. */
static int
as_container(int (*fn)(const char *root), const char *root)
{
    int tell[2];
    g_assert_cmpint(pipe(tell), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        if (unshare(CLONE_NEWUSER) < 0) {
            _exit(100);
        }
        raise(SIGSTOP);
        (void) !read(tell[0], &c, 1);
        if (setgid(0) < 0 || setuid(0) < 0) {
            _exit(101);
        }
        _exit(fn(root));
    }
    int status = 0;
    waitpid(pid, &status, WUNTRACED);
    for (int i = 0; i < 2; i++) {
        g_autofree char *path =
            g_strdup_printf("/proc/%d/%s", (int) pid, i == 0 ? "uid_map" : "gid_map");
        g_assert_true(fd_write_kernel(path, "0 1000000 65536\n", NULL));
    }
    g_assert_cmpint(write(tell[1], "x", 1), ==, 1);
    kill(pid, SIGCONT);
    waitpid(pid, &status, 0);
    close(tell[0]);
    close(tell[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int
live_in(const char *root)
{
    struct stat st;
    if (chdir(root) < 0) {
        return 1;
    }
    if (stat("etc/issue", &st) < 0 || st.st_uid != 33) {
        return 2; /* the image's owner is seen as the image says */
    }
    int fd = open("etc/issue", O_WRONLY | O_TRUNC);
    if (fd < 0 || write(fd, "mine", 4) != 4 || close(fd) < 0) {
        return 3; /* copied up */
    }
    fd = creat("new", 0644);
    if (fd < 0 || fchown(fd, 1000, 1000) < 0 || fchmod(fd, 04755) < 0 || close(fd) < 0) {
        return 4;
    }
    if (mkdir("dir", 0755) < 0 || rename("etc", "etc2") < 0 || mkdir("etc", 0755) < 0 ||
        unlink("big") < 0) {
        return 5; /* opaque directory, redirect, whiteout */
    }
    return 0;
}

static void
ids_are_mapped_and_nothing_is_shifted_on_disk(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    bool is_mapped = false;
    struct stat st;
    launch(f, &c1);
    json_t *map = json_pack("[{s:b,s:b,s:i,s:i,s:i}]", "Isuid", 1, "Isgid", 1, "Hostid", 1000000,
                            "Nsid", 0, "Maprange", 65536);
    vol_mount_idmapped(f->table, &c1, map, &path, &is_mapped, &error);
    g_assert_no_error(error);
    g_assert_true(is_mapped);
    g_autofree char *root = g_build_filename(path, "rootfs", NULL);
    g_assert_cmpint(as_container(live_in, root), ==, 0);

    /* Another map has to wait; the same one does not. */
    g_autofree char *again = NULL;
    g_assert_true(vol_mount_idmapped(f->table, &c1, map, &again, &is_mapped, NULL));
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    json_decref(map);

    g_autofree char *upper = g_build_filename(path, ".layers/upper", NULL);
    g_autofree char *new = g_build_filename(upper, "new", NULL);
    g_autofree char *issue = g_build_filename(upper, "etc2/issue", NULL);
    g_autofree char *below =
        g_build_filename(dir, "storage-pools/p1/images", FP, "rootfs/etc/issue", NULL);
    g_assert_true(stat(new, &st) == 0 && st.st_uid == 1000 && (st.st_mode & 07777) == 04755);
    g_assert_true(stat(issue, &st) == 0 && st.st_uid == 33);
    g_assert_true(stat(below, &st) == 0 && st.st_uid == 33 && st.st_size == 5);

    /* The door is the container's root's; seen unmapped the same content has the container's ids. */
    g_assert_true(stat(path, &st) == 0 && st.st_uid == 1000000 && (st.st_mode & 0777) == 0100);
    expect(f, &c1, "rootfs/etc2/issue", "mine");
    expect(f, &c1, "rootfs/big", "(missing)");
}

static void
mounts_that_nobody_adopts_are_undone(Fixture *f, const char *dir)
{
    g_autofree char *c1_path = NULL, *c2_path = NULL;
    launch(f, &c1);
    launch(f, &c2);
    g_assert_true(vol_mount(f->table, &c1, &c1_path, NULL));
    g_assert_true(vol_mount(f->table, &c2, &c2_path, NULL));
    g_autofree char *c1_root = g_build_filename(c1_path, "rootfs", NULL);
    g_autofree char *c2_root = g_build_filename(c2_path, "rootfs", NULL);
    down(f); /* as a killed agent: nobody unmounts the volumes */
    *f = (Fixture){0};
    up(f, dir);
    vol_adopt(f->table, &c1);
    repair_mounts(f->table);
    g_assert_true(mnt_is_mounted(c1_root));
    g_assert_false(mnt_is_mounted(c2_root));
    g_assert_true(vol_unmount(f->table, &c1, NULL));
    g_assert_false(mnt_is_mounted(c1_root));
}

static void
image_stays_while_somebody_lives_on_it(Fixture *f, const char *dir)
{
    launch(f, &c1);
    g_assert_true(vol_delete(f->table, &image, NULL));
    expect(f, &c1, "rootfs/etc/issue", "image");
    down(f);
    *f = (Fixture){0};
    up(f, dir);
    expect(f, &c1, "rootfs/etc/issue", "image");
    g_assert_true(vol_delete(f->table, &c1, NULL));
    repair_images(f->table, shelf_pool(f->table, "p1", true, NULL));
    shelf_drain(shelf_pool(f->table, "p1", true, NULL));
    g_assert_false(there(f, &image));
}

static void
add(const char *driver, const char *size, const char *claim, Body body)
{
    Case *test = g_new0(Case, 1);
    *test = (Case){.driver = driver, .size = size, .body = body};
    g_autofree char *path = g_strdup_printf("/%s/%s", driver, claim);
    g_test_add_data_func_full(path, test, run_case, g_free);
}

static void
add_both(const char *claim, Body body)
{
    add("btrfs", POOL_BYTES, claim, body);
    add("overlay", NULL, claim, body);
    add("dir", NULL, claim, body);
}

int
main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_ERROR);
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("1..0 # SKIP needs root (loop devices, btrfs, overlay, id maps)\n");
        return 77;
    }
    g_test_init(&argc, &argv, NULL);
    add_both("launches-share-the-image-and-not-their-writes",
             launches_share_the_image_and_not_their_writes);
    add_both("snapshot-restore-and-copy-hold-their-content",
             snapshot_restore_and_copy_hold_their_content);
    add_both("volume-goes-to-another-pool-whole", volume_goes_to_another_pool_whole);
    add_both("everything-is-gone-after-deletion", everything_is_gone_after_deletion);
    add_both("pool-goes-without-a-trace", pool_goes_without_a_trace);
    add_both("pool-is-mounted-again-at-the-next-start", pool_is_mounted_again_at_the_next_start);
    add("btrfs", POOL_BYTES, "full-pool-is-told-and-leaves-nothing",
        full_pool_is_told_and_leaves_nothing);
    add("btrfs", POOL_BYTES, "quota-stops-writes-and-is-shown", quota_stops_writes_and_is_shown);
    add("dir", NULL, "project-quota-stops-writes", project_quota_stops_writes);
    add("btrfs", POOL_BYTES, "pool-grows-and-never-shrinks", pool_grows_and_never_shrinks);
    add("btrfs", POOL_BYTES, "inner-subvolumes-are-copied-and-removed",
        inner_subvolumes_are_copied_and_removed);
    add("btrfs", POOL_BYTES, "inner-subvolumes-below-any-depth-are-removed",
        inner_subvolumes_below_any_depth_are_removed);
    add("btrfs", POOL_BYTES, "inner-subvolumes-travel-to-other-pools",
        inner_subvolumes_travel_to_other_pools);
    add("btrfs", POOL_BYTES, "snapshots-are-read-only", snapshots_are_read_only);
    add("overlay", NULL, "ids-are-mapped-and-nothing-is-shifted-on-disk",
        ids_are_mapped_and_nothing_is_shifted_on_disk);
    add("overlay", NULL, "mounts-that-nobody-adopts-are-undone",
        mounts_that_nobody_adopts_are_undone);
    add("overlay", NULL, "image-stays-while-somebody-lives-on-it",
        image_stays_while_somebody_lives_on_it);
    return g_test_run();
}
