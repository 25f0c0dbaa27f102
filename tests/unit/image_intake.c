/* agent/image/intake.c: I1 to I4, and U1 of upkeep.c: fingerprints, and that nothing half-made stays. */
#include "agent/image/archive.h"
#include "agent/image/image.h"
#include "agent/image/intake.h"
#include "agent/image/upkeep.h"
#include "agent/state/db.h"
#include "agent/state/images.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char metadata[] = "architecture: x86_64\ncreation_date: 1700000000\n"
                               "properties: {os: Test}\n";

static Agent *
agent_make(void)
{
    Agent *agent = g_new0(Agent, 1);
    agent->dir = g_dir_make_tmp("image-intake-XXXXXX", NULL);
    g_autofree char *images = agent_path(agent, "images");
    g_assert_cmpint(mkdir(images, 0700), ==, 0);
    agent->db = db_open(":memory:", NULL);
    agent->images = image_table_new(agent);
    return agent;
}

static void
agent_drop(Agent *agent)
{
    image_table_free(agent->images);
    db_close(agent->db);
    g_assert_true(fd_remove_tree(agent->dir, NULL));
    g_free(agent->dir);
    g_free(agent);
}

static guint
file_count(Agent *agent)
{
    g_autofree char *path = agent_path(agent, "images");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;
    while (g_dir_read_name(dir) != NULL) {
        count++;
    }
    return count;
}

/* A body of metadata.yaml and, when asked for, something below rootfs/. */
static int
archive_make(const char *text, bool with_rootfs)
{
    ArchiveMember members[] = {{.name = "metadata.yaml", .bytes = text, .size = strlen(text)},
                               {.name = "rootfs/f", .bytes = "x", .size = 1}};
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_assert_true(archive_pack(fd, members, with_rootfs ? 2 : 1, "gzip", NULL, NULL));
    return fd;
}

static char *
sha256(int fd, int fd2)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    int fds[] = {fd, fd2};
    for (int i = 0; i < 2 && fds[i] >= 0; i++) {
        guint8 byte[65536];
        ssize_t n = pread(fds[i], byte, sizeof byte, 0);
        g_checksum_update(sum, byte, n);
    }
    char *text = g_strdup(g_checksum_get_string(sum));
    g_checksum_free(sum);
    return text;
}

static bool
import(Agent *agent, const char *project, int fd, const char *type, GError **error)
{
    g_autoptr(Intake) intake = intake_new(agent);
    return intake_take_body(intake, fd, type, "upload.tar.gz", error) &&
           intake_inspect(intake, NULL, NULL, error) && intake_commit(intake, project, error);
}

static void
unified_body(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int fd = archive_make(metadata, true);
    g_autofree char *want = sha256(fd, -1);
    g_assert_true(import(agent, "default", fd, NULL, &error));
    g_assert_no_error(error);
    json_auto_t *image = image_find(agent->images, "default", want, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_string_value(json_object_get(image, "type")), ==, "container");
    g_assert_cmpstr(json_string_value(json_object_get(image, "created_at")), ==,
                    "2023-11-14T22:13:20.000000Z");
    g_assert_cmpuint(file_count(agent), ==, 1);

    g_assert_false(import(agent, "default", fd, NULL, &error));
    g_assert_cmpstr(error->message, ==, "Image with same fingerprint already exists");
    g_assert_cmpuint(file_count(agent), ==, 1);
    g_clear_error(&error);
    g_assert_true(image_delete(agent->images, "default", want, &error));
    g_assert_cmpuint(file_count(agent), ==, 0);
}

static void
split_body(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int meta = archive_make(metadata, false);
    haw_autofd int root = archive_make("root", true);
    haw_autofd int body = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_autofree char *want = sha256(meta, root);
    static const char *const heads[] = {
        "--B\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\n",
        "\r\n--B\r\nContent-Disposition: form-data; name=\"rootfs\"; filename=\"r\"\r\n\r\n"};
    int fds[] = {meta, root};
    for (int i = 0; i < 2; i++) {
        guint8 bytes[65536];
        ssize_t n = pread(fds[i], bytes, sizeof bytes, 0);
        g_assert_true(fd_write_all(body, heads[i], strlen(heads[i]), "body", NULL));
        g_assert_true(fd_write_all(body, bytes, (size_t) n, "body", NULL));
    }
    g_assert_true(fd_write_all(body, "\r\n--B--\r\n", 9, "body", NULL));

    g_assert_true(import(agent, "default", body, "multipart/form-data; boundary=B", &error));
    g_assert_no_error(error);
    json_auto_t *image = image_find(agent->images, "default", want, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_string_value(json_object_get(image, "filename")), ==, "r");
    g_assert_cmpuint(file_count(agent), ==, 2);
    g_assert_true(image_delete(agent->images, "default", want, &error));
    g_assert_cmpuint(file_count(agent), ==, 0);
}

