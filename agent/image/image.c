/* Images as the rest of the agent sees them: found, fetched when they are elsewhere, unpacked.
 * An image is a row in each project that has it and one or two files (intake.c: I1 to I4).
 * M1  image_files_lock() is held where files and rows change together.
 * M2  One download of a fingerprint at a time: who comes later waits and finds it done. Different
 *     ones don't wait for each other.
 * Main loop only; the API is in image_api.c and alias_api.c, background work in upkeep.c. */
#include "agent/image/image.h"

#include "agent/api/settings.h"
#include "agent/auth/project.h"
#include "agent/image/imagefill.h"
#include "agent/image/intake.h"
#include "agent/image/remote.h"
#include "agent/image/upkeep.h"
#include "agent/state/images.h"
#include "agent/store/pooldriver.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UPKEEP_MS (60 * 60 * 1000)

struct ImageTable {
    Agent *agent; /* borrowed */
    FiberLock files;
    GHashTable *downloads; /* M2: fingerprint → struct download, both owned */
};

ImageTable *
image_table_new(Agent *agent)
{
    ImageTable *table = g_new0(ImageTable, 1);
    table->agent = agent;
    table->files = (FiberLock) FIBER_LOCK_INIT;
    table->downloads = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return table;
}

void
image_table_free(ImageTable *table)
{
    if (table != NULL) {
        g_hash_table_unref(table->downloads);
        g_free(table);
    }
}

FiberLock *
image_files_lock(ImageTable *table)
{
    return &table->files;
}

/* ---- finding ---- */
struct find_job {
    const char *project, *name;
    json_t *source;     /* remote */
    json_t *properties; /* of an instance's source */
    json_t *found;      /* new reference */
};

static bool
find_row(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    g_autoptr(GError) no_alias = NULL;
    json_auto_t *alias = image_aliases_find(tx, job->project, job->name, false, &no_alias);
    if (alias == NULL && haw_code(no_alias) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&no_alias));
        return false;
    }
    const char *fingerprint = json_string_value(json_object_get(alias, "target"));
    job->found =
        images_find(tx, job->project, fingerprint != NULL ? fingerprint : job->name, false, error);
    return job->found != NULL;
}

json_t *
image_find(ImageTable *table, const char *project, const char *alias_or_fingerprint, GError **error)
{
    struct find_job job = {.project = project_for_images(table->agent, project),
                           .name = alias_or_fingerprint};
    return db_read(table->agent->db, find_row, &job, error) ? job.found : NULL;
}

static bool
find_alias_target(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    json_auto_t *alias = image_aliases_find(tx, job->project, job->name, false, error);
    if (alias == NULL) {
        return false;
    }
    const char *target = json_string_value(json_object_get(alias, "target"));
    job->found = images_find(tx, job->project, target, false, error);
    return job->found != NULL;
}

static bool
find_exact(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    job->found = images_find(tx, job->project, job->name, false, error);
    return job->found != NULL;
}

static bool
find_any(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    job->found = images_any(tx, job->name, error);
    return error == NULL || *error == NULL;
}

static bool
find_by_source(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    job->found = images_find_source(tx, job->project, job->source, error);
    return error == NULL || *error == NULL;
}

/* The newest image with all these properties. */
static bool
find_by_properties(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    json_auto_t *list = images_list(tx, job->project, false, error);
    if (list == NULL) {
        return false;
    }

    size_t i;
    json_t *image, *best = NULL, *want;
    const char *key;
    json_array_foreach (list, i, image) {
        bool fits = true;
        json_object_foreach (job->properties, key, want) {
            json_t *have = json_object_get(json_object_get(image, "properties"), key);
            fits = fits && json_equal(have, want);
        }
        const char *created = json_string_value(json_object_get(image, "created_at"));
        if (fits && (best == NULL ||
                     strcmp(created, json_string_value(json_object_get(best, "created_at"))) > 0)) {
            best = image;
        }
    }
    job->found = json_incref(best);
    return best != NULL || haw_fail(error, HAW_NOT_FOUND, "No matching image could be found");
}

/* ---- what an instance is made from ---- */
static const char *
text_or_null(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && *text != '\0' ? text : NULL;
}

