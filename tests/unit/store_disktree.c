/* agent/store/disktree.c: T1 to T3, with what a user without privileges can make. */
#include "agent/store/disktree.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

typedef struct {
    char *dir, *from, *to;
} Trees;

static void
trees_up(Trees *t, gconstpointer data)
{
    t->dir = g_dir_make_tmp("haw-tree-XXXXXX", NULL);
    t->from = g_build_filename(t->dir, "from", NULL);
    t->to = g_build_filename(t->dir, "to", NULL);
    g_assert_true(mkdir(t->from, 0755) == 0 && mkdir(t->to, 0700) == 0);
}

static void
trees_down(Trees *t, gconstpointer data)
{
    g_assert_true(disktree_remove(t->dir, NULL));
    g_free(t->dir);
    g_free(t->from);
    g_free(t->to);
}

static char *
in(const char *tree, const char *name)
{
    return g_build_filename(tree, name, NULL);
}

static void
write_file(const char *tree, const char *name, const char *text)
{
    g_autofree char *path = in(tree, name);
    g_autofree char *parent = g_path_get_dirname(path);
    g_assert_true(fd_mkdir_p(parent, 0755, NULL));
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static struct stat
look(const char *tree, const char *name)
{
    g_autofree char *path = in(tree, name);
    struct stat st;
    g_assert_cmpint(lstat(path, &st), ==, 0);
    return st;
}

static void
copy(Trees *t)
{
    g_autoptr(GError) error = NULL;
    disktree_copy(t->from, t->to, NULL, &error);
    g_assert_no_error(error);
}

static void
modes_times_and_links_are_kept(Trees *t, gconstpointer data)
{
    write_file(t->from, "d/f", "text");
    g_autofree char *file = in(t->from, "d/f");
    g_autofree char *dir = in(t->from, "d");
    g_autofree char *link = in(t->from, "l");
    struct timespec old[2] = {{.tv_sec = 1000, .tv_nsec = 7}, {.tv_sec = 2000, .tv_nsec = 9}};
    g_assert_true(chmod(file, 04751) == 0 && utimensat(AT_FDCWD, file, old, 0) == 0);
    g_assert_true(chmod(dir, 01750) == 0 && utimensat(AT_FDCWD, dir, old, 0) == 0);
    g_assert_cmpint(symlink("/nowhere/at/all", link), ==, 0);
    copy(t);
    struct stat f = look(t->to, "d/f"), d = look(t->to, "d"), l = look(t->to, "l");
    g_assert_cmpint(f.st_mode & 07777, ==, 04751);
    g_assert_cmpint(d.st_mode & 07777, ==, 01750);
    g_assert_true(f.st_mtim.tv_sec == 2000 && f.st_mtim.tv_nsec == 9);
    g_assert_true(d.st_mtim.tv_sec == 2000 && d.st_mtim.tv_nsec == 9); /* T3 */
    g_assert_true(S_ISLNK(l.st_mode) && l.st_size == 15);
}

static void
files_with_two_names_stay_one_file(Trees *t, gconstpointer data)
{
    write_file(t->from, "a/one", "text");
    write_file(t->from, "b/x", "");
    g_autofree char *one = in(t->from, "a/one");
    g_autofree char *two = in(t->from, "b/two");
    g_assert_cmpint(link(one, two), ==, 0);
    copy(t);
    struct stat a = look(t->to, "a/one"), b = look(t->to, "b/two");
    g_assert_cmpint(a.st_ino, ==, b.st_ino);
    g_assert_cmpint(a.st_nlink, ==, 2);
}

static void
holes_stay_holes(Trees *t, gconstpointer data)
{
    g_autofree char *path = in(t->from, "sparse");
    haw_autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, 64 << 20), ==, 0);
    g_assert_cmpint(pwrite(fd, "end", 3, (64 << 20) - 3), ==, 3);
    copy(t);
    struct stat st = look(t->to, "sparse");
    g_assert_cmpint(st.st_size, ==, 64 << 20);
    g_assert_cmpint(st.st_blocks * 512, <, 1 << 20);
    g_autofree char *copied = in(t->to, "sparse");
    haw_autofd int out = open(copied, O_RDONLY | O_CLOEXEC);
    char tail[3];
    g_assert_cmpint(pread(out, tail, 3, (64 << 20) - 3), ==, 3);
    g_assert_cmpmem(tail, 3, "end", 3);
}

