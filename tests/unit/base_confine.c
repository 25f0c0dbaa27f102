/* agent/inst/confine.c: C1, C2. */
#include "base/confine.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *top; /* <top>/secret is outside, <top>/root is the root */
static int root;

static void
set_up(void)
{
    top = g_dir_make_tmp("confine-XXXXXX", NULL);
    g_assert_cmpint(chdir(top), ==, 0);
    g_assert_true(g_file_set_contents("secret", "outside", -1, NULL));
    g_assert_cmpint(mkdir("root", 0755), ==, 0);
    g_assert_cmpint(mkdir("root/dir", 0755), ==, 0);
    g_assert_true(g_file_set_contents("root/dir/file", "inside", -1, NULL));
    g_assert_true(g_file_set_contents("root/secret", "decoy", -1, NULL));
    root = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void
link_to(const char *target, const char *name)
{
    unlinkat(root, name, 0);
    g_assert_cmpint(symlinkat(target, root, name), ==, 0);
}

static char *
content(const char *path)
{
    char text[64] = "";
    haw_autofd int fd = confine_open(root, path, O_RDONLY, 0);

    if (fd < 0) {
        return g_strdup(g_strerror(errno));
    }
    g_assert_cmpint(read(fd, text, sizeof(text) - 1), >=, 0);
    return g_strdup(text);
}

static void
same(const char *path, const char *want)
{
    g_autofree char *got = content(path);

    g_assert_cmpstr(got, ==, want);
}

static void
dots_stop_at_the_root(void)
{
    same("../secret", "decoy");
    same("/../../../../secret", "decoy");
    same("dir/../../secret", "decoy");
}

static void
absolute_links_start_at_the_root(void)
{
    link_to("/secret", "abs");
    same("abs", "decoy");
    g_autofree char *out = g_build_filename(top, "secret", NULL);
    link_to(out, "out");
    same("out", g_strerror(ENOENT));
}

static void
relative_links_cannot_climb_out(void)
{
    link_to("../../../../secret", "up");
    same("up", "decoy");
    link_to("dir/../../secret", "mixed");
    same("mixed", "decoy");
}

static void
links_in_the_middle_stay_inside(void)
{
    link_to("..", "parent");
    same("parent/secret", "decoy");
    link_to("/", "slash");
    same("slash/dir/file", "inside");
}

static void
magic_links_are_refused(void)
{
    haw_autofd int real = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/etc/passwd", root);

    g_assert_cmpint(confine_open(real, path, O_RDONLY, 0), ==, -1);
    g_assert_cmpint(errno, ==, ELOOP);
}

static void
parent_gives_directory_and_last_name(void)
{
    static const struct {
        const char *path, *name;
    } cases[] = {{"/dir/file", "file"},
                 {"dir/file", "file"},
                 {"dir/new/", "new"},
                 {"/x", "x"},
                 {"x", "x"},
                 {"/", "."},
                 {"", "."},
                 {"dir/./.", "dir"},
                 {"//dir//file//", "file"}};
    char buf[PATH_MAX];

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *name = NULL;
        haw_autofd int fd = confine_parent(root, cases[i].path, buf, &name);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpstr(name, ==, cases[i].name);
    }
    const char *name = NULL;
    g_assert_cmpint(confine_parent(root, "dir/..", buf, &name), ==, -1);
    g_assert_cmpint(errno, ==, EINVAL);
}

static void
plain_files_are_plain_and_nobody_waits(void)
{
    struct stat st;

    link_to("dir/file", "link");
    link_to("dir", "way");
    g_assert_cmpint(mkfifoat(root, "pipe", 0600), ==, 0);
    static const struct {
        const char *path;
        int err;
    } cases[] = {{"link", ELOOP},      {"way/file", ELOOP}, {"pipe", EINVAL},    {"dir", EINVAL},
                 {"../secret", EXDEV}, {"none", ENOENT},    {"/dir/file", EXDEV}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(confine_plain(root, cases[i].path, O_RDONLY, 0), ==, -1);
        g_assert_cmpint(errno, ==, cases[i].err);
    }
    g_assert_cmpint(confine_plain(root, "pipe", O_WRONLY | O_CREAT | O_TRUNC, 0600), ==, -1);
    g_autofree char *text = fd_read_plain(root, "dir/file", 64, NULL, NULL);
    g_assert_cmpstr(text, ==, "inside");
    haw_autofd int fd = confine_plain(root, "dir/file", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
}

static void
mkdir_p_makes_what_is_missing_inside(void)
{
    struct stat st;

    link_to("../../..", "esc");
    g_assert_true(confine_mkdir_p(root, "esc/a/b", 0755));
    g_assert_cmpint(fstatat(root, "a/b", &st, 0), ==, 0);
    g_assert_cmpint(stat("a", &st), ==, -1);
    g_assert_false(confine_mkdir_p(root, "secret/x", 0755));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    set_up();
    g_test_add_func("/confine/dots-stop-at-the-root", dots_stop_at_the_root);
    g_test_add_func("/confine/absolute-links-start-at-the-root", absolute_links_start_at_the_root);
    g_test_add_func("/confine/relative-links-cannot-climb-out", relative_links_cannot_climb_out);
    g_test_add_func("/confine/links-in-the-middle-stay-inside", links_in_the_middle_stay_inside);
    g_test_add_func("/confine/magic-links-are-refused", magic_links_are_refused);
    g_test_add_func("/confine/parent-gives-directory-and-last-name",
                    parent_gives_directory_and_last_name);
    g_test_add_func("/confine/mkdir-p-makes-what-is-missing-inside",
                    mkdir_p_makes_what_is_missing_inside);
    g_test_add_func("/confine/plain-files-are-plain-and-nobody-waits",
                    plain_files_are_plain_and_nobody_waits);
    int status = g_test_run();
    fd_remove_tree(top, NULL);
    g_free(top);
    return status;
}