static void
bad_bodies(void *data)
{
    Agent *agent = data;
    haw_autofd int no_root = archive_make(metadata, false);
    haw_autofd int bad_yaml = archive_make("architecture: [\n", true);
    haw_autofd int empty = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    haw_autofd int noise = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_assert_true(fd_write_all(noise, "\x1f\x8bnoise", 7, "noise", NULL));
    int fds[] = {no_root, bad_yaml, empty, noise};
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(import(agent, "default", fds[i], NULL, &error));
        g_assert_nonnull(error);
        g_assert_cmpuint(file_count(agent), ==, 0);
        g_clear_error(&error);
        g_assert_false(import(agent, "default", fds[i], "multipart/form-data; boundary=B", &error));
        g_assert_cmpuint(file_count(agent), ==, 0);
    }
}

static bool
make_project(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error,
                   "INSERT INTO projects (name, description, config) VALUES ('other', '',"
                   " '{\"features.images\":\"true\"}')",
                   "");
}

static void
shared_by_projects(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int fd = archive_make(metadata, true);
    g_autofree char *want = sha256(fd, -1);
    g_assert_true(db_write(agent->db, make_project, NULL, &error));
    g_assert_true(import(agent, "default", fd, NULL, &error));
    g_assert_true(import(agent, "other", fd, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(file_count(agent), ==, 1);
    g_assert_true(image_delete(agent->images, "default", want, &error));
    g_assert_cmpuint(file_count(agent), ==, 1);
    g_assert_true(image_delete(agent->images, "other", want, &error));
    g_assert_cmpuint(file_count(agent), ==, 0);
}

static void
leftovers(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int fd = archive_make(metadata, true);
    g_assert_true(import(agent, "default", fd, NULL, &error));
    static const char *const strays[] = {"images/hawser_build_1234", "images/0123.rootfs", NULL};
    for (int i = 0; strays[i] != NULL; i++) {
        g_autofree char *path = agent_path(agent, "%s", strays[i]);
        g_assert_true(g_file_set_contents(path, "x", 1, NULL));
    }
    g_assert_cmpuint(file_count(agent), ==, 3);
    g_assert_true(upkeep_clean(agent, &error));
    g_assert_cmpuint(file_count(agent), ==, 1);
}

static bool
make_cached(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "UPDATE images SET cached = 1", "") &&
           db_exec(tx, error,
                   "UPDATE projects SET config ="
                   " '{\"images.remote_cache_expiry\":\"9223372036854775807\"}'"
                   " WHERE name = 'default'",
                   "");
}

static void
kept_longest(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int fd = archive_make(metadata, true);
    g_assert_true(import(agent, "default", fd, NULL, &error));
    g_assert_true(db_write(agent->db, make_cached, NULL, &error));
    g_assert_no_error(error);
    g_assert_true(upkeep_expire(agent, NULL, &error));
    g_assert_cmpuint(file_count(agent), ==, 1);
}

static void
run(gconstpointer body)
{
    Agent *agent = agent_make();
    fiber_start("test", (FiberFn) body, agent);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    agent_drop(agent);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/intake/unified-fingerprint-is-the-files-and-unique", unified_body, run);
    g_test_add_data_func("/intake/split-fingerprint-covers-both-files", split_body, run);
    g_test_add_data_func("/intake/bad-bodies-leave-nothing", bad_bodies, run);
    g_test_add_data_func("/intake/projects-share-files-until-the-last-goes", shared_by_projects,
                         run);
    g_test_add_data_func("/upkeep/leftovers-go-at-start", leftovers, run);
    g_test_add_data_func("/upkeep/the-longest-expiry-keeps-cached-images", kept_longest, run);
    return g_test_run();
}
