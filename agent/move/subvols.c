/* Streams of subvolumes.
 * T1  A stream needs a read-only subvolume. Snapshots are; the volume is shown as a clone; subvolumes
 *     that a container made inside them are made read-only for the time of the sending.
 * T2  What arrives lands in a directory of its own in .new, is made writable (a read-only directory
 *     cannot be moved), and goes where it belongs; properties are set when all of a volume is there.
 * T3  Paths of inner subvolumes come from the other side: no "..", walked with RESOLVE_BENEATH and
 *     without symlinks.
 * Called by movevol.c, and by inst/optimized.c for backups. */
#include "agent/move/subvols.h"

#include "agent/move/pour.h"
#include "agent/state/inst_rows.h"
#include "agent/store/subvol.h"
#include "agent/store/volview.h"
#include "agent/store/work.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SUBVOLUMES_MAX = 100000 };

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- sending ---- */

static char *
place_of(PoolTable *pools, const Vol *vol, const char *snap)
{
    Vol one = *vol;
    one.snap = snap;
    return vol_path(pools, &one);
}

/* The lines of one volume or snapshot at 'path'. */
static bool
list_one(json_t *list, const char *path, const char *snap, GError **error)
{
    g_autoptr(GPtrArray) inner = subvol_list_below(path, error);
    if (inner == NULL) {
        return false;
    }
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:b}", "path", "/", "snapshot", snap, "readonly", *snap != '\0'));
    for (guint i = 0; i < inner->len; i++) {
        g_autofree char *at = g_build_filename(path, inner->pdata[i], NULL);
        json_array_append_new(
            list, json_pack("{s:o,s:s,s:b}", "path", json_sprintf("/%s", (char *) inner->pdata[i]),
                            "snapshot", snap, "readonly", subvol_is_readonly(at)));
    }
    return true;
}

json_t *
subvols_lines(PoolTable *pools, const Vol *vol, GPtrArray *snaps, GError **error)
{
    json_auto_t *list = json_array();
    for (guint i = 0; i < snaps->len; i++) {
        const SnapRow *snap = snaps->pdata[i];
        g_autofree char *path = place_of(pools, vol, snap->name);
        if (!list_one(list, path, snap->name, error)) {
            return NULL;
        }
    }
    g_autofree char *main_path = place_of(pools, vol, vol->snap);
    return list_one(list, main_path, "", error) ? json_pack("{s:O}", "subvolumes", list) : NULL;
}

typedef struct {
    SubvolsSend fn;
    void *data;
} Sending;

/* T1 */
static bool
send_line(const Sending *sending, const SubvolsLine *line, const char *base,
          const char *parent_base, GError **error)
{
    g_autofree char *at = g_build_filename(base, line->path, NULL);
    g_autofree char *parent =
        parent_base != NULL ? g_build_filename(parent_base, line->path, NULL) : NULL;
    bool differs = parent != NULL && subvol_is(parent);
    bool was = subvol_is_readonly(at);
    bool parent_was = differs && subvol_is_readonly(parent);
    bool ok = (was || subvol_set_readonly(at, true, error)) &&
              (!differs || parent_was || subvol_set_readonly(parent, true, error)) &&
              sending->fn(line, at, differs ? parent : NULL, sending->data, error);
    if (!was) {
        subvol_set_readonly(at, false, NULL);
    }
    if (differs && !parent_was) {
        subvol_set_readonly(parent, false, NULL);
    }
    return ok;
}

static bool
send_lines(const Sending *sending, json_t *list, const char *snap, const char *base,
           const char *parent_base, GError **error)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(list, "subvolumes"), i, item) {
        const SubvolsLine line = {.snap = snap, .path = text_of(item, "path")};
        if (strcmp(text_of(item, "snapshot"), snap) == 0 &&
            !send_line(sending, &line, base, parent_base, error)) {
            return false;
        }
    }
    return true;
}

