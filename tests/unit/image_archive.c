/* agent/image/archive.c, sink.c, pack.c: S1 to S5, K1 to K4.  Evil tars are made by hand here: block
 * for block, since no library would write them. */
#include "agent/image/archive.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "tests/fakes/in_fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- a tar by hand ---- */
struct entry {
    const char *name;
    char type; /* '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' dir, '6' fifo */
    const char *link, *content;
    unsigned mode, major, minor;
};

static void
put_octal(char *field, size_t size, guint64 value)
{
    g_snprintf(field, size, "%0*" G_GINT64_MODIFIER "o", (int) size - 1, value);
}

static void
add_entry(GByteArray *tar, const struct entry *entry)
{
    char block[512] = {0};
    size_t size = entry->content != NULL ? strlen(entry->content) : 0;
    g_strlcpy(block, entry->name, 100);
    put_octal(block + 100, 8, entry->mode != 0 ? entry->mode : entry->type == '5' ? 0755 : 0644);
    put_octal(block + 108, 8, getuid());
    put_octal(block + 116, 8, getgid());
    put_octal(block + 124, 12, size);
    put_octal(block + 136, 12, 1700000000);
    block[156] = entry->type;
    g_strlcpy(block + 157, entry->link != NULL ? entry->link : "", 100);
    memcpy(block + 257, "ustar\00000", 8);
    put_octal(block + 329, 8, entry->major);
    put_octal(block + 337, 8, entry->minor);
    memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof block; i++) {
        sum += (guint8) block[i];
    }
    g_snprintf(block + 148, 8, "%06o", sum);
    g_byte_array_append(tar, (guint8 *) block, sizeof block);
    if (size > 0) {
        memset(block, 0, sizeof block);
        memcpy(block, entry->content, size);
        g_byte_array_append(tar, (guint8 *) block, sizeof block);
    }
}

/* ---- a place to work in: <top>/in is what archives go into, <top>/outside is what they must not
 * touch ---- */
struct place {
    char *top, *in, *outside;
};

static struct place
place_new(void)
{
    struct place place = {.top = g_dir_make_tmp("image-archive-XXXXXX", NULL)};
    place.in = g_build_filename(place.top, "in", NULL);
    place.outside = g_build_filename(place.top, "outside", NULL);
    g_assert_cmpint(mkdir(place.in, 0755), ==, 0);
    g_assert_cmpint(mkdir(place.outside, 0755), ==, 0);
    return place;
}

static void
place_free(struct place *place)
{
    g_assert_true(fd_remove_tree(place->top, NULL));
    g_free(place->top);
    g_free(place->in);
    g_free(place->outside);
}

static int
tar_fd(const struct entry *entries, size_t count, size_t cut)
{
    g_autoptr(GByteArray) tar = g_byte_array_new();
    guint8 zeros[1024] = {0};
    for (size_t i = 0; i < count; i++) {
        add_entry(tar, &entries[i]);
    }
    g_byte_array_append(tar, zeros, sizeof zeros);
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_true(fd_write_all(fd, tar->data, tar->len - cut, "tar", NULL));
    return fd;
}

struct run {
    ArchiveUnpack spec;
    bool ok;
    GError *error;
};

static void
run_body(void *data)
{
    struct run *run = data;
    run->ok = archive_unpack(&run->spec, &run->error);
}

/* Unpacks the entries into place->in; the code of the failure, or -1. */
static int
unpack(const struct place *place, const struct entry *entries, size_t count)
{
    haw_autofd int fd = tar_fd(entries, count, 0);
    struct run run = {.spec = {.fd = fd, .dir = place->in}};
    in_fiber(run_body, &run);
    int code = run.ok ? -1 : (int) haw_code(run.error);
    g_assert_cmpint(run.ok, ==, run.error == NULL);
    g_clear_error(&run.error);
    return code;
}

static void
outside_is_untouched(const struct place *place)
{
    g_autoptr(GDir) dir = g_dir_open(place->outside, 0, NULL);
    g_assert_null(g_dir_read_name(dir));
    struct stat st;
    g_autofree char *escaped = g_build_filename(place->top, "escaped", NULL);
    g_assert_cmpint(lstat(escaped, &st), ==, -1);
}

static bool
is_there(const struct place *place, const char *name, struct stat *st)
{
    g_autofree char *path = g_build_filename(place->in, name, NULL);
    return lstat(path, st) == 0;
}

