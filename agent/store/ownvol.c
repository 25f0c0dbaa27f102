/* Where backups and images are kept: in the state directory, or in a custom volume of project default,
 * to which <dir>/backups or <dir>/images is a symlink then, as LXD has it.
 * O1  The setting is stored first, the directory follows: what a crash left half done is done at start.
 * O2  Content is copied to where it goes, and one exchange of names puts it there; only then is the old
 *     copy removed. So at any moment the name leads to all of it.
 * O3  The volume is held mounted as long as it is used, so nobody can delete, rename or replace it.
 * O4  A pool that is not there at start leaves the symlink dangling: backups and images then fail with its
 *     name, and none is written beside it.
 * Called by agent.c and the volumes' API. */
#include "agent/store/ownvol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/settings.h"
#include "agent/store/disktree.h"
#include "agent/store/shelf.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

struct use {
    const char *key, *name;
    char *held; /* "pool/volume" that is mounted for it (O3); owned */
};
static struct use uses[] = {{"storage.backups_volume", "backups", NULL},
                            {"storage.images_volume", "images", NULL}};

/* "pool/volume" as a volume; it borrows from *ret_parts. */
static bool
parse(const char *value, GStrv *ret_parts, Vol *ret)
{
    *ret_parts = g_strsplit(value, "/", 0);
    *ret = (Vol){.project = "default", .type = VOL_CUSTOM};
    if (g_strv_length(*ret_parts) != 2) {
        return false;
    }
    ret->pool = (*ret_parts)[0];
    ret->name = (*ret_parts)[1];
    return true;
}

/* ---- what may be used ---- */

static bool
check_volume(Agent *agent, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(agent->db, &which, error);
    if (row == NULL) {
        return haw_push(error, "Unable to load storage volume \"%s\"", vol->name);
    }
    g_autoptr(GPtrArray) snaps = volume_snaps_load(agent->db, &which, error);
    if (snaps == NULL) {
        return false;
    }
    if (strcmp(row->content_type, "filesystem") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Storage volumes for use by LXD itself must be of content type filesystem");
    }
    return snaps->len == 0 ||
           haw_fail(error, HAW_INVALID,
                    "Storage volumes for use by LXD itself cannot have snapshots");
}

static bool
is_elsewhere(const struct use *own, const char *value)
{
    for (size_t i = 0; i < G_N_ELEMENTS(uses); i++) {
        if (&uses[i] != own && g_strcmp0(uses[i].held, value) == 0) {
            return true;
        }
    }
    return false;
}