bool
subvols_send_to(PoolTable *pools, const Vol *vol, GPtrArray *snaps, json_t *lines, SubvolsSend send,
                void *data, GError **error)
{
    const Sending sending = {.fn = send, .data = data};
    g_autofree char *parent = NULL;
    for (guint i = 0; i < snaps->len; i++) {
        const char *snap = ((SnapRow *) snaps->pdata[i])->name;
        g_autofree char *base = place_of(pools, vol, snap);
        if (!send_lines(&sending, lines, snap, base, parent, error)) {
            return false;
        }
        g_free(parent);
        parent = g_steal_pointer(&base);
    }
    g_auto(VolView) view = {0};
    return volview_open(pools, vol, &view, error) &&
           send_lines(&sending, lines, "", view.path, parent, error);
}

static bool
send_frames(const SubvolsLine *line, const char *at, const char *parent, void *data, GError **error)
{
    return pour_subvol_send(data, at, parent, error);
}

bool
subvols_send(MoveConn *conn, PoolTable *pools, const Vol *vol, GPtrArray *snaps, GError **error)
{
    json_auto_t *lines = subvols_lines(pools, vol, snaps, error);
    g_autofree char *text = lines != NULL ? json_dumps(lines, JSON_COMPACT) : NULL;
    return text != NULL && moveconn_write_frame(conn, text, strlen(text), error) &&
           subvols_send_to(pools, vol, snaps, lines, send_frames, conn, error);
}

/* ---- receiving ---- */

struct SubvolsIn {
    SubvolsTake take;
    void *data;
    Pool *pool;
    json_t *list;
};

/* T3 */
static bool
path_fine(const char *path)
{
    if (*path != '/' || strlen(path) >= 4096) {
        return false;
    }
    g_auto(GStrv) parts = g_strsplit(path + 1, "/", -1);
    for (char **part = parts; path[1] != '\0' && *part != NULL; part++) {
        if (**part == '\0' || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0) {
            return false;
        }
    }
    return true;
}

bool
subvols_check(json_t *list, GError **error)
{
    size_t i;
    json_t *line, *lines = json_object_get(list, "subvolumes");
    const char *volume = NULL;
    if (!json_is_array(lines) || json_array_size(lines) > SUBVOLUMES_MAX) {
        return haw_fail(error, HAW_INVALID, "The list of subvolumes can't be read");
    }
    json_array_foreach (lines, i, line) {
        const char *path = text_of(line, "path"), *snap = text_of(line, "snapshot");
        bool first = volume == NULL || strcmp(volume, snap) != 0;
        volume = snap;
        if (!path_fine(path) || first != (strcmp(path, "/") == 0)) {
            return haw_fail(error, HAW_INVALID, "Invalid path of a subvolume: \"%s\"", path);
        }
    }
    return true;
}

SubvolsIn *
subvols_in_from(PoolTable *pools, const Vol *vol, json_t *lines, SubvolsTake take, void *data,
                GError **error)
{
    Pool *pool = shelf_pool(pools, vol->pool, true, error);
    if (pool == NULL || !subvols_check(lines, error)) {
        return NULL;
    }
    SubvolsIn *in = g_new0(SubvolsIn, 1);
    *in = (SubvolsIn){.take = take, .data = data, .pool = pool, .list = json_incref(lines)};
    return in;
}

static bool
take_frames(const SubvolsLine *line, const char *dir, void *data, GError **error)
{
    return pour_subvol_receive(data, dir, error);
}

SubvolsIn *
subvols_in_new(MoveConn *conn, PoolTable *pools, const Vol *vol, GPtrArray *snaps, GError **error)
{
    g_autofree char *text = NULL;
    size_t size = 0;
    if (!moveconn_read_frame(conn, &text, &size, error)) {
        return NULL;
    }
    json_auto_t *lines = json_loadb(text, size, 0, NULL);
    return subvols_in_from(pools, vol, lines, take_frames, conn, error);
}

void
subvols_in_free(SubvolsIn *in)
{
    if (in != NULL) {
        json_decref(in->list);
        g_free(in);
    }
}

static int
open_beneath(int dir, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int) syscall(SYS_openat2, dir, path, &how, sizeof how);
}