#define REFUSED(code, ...)                                                                         \
    do {                                                                                           \
        struct place place = place_new();                                                          \
        const struct entry entries[] = {__VA_ARGS__};                                              \
        g_assert_cmpint(unpack(&place, entries, G_N_ELEMENTS(entries)), ==, code);                 \
        outside_is_untouched(&place);                                                              \
        place_free(&place);                                                                        \
    } while (0)

static void
absolute_name_is_refused(void)
{
    REFUSED(HAW_INVALID, {"/tmp/escaped", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"//escaped", '0', .content = "x"});
}

static void
a_slash_before_rootfs_is_dropped(void)
{
    REFUSED(HAW_INVALID, {"/rootfs/../escaped", '0', .content = "x"});
    struct place in = place_new();
    struct stat st;
    const struct entry entry = {"/rootfs/f", '0', .content = "x"};
    g_assert_cmpint(unpack(&in, &entry, 1), ==, -1);
    g_assert_true(is_there(&in, "rootfs/f", &st));
    place_free(&in);
}

static void
dotdot_is_refused(void)
{
    REFUSED(HAW_INVALID, {"../escaped", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"a/../../escaped", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"a/..", '5'});
    REFUSED(HAW_INVALID, {"./../escaped", '5'});
}

static void
symlink_that_leads_out_is_not_followed(void)
{
    REFUSED(HAW_INVALID, {"l", '2', .link = "../outside"}, {"l/f", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"l", '2', .link = "/tmp"}, {"l/escaped", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"d", '5'}, {"d/l", '2', .link = "../.."}, {"d/l/escaped", '5'});
    REFUSED(HAW_INVALID, {"a", '2', .link = "b"}, {"b", '2', .link = "../outside"},
            {"a/f", '0', .content = "x"});
    REFUSED(HAW_INVALID, {"l", '2', .link = "/proc/self/cwd"}, {"l/escaped", '0', .content = "x"});
}

static void
device_through_symlink_is_refused(void)
{
    REFUSED(HAW_INVALID, {"l", '2', .link = "../outside"}, {"l/null", '3', .major = 1, .minor = 3});
    REFUSED(HAW_INVALID, {"l", '2', .link = "../outside"}, {"l/pipe", '6'});
    REFUSED(HAW_INVALID, {"l", '2', .link = "../outside"}, {"l/m", '2', .link = "x"});
}

static void
hard_link_that_leads_out_is_refused(void)
{
    REFUSED(HAW_INVALID, {"h", '1', .link = "/etc/passwd"});
    REFUSED(HAW_INVALID, {"h", '1', .link = "../outside"});
    REFUSED(HAW_INVALID, {"l", '2', .link = "/etc"}, {"h", '1', .link = "l/passwd"});
    REFUSED(HAW_INVALID, {"f", '0', .content = "x"}, {"l", '2', .link = "../outside"},
            {"l/h", '1', .link = "f"});
}

static void
directory_over_symlink_leaves_the_target_alone(void)
{
    struct place place = place_new();
    struct stat before, after, st;
    g_assert_cmpint(stat(place.outside, &before), ==, 0);
    const struct entry entries[] = {
        {"l", '2', .link = "../outside"}, {"l", '5', .mode = 0777}, {"l/f", '0', .content = "x"}};
    g_assert_cmpint(unpack(&place, entries, 3), ==, -1);
    g_assert_true(is_there(&place, "l", &st) && S_ISDIR(st.st_mode));
    g_assert_cmpint(stat(place.outside, &after), ==, 0);
    g_assert_cmpuint(after.st_mode, ==, before.st_mode);
    outside_is_untouched(&place);
    place_free(&place);
}

static void
file_over_symlink_replaces_the_link(void)
{
    struct place place = place_new();
    struct stat st;
    g_autofree char *victim = g_build_filename(place.top, "escaped", NULL);
    const struct entry entries[] = {{"l", '2', .link = "../escaped"},
                                    {"l", '0', .content = "mine"}};
    g_assert_cmpint(unpack(&place, entries, 2), ==, -1);
    g_assert_true(is_there(&place, "l", &st) && S_ISREG(st.st_mode));
    outside_is_untouched(&place);
    place_free(&place);
}

static void
symlink_that_stays_inside_is_followed(void)
{
    struct place place = place_new();
    struct stat st;
    const struct entry entries[] = {{"usr/lib", '5'},
                                    {"lib", '2', .link = "usr/lib"},
                                    {"lib/f", '0', .content = "x"},
                                    {"etc", '5'},
                                    {"etc/abs", '2', .link = "/etc/passwd"}};
    g_assert_cmpint(unpack(&place, entries, 5), ==, -1);
    g_assert_true(is_there(&place, "usr/lib/f", &st) && S_ISREG(st.st_mode));
    g_assert_true(is_there(&place, "etc/abs", &st) && S_ISLNK(st.st_mode));
    place_free(&place);
}

