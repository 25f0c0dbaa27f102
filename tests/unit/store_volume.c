/* agent/store: V1, V2, V3, N1, N2, R1 to R3 on a pool of the driver 'dir', with custom volumes (they
 * need no root). The world outside (warnings, paths) is faked. */
#include "agent/store/schedule.h"
#include "tests/fakes/store_fixture.h"

static const Vol v1 = {.pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v1"};
static const Vol v1s0 = {
    .pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v1", .snap = "s0"};
static const Vol v2 = {.pool = "p1", .project = "default", .type = VOL_CUSTOM, .name = "v2"};

static void
put(Fixture *f, const Vol *vol, const char *text)
{
    g_autofree char *path = vol_path(f->table, vol);
    g_autofree char *file = g_build_filename(path, "file", NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
}

static void
expect(Fixture *f, const Vol *vol, const char *text)
{
    g_autofree char *path = vol_path(f->table, vol);
    g_autofree char *file = g_build_filename(path, "file", NULL);
    g_autofree char *now = NULL;
    g_assert_true(g_file_get_contents(file, &now, NULL, NULL));
    g_assert_cmpstr(now, ==, text);
}

static bool
there(Fixture *f, const Vol *vol)
{
    g_autofree char *path = vol_path(f->table, vol);
    return access(path, F_OK) == 0;
}

static bool
has_row(Fixture *f, const Vol *vol)
{
    VolumeWhich which = shelf_which(vol);
    if (vol->snap != NULL) {
        g_autoptr(VolumeSnapRow) snap = volume_snaps_get(f->agent.db, &which, NULL);
        return snap != NULL;
    }
    g_autoptr(VolumeRow) row = volumes_get(f->agent.db, &which, NULL);
    return row != NULL;
}

static void
make(Fixture *f, const Vol *vol, const char *text)
{
    g_autoptr(GError) error = NULL;
    vol_create(f->table, vol, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    put(f, vol, text);
}

static void
restore_brings_the_snapshot_back(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "old");
    vol_snapshot(f->table, &v1s0, 0, &error);
    g_assert_no_error(error);
    put(f, &v1, "new");
    expect(f, &v1s0, "old");
    vol_restore(f->table, &v1s0, &error);
    g_assert_no_error(error);
    expect(f, &v1, "old");
}

static void
copy_takes_snapshots_along(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "old");
    vol_snapshot(f->table, &v1s0, 0, &error);
    put(f, &v1, "new");
    vol_copy(f->table, &v1, &v2, true, NULL, &error);
    g_assert_no_error(error);
    Vol v2s0 = v2;
    v2s0.snap = "s0";
    expect(f, &v2, "new");
    expect(f, &v2s0, "old");
    g_assert_true(has_row(f, &v2s0));
}

static void
name_in_use_is_refused(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "x");
    g_assert_false(vol_create(f->table, &v1, NULL, NULL, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_EXISTS);
    g_assert_cmpstr(error->message, ==, "Volume by that name already exists");
    expect(f, &v1, "x");
}

static bool
fill_fails(const char *path, void *data, GError **error)
{
    return haw_fail(error, HAW_LIMIT, "No space left on device");
}

static void
failed_creation_leaves_nothing(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(vol_create(f->table, &v1, NULL, fill_fails, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_LIMIT);
    g_assert_false(has_row(f, &v1));
    g_assert_false(there(f, &v1));
    g_autofree char *new_dir = g_build_filename(dir, "storage-pools/p1/.new", NULL);
    g_assert_true(disktree_is_empty(new_dir));
}

static void
rename_moves_snapshots_too(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "x");
    vol_snapshot(f->table, &v1s0, 0, &error);
    vol_rename(f->table, &v1, "v2", &error);
    g_assert_no_error(error);
    Vol v2s0 = v2;
    v2s0.snap = "s0";
    g_assert_true(there(f, &v2s0));
    g_assert_false(there(f, &v1s0));
    expect(f, &v2, "x");
}

static void
deleted_volume_is_gone_with_rows_and_bytes(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "x");
    vol_snapshot(f->table, &v1s0, 0, &error);
    vol_delete(f->table, &v1, &error);
    g_assert_no_error(error);
    g_assert_false(has_row(f, &v1) || has_row(f, &v1s0) || there(f, &v1) || there(f, &v1s0));
    shelf_drain(shelf_pool(f->table, "p1", true, NULL));
    g_autofree char *gone = g_build_filename(dir, "storage-pools/p1/.gone", NULL);
    g_assert_true(disktree_is_empty(gone));
}

static void
held_volume_is_not_deleted(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    make(f, &v1, "x");
    g_assert_true(vol_mount(f->table, &v1, &path, NULL));
    g_assert_false(vol_delete(f->table, &v1, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_BUSY);
    g_assert_true(vol_unmount(f->table, &v1, NULL));
    g_assert_true(vol_delete(f->table, &v1, NULL));
}

/* ---- after a crash: the table is closed and opened over a disk as the crash left it ---- */

static void
again(Fixture *f, const char *dir)
{
    down(f);
    *f = (Fixture){0};
    up(f, dir);
}

static void
directory_without_row_is_removed_at_start(Fixture *f, const char *dir)
{
    g_autofree char *stray = g_build_filename(dir, "storage-pools/p1/custom/default_x", NULL);
    g_autofree char *half = g_build_filename(dir, "storage-pools/p1/.new/abc", NULL);
    g_assert_true(fd_mkdir_p(stray, 0700, NULL) && fd_mkdir_p(half, 0700, NULL));
    make(f, &v1, "x");
    again(f, dir);
    g_assert_true(access(stray, F_OK) < 0 && access(half, F_OK) < 0);
    expect(f, &v1, "x");
}

static void
row_without_directory_is_removed_at_start(Fixture *f, const char *dir)
{
    make(f, &v1, "x");
    g_autofree char *path = vol_path(f->table, &v1);
    disktree_remove(path, NULL);
    again(f, dir);
    g_assert_false(has_row(f, &v1));
}

static void
pool_without_mark_keeps_its_rows(Fixture *f, const char *dir)
{
    make(f, &v1, "x");
    g_autofree char *pool = g_build_filename(dir, "storage-pools/p1", NULL);
    g_autofree char *aside = g_build_filename(dir, "aside", NULL);
    g_assert_cmpint(rename(pool, aside), ==, 0);
    again(f, dir);
    g_assert_true(has_row(f, &v1));
    g_autoptr(GError) error = NULL;
    g_assert_false(vol_snapshot(f->table, &v1s0, 0, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_UNAVAILABLE);
}

static void
rename_cut_short_is_finished_at_start(Fixture *f, const char *dir)
{
    make(f, &v1, "x");
    VolumeWhich which = shelf_which(&v1);
    g_autoptr(VolumeRow) row = volumes_get(f->agent.db, &which, NULL);
    g_assert_true(volumes_rename(f->agent.db, row->id, "v2", "v1", NULL));
    again(f, dir);
    expect(f, &v2, "x");
    g_assert_false(there(f, &v1));
}

static void
pool_in_use_is_not_deleted(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    make(f, &v1, "x");
    g_assert_false(pool_delete(f->table, "p1", &error));
    g_assert_cmpstr(error->message, ==, "The storage pool is currently in use");
    g_assert_cmpint(haw_code_rest(haw_code(error)), ==, 400);
    g_clear_error(&error);
    g_assert_true(vol_delete(f->table, &v1, NULL));
    g_assert_true(pool_delete(f->table, "p1", &error));
    g_autofree char *pool = g_build_filename(dir, "storage-pools/p1", NULL);
    g_assert_true(access(pool, F_OK) < 0);
}

static void
schedule_makes_what_is_due_and_removes_what_expired(Fixture *f, const char *dir)
{
    g_autoptr(GError) error = NULL;
    json_t *config =
        json_pack("{s:s, s:s}", "snapshots.schedule", "* * * * *", "snapshots.pattern", "auto%d");
    g_assert_true(vol_create(f->table, &v1, config, NULL, NULL, NULL));
    json_decref(config);
    g_assert_true(vol_snapshot(f->table, &v1s0, 1, &error)); /* expired in 1970 */
    make(f, &v2, "x");
    schedule_run(f->table);
    Vol made = v1, other = v2;
    made.snap = other.snap = "auto0";
    g_assert_true(has_row(f, &made) && there(f, &made));
    g_assert_false(has_row(f, &v1s0) || there(f, &v1s0));
    g_assert_false(has_row(f, &other));
}

static void
snapshot_names_count_up(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_ptr_array_add(names, (void *) "snap0");
    g_ptr_array_add(names, (void *) "snap7");
    g_ptr_array_add(names, (void *) "snapx");
    g_autofree char *next = schedule_name("snap%d", names, 0);
    g_assert_cmpstr(next, ==, "snap8");
    g_autofree char *dated = schedule_name("d-{{ creation_date }}", names, 0);
    g_assert_cmpstr(dated, ==, "d-1970-01-01_00-00-00");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level(LOG_LEVEL_ERROR);
    static const struct {
        const char *name;
        Case test;
    } cases[] = {
        {"restore-brings-the-snapshot-back", {"dir", NULL, restore_brings_the_snapshot_back}},
        {"copy-takes-snapshots-along", {"dir", NULL, copy_takes_snapshots_along}},
        {"name-in-use-is-refused", {"dir", NULL, name_in_use_is_refused}},
        {"failed-creation-leaves-nothing", {"dir", NULL, failed_creation_leaves_nothing}},
        {"rename-moves-snapshots-too", {"dir", NULL, rename_moves_snapshots_too}},
        {"deleted-volume-is-gone-with-rows-and-bytes",
         {"dir", NULL, deleted_volume_is_gone_with_rows_and_bytes}},
        {"held-volume-is-not-deleted", {"dir", NULL, held_volume_is_not_deleted}},
        {"directory-without-row-is-removed-at-start",
         {"dir", NULL, directory_without_row_is_removed_at_start}},
        {"row-without-directory-is-removed-at-start",
         {"dir", NULL, row_without_directory_is_removed_at_start}},
        {"pool-without-mark-keeps-its-rows", {"dir", NULL, pool_without_mark_keeps_its_rows}},
        {"rename-cut-short-is-finished-at-start",
         {"dir", NULL, rename_cut_short_is_finished_at_start}},
        {"pool-in-use-is-not-deleted", {"dir", NULL, pool_in_use_is_not_deleted}},
        {"schedule-makes-what-is-due-and-removes-what-expired",
         {"dir", NULL, schedule_makes_what_is_due_and_removes_what_expired}},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/volume/", cases[i].name, NULL);
        g_test_add_data_func(path, &cases[i].test, run_case);
    }
    g_test_add_func("/schedule/snapshot-names-count-up", snapshot_names_count_up);
    return g_test_run();
}
