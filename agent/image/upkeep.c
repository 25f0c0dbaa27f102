/* What happens to images by themselves: cleaning after a crash, expiry, auto-update.
 * U1  images/ holds nothing but files of rows; volumes of images that have no row go, too.
 * U2  An update brings the new image first, then moves the aliases, then removes the old one: at any
 *     time the aliases name a complete image.
 * Called by image.c at start and each hour, by image_api.c (refresh), and by the test hook. */
#include "agent/image/upkeep.h"

#include "agent/api/event.h"
#include "agent/image/remote.h"
#include "agent/state/images.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <string.h>
#include <unistd.h>

#define DAY_US (24LL * 3600 * G_USEC_PER_SEC)

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static gint64
time_of(json_t *object, const char *key)
{
    gint64 real_us = 0;
    return clock_parse(text_of(object, key), &real_us) ? real_us : 0;
}

static bool
list_all(DbTx *tx, void *data, GError **error)
{
    json_t **list = data;
    *list = images_list(tx, NULL, false, error);
    return *list != NULL;
}

/* ---- U1 ---- */
struct volume_list {
    json_t *volumes; /* [[pool, fingerprint]…] without an image row */
};

static bool
list_stray_volumes(DbTx *tx, void *data, GError **error)
{
    struct volume_list *list = data;
    list->volumes = images_stray_volumes(tx, error);
    return list->volumes != NULL;
}

static void
clean_volumes(Agent *agent)
{
    g_autoptr(GError) error = NULL;
    struct volume_list list = {0};
    if (!db_read(agent->db, list_stray_volumes, &list, &error)) {
        haw_warn("image.clean_failed", KS("why", error->message));
        return;
    }
    json_auto_t *volumes = list.volumes;
    size_t i;
    json_t *pair;
    json_array_foreach (volumes, i, pair) {
        g_autoptr(GError) problem = NULL;
        Vol vol = {.pool = json_string_value(json_array_get(pair, 0)),
                   .project = "default",
                   .type = VOL_IMAGE,
                   .name = json_string_value(json_array_get(pair, 1))};
        if (!vol_delete(agent->pools, &vol, &problem)) {
            haw_warn("image.volume_left", KS("pool", vol.pool), KS("why", problem->message));
        }
    }
}

bool
upkeep_clean(Agent *agent, GError **error)
{
    json_t *rows = NULL;
    if (!db_read(agent->db, list_all, &rows, error)) {
        return false;
    }
    json_auto_t *list = rows;
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    size_t i;
    json_t *image;
    json_array_foreach (list, i, image) {
        const char *fingerprint = text_of(image, "fingerprint");
        g_hash_table_add(known, g_strdup(fingerprint));
        g_hash_table_add(known, g_strconcat(fingerprint, ".rootfs", NULL));
    }

    g_autofree char *path = agent_path(agent, "images");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (!g_hash_table_contains(known, name)) {
            haw_info("image.leftover_removed", KS("file", name));
            fd_remove_tree(file, NULL);
        }
    }
    clean_volumes(agent);
    return true;
}

/* ---- expiry ---- */
static bool
expired(Agent *agent, json_t *image, gint64 now)
{
    gint64 expires = time_of(image, "expires_at");
    if (!json_is_true(json_object_get(image, "cached"))) {
        return expires > 0 && expires <= now;
    }
    const char *project = text_of(image, "project");
    g_autofree char *text = image_setting(agent, project, "images.remote_cache_expiry");
    gint64 days = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
    gint64 last = time_of(image, "last_used_at");
    gint64 used = last > 0 ? last : time_of(image, "uploaded_at");
    return days > 0 && (now - used) / DAY_US >= days; /* any int64 may be set: no product of it */
}