static void
device_nodes_outside_dev_are_refused(void)
{
    REFUSED(HAW_INVALID, {"rootfs/disk", '4', .major = 8, .minor = 0});
    REFUSED(HAW_INVALID, {"rootfs/mem", '3', .major = 1, .minor = 1});
    REFUSED(HAW_INVALID, {"rootfs/etc/dev/sda", '4', .major = 8, .minor = 0});
}

static void
device_nodes_below_dev_are_passed_over(void)
{
    struct place place = place_new();
    struct stat st;
    const struct entry entries[] = {{"rootfs/dev/sda", '4', .major = 8, .minor = 0},
                                    {"rootfs/dev/mem", '3', .major = 1, .minor = 1},
                                    {"rootfs/dev/null", '3', .major = 1, .minor = 3, .mode = 0666},
                                    {"rootfs/f", '0', .content = "x"}};
    g_assert_cmpint(unpack(&place, entries, 4), ==, -1);
    g_assert_false(is_there(&place, "rootfs/dev/sda", &st));
    g_assert_false(is_there(&place, "rootfs/dev/mem", &st));
    g_assert_true(is_there(&place, "rootfs/f", &st));
    if (is_there(&place, "rootfs/dev/null", &st)) { /* not without CAP_MKNOD */
        g_assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
    }
    place_free(&place);
}

static void
broken_archives_are_corrupt(void)
{
    struct place place = place_new();
    const struct entry entries[] = {{"f", '0', .content = "hello"}, {"g", '0', .content = "x"}};
    haw_autofd int fd = tar_fd(entries, 2, 1024 + 512);
    struct run run = {.spec = {.fd = fd, .dir = place.in}};
    in_fiber(run_body, &run);
    g_assert_false(run.ok);
    g_assert_cmpint(haw_code(run.error), ==, HAW_CORRUPT);
    g_clear_error(&run.error);

    haw_autofd int noise = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_assert_true(fd_write_all(noise, "this is no archive at all, is it?", 33, "noise", NULL));
    run.spec.fd = noise;
    in_fiber(run_body, &run);
    g_assert_false(run.ok);
    g_assert_cmpint(haw_code(run.error), ==, HAW_CORRUPT);
    g_clear_error(&run.error);
    place_free(&place);
}

static void
prefix_is_taken_off_and_binds_links(void)
{
    struct place place = place_new();
    struct stat st;
    const struct entry entries[] = {
        {"backup/index.yaml", '0', .content = "x"},
        {"backup/container/rootfs/f", '0', .content = "x"},
        {"backup/container/rootfs/h", '1', .link = "backup/container/rootfs/f"},
        {"backup/containers", '0', .content = "x"}};
    haw_autofd int fd = tar_fd(entries, 4, 0);
    struct run run = {.spec = {.fd = fd, .dir = place.in, .prefix = "backup/container"}};
    in_fiber(run_body, &run);
    g_assert_no_error(run.error);
    g_assert_true(is_there(&place, "rootfs/h", &st) && st.st_nlink == 2);
    g_assert_false(is_there(&place, "index.yaml", &st));
    g_assert_false(is_there(&place, "s", &st));

    const struct entry evil[] = {{"backup/secret", '0', .content = "x"},
                                 {"backup/container/h", '1', .link = "backup/secret"}};
    haw_autofd int evil_fd = tar_fd(evil, 2, 0);
    run.spec.fd = evil_fd;
    in_fiber(run_body, &run);
    g_assert_cmpint(haw_code(run.error), ==, HAW_INVALID);
    g_clear_error(&run.error);
    place_free(&place);
}

static void
only_names_that_are_asked_for_arrive(void)
{
    struct place place = place_new();
    struct stat st;
    static const char *const only[] = {"rootfs", NULL};
    const struct entry entries[] = {{"rootfs/f", '0', .content = "x"},
                                    {"rootfs2/f", '0', .content = "x"},
                                    {"backup.yaml", '0', .content = "x"}};
    haw_autofd int fd = tar_fd(entries, 3, 0);
    struct run run = {.spec = {.fd = fd, .dir = place.in, .only = only}};
    in_fiber(run_body, &run);
    g_assert_no_error(run.error);
    g_assert_true(is_there(&place, "rootfs/f", &st));
    g_assert_false(is_there(&place, "rootfs2", &st));
    g_assert_false(is_there(&place, "backup.yaml", &st));
    place_free(&place);
}