static json_t *
resolve_local(ImageTable *table, const char *project, json_t *source, GError **error)
{
    struct find_job job = {.project = project, .properties = json_object_get(source, "properties")};
    const char *fingerprint = text_or_null(source, "fingerprint");
    const char *alias = text_or_null(source, "alias");
    DbFn fn = find_by_properties;
    if (fingerprint != NULL) {
        job.name = fingerprint;
        fn = find_exact;
    } else if (alias != NULL) {
        job.name = alias;
        fn = find_alias_target;
    } else if (!json_is_object(job.properties)) {
        haw_fail(error, HAW_INVALID,
                 "Must specify one of alias, fingerprint or properties for init from image");
        return NULL;
    }
    return db_read(table->agent->db, fn, &job, error) ? job.found : NULL;
}

/* The row of this project, made from another project's when only that has the files. */
static json_t *
adopt_existing(ImageTable *table, const char *project, const char *fingerprint)
{
    Agent *agent = table->agent;
    struct find_job job = {.project = project, .name = fingerprint};
    return db_read(agent->db, find_exact, &job, NULL) ? job.found : NULL;
}

char *
image_setting(Agent *agent, const char *project, const char *key)
{
    json_auto_t *config = project_config(agent, project, NULL);
    const char *own = keys_get(config, key);
    return g_strdup(own != NULL ? own : settings_get(agent->settings, key));
}

static bool
auto_update_cached(Agent *agent, const char *project)
{
    g_autofree char *value = image_setting(agent, project, "images.auto_update_cached");
    return grammar_parse_bool(value, true);
}

/* What is remembered with a remote image: how to find its next version. */
static void
set_origin(Agent *agent, const char *project, json_t *image, const RemoteSource *source,
           const char *fingerprint, bool cached)
{
    bool update = cached && auto_update_cached(agent, project);
    bool named =
        g_strcmp0(source->protocol, "direct") != 0 && strcmp(source->alias, fingerprint) != 0;
    json_object_set_new(image, "cached", json_boolean(cached));
    json_object_set_new(image, "auto_update", json_boolean(update));
    if (named) {
        json_object_set_new(image, "update_source", remote_source_json(source));
    } else {
        json_object_del(image, "update_source");
    }
}

/* M2 */
struct download {
    FiberLock lock;
    guint users;
};

static struct download *
download_enter(ImageTable *table, const char *fingerprint)
{
    struct download *download = g_hash_table_lookup(table->downloads, fingerprint);
    if (download == NULL) {
        download = g_new0(struct download, 1);
        download->lock = (FiberLock) FIBER_LOCK_INIT;
        g_hash_table_insert(table->downloads, g_strdup(fingerprint), download);
    }
    download->users++;
    fiber_lock(&download->lock);
    return download;
}

static void
download_leave(ImageTable *table, const char *fingerprint, struct download *download)
{
    fiber_unlock(&download->lock);
    if (--download->users == 0) {
        g_hash_table_remove(table->downloads, fingerprint);
    }
}

struct insert_job {
    const char *project;
    json_t *image;
};

static bool
insert_copy(DbTx *tx, void *data, GError **error)
{
    struct insert_job *job = data;
    return images_insert(tx, job->project, job->image, error);
}

/* The source only says which image it has: whoever may not see the one that is here has to bring its bytes. */
static bool
may_borrow(Operation *op, json_t *image)
{
    const Caller *caller = op != NULL ? op_caller(op) : NULL;
    const char *project = json_string_value(json_object_get(image, "project"));
    return caller == NULL || json_is_true(json_object_get(image, "public")) ||
           (project != NULL && caller_may_project(caller, project));
}

/* Another project has the very image: a row is all that is needed. NULL without error: nobody has. */
static json_t *
borrow_files(ImageTable *table, Operation *op, const char *project, const char *fingerprint,
             const RemoteSource *source, bool cached)
{
    Agent *agent = table->agent;
    g_auto(FiberHold) hold = fiber_hold(&table->files);
    struct find_job job = {.name = fingerprint};
    if (!db_read(agent->db, find_any, &job, NULL) || job.found == NULL) {
        return NULL;
    }
    json_auto_t *image = json_deep_copy(job.found);
    json_decref(job.found);
    if (!may_borrow(op, image)) {
        return NULL;
    }
    json_object_set_new(image, "public", json_false());
    json_object_set_new(image, "profiles", json_null());
    set_origin(agent, project, image, source, fingerprint, cached);
    struct insert_job insert = {.project = project, .image = image};
    if (!db_write(agent->db, insert_copy, &insert, NULL)) {
        return NULL;
    }
    return adopt_existing(table, project, fingerprint);
}

