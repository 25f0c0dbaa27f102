/* Each minute: snapshots of custom volumes that are due by snapshots.schedule, and removal of those
 * that expired. Patterns: "%d" counts up, {{ creation_date }} is the time, as LXD's templates.
 * A failure is logged and tried again a minute later. Main loop, inside a fiber. */
#include "agent/store/schedule.h"

#include "agent/store/backup.h"
#include "agent/store/shelf.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* "2006-01-02_15-04-05" in UTC; caller frees. */
static char *
date_text(gint64 real_us)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(real_us / G_USEC_PER_SEC);
    return g_date_time_format(date, "%Y-%m-%d_%H-%M-%S");
}

/* The text with {{ creation_date… }} replaced. */
static char *
fill_template(const char *pattern, gint64 now_us)
{
    const char *open = strstr(pattern, "{{");
    const char *close = open != NULL ? strstr(open, "}}") : NULL;
    if (close == NULL) {
        return g_strdup(pattern);
    }
    g_autofree char *date = date_text(now_us);
    g_autofree char *head = g_strndup(pattern, (gsize) (open - pattern));
    return g_strconcat(head, date, close + 2, NULL);
}

static bool
taken(const char *name, GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        if (strcmp(names->pdata[i], name) == 0) {
            return true;
        }
    }
    return false;
}

char *
schedule_name(const char *pattern, GPtrArray *names, gint64 now_us)
{
    g_autofree char *base = fill_template(pattern != NULL ? pattern : "snap%d", now_us);
    char *digits = strstr(base, "%d");
    if (digits == NULL && !taken(base, names)) {
        return g_steal_pointer(&base);
    }

    g_autofree char *head =
        digits != NULL ? g_strndup(base, (gsize) (digits - base)) : g_strconcat(base, "-", NULL);
    const char *tail = digits != NULL ? digits + 2 : "";
    long next = 0;
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        char *end = NULL;
        if (!g_str_has_prefix(name, head) || !g_ascii_isdigit(name[strlen(head)])) {
            continue;
        }
        long n = strtol(name + strlen(head), &end, 10);
        if (strcmp(end, tail) == 0 && n >= next) {
            next = n + 1;
        }
    }
    return g_strdup_printf("%s%ld%s", head, next, tail);
}

char *
schedule_next_name(PoolTable *table, const Vol *vol, const char *pattern, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    which.item = NULL;
    g_autoptr(GPtrArray) snaps = volume_snaps_load(table->agent->db, &which, error);
    if (snaps == NULL) {
        return NULL;
    }
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (guint i = 0; i < snaps->len; i++) {
        g_ptr_array_add(names, ((VolumeSnapRow *) snaps->pdata[i])->name);
    }
    return schedule_name(pattern, names, clock_real_us());
}

static void
make_due(PoolTable *table, const VolumeRow *row, gint64 now_us)
{
    g_autoptr(GError) error = NULL;
    Vol vol = {.pool = row->pool, .project = row->project, .type = VOL_CUSTOM, .name = row->name};
    g_autofree char *name =
        schedule_next_name(table, &vol, keys_get(row->config, "snapshots.pattern"), &error);
    const char *expiry = keys_get(row->config, "snapshots.expiry");
    vol.snap = name;
    if (name == NULL ||
        !vol_snapshot(table, &vol, expiry != NULL ? grammar_expiry_after(expiry, now_us) : 0,
                      &error)) {
        haw_warn("volume.no_snapshot", KS("pool", row->pool), KS("volume", row->name),
                 KS("why", error->message));
    }
}

static void
make_all_due(PoolTable *table, gint64 now_us)
{
    const VolumeWhich custom = {.type = "custom"};
    g_autoptr(GPtrArray) rows = volumes_load(table->agent->db, &custom, NULL);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        VolumeRow *row = rows->pdata[i];
        const char *schedule = keys_get(row->config, "snapshots.schedule");
        if (schedule != NULL && grammar_cron_due(schedule, now_us)) {
            make_due(table, row, now_us);
        }
    }
}

static void
remove_expired(PoolTable *table, gint64 now_us)
{
    const VolumeWhich custom = {.type = "custom"};
    g_autoptr(GPtrArray) snaps = volume_snaps_load(table->agent->db, &custom, NULL);
    for (guint i = 0; snaps != NULL && i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        if (snap->expires_at == 0 || snap->expires_at > now_us) {
            continue;
        }
        g_autoptr(GError) error = NULL;
        const Vol vol = {.pool = snap->pool,
                         .project = snap->project,
                         .type = VOL_CUSTOM,
                         .name = snap->volume,
                         .snap = snap->name};
        if (!vol_snapshot_delete(table, &vol, &error)) {
            haw_warn("volume.snapshot_stays", KS("pool", snap->pool), KS("volume", snap->volume),
                     KS("snapshot", snap->name), KS("why", error->message));
        }
    }
}

void
schedule_run(PoolTable *table)
{
    gint64 now_us = clock_real_us();
    remove_expired(table, now_us);
    backup_expire(table, now_us);
    make_all_due(table, now_us);
}
