/* /1.0/network-zones/ZONE/records: decode, check, store. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/net/netreq.h"
#include "agent/net/zone.h"
#include "proto/keys.h"

static ZoneRow *
need_zone(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    return zonerow_load(agent->db, project_for_zones(agent, req_project(req)), req_arg(req, "zone"),
                        error);
}

static ZoneRecord *
need(Request *req, const ZoneRow *zone, GError **error)
{
    return zonerow_record_load(req_agent(req)->db, zone->id, req_arg(req, "record"), error);
}

static json_t *
record_json(const ZoneRecord *record)
{
    return json_pack("{s:s, s:s, s:O, s:O}", "name", record->name, "description",
                     record->description, "config", record->config, "entries", record->entries);
}

static json_t *
record_tag(const ZoneRecord *record)
{
    return json_pack("[s, s, O, O]", record->name, record->description, record->config,
                     record->entries);
}

static bool
records_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(ZoneRow) zone = need_zone(req, error);
    g_autoptr(GPtrArray) records =
        zone != NULL ? zonerow_records(req_agent(req)->db, zone->id, error) : NULL;
    if (records == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < records->len; i++) {
        const ZoneRecord *record = g_ptr_array_index(records, i);
        json_array_append_new(list, full ? record_json(record)
                                         : json_sprintf("/1.0/network-zones/%s/records/%s",
                                                        zone->name, record->name));
    }
    return req_reply(req, list);
}

static bool
record_get(Request *req, GError **error)
{
    g_autoptr(ZoneRow) zone = need_zone(req, error);
    g_autoptr(ZoneRecord) record = zone != NULL ? need(req, zone, error) : NULL;
    return record != NULL && req_reply_etag(req, record_json(record), record_tag(record));
}

/* ---- checks ---- */

static const char *
text_of(json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text != NULL ? text : "";
}

/* The known fields of an entry; a new reference, NULL on failure. */
static json_t *
take_entry(json_t *entry, size_t index, GError **error)
{
    json_t *type = json_object_get(entry, "type");
    json_t *value = json_object_get(entry, "value");
    json_t *ttl = json_object_get(entry, "ttl");
    json_int_t seconds = json_integer_value(ttl);
    bool whole = ttl == NULL || json_is_null(ttl) || json_is_integer(ttl);
    if (!json_is_string(type) || !json_is_string(value) || !whole || seconds < 0 ||
        seconds > G_MAXINT32) {
        haw_fail(error, HAW_INVALID,
                 "Invalid DNS record entry %zu: type and value are strings, ttl is a number",
                 index);
        return NULL;
    }
    return json_pack("{s:O, s:I, s:O}", "type", type, "ttl", seconds, "value", value);
}

static bool
check_entry(const ZoneRow *zone, const char *name, json_t *entry, GHashTable *seen, GError **error)
{
    static const char *const none[] = {NULL};
    g_autoptr(ZoneContent) trial = zonewire_content_new(zone->name, none, 1, error);
    char *key = g_strdup_printf("%s %s", text_of(entry, "type"), text_of(entry, "value"));
    if (!g_hash_table_add(seen, key)) {
        return haw_fail(error, HAW_INVALID, "Duplicate record for type \"%s\" and value \"%s\"",
                        text_of(entry, "type"), text_of(entry, "value"));
    }
    return trial != NULL &&
           zonewire_add(trial, name, text_of(entry, "type"), 300, text_of(entry, "value"), error);
}

static bool
take_entries(const ZoneRow *zone, ZoneRecord *record, json_t *entries, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    json_t *taken = json_array();
    json_t *entry;
    size_t i;
    json_decref(record->entries);
    record->entries = taken;
    if (entries != NULL && !json_is_null(entries) && !json_is_array(entries)) {
        return haw_fail(error, HAW_INVALID, "\"entries\" is not a list");
    }
    json_array_foreach (entries, i, entry) {
        json_t *kept = take_entry(entry, i, error);
        if (kept == NULL) {
            return false;
        }
        json_array_append_new(taken, kept);
        if (!check_entry(zone, record->name, kept, seen, error)) {
            return false;
        }
    }
    return true;
}

static bool
check_config(json_t *config, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (!g_str_has_prefix(key, "user.")) {
            return haw_fail(error, HAW_INVALID, "Invalid config option \"%s\"", key);
        }
    }
    return true;
}

static bool
take_body(Request *req, const ZoneRow *zone, ZoneRecord *record, const char *kind, bool merge,
          GError **error)
{
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    if (!body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    netreq_config(&record->config, config, merge);
    if (!merge || json_object_get(body, "description") != NULL) {
        g_free(record->description);
        record->description = g_strdup(description);
    }
    return check_config(record->config, error) &&
           ((merge && json_object_get(body, "entries") == NULL) ||
            take_entries(zone, record, json_object_get(body, "entries"), error));
}

/* ---- changes ---- */

static void
announce(Request *req, const char *action, const ZoneRow *zone, const char *record)
{
    event_lifecycle(req_agent(req), zone->project, req_caller(req), NULL, action,
                    "/1.0/network-zones/%s/records/%s", zone->name, record);
}

static bool
records_post(Request *req, GError **error)
{
    static const char kind[] = "NetworkZoneRecordsPost";
    Agent *agent = req_agent(req);
    const char *name;
    g_autoptr(ZoneRow) zone = need_zone(req, error);
    if (zone == NULL || !body_object(req_json(req), kind, error) ||
        !body_text(req_json(req), kind, "name", &name, error)) {
        return false;
    }
    g_autoptr(ZoneRecord) there = zonerow_record_load(agent->db, zone->id, name, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_INVALID, "The network zone record already exists");
    }
    if (!zonewire_check_name(name, error)) {
        return false;
    }
    g_autoptr(ZoneRecord) record = g_new0(ZoneRecord, 1);
    record->zone_id = zone->id;
    record->name = g_strdup(name);
    if (!take_body(req, zone, record, kind, false, error) ||
        !zonerow_record_insert(agent->db, record, error)) {
        return false;
    }
    announce(req, "network-zone-record-created", zone, name);
    return req_reply_created(req, "/1.0/network-zones/%s/records/%s", zone->name, name);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    g_autoptr(ZoneRow) zone = need_zone(req, error);
    g_autoptr(ZoneRecord) record = zone != NULL ? need(req, zone, error) : NULL;
    if (record == NULL || !req_check_etag(req, record_tag(record), error) ||
        !take_body(req, zone, record, "NetworkZoneRecordPut", patch, error) ||
        !zonerow_record_update(req_agent(req)->db, record, error)) {
        return false;
    }
    announce(req, "network-zone-record-updated", zone, record->name);
    return req_reply(req, NULL);
}

static bool
record_delete(Request *req, GError **error)
{
    g_autoptr(ZoneRow) zone = need_zone(req, error);
    g_autoptr(ZoneRecord) record = zone != NULL ? need(req, zone, error) : NULL;
    if (record == NULL || !zonerow_record_delete(req_agent(req)->db, record->id, error)) {
        return false;
    }
    announce(req, "network-zone-record-deleted", zone, record->name);
    return req_reply(req, NULL);
}

const Route zone_record_routes[] = {
    {"GET", "/1.0/network-zones/{zone}/records", records_get, 0},
    {"POST", "/1.0/network-zones/{zone}/records", records_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/network-zones/{zone}/records/{record}", record_get, 0},
    {"PUT", "/1.0/network-zones/{zone}/records/{record}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/network-zones/{zone}/records/{record}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/network-zones/{zone}/records/{record}", record_delete, 0},
    {NULL},
};