/* The only entry of 'dir'; caller frees. */
static char *
only_name(const char *dir, GError **error)
{
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    g_autofree char *name = entries != NULL ? g_strdup(g_dir_read_name(entries)) : NULL;
    if (name == NULL || g_dir_read_name(entries) != NULL) {
        haw_fail(error, HAW_CORRUPT, "A stream holds exactly one subvolume");
        return NULL;
    }
    return g_steal_pointer(&name);
}

/* T3: an inner subvolume goes in place of the empty directory that stands for it. */
static bool
put_inside(const char *from, const char *base, const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path + 1), *name = g_path_get_basename(path);
    haw_autofd int root = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    haw_autofd int dir = root >= 0 ? open_beneath(root, parent) : -1;
    if (dir < 0) {
        return haw_fail_errno(error, errno, "find the place of the subvolume '%s'", path);
    }
    unlinkat(dir, name, AT_REMOVEDIR);
    return renameat(AT_FDCWD, from, dir, name) == 0 ||
           haw_fail_errno(error, errno, "put the subvolume at '%s'", path);
}

/* T2 */
static bool
take_line(SubvolsIn *in, const char *base, const SubvolsLine *line, GError **error)
{
    const char *path = line->path;
    g_autofree char *id = ids_uuid();
    g_autofree char *dir = g_build_filename(in->pool->new_dir, id, NULL);
    if (mkdir(dir, 0700) < 0) {
        return haw_fail_errno(error, errno, "create '%s'", dir);
    }
    bool ok = in->take(line, dir, in->data, error);
    g_autofree char *name = ok ? only_name(dir, error) : NULL;
    g_autofree char *from = name != NULL ? g_build_filename(dir, name, NULL) : NULL;
    ok = from != NULL && subvol_set_readonly(from, false, error);
    if (ok && strcmp(path, "/") == 0) {
        ok = rename(from, base) == 0 ||
             haw_fail_errno(error, errno, "put the subvolume at '%s'", base);
    } else if (ok) {
        ok = put_inside(from, base, path, error);
    }
    const DriverVol left = {.pool_path = in->pool->path, .path = dir};
    work_remove(in->pool->driver, &left, NULL);
    return ok;
}

static bool
set_properties(SubvolsIn *in, const char *snap, const char *base, GError **error)
{
    json_t *lines = json_object_get(in->list, "subvolumes");
    for (size_t i = json_array_size(lines); i > 0; i--) { /* inner ones first */
        json_t *line = json_array_get(lines, i - 1);
        const char *path = text_of(line, "path");
        if (strcmp(text_of(line, "snapshot"), snap) != 0 || strcmp(path, "/") == 0 ||
            !json_is_true(json_object_get(line, "readonly"))) {
            continue;
        }
        haw_autofd int root = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        haw_autofd int dir = root >= 0 ? open_beneath(root, path + 1) : -1;
        g_autofree char *at = g_strdup_printf("/proc/self/fd/%d/.", dir);
        if (dir < 0 || !subvol_set_readonly(at, true, error)) {
            return haw_push(error, "Make the subvolume '%s' read-only", path);
        }
    }
    return true;
}

bool
subvols_receive(SubvolsIn *in, const char *snap, const char *path, GError **error)
{
    const char *wanted = snap != NULL ? snap : "";
    const DriverVol empty = {.pool_path = in->pool->path, .path = (char *) path};
    size_t i, count = 0;
    json_t *line;
    if (!work_remove(in->pool->driver, &empty, error)) {
        return false;
    }
    json_array_foreach (json_object_get(in->list, "subvolumes"), i, line) {
        if (strcmp(text_of(line, "snapshot"), wanted) != 0) {
            continue;
        }
        const SubvolsLine one = {.snap = wanted, .path = text_of(line, "path")};
        if (!take_line(in, path, &one, error)) {
            return false;
        }
        count++;
    }
    return count > 0 ? set_properties(in, wanted, path, error)
                     : haw_fail(error, HAW_CORRUPT, "The list of subvolumes lacks \"%s\"",
                                snap != NULL ? snap : "the volume");
}
