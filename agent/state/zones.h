/* zones.h: rows of network zones (DNS) and of their records.
 * Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id;
    char *project, *name, *description;
    json_t *config; /* owned */
} ZoneRow;
void zonerow_free(ZoneRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZoneRow, zonerow_free)

/* Of a project (NULL: of all), by name; elements are owned by the array. */
GPtrArray *zonerow_list(Db *db, const char *project, GError **error);
/* NULL with NOT_FOUND "Network zone not found"; project NULL: in any, names are unique in all. */
ZoneRow *zonerow_load(Db *db, const char *project, const char *name, GError **error);
bool zonerow_insert(Db *db, ZoneRow *row, GError **error);       /* EXISTS */
bool zonerow_update(Db *db, const ZoneRow *row, GError **error); /* description and config */
bool zonerow_delete(Db *db, gint64 id, GError **error);          /* with its records */

typedef struct {
    gint64 id, zone_id;
    char *name, *description;
    json_t *config, *entries; /* owned */
} ZoneRecord;
void zonerow_record_free(ZoneRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ZoneRecord, zonerow_record_free)
GPtrArray *zonerow_records(Db *db, gint64 zone_id, GError **error);
/* NULL with NOT_FOUND "Network zone record not found". */
ZoneRecord *zonerow_record_load(Db *db, gint64 zone_id, const char *name, GError **error);
bool zonerow_record_insert(Db *db, ZoneRecord *record, GError **error); /* EXISTS */
bool zonerow_record_update(Db *db, const ZoneRecord *record, GError **error);
bool zonerow_record_delete(Db *db, gint64 id, GError **error);
