/* base/fd.c: files that are replaced. */
#include "base/fd.h"

#include <glib/gstdio.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void
assert_file(const char *path, const char *want, mode_t mode)
{
    g_autoptr(GError) error = NULL;
    struct stat st;
    g_autofree char *text = fd_read_file(path, 4096, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, want);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, mode);
}

static void
what_replaces_a_file_is_whole_and_has_its_mode(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("hawser-fd-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "backup.yaml", NULL);
    g_assert_true(fd_write_atomic(path, "a longer text", 13, 0600, &error));
    assert_file(path, "a longer text", 0600);
    g_assert_true(fd_write_copy(path, "short", 5, 0400, &error));
    assert_file(path, "short", 0400);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_rmdir(dir), ==, 0); /* nothing was left beside it */
}

static void
a_failure_leaves_nothing_behind(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("hawser-fd-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "taken", NULL);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0); /* a directory is not replaced by a file */
    g_assert_false(fd_write_copy(path, "text", 4, 0600, &error));
    g_assert_nonnull(strstr(error->message, path));
    g_assert_cmpint(g_rmdir(path), ==, 0);
    g_assert_cmpint(g_rmdir(dir), ==, 0);
}

/* What fd_place() syncs, in order: 'f' the file, 'd' its directory; in capitals once 'placed' is there. */
static GString *synced;
static const char *placed;
static bool sync_fails;

int fsync(int fd);

/* Instead of libc's. */
int
fsync(int fd)
{
    struct stat st;
    if (placed != NULL) {
        bool is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
        char letter = is_dir ? 'd' : 'f';
        g_string_append_c(synced, access(placed, F_OK) == 0 ? g_ascii_toupper(letter) : letter);
        if (sync_fails) {
            errno = EIO;
            return -1;
        }
    }
    return (int) syscall(SYS_fsync, fd);
}

static void
place_one(bool fails, const char *want_synced)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("hawser-fd-XXXXXX", NULL);
    g_autofree char *temp = g_build_filename(dir, ".new-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "b1", NULL);
    haw_autofd int fd = g_mkstemp(temp);
    synced = g_string_new("");
    placed = path;
    sync_fails = fails;
    g_assert_true(fd_write_all(fd, "text", 4, "text", NULL));
    g_assert_true(fd_place(fd, temp, path, &error) != fails);
    g_assert_cmpstr(synced->str, ==, want_synced);
    placed = NULL;
    g_assert_cmpint(g_unlink(fails ? temp : path), ==, 0);
    g_assert_cmpint(g_rmdir(dir), ==, 0);
    g_string_free(synced, TRUE);
}

static void
what_gets_its_name_is_on_the_disk(void)
{
    place_one(false, "fD");
}

static void
what_does_not_reach_the_disk_gets_no_name(void)
{
    place_one(true, "f");
}

/* Deeper than there are descriptors, and than a thread's stack has room for. */
static void
make_deep(const char *top, int depth)
{
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < depth; i++) {
        g_assert_cmpint(mkdirat(fd, "d", 0755), ==, 0);
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(next, >=, 0);
        close(fd);
        fd = next;
    }
    close(openat(fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    close(fd);
}

static gpointer
remove_it(gpointer path)
{
    GError *error = NULL;
    fd_remove_tree(path, &error);
    return error;
}

static void
a_tree_of_any_depth_is_removed(void)
{
    struct rlimit before, few;
    g_autofree char *dir = g_dir_make_tmp("fd-XXXXXX", NULL);
    g_autofree char *taken = g_build_filename(dir, ".deep-0", "x", NULL);
    g_assert_cmpint(g_mkdir_with_parents(taken, 0755), ==, 0);
    make_deep(dir, 40000);
    getrlimit(RLIMIT_NOFILE, &before);
    few = (struct rlimit){128, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    g_autoptr(GError) error = g_thread_join(g_thread_new("remove", remove_it, dir));
    setrlimit(RLIMIT_NOFILE, &before);
    g_assert_no_error(error);
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fd/what-replaces-a-file-is-whole-and-has-its-mode",
                    what_replaces_a_file_is_whole_and_has_its_mode);
    g_test_add_func("/fd/a-failure-leaves-nothing-behind", a_failure_leaves_nothing_behind);
    g_test_add_func("/fd/what-gets-its-name-is-on-the-disk", what_gets_its_name_is_on_the_disk);
    g_test_add_func("/fd/what-does-not-reach-the-disk-gets-no-name",
                    what_does_not_reach_the_disk_gets_no_name);
    g_test_add_func("/fd/a-tree-of-any-depth-is-removed", a_tree_of_any_depth_is_removed);
    return g_test_run();
}
