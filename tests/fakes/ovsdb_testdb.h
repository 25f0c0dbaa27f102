/* ovsdb_testdb.h: a database of parents and children on a real ovsdb-server, and sessions with it.
 * Threads: main loop, inside fibers. */
#pragma once
#include "proto/ovsdb.h"
#include "tests/fakes/ovsdb_server.h"

static const char schema_text[] =
    "{\"name\":\"Test\",\"version\":\"1.0.0\",\"tables\":{"
    "\"Parent\":{\"isRoot\":true,\"indexes\":[[\"name\"]],\"columns\":{"
    "\"name\":{\"type\":\"string\"},"
    "\"number\":{\"type\":{\"key\":\"integer\",\"min\":0,\"max\":1}},"
    "\"words\":{\"type\":{\"key\":\"string\",\"min\":0,\"max\":\"unlimited\"}},"
    "\"on\":{\"type\":\"boolean\"},\"ratio\":{\"type\":\"real\"},"
    "\"children\":{\"type\":{\"key\":{\"type\":\"uuid\",\"refTable\":\"Child\"},\"min\":0,\"max\":"
    "\"unlimited\"}},"
    "\"queues\":{\"type\":{\"key\":\"integer\",\"value\":{\"type\":\"uuid\",\"refTable\":\"Child\"}"
    ","
    "\"min\":0,\"max\":\"unlimited\"}},"
    "\"external_ids\":{\"type\":{\"key\":\"string\",\"value\":\"string\",\"min\":0,\"max\":"
    "\"unlimited\"}}}},"
    "\"Child\":{\"columns\":{\"name\":{\"type\":\"string\"},"
    "\"kind\":{\"type\":{\"key\":{\"type\":\"string\",\"enum\":[\"set\",[\"a\",\"b\"]]}}}}}}}";

static const OvsdbTable tables[] = {
    {"Parent", NULL}, {"Child", NULL}, {"Absent", NULL}, {NULL, NULL}};

static inline void
server_start(struct ovsdb_server *server, const char *const *extra)
{
    g_autofree char *schema = g_strdup_printf("%s/ovsdb-schema-%d", g_get_tmp_dir(), getpid());
    g_file_set_contents(schema, schema_text, -1, NULL);
    ovsdb_server_start(server, schema, extra);
    unlink(schema);
}

static inline Ovsdb *
open_remote(const char *remotes, bool leader_only)
{
    OvsdbOptions options = {.name = "test database",
                            .remotes = remotes,
                            .database = "Test",
                            .tables = tables,
                            .leader_only = leader_only};
    return ovsdb_open(&options);
}

static inline Ovsdb *
open_ready(const struct ovsdb_server *server)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *remote = g_strdup_printf("unix:%s", server->sock);
    Ovsdb *db = open_remote(remote, false);
    ovsdb_wait_ready(db, 10000, &error);
    g_assert_no_error(error);
    return db;
}

static inline void
insert_parent(Ovsdb *db, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_insert(txn, "Parent", NULL,
                     json_pack("{s:s, s:{s:s}}", "name", name, "external_ids", "key", name));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
}