bool
upkeep_expire(Agent *agent, Operation *op, GError **error)
{
    json_t *rows = NULL;
    if (!db_read(agent->db, list_all, &rows, error)) {
        return false;
    }
    json_auto_t *list = rows;
    gint64 now = clock_real_us();
    size_t i;
    json_t *image;
    json_array_foreach (list, i, image) {
        g_autoptr(GError) problem = NULL;
        const char *fingerprint = text_of(image, "fingerprint");
        const char *project = text_of(image, "project");
        if (!expired(agent, image, now)) {
            continue;
        }
        if (!image_delete(agent->images, project, fingerprint, &problem)) {
            haw_warn("image.expire_failed", KS("fingerprint", fingerprint),
                     KS("why", problem->message));
            continue;
        }
        haw_info("image.expired", KS("fingerprint", fingerprint), KS("project", project));
        event_lifecycle(agent, project, NULL, NULL, "image-deleted", "/1.0/images/%s", fingerprint);
    }
    return true;
}

/* ---- auto-update ---- */
struct move_job {
    const char *project, *from, *to;
    json_t *image; /* the new row, with what the old one had */
};

static bool
take_over(DbTx *tx, void *data, GError **error)
{
    struct move_job *job = data;
    return images_update(tx, job->project, job->image, error) &&
           image_aliases_move(tx, job->project, job->from, job->to, error);
}

/* U2 */
static bool
replace(Agent *agent, const char *project, json_t *old, json_t *fresh, GError **error)
{
    static const char *const kept[] = {"public",   "cached",        "auto_update",
                                       "profiles", "update_source", NULL};
    json_auto_t *image = json_deep_copy(fresh);
    for (int i = 0; kept[i] != NULL; i++) {
        json_object_set(image, kept[i], json_object_get(old, kept[i]));
    }
    struct move_job job = {.project = project,
                           .from = text_of(old, "fingerprint"),
                           .to = text_of(fresh, "fingerprint"),
                           .image = image};
    if (!db_write(agent->db, take_over, &job, error)) {
        return false;
    }
    if (time_of(old, "last_used_at") > 0) {
        image_touch(agent->images, project, job.to);
    }
    return image_delete(agent->images, project, job.from, error);
}

bool
upkeep_refresh(Agent *agent, Operation *op, const char *project, json_t *image, bool *ret_refreshed,
               GError **error)
{
    json_t *source = json_object_get(image, "update_source");
    *ret_refreshed = false;
    if (!json_is_object(source)) {
        return true;
    }
    const char *type = text_of(source, "image_type");
    RemoteSource remote = {
        .server = text_of(source, "server"),
        .protocol = text_of(source, "protocol"),
        .certificate = text_of(source, "certificate"),
        .alias = text_of(source, "alias"),
        .image_type = *type != '\0' ? type : NULL,
    };
    g_autofree char *fingerprint = remote_fingerprint(agent, &remote, error);
    if (fingerprint == NULL) {
        return false;
    }
    if (strcmp(fingerprint, text_of(image, "fingerprint")) == 0) {
        return true;
    }
    json_auto_t *fresh = image_download(agent->images, op, project, &remote,
                                        json_is_true(json_object_get(image, "cached")), error);
    if (fresh == NULL || !replace(agent, project, image, fresh, error)) {
        return false;
    }
    *ret_refreshed = true;
    haw_info("image.refreshed", KS("from", text_of(image, "fingerprint")), KS("to", fingerprint));
    event_lifecycle(agent, project, NULL, NULL, "image-refreshed", "/1.0/images/%s", fingerprint);
    return true;
}

bool
upkeep_update_all(Agent *agent, Operation *op, GError **error)
{
    json_t *rows = NULL;
    if (!db_read(agent->db, list_all, &rows, error)) {
        return false;
    }
    json_auto_t *list = rows;
    size_t i;
    json_t *image;
    json_array_foreach (list, i, image) {
        g_autoptr(GError) problem = NULL;
        bool refreshed;
        if (json_is_true(json_object_get(image, "auto_update")) &&
            !upkeep_refresh(agent, op, text_of(image, "project"), image, &refreshed, &problem)) {
            haw_warn("image.update_failed", KS("fingerprint", text_of(image, "fingerprint")),
                     KS("why", problem->message));
        }
    }
    return true;
}
