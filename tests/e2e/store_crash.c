/* Does a process that is killed at any crash point of the volumes' operations leave a pool which the next
 * start puts right? On dir, overlay and btrfs. Needs root. */
#include "tests/fakes/store_fixture.h"

#include "agent/store/mnt.h"
#include "base/proc.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
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
static const Vol v2 = {.pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v2"};

static bool
fill_image(const char *path, void *data, GError **error)
{
    g_autofree char *root = g_build_filename(path, "rootfs", NULL);
    return fd_mkdir_p(root, 0755, error);
}

static bool
there(Fixture *f, const Vol *vol)
{
    g_autofree char *path = vol_path(f->table, vol);
    return access(path, F_OK) == 0;
}

static void
scenario(Fixture *f, const char *dir)
{
    vol_create_from_image(f->table, &c1, FP, NULL, fill_image, NULL, NULL);
    vol_snapshot(f->table, &c1s0, 0, NULL);
    vol_copy(f->table, &c1, &c2, true, NULL, NULL);
    vol_restore(f->table, &c1s0, NULL);
    vol_create(f->table, &v1, NULL, NULL, NULL, NULL);
    vol_snapshot(f->table, &v1s0, 0, NULL);
    vol_rename(f->table, &v1, "v2", NULL);
    Vol v2s0 = v2;
    v2s0.snap = "s0";
    vol_snapshot_rename(f->table, &v2s0, "s1", NULL);
    v2s0.snap = "s1";
    vol_snapshot_delete(f->table, &v2s0, NULL);
    vol_delete(f->table, &v2, NULL);
    vol_delete(f->table, &c1, NULL);
}

/* R1 to R3: rows and directories name the same, and nothing lies about. */
static void
assert_consistent(Fixture *f, const char *dir)
{
    const VolumeWhich all = {.pool = "p1"};
    g_autoptr(GPtrArray) rows = volumes_load(f->agent.db, &all, NULL);
    g_autoptr(GPtrArray) snaps = volume_snaps_load(f->agent.db, &all, NULL);
    guint dirs = 0;
    static const char *const places[] = {"containers", "custom", "images"};
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(dir, "storage-pools/p1", places[i], NULL);
        g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
        while (g_dir_read_name(entries) != NULL) {
            dirs++;
        }
    }
    g_assert_cmpuint(dirs, ==, rows->len);
    for (guint i = 0; i < rows->len; i++) {
        VolumeRow *row = rows->pdata[i];
        Vol vol = {.pool = "p1", .project = row->project, .name = row->name};
        g_assert_true(shelf_type_parse(row->type, &vol.type));
        g_assert_true(there(f, &vol));
        g_assert_null(row->moved_from);
    }
    for (guint i = 0; i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        Vol vol = {
            .pool = "p1", .project = snap->project, .name = snap->volume, .snap = snap->name};
        g_assert_true(shelf_type_parse(snap->type, &vol.type));
        g_assert_true(there(f, &vol));
    }
    shelf_drain(shelf_pool(f->table, "p1", true, NULL));
    g_autofree char *new_dir = g_build_filename(dir, "storage-pools/p1/.new", NULL);
    g_autofree char *gone_dir = g_build_filename(dir, "storage-pools/p1/.gone", NULL);
    g_assert_true(disktree_is_empty(new_dir) && disktree_is_empty(gone_dir));
}

static const char *self_path;

/* The scenario in a process of its own that dies at the n-th point of the area; true: it died. */
static bool
die_at(const char *dir, const char *driver, const char *area, int n)
{
    g_autofree char *crash = g_strdup_printf("HAWSER_CRASH=%s:%d", area, n);
    const char *const argv[] = {"env", crash, self_path, "--scenario", dir, driver, NULL};
    g_autofree char *log = g_build_filename(dir, "scenario.log", NULL);
    pid_t pid = proc_spawn(argv, NULL, log, NULL, 0, NULL);
    int status = 0;
    g_assert_true(fiber_wait_pid(pid, 60000, NULL, &status, NULL));
    if (WIFEXITED(status)) {
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
        return false;
    }
    g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
    return true;
}

struct deaths {
    const char *driver;
    int count;
};

static void
deaths_fiber(void *data)
{
    struct deaths *job = data;
    static const char *const areas[] = {"volume", "snapshot", "restore", "rename", "delete"};
    for (size_t i = 0; i < G_N_ELEMENTS(areas); i++) {
        for (int n = 1;; n++) {
            g_autofree char *dir = g_dir_make_tmp("haw-store-XXXXXX", NULL);
            bool died = die_at(dir, job->driver, areas[i], n);
            Fixture f = {0};
            up(&f, dir);
            if (shelf_pool(f.table, "p1", true, NULL) != NULL) {
                assert_consistent(&f, dir);
            }
            down(&f);
            g_autofree char *pool = g_build_filename(dir, "storage-pools/p1", NULL);
            mnt_unmount(pool, true, NULL);
            g_assert_true(disktree_remove(dir, NULL));
            if (!died) {
                break;
            }
            job->count++;
        }
    }
}

static void
next_start_repairs_every_death(gconstpointer driver)
{
    struct deaths job = {.driver = driver};
    fiber_start("test", deaths_fiber, &job);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_test_message("%d deaths", job.count);
    g_assert_cmpint(job.count, >, 20);
}

static char **scenario_args;

static void
scenario_fiber(void *data)
{
    Fixture f = {0};
    up(&f, scenario_args[2]);
    make_pool(&f, "p1", scenario_args[3],
              strcmp(scenario_args[3], "btrfs") == 0 ? POOL_BYTES : NULL);
    scenario(&f, scenario_args[2]);
    down(&f);
}

int
main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_ERROR);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    self_path = self;
    if (argc == 4 && strcmp(argv[1], "--scenario") == 0) {
        scenario_args = argv;
        fiber_start("scenario", scenario_fiber, NULL);
        while (fiber_count() > 0) {
            g_main_context_iteration(NULL, TRUE);
        }
        return 0;
    }
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("1..0 # SKIP needs root (loop devices, btrfs, overlay)\n");
        return 77;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/dir/next-start-repairs-every-death", "dir",
                         next_start_repairs_every_death);
    g_test_add_data_func("/overlay/next-start-repairs-every-death", "overlay",
                         next_start_repairs_every_death);
    g_test_add_data_func("/btrfs/next-start-repairs-every-death", "btrfs",
                         next_start_repairs_every_death);
    return g_test_run();
}