/* ---- packing ---- */
struct pack_run {
    int fd;
    ArchiveMember member;
    const char *compression;
    bool ok;
    GError *error;
};

static void
pack_body(void *data)
{
    struct pack_run *run = data;
    run->ok = archive_pack(run->fd, &run->member, 1, run->compression, NULL, &run->error);
}

static void
make_tree(const char *dir)
{
    g_autofree char *file = g_build_filename(dir, "file", NULL);
    g_autofree char *link_name = g_build_filename(dir, "link", NULL);
    g_autofree char *hard = g_build_filename(dir, "hard", NULL);
    g_autofree char *odd = g_build_filename(dir, "\xc3\xbc-\xff", NULL);
    g_autofree char *sub = g_build_filename(dir, "sub", NULL);
    g_autofree char *holes = g_build_filename(dir, "holes", NULL);
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    g_assert_cmpint(mkdir(dir, 0755), ==, 0);
    g_assert_true(g_file_set_contents(file, "hello", 5, NULL));
    g_assert_cmpint(setxattr(file, "user.note", "kept", 4, 0) == 0 || errno == ENOTSUP, ==, 1);
    g_assert_cmpint(chmod(file, 04755), ==, 0);
    g_assert_cmpint(utimensat(AT_FDCWD, file, times, 0), ==, 0);
    g_assert_cmpint(symlink("/nowhere", link_name), ==, 0);
    g_assert_cmpint(link(file, hard), ==, 0);
    g_assert_true(g_file_set_contents(odd, "", 0, NULL));
    g_assert_cmpint(mkdir(sub, 02750), ==, 0);
    g_assert_cmpint(chmod(sub, 02750), ==, 0);
    haw_autofd int fd = open(holes, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    g_assert_cmpint(pwrite(fd, "end", 3, 8 << 20), ==, 3);
}

static void
check_tree(const struct place *place)
{
    struct stat st;
    char note[8];
    g_autofree char *file = g_build_filename(place->in, "t/file", NULL);
    g_autofree char *holes = g_build_filename(place->in, "t/holes", NULL);
    g_assert_true(is_there(place, "t/file", &st));
    g_assert_cmpuint(st.st_mode & 07777, ==, 04755);
    g_assert_cmpint(st.st_mtime, ==, 1000000000);
    g_assert_cmpuint(st.st_nlink, ==, 2);
    g_assert_cmpuint(st.st_uid, ==, getuid());
    ssize_t n = getxattr(file, "user.note", note, sizeof note);
    g_assert_true(n == 4 || errno == ENOTSUP || errno == ENODATA);
    g_assert_true(is_there(place, "t/link", &st) && S_ISLNK(st.st_mode));
    g_assert_true(is_there(place, "t/\xc3\xbc-\xff", &st));
    g_assert_true(is_there(place, "t/sub", &st));
    g_assert_cmpuint(st.st_mode & 07777, ==, 02750);
    g_assert_true(is_there(place, "t/holes", &st));
    g_assert_cmpint(st.st_size, ==, (8 << 20) + 3);
    g_assert_cmpint(st.st_blocks * 512, <, 1 << 20);
    g_autofree char *text = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(holes, &text, &size, NULL));
    g_assert_cmpmem(text + (8 << 20), 3, "end", 3);
}

static void
tree_comes_back_as_it_was(void)
{
    static const char *const kinds[] = {"none", "gzip", "xz -1", "zstd -3", "bzip2", "lzma"};
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct place place = place_new();
        g_autofree char *tree = g_build_filename(place.top, "tree", NULL);
        make_tree(tree);
        haw_autofd int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        struct pack_run pack = {
            .fd = fd, .member = {.name = "t", .path = tree}, .compression = kinds[i]};
        in_fiber(pack_body, &pack);
        g_assert_no_error(pack.error);
        struct run run = {.spec = {.fd = fd, .dir = place.in}};
        in_fiber(run_body, &run);
        g_assert_no_error(run.error);
        check_tree(&place);
        place_free(&place);
    }
}

