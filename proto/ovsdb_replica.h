/* ovsdb_replica.h: the rows of a monitor in memory, with indexes that appear when first asked for.
 * Threads: main loop. */
#pragma once
#include "proto/ovsdb.h"
#include "proto/ovsdb_schema.h"

typedef struct OvsdbReplica OvsdbReplica;
/* How the server tells of changes. */
typedef enum {
    REPLICA_UPDATE,  /* "monitor": old and new */
    REPLICA_UPDATE2, /* "monitor_cond": initial, insert, modify, delete */
} ReplicaForm;
typedef void (*ReplicaOnRow)(const OvsdbRow *before, const OvsdbRow *after, void *data);

/* 'tables' and 'schema' are borrowed; tables and columns that the schema has not are left out. */
OvsdbReplica *ovsdb_replica_new(const OvsdbTable *tables, const OvsdbSchema *schema);
void ovsdb_replica_free(OvsdbReplica *replica);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvsdbReplica, ovsdb_replica_free)
/* {"Table": [{"columns": […]}]}: what to ask the server to monitor; a new reference. */
json_t *ovsdb_replica_request(const OvsdbReplica *replica);
/* Table updates as the server sends them; 'on_row' may be NULL. CORRUPT when something in them is not as
 * the schema says: the replica is of no use then. */
bool ovsdb_replica_apply(OvsdbReplica *replica, ReplicaForm form, json_t *updates,
                         ReplicaOnRow on_row, void *data, GError **error);

const OvsdbRow *ovsdb_replica_get(OvsdbReplica *replica, const char *table, const char *uuid);
GPtrArray *ovsdb_replica_list(OvsdbReplica *replica, const char *table, const char *field,
                              const char *value);
/* Borrowed, in no order, until the next change; NULL for none. */
const GPtrArray *ovsdb_replica_peek(OvsdbReplica *replica, const char *table, const char *field,
                                    const char *value);
const OvsdbRow *ovsdb_replica_find(OvsdbReplica *replica, const char *table, const char *field,
                                   const char *value);