static void
attributes_are_kept(Trees *t, gconstpointer data)
{
    write_file(t->from, "f", "text");
    g_autofree char *file = in(t->from, "f");
    if (setxattr(file, "user.colour", "red", 3, 0) < 0) {
        g_test_skip("the filesystem has no user attributes");
        return;
    }
    copy(t);
    g_autofree char *copied = in(t->to, "f");
    char value[8];
    g_assert_cmpint(getxattr(copied, "user.colour", value, sizeof value), ==, 3);
    g_assert_cmpmem(value, 3, "red", 3);
}

static void
many_files_in_many_directories_arrive(Trees *t, gconstpointer data)
{
    for (int i = 0; i < 600; i++) {
        g_autofree char *name = g_strdup_printf("d%d/e%d/f%d", i % 20, i % 7, i);
        g_autofree char *text = g_strdup_printf("%d", i);
        write_file(t->from, name, text);
    }
    copy(t);
    for (int i = 0; i < 600; i++) {
        g_autofree char *name = g_strdup_printf("d%d/e%d/f%d", i % 20, i % 7, i);
        g_autofree char *text = g_strdup_printf("%d", i);
        g_autofree char *path = in(t->to, name);
        g_autofree char *now = NULL;
        g_assert_true(g_file_get_contents(path, &now, NULL, NULL));
        g_assert_cmpstr(now, ==, text);
    }
}

static void
large_file_arrives_whole(Trees *t, gconstpointer data)
{
    size_t size = 3 * 1024 * 1024 + 17;
    g_autofree char *bytes = g_malloc(size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char) (i * 31 + i / 4096);
    }
    g_autofree char *path = in(t->from, "big");
    g_assert_true(g_file_set_contents(path, bytes, (gssize) size, NULL));
    copy(t);
    g_autofree char *copied = in(t->to, "big");
    g_autofree char *now = NULL;
    gsize length = 0;
    g_assert_true(g_file_get_contents(copied, &now, &length, NULL));
    g_assert_cmpmem(now, length, bytes, size);
}

static void
cancelled_copy_stops(Trees *t, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    write_file(t->from, "f", "text");
    g_cancellable_cancel(cancel);
    g_assert_false(disktree_copy(t->from, t->to, cancel, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_CANCELLED);
}

static void
unreadable_file_is_an_error(Trees *t, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    if (geteuid() == 0) {
        g_test_skip("root reads everything");
        return;
    }
    write_file(t->from, "sub/f", "text");
    g_autofree char *path = in(t->from, "sub/f");
    g_assert_cmpint(chmod(path, 0), ==, 0);
    g_assert_false(disktree_copy(t->from, t->to, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_DENIED);
    g_assert_nonnull(strstr(error->message, "sub"));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *claim;
        void (*body)(Trees *t, gconstpointer data);
    } cases[] = {
        {"modes-times-and-links-are-kept", modes_times_and_links_are_kept},
        {"files-with-two-names-stay-one-file", files_with_two_names_stay_one_file},
        {"holes-stay-holes", holes_stay_holes},
        {"attributes-are-kept", attributes_are_kept},
        {"many-files-in-many-directories-arrive", many_files_in_many_directories_arrive},
        {"large-file-arrives-whole", large_file_arrives_whole},
        {"cancelled-copy-stops", cancelled_copy_stops},
        {"unreadable-file-is-an-error", unreadable_file_is_an_error},
    };
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/disktree/", cases[i].claim, NULL);
        g_test_add(path, Trees, NULL, trees_up, cases[i].body, trees_down);
    }
    return g_test_run();
}