static json_t *
download_locked(ImageTable *table, Operation *op, const char *project, const RemoteSource *source,
                const char *fingerprint, bool cached, GError **error)
{
    Agent *agent = table->agent;
    json_t *have = adopt_existing(table, project, fingerprint);
    have = have != NULL ? have : borrow_files(table, op, project, fingerprint, source, cached);
    if (have != NULL) {
        return have;
    }

    g_autoptr(Intake) intake = remote_download(agent, op, source, fingerprint, error);
    if (intake == NULL) {
        return NULL;
    }
    set_origin(agent, project, intake_image(intake), source, fingerprint, cached);
    if (!intake_commit(intake, project, error)) {
        return NULL;
    }
    struct find_job job = {.project = project, .name = intake_fingerprint(intake)};
    return db_read(agent->db, find_exact, &job, error) ? job.found : NULL;
}

json_t *
image_download(ImageTable *table, Operation *op, const char *project, const RemoteSource *source,
               bool cached, GError **error)
{
    bool direct = g_strcmp0(source->protocol, "direct") == 0;
    g_autofree char *fingerprint =
        direct ? g_strdup(source->alias) : remote_fingerprint(table->agent, source, error);
    if (fingerprint == NULL) {
        return NULL;
    }
    struct download *download = download_enter(table, fingerprint);
    json_t *image = download_locked(table, op, project, source, fingerprint, cached, error);
    download_leave(table, fingerprint, download);
    return image;
}

/* An alias that was fetched before needs no question to its server: auto-update keeps it fresh. */
static json_t *
find_cached(ImageTable *table, const char *project, const RemoteSource *source)
{
    g_autofree char *hours = image_setting(table->agent, project, "images.auto_update_interval");
    if (hours == NULL || g_ascii_strtoll(hours, NULL, 10) <= 0) {
        return NULL;
    }
    json_auto_t *json = remote_source_json(source);
    struct find_job job = {.project = project, .source = json};
    if (!db_read(table->agent->db, find_by_source, &job, NULL) || job.found == NULL) {
        return NULL;
    }
    if (!json_is_true(json_object_get(job.found, "cached")) &&
        !json_is_true(json_object_get(job.found, "auto_update"))) {
        json_decref(job.found);
        return NULL;
    }
    return job.found;
}

json_t *
image_resolve(ImageTable *table, Operation *op, const char *project, json_t *source,
              const char *want_type, GError **error)
{
    const char *image_project = project_for_images(table->agent, project);
    const char *server = text_or_null(source, "server");
    json_auto_t *image = NULL;
    if (server == NULL) {
        image = resolve_local(table, image_project, source, error);
    } else {
        const char *name = text_or_null(source, "fingerprint");
        RemoteSource remote = {
            .server = server,
            .protocol = text_or_null(source, "protocol"),
            .certificate = text_or_null(source, "certificate"),
            .alias = name != NULL ? name : text_or_null(source, "alias"),
            .secret = text_or_null(source, "secret"),
            .image_type = want_type,
            .project = text_or_null(source, "project"),
        };
        if (remote.alias == NULL) {
            haw_fail(error, HAW_INVALID,
                     "Must specify one of alias or fingerprint for init from image");
            return NULL;
        }
        image = find_cached(table, image_project, &remote);
        image =
            image != NULL ? image : image_download(table, op, image_project, &remote, true, error);
    }
    if (image == NULL) {
        return NULL;
    }

    const char *type = json_string_value(json_object_get(image, "type"));
    if (want_type != NULL && g_strcmp0(type, want_type) != 0) {
        haw_fail(error, HAW_INVALID,
                 "Requested image's type \"%s\" doesn't match instance type \"%s\"", type,
                 want_type);
        return NULL;
    }
    return json_incref(image);
}

