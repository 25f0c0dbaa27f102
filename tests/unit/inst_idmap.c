/* inst/idmap.c, inst/idshift.c: M1 to M3. */
#include "agent/inst/idmap.h"
#include "base/fd.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const IdmapRange host = {1000000, 1000000000};

static GArray *
choose(const char *config_text, const GArray *taken)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_loads(config_text, 0, NULL);
    GArray *map = idmap_choose(config, host, taken, &error);
    g_assert_no_error(error);
    json_decref(config);
    return map;
}

static void
take(GArray *taken, gint64 base, gint64 count)
{
    IdmapRange range = {base, count};
    g_array_append_val(taken, range);
}

static void
a_plain_container_has_the_whole_range(void)
{
    g_autoptr(GArray) map = choose("{}", NULL);
    g_autofree char *text = idmap_to_text(map);
    g_assert_cmpstr(text, ==,
                    "[{\"Isuid\":true,\"Isgid\":false,\"Hostid\":1000000,\"Nsid\":0,"
                    "\"Maprange\":1000000000},{\"Isuid\":false,\"Isgid\":true,"
                    "\"Hostid\":1000000,\"Nsid\":0,\"Maprange\":1000000000}]");
    g_autoptr(GArray) back = idmap_from_text(text, NULL);
    g_assert_true(idmap_equal(map, back));
}

static void
a_privileged_one_has_no_map(void)
{
    g_autoptr(GArray) map = choose("{\"security.privileged\":\"true\"}", NULL);
    g_assert_cmpuint(map->len, ==, 0);
    g_assert_cmpint(idmap_to_host(map, true, 5), ==, 5);
}

static void
isolated_ranges_take_the_first_gap(void)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(IdmapRange));
    const char *config = "{\"security.idmap.isolated\":\"true\"}";
    g_autoptr(GArray) first = choose(config, taken);
    g_assert_cmpint(g_array_index(first, IdmapEntry, 0).host, ==, 1065536);
    g_assert_cmpint(g_array_index(first, IdmapEntry, 0).count, ==, 65536);
    take(taken, 1065536 + 65536, 65536); /* M1: a hole before it */
    take(taken, 1065536 + 4 * 65536, 65536);
    g_autoptr(GArray) second = choose(config, taken);
    g_assert_cmpint(g_array_index(second, IdmapEntry, 0).host, ==, 1065536);
    take(taken, 1065536, 65536);
    g_autoptr(GArray) third = choose(config, taken);
    g_assert_cmpint(g_array_index(third, IdmapEntry, 0).host, ==, 1065536 + 2 * 65536);
    g_autoptr(GArray) wide =
        choose("{\"security.idmap.isolated\":\"true\",\"security.idmap.size\":\"200000\"}", taken);
    g_assert_cmpint(g_array_index(wide, IdmapEntry, 0).host, ==, 1065536 + 5 * 65536);
}

static void
a_full_range_is_an_error(void)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_pack("{s:s}", "security.idmap.isolated", "true");
    IdmapRange small = {1000000, 100000};
    g_autoptr(GArray) map = idmap_choose(config, small, NULL, &error);
    g_assert_null(map);
    g_assert_error(error, HAW_ERROR, HAW_LIMIT);
    json_decref(config);
}

static void
a_fixed_base_is_taken_as_it_is(void)
{
    g_autoptr(GArray) map =
        choose("{\"security.idmap.isolated\":\"true\",\"security.idmap.base\":\"5000000\"}", NULL);
    g_assert_cmpint(g_array_index(map, IdmapEntry, 0).host, ==, 5000000);
}

static void
raw_lines_cut_holes(void)
{
    g_autoptr(GArray) map = choose("{\"raw.idmap\":\"both 1000 2000\\nuid 50-59 60-69\"}", NULL);
    g_assert_cmpint(idmap_to_host(map, true, 2000), ==, 1000); /* M2 */
    g_assert_cmpint(idmap_to_host(map, false, 2000), ==, 1000);
    g_assert_cmpint(idmap_to_host(map, true, 65), ==, 55);
    g_assert_cmpint(idmap_to_host(map, false, 65), ==, 1000065);
    g_assert_cmpint(idmap_to_host(map, true, 1999), ==, 1001999);
    g_assert_cmpint(idmap_to_host(map, true, 2001), ==, 1002001);
    g_assert_cmpint(idmap_to_inside(map, true, 1000), ==, 2000);
    g_assert_cmpint(idmap_to_inside(map, true, 1002000), ==, -1);
}

static void
broken_raw_lines_are_refused(void)
{
    static const char *const lines[] = {"both 1000",       "all 1 2",     "both a b",
                                        "both 1-2 5-9",    "uid 5-1 1-5", "both -1 0",
                                        "both 1000 2000 x"};
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GArray) map = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
        g_assert_false(idmap_add_raw(map, lines[i], &error));
        g_assert_error(error, HAW_ERROR, HAW_INVALID);
    }
}

static char *
write_temp(const char *text)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("hawser-idmap-XXXXXX", &path, NULL);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    return g_steal_pointer(&path);
}