bool
ownvol_is(Agent *agent, const Vol *vol)
{
    g_autofree char *name = g_strdup_printf("%s/%s", vol->pool, vol->name);
    bool ours =
        agent->settings != NULL && vol->type == VOL_CUSTOM && strcmp(vol->project, "default") == 0;
    for (size_t i = 0; ours && i < G_N_ELEMENTS(uses); i++) {
        if (g_strcmp0(settings_get(agent->settings, uses[i].key), name) == 0 ||
            g_strcmp0(uses[i].held, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- the move (O2) ---- */

struct move {
    char *path, *next,
        *to;    /* <dir>/backups, <dir>/backups.next; a volume's path, NULL: a directory */
    bool clear; /* 'to' may have what a crash left (O1) */
    bool ok;
    GError *error;
};

static void
move_done(struct move *move)
{
    g_free(move->path);
    g_free(move->next);
    g_free(move->to);
}

static bool
clear_children(const char *path, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (!disktree_remove(child, error)) {
            return false;
        }
    }
    return true;
}

/* Where the content is now; NULL when there is none. */
static char *
content_of(const char *path)
{
    g_autofree char *target = g_file_read_link(path, NULL);
    return target != NULL ? g_steal_pointer(&target) : g_strdup(path);
}

static bool
copy_content(const struct move *move, const char *from, GError **error)
{
    if (move->to == NULL) {
        return disktree_remove(move->next, error) && fd_mkdir_p(move->next, 0700, error) &&
               disktree_copy(from, move->next, NULL, error);
    }
    if (move->clear && !clear_children(move->to, error)) {
        return false;
    }
    if (!disktree_is_empty(move->to)) {
        return haw_fail(error, HAW_INVALID, "Storage volume isn't empty");
    }
    return disktree_copy(from, move->to, NULL, error) && disktree_remove(move->next, error) &&
           (symlink(move->to, move->next) == 0 ||
            haw_fail_errno(error, errno, "link '%s'", move->next));
}

static bool
exchange(const struct move *move, GError **error)
{
    g_autofree char *from = content_of(move->path);
    if (!copy_content(move, from, error)) {
        return false;
    }
    if (renameat2(AT_FDCWD, move->next, AT_FDCWD, move->path, RENAME_EXCHANGE) < 0) {
        return haw_fail_errno(error, errno, "put '%s' in place", move->path);
    }
    /* 'next' is the old one now: a directory, or the link to a volume. */
    g_autoptr(GError) why = NULL;
    if (!(strcmp(from, move->path) == 0 || clear_children(from, &why)) ||
        !disktree_remove(move->next, &why)) {
        haw_warn("ownvol.rest", KS("path", from), KS("why", why->message));
    }
    return true;
}

static void
move_job(void *data)
{
    struct move *move = data;
    move->ok = exchange(move, &move->error);
}

/* The directory becomes what 'vol' (NULL: the state directory) says; nothing to do is success. */
static bool
follow(Agent *agent, const struct use *use, const char *to, bool clear, GError **error)
{
    struct move move = {.path = agent_path(agent, "%s", use->name),
                        .next = agent_path(agent, "%s.next", use->name),
                        .to = g_strdup(to),
                        .clear = clear};
    g_autofree char *now = g_file_read_link(move.path, NULL);
    if (g_strcmp0(now, to) == 0) {
        move.ok = true;
    } else {
        fiber_run(move_job, &move);
    }
    if (move.error != NULL) {
        g_propagate_prefixed_error(error, move.error, "Failed to move %s: ", use->name);
    }
    move_done(&move);
    return move.ok;
}

/* ---- settings ---- */

static void
let_go(Agent *agent, struct use *use)
{
    g_auto(GStrv) parts = NULL;
    Vol vol;
    if (use->held != NULL && parse(use->held, &parts, &vol)) {
        vol_unmount(agent->pools, &vol, NULL);
    }
    g_clear_pointer(&use->held, g_free);
}

static bool
take(Agent *agent, struct use *use, const char *value, bool starting, GError **error)
{
    g_auto(GStrv) parts = NULL;
    g_autofree char *path = NULL;
    Vol vol;
    if (!parse(value, &parts, &vol)) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid syntax for volume, must be <pool>/<volume>: \"%s\"", value);
    }
    if (is_elsewhere(use, value)) {
        return haw_fail(error, HAW_INVALID, "Storage volume \"%s\" is used for another purpose",
                        value);
    }
    if (!pool_exists(agent->pools, vol.pool)) {
        return haw_fail(error, HAW_NOT_FOUND, "Unable to load storage pool \"%s\"", vol.pool);
    }
    if (!check_volume(agent, &vol, error) || !vol_mount(agent->pools, &vol, &path, error)) {
        return false;
    }
    if (!follow(agent, use, path, starting, error)) {
        vol_unmount(agent->pools, &vol, NULL);
        return false;
    }
    let_go(agent, use);
    use->held = g_strdup(value);
    return true;
}

static bool
apply(Agent *agent, const char *key, const char *value, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(uses); i++) {
        struct use *use = &uses[i];
        if (strcmp(use->key, key) != 0 || g_strcmp0(use->held, value) == 0) {
            continue;
        }
        if (value != NULL && *value != '\0') {
            return take(agent, use, value, false, error);
        }
        if (!follow(agent, use, NULL, false, error)) {
            return false;
        }
        let_go(agent, use);
    }
    return true;
}

bool
ownvol_start(Agent *agent, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(uses); i++) {
        const char *value = settings_get(agent->settings, uses[i].key);
        g_autoptr(GError) why = NULL;
        settings_on_change(agent->settings, uses[i].key, apply);
        if (!(value != NULL && *value != '\0' ? take(agent, &uses[i], value, true, &why)
                                              : follow(agent, &uses[i], NULL, true, &why))) {
            haw_warn("ownvol.start", KS("key", uses[i].key), KS("why", why->message)); /* O4 */
        }
    }
    return true;
}