bool
image_unpack(ImageTable *table, Operation *op, const char *fingerprint, const char *path,
             GError **error)
{
    gint64 started_us = clock_mono_us();
    if (!imagefill(table->agent, op, fingerprint, path, error)) {
        return haw_push(error, "Failed to unpack image \"%s\"", fingerprint);
    }
    haw_info("image.unpacked", KS("fingerprint", fingerprint),
             KU("took_ms", (clock_mono_us() - started_us) / 1000));
    return true;
}

/* ---- use ---- */
static bool
touch_row(DbTx *tx, void *data, GError **error)
{
    struct find_job *job = data;
    return images_touch(tx, job->project, job->name, clock_real_us(), error);
}

void
image_touch(ImageTable *table, const char *project, const char *fingerprint)
{
    g_autoptr(GError) error = NULL;
    struct find_job job = {.project = project_for_images(table->agent, project),
                           .name = fingerprint};
    if (!db_write(table->agent->db, touch_row, &job, &error)) {
        haw_warn("image.touch_failed", KS("fingerprint", fingerprint), KS("why", error->message));
    }
}

/* ---- going away ---- */
struct delete_job {
    const char *project, *fingerprint;
    gint64 left;
    json_t *pools; /* new reference */
};

static bool
delete_row(DbTx *tx, void *data, GError **error)
{
    struct delete_job *job = data;
    if (!images_delete(tx, job->project, job->fingerprint, error) ||
        !images_count(tx, job->fingerprint, &job->left, error)) {
        return false;
    }
    job->pools = images_pools(tx, job->fingerprint, error);
    return job->pools != NULL;
}

bool
image_delete(ImageTable *table, const char *project, const char *fingerprint, GError **error)
{
    Agent *agent = table->agent;
    struct delete_job job = {.project = project, .fingerprint = fingerprint};
    g_auto(FiberHold) hold = fiber_hold(&table->files);
    if (!db_write(agent->db, delete_row, &job, error)) {
        json_decref(job.pools);
        return false;
    }
    crash_point("image");

    json_auto_t *pools = job.pools;
    if (job.left > 0) {
        return true;
    }
    size_t i;
    json_t *pool;
    json_array_foreach (pools, i, pool) {
        g_autoptr(GError) problem = NULL;
        Vol vol = {.pool = json_string_value(pool),
                   .project = "default",
                   .type = VOL_IMAGE,
                   .name = fingerprint};
        if (!vol_delete(agent->pools, &vol, &problem)) {
            haw_warn("image.volume_left", KS("pool", vol.pool), KS("fingerprint", fingerprint),
                     KS("why", problem->message));
        }
    }
    crash_point("image");
    for (int rootfs = 0; rootfs <= 1; rootfs++) {
        g_autofree char *path = image_file(agent, fingerprint, rootfs != 0);
        unlink(path);
    }
    return true;
}

/* ---- from start to stop ---- */
static void
expire_body(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    if (!upkeep_expire(agent, NULL, &error)) {
        haw_warn("image.expire_failed", KS("why", error->message));
    }
}

/* At start and each hour; updates at start and when their interval has passed. */
static void
upkeep_body(void *data)
{
    Agent *agent = data;
    gint64 next_update_us = 0;
    do {
        g_autoptr(GError) error = NULL;
        gint64 hours = settings_int(agent->settings, "images.auto_update_interval");
        expire_body(agent);
        if (hours > 0 && clock_mono_us() >= next_update_us) {
            next_update_us = clock_mono_us() + (hours * 3600 - 1) * G_USEC_PER_SEC;
            if (!upkeep_update_all(agent, NULL, &error)) {
                haw_warn("image.update_failed", KS("why", error->message));
            }
        }
    } while (fiber_sleep_ms(UPKEEP_MS, agent->stopping, NULL));
}

static bool
expiry_changed(Agent *agent, const char *key, const char *value, GError **error)
{
    fiber_start("image-expiry", expire_body, agent);
    return true;
}

bool
image_table_start(ImageTable *table, GError **error)
{
    g_autofree char *dir = agent_path(table->agent, "images");
    if (!fd_mkdir_p(dir, 0700, error) || !upkeep_clean(table->agent, error)) {
        return false;
    }
    settings_on_change(table->agent->settings, "images.remote_cache_expiry", expiry_changed);
    fiber_start("images", upkeep_body, table->agent);
    return true;
}