static void
the_hosts_range_is_roots_in_subuid_and_subgid(void)
{
    g_autofree char *uids = write_temp("user:100000:65536\nroot:200000:1000000\n");
    g_autofree char *gids = write_temp("root:300000:1000000\n");
    g_autofree char *none = write_temp("user:100000:65536\n");
    g_autofree char *full = write_temp("         0          0 4294967295\n");
    g_autofree char *nested = write_temp("         0    1000000     500000\n");
    IdmapRange both = idmap_host_range(uids, gids, full);
    g_assert_cmpint(both.base, ==, 300000);
    g_assert_cmpint(both.count, ==, 900000);
    IdmapRange usual = idmap_host_range(none, gids, full);
    g_assert_cmpint(usual.base, ==, 1000000);
    g_assert_cmpint(usual.count, ==, 1000000000);
    IdmapRange inner = idmap_host_range(none, none, nested);
    g_assert_cmpint(inner.base, ==, 65536);
    g_assert_cmpint(inner.count, ==, 500000 - 65536);
    g_unlink(uids);
    g_unlink(gids);
    g_unlink(none);
    g_unlink(full);
    g_unlink(nested);
}

static void
check_owner(const char *dir, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    struct stat st;
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_assert_cmpint(lstat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, uid);
    g_assert_cmpuint(st.st_gid, ==, gid);
    g_assert_cmpuint(st.st_mode & 07777, ==, mode);
}

static void
a_tree_moves_there_and_back_and_twice_is_once(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("hawser-shift-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "su", NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    if (geteuid() != 0) {
        g_test_skip("needs root");
        g_rmdir(dir);
        return;
    }
    g_assert_true(g_file_set_contents(file, "x", -1, NULL));
    g_assert_cmpint(chown(file, 0, 5), ==, 0);
    g_assert_cmpint(chmod(file, 04755), ==, 0);
    g_assert_cmpint(symlink("/etc/passwd", link), ==, 0);
    g_autoptr(GArray) map = choose("{}", NULL);
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    for (int i = 0; i < 2; i++) { /* M3 */
        g_assert_true(idmap_shift_tree(dir, none, map, &error));
        check_owner(dir, "su", 1000000, 1000005, 04755);
        check_owner(dir, "link", 1000000, 1000000, 0777);
    }
    g_assert_true(idmap_shift_tree(dir, map, none, &error));
    check_owner(dir, "su", 0, 5, 04755);
    check_owner("/etc", "passwd", 0, 0, 0644);
    g_assert_true(fd_remove_tree(dir, NULL));
}

struct deep {
    const char *dir;
    GArray *from, *to;
    GError *error;
};

static gpointer
shift_deep(gpointer data)
{
    struct deep *deep = data;
    idmap_shift_tree(deep->dir, deep->from, deep->to, &deep->error);
    return NULL;
}

/* The ids of the last directory and of the one beside each on the way. */
static void
check_deep(const char *top, int depth)
{
    struct stat st;
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < depth; i++) {
        g_assert_cmpint(fstatat(fd, "side", &st, AT_SYMLINK_NOFOLLOW), ==, 0);
        g_assert_cmpuint(st.st_uid, ==, 1000000);
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(next, >=, 0);
        close(fd);
        fd = next;
    }
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, 1000000);
    close(fd);
}

static void
a_tree_of_any_depth_moves(void)
{
    enum { DEPTH = 20000 };
    struct rlimit before, few;
    g_autofree char *dir = g_dir_make_tmp("hawser-shift-XXXXXX", NULL);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH; i++) {
        g_assert_cmpint(mkdirat(fd, "side", 0755), ==, 0);
        g_assert_cmpint(mkdirat(fd, "d", 0755), ==, 0);
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = next;
    }
    close(fd);
    g_autoptr(GArray) map = choose("{}", NULL);
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    struct deep deep = {.dir = dir, .from = none, .to = map};
    if (geteuid() == 0) {
        getrlimit(RLIMIT_NOFILE, &before);
        few = (struct rlimit){128, before.rlim_max};
        setrlimit(RLIMIT_NOFILE, &few);
        g_thread_join(g_thread_new("shift", shift_deep, &deep));
        setrlimit(RLIMIT_NOFILE, &before);
        g_assert_no_error(deep.error);
        check_deep(dir, DEPTH);
    } else {
        g_test_skip("needs root");
    }
    g_assert_true(fd_remove_tree(dir, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/idmap/a-plain-container-has-the-whole-range",
                    a_plain_container_has_the_whole_range);
    g_test_add_func("/idmap/a-privileged-one-has-no-map", a_privileged_one_has_no_map);
    g_test_add_func("/idmap/isolated-ranges-take-the-first-gap",
                    isolated_ranges_take_the_first_gap);
    g_test_add_func("/idmap/a-full-range-is-an-error", a_full_range_is_an_error);
    g_test_add_func("/idmap/a-fixed-base-is-taken-as-it-is", a_fixed_base_is_taken_as_it_is);
    g_test_add_func("/idmap/raw-lines-cut-holes", raw_lines_cut_holes);
    g_test_add_func("/idmap/broken-raw-lines-are-refused", broken_raw_lines_are_refused);
    g_test_add_func("/idmap/the-hosts-range-is-roots-in-subuid-and-subgid",
                    the_hosts_range_is_roots_in_subuid_and_subgid);
    g_test_add_func("/idmap/a-tree-moves-there-and-back-and-twice-is-once",
                    a_tree_moves_there_and_back_and_twice_is_once);
    g_test_add_func("/idmap/a-tree-of-any-depth-moves", a_tree_of_any_depth_moves);
    return g_test_run();
}