static void
equal_trees_give_equal_archives(void)
{
    struct place place = place_new();
    g_autofree char *tree = g_build_filename(place.top, "tree", NULL);
    char *bytes[2];
    off_t size[2];
    make_tree(tree);
    for (int i = 0; i < 2; i++) {
        haw_autofd int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        struct pack_run pack = {
            .fd = fd, .member = {.name = "t", .path = tree}, .compression = "none"};
        in_fiber(pack_body, &pack);
        g_assert_true(pack.ok);
        size[i] = lseek(fd, 0, SEEK_END);
        bytes[i] = g_malloc((gsize) size[i]);
        g_assert_cmpint(pread(fd, bytes[i], (size_t) size[i], 0), ==, size[i]);
    }
    g_assert_cmpmem(bytes[0], (gsize) size[0], bytes[1], (gsize) size[1]);
    g_assert_cmpint(size[0], <, 1 << 20);
    g_free(bytes[0]);
    g_free(bytes[1]);
    place_free(&place);
}

static void
ids_are_shifted_both_ways(void)
{
    if (getuid() != 0) {
        g_test_skip("needs root to give files away");
        return;
    }
    struct place place = place_new();
    struct stat st;
    g_autofree char *tree = g_build_filename(place.top, "tree", NULL);
    g_autofree char *file = g_build_filename(tree, "file", NULL);
    json_t *map = json_pack("[{s:b,s:b,s:i,s:i,s:i}]", "Isuid", 1, "Isgid", 1, "Hostid", 1000000,
                            "Nsid", 0, "Maprange", 65536);
    make_tree(tree);
    g_assert_cmpint(chown(file, 1000033, 1000000), ==, 0);
    haw_autofd int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct pack_run pack = {
        .fd = fd, .member = {.name = "t", .path = tree, .idmap = map}, .compression = "none"};
    in_fiber(pack_body, &pack);
    g_assert_no_error(pack.error);

    struct run run = {.spec = {.fd = fd, .dir = place.in}};
    in_fiber(run_body, &run);
    g_assert_true(is_there(&place, "t/file", &st));
    g_assert_cmpuint(st.st_uid, ==, 33);
    g_assert_cmpuint(st.st_gid, ==, 0);
    g_assert_true(is_there(&place, "t/sub", &st));
    g_assert_cmpuint(st.st_uid, ==, 65534); /* 0 on the host isn't in the map */
    run.spec.idmap = map;
    in_fiber(run_body, &run);
    g_assert_true(is_there(&place, "t/file", &st));
    g_assert_cmpuint(st.st_uid, ==, 1000033);
    json_decref(map);
    place_free(&place);
}

static void
unknown_compressions_are_refused(void)
{
    static const char *const bad[] = {"",         "rot13",  "gzip; rm -rf /", "xz --threads",
                                      "zstd -99", "gzip -x"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(archive_compression_known(bad[i], &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
    g_assert_true(archive_compression_known("zstd -19", NULL));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } tests[] = {
        {"absolute-name-is-refused", absolute_name_is_refused},
        {"a-slash-before-rootfs-is-dropped", a_slash_before_rootfs_is_dropped},
        {"dotdot-is-refused", dotdot_is_refused},
        {"symlink-that-leads-out-is-not-followed", symlink_that_leads_out_is_not_followed},
        {"device-through-symlink-is-refused", device_through_symlink_is_refused},
        {"hard-link-that-leads-out-is-refused", hard_link_that_leads_out_is_refused},
        {"directory-over-symlink-leaves-the-target-alone",
         directory_over_symlink_leaves_the_target_alone},
        {"file-over-symlink-replaces-the-link", file_over_symlink_replaces_the_link},
        {"symlink-that-stays-inside-is-followed", symlink_that_stays_inside_is_followed},
        {"device-nodes-outside-dev-are-refused", device_nodes_outside_dev_are_refused},
        {"device-nodes-below-dev-are-passed-over", device_nodes_below_dev_are_passed_over},
        {"broken-archives-are-corrupt", broken_archives_are_corrupt},
        {"prefix-is-taken-off-and-binds-links", prefix_is_taken_off_and_binds_links},
        {"only-names-that-are-asked-for-arrive", only_names_that_are_asked_for_arrive},
        {"tree-comes-back-as-it-was", tree_comes_back_as_it_was},
        {"equal-trees-give-equal-archives", equal_trees_give_equal_archives},
        {"ids-are-shifted-both-ways", ids_are_shifted_both_ways},
        {"unknown-compressions-are-refused", unknown_compressions_are_refused},
    };
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/archive/", tests[i].name, NULL);
        g_test_add_func(path, tests[i].fn);
    }
    return g_test_run();
}
