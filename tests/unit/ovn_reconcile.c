/* The reconciler against a real northbound database: what it makes, what it leaves alone, what it mends.
 * Skipped where there is no ovsdb-server or no schema of OVN. */
#include "agent/ovn/ovn.h"

#include <string.h>

#include "agent/ovn/diff.h"
#include "agent/ovn/ovnobj.h"
#include "agent/ovn/watched.h"
#include "base/fd.h"
#include "base/log.h"
#include "tests/fakes/in_fiber.h"
#include "tests/fakes/ovn_world.h"
#include "tests/fakes/ovsdb_server.h"

#define SCHEMA "/usr/share/ovn/ovn-nb.ovsschema"

/* ---- an agent that has nothing but the session ---- */

static Agent agent;
static struct ovsdb_server server;

static void
begin(const char *const *extra)
{
    g_autoptr(GError) error = NULL;
    static bool added;
    if (!added) {
        ovn_add_builder(&net_builder);
        added = true;
    }
    memset(nets, 0, sizeof nets);
    ovsdb_server_start(&server, SCHEMA, extra);
    agent = (Agent){.dir = server.dir, .ready = true, .stopping = g_cancellable_new()};
    agent.ovn = ovn_new(&agent);
    agent.ovn->owner = g_strdup("us");
    g_autofree char *remote = ovsdb_server_remote(&server);
    OvsdbOptions options = {.name = "OVN northbound database",
                            .remotes = remote,
                            .database = "OVN_Northbound",
                            .tables = watched_tables};
    agent.ovn->nb = ovsdb_open(&options);
    ovsdb_wait_ready(agent.ovn->nb, 10000, &error);
    g_assert_no_error(error);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(agent.ovn->nb);
    ovsdb_txn_insert(txn, "NB_Global", NULL, json_object());
    ovsdb_txn_commit(txn, NULL);
    reconcile_watch(agent.ovn);
}

static void
finish(void)
{
    g_cancellable_cancel(agent.stopping);
    while (fiber_count() > 1) {
        fiber_yield();
    }
    ovn_free(agent.ovn);
    g_object_unref(agent.stopping);
    ovsdb_server_end(&server);
}

static void
apply(const char *scope)
{
    g_autoptr(GError) error = NULL;
    ovn_apply(&agent, OVN_WAIT_NONE, &error, scope, NULL);
    g_assert_no_error(error);
}

static void
two_networks(void)
{
    nets[1].there = nets[2].there = nets[1].peered = true;
    nets[1].nic[0] = nets[1].nic[1] = nets[2].nic[0] = true;
    g_autoptr(GError) error = NULL;
    ovn_apply(&agent, OVN_WAIT_NONE, &error, "net1", "net2", NULL);
    g_assert_no_error(error);
}

static const OvsdbRow *
row(const char *table, const char *name)
{
    return ovsdb_find(agent.ovn->nb, table, "name", name);
}

static size_t
set_size(const OvsdbRow *of, const char *column)
{
    return json_array_size(json_object_get(of->columns, column));
}

static guint
rows_of(const char *table)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(agent.ovn->nb, table, NULL, NULL);
    return rows->len;
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Every row by table and key, with keys in the place of uuids: equal for equal contents. */
static json_t *
dump(void)
{
    Ovsdb *db = agent.ovn->nb;
    json_t *all = json_object();
    g_autoptr(GHashTable) keys = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) rows = g_ptr_array_new();
    for (const OvsdbTable *table = watched_tables; table->table != NULL; table++) {
        g_autoptr(GPtrArray) some = ovsdb_list(db, table->table, NULL, NULL);
        for (guint i = 0; i < some->len && strcmp(table->table, "NB_Global") != 0; i++) {
            const OvsdbRow *one = g_ptr_array_index(some, i);
            const char *key = ovsdb_map_text(one, "external_ids", DIFF_KEY);
            g_ptr_array_add(rows, (gpointer) one);
            g_hash_table_insert(keys, (gpointer) one->uuid, (gpointer) (key != NULL ? key : "?"));
        }
    }
    for (guint i = 0; i < rows->len; i++) {
        const OvsdbRow *one = g_ptr_array_index(rows, i);
        json_t *columns = json_object();
        const char *column;
        json_t *value;
        json_object_foreach (one->columns, column, value) {
            g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
            size_t j;
            json_t *element;
            json_array_foreach (value, j, element) {
                const char *key = json_is_string(element)
                                      ? g_hash_table_lookup(keys, json_string_value(element))
                                      : NULL;
                g_ptr_array_add(texts,
                                key != NULL ? g_strdup(key) : json_dumps(element, JSON_ENCODE_ANY));
            }
            g_ptr_array_sort(texts, by_text);
            json_t *list = json_array();
            for (guint k = 0; k < texts->len; k++) {
                json_array_append_new(list, json_string(g_ptr_array_index(texts, k)));
            }
            json_object_set_new(columns, column, json_is_array(value) ? list : json_incref(value));
            if (!json_is_array(value)) {
                json_decref(list);
            }
        }
        g_autofree char *name = g_strdup_printf(
            "%s %s", one->table, (const char *) g_hash_table_lookup(keys, one->uuid));
        json_object_set_new(all, name, columns);
    }
    return all;
}

/* ---- claims ---- */

static void
one_transaction_makes_everything(void *unused)
{
    begin(NULL);
    guint64 before = ovsdb_transactions(agent.ovn->nb);
    two_networks();
    g_assert_cmpuint(ovsdb_transactions(agent.ovn->nb), ==, before + 1);
    g_assert_cmpuint(set_size(row("Logical_Switch", "net1-ls"), "ports"), ==, 2);
    g_assert_cmpuint(set_size(row("Logical_Switch", "net1-ls"), "dns_records"), ==, 2);
    g_assert_cmpuint(set_size(row("Port_Group", "net1_pg"), "ports"), ==, 2);
    g_assert_cmpuint(set_size(row("Address_Set", "net1_ip4"), "addresses"), ==, 2);
    g_assert_cmpuint(set_size(row("Logical_Router", "net2-lr"), "static_routes"), ==, 1);
    const OvsdbRow *ls = row("Logical_Switch", "net1-ls");
    g_assert_cmpstr(ovsdb_map_text(ls, "external_ids", DIFF_SCOPE), ==, "net1");
    g_assert_cmpstr(ovsdb_map_text(ls, "external_ids", DIFF_OWNER), ==, "us");

    two_networks(); /* nothing to do: nothing is sent */
    g_assert_cmpuint(ovsdb_transactions(agent.ovn->nb), ==, before + 1);
    g_autoptr(GError) error = NULL;
    json_t *steps = ovn_diff(&agent, &error);
    g_assert_cmpuint(json_array_size(steps), ==, 0);
    json_decref(steps);

    /* A NIC more, a NIC less, another value: one transaction each. */
    nets[1].nic[2] = true;
    apply("net1");
    nets[1].nic[0] = false;
    nets[1].mtu = 1442;
    apply("net1");
    g_assert_cmpuint(ovsdb_transactions(agent.ovn->nb), ==, before + 3);
    g_assert_null(row("Logical_Switch_Port", "net1-nic0"));
    g_assert_nonnull(row("Logical_Switch_Port", "net1-nic2"));
    g_assert_cmpuint(rows_of("DNS"), ==, 3);
    g_assert_cmpuint(set_size(row("Address_Set", "net1_ip4"), "addresses"), ==, 2);
    g_assert_cmpstr(ovsdb_map_text(row("Logical_Switch", "net1-ls"), "other_config", "mtu"), ==,
                    "1442");
    finish();
}

static void
a_scope_that_is_gone_leaves_nothing(void *unused)
{
    begin(NULL);
    two_networks();
    nets[1].there = nets[2].there = false;
    g_autoptr(GError) error = NULL;
    ovn_reconcile(&agent, OVN_WAIT_NONE, &error); /* it finds the scopes by their rows */
    g_assert_no_error(error);
    for (const OvsdbTable *table = watched_tables; table->table != NULL; table++) {
        g_assert_cmpuint(rows_of(table->table), ==, strcmp(table->table, "NB_Global") == 0);
    }
    finish();
}

static void
foreign_rows_are_never_touched(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    two_networks();
    Ovsdb *db = agent.ovn->nb;
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_insert(txn, "Logical_Switch_Port", "p", named("operators"));
    ovsdb_txn_mutate(txn, "Logical_Switch", row("Logical_Switch", "net1-ls")->uuid, "ports",
                     "insert", json_pack("[{s:s}]", "ref", "p"));
    ovsdb_txn_mutate(txn, "Logical_Switch", row("Logical_Switch", "net1-ls")->uuid, "external_ids",
                     "insert", json_pack("{s:s}", "note", "kept"));
    /* One that another Hawser made has its own owner, and may have our scope and key. */
    ovsdb_txn_insert(txn, "Logical_Router", NULL,
                     json_pack("{s:s, s:{s:s, s:s, s:s}}", "name", "theirs", "external_ids",
                               DIFF_OWNER, "them", DIFF_SCOPE, "net1", DIFF_KEY, "net1-lr"));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);

    nets[1].nic[0] = false;
    nets[1].mtu = 1300;
    ovn_reconcile(&agent, OVN_WAIT_NONE, &error);
    g_assert_no_error(error);
    g_assert_nonnull(row("Logical_Switch_Port", "operators"));
    g_assert_cmpuint(set_size(row("Logical_Switch", "net1-ls"), "ports"), ==, 2);
    g_assert_cmpstr(ovsdb_map_text(row("Logical_Switch", "net1-ls"), "external_ids", "note"), ==,
                    "kept");
    g_assert_nonnull(row("Logical_Router", "theirs"));
    nets[1].there = false;
    ovn_reconcile(&agent, OVN_WAIT_NONE, &error);
    g_assert_no_error(error);
    g_assert_nonnull(row("Logical_Router", "theirs"));
    finish();
}

static void
a_foreign_row_of_that_name_is_named(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(agent.ovn->nb);
    ovsdb_txn_insert(txn, "Address_Set", NULL, named("net1_ip4"));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
    nets[1].there = true;
    g_assert_false(ovn_apply(&agent, OVN_WAIT_NONE, &error, "net1", NULL));
    g_assert_cmpint(haw_code(error), ==, HAW_EXISTS);
    g_assert_nonnull(strstr(error->message, "Address_Set"));
    g_assert_nonnull(strstr(error->message, "net1_ip4"));
    g_assert_null(row("Logical_Switch", "net1-ls")); /* nothing half-made */
    g_clear_error(&error);

    /* It does not hold up the others. */
    nets[2].there = true;
    g_assert_false(ovn_reconcile(&agent, OVN_WAIT_NONE, &error));
    g_assert_nonnull(row("Logical_Switch", "net2-ls"));
    finish();
}

/* In the background: R3. */
static void
wait_clean(void)
{
    for (int i = 0; i < 200; i++) {
        json_t *steps = ovn_diff(&agent, NULL);
        bool clean = steps != NULL && json_array_size(steps) == 0;
        json_decref(steps);
        if (clean) {
            return;
        }
        fiber_sleep_ms(50, NULL, NULL);
    }
    g_assert_not_reached();
}

static void
what_an_operator_deletes_comes_back(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    two_networks();
    reconcile_start(agent.ovn);
    wait_clean();
    Ovsdb *db = agent.ovn->nb;
    json_t *before = dump();
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_delete(txn, "Logical_Switch", row("Logical_Switch", "net1-ls")->uuid);
    ovsdb_txn_delete(txn, "Address_Set", row("Address_Set", "net2_ip4")->uuid);
    ovsdb_txn_mutate(txn, "Logical_Router", row("Logical_Router", "net2-lr")->uuid, "ports",
                     "delete", json_pack("[s]", row("Logical_Router_Port", "net2-lrp-net1")->uuid));
    ovsdb_txn_update(txn, "Logical_Switch_Port", row("Logical_Switch_Port", "net2-nic0")->uuid,
                     json_pack("{s:[s]}", "addresses", "unknown"));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
    g_assert_null(row("Logical_Switch_Port", "net1-nic0"));
    wait_clean();
    json_t *after = dump();
    g_assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    finish();
}

static void
doubles_become_one(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    two_networks();
    Ovsdb *db = agent.ovn->nb;
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_insert(txn, "Logical_Switch", NULL,
                     json_pack("{s:s, s:{s:s, s:s, s:s}}", "name", "net1-ls", "external_ids",
                               DIFF_OWNER, "us", DIFF_SCOPE, "net1", DIFF_KEY, "net1-ls"));
    ovsdb_txn_commit(txn, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows_of("Logical_Switch"), ==, 3);
    apply("net1");
    g_assert_cmpuint(rows_of("Logical_Switch"), ==, 2);
    g_assert_cmpuint(set_size(row("Logical_Switch", "net1-ls"), "ports"), ==, 2);
    finish();
}

static void
a_read_only_database_says_so(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    ovsdb_server_kill(&server);
    ovsdb_server_spawn(&server, (const char *[]){"--sync-from=unix:/nonexistent", NULL});
    ovsdb_wait_ready(agent.ovn->nb, 10000, &error);
    g_assert_no_error(error);
    nets[1].there = true;
    g_assert_false(ovn_apply(&agent, OVN_WAIT_NONE, &error, "net1", NULL));
    g_test_message("%s", error->message);
    g_assert_cmpint(haw_code(error), ==, HAW_DENIED);
    g_assert_nonnull(strstr(error->message, "read only"));
    finish();
}

static void
an_unreachable_database_is_named(void *unused)
{
    g_autoptr(GError) error = NULL;
    begin(NULL);
    ovsdb_server_kill(&server);
    while (ovsdb_ready(agent.ovn->nb)) {
        fiber_signal_wait(ovsdb_changed(agent.ovn->nb), 1000, NULL, NULL);
    }
    nets[1].there = true;
    g_assert_false(ovn_apply(&agent, OVN_WAIT_NONE, &error, "net1", NULL));
    g_assert_cmpint(haw_code(error), ==, HAW_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, server.sock));
    /* It comes back, and so do the rows, without being asked again. */
    ovsdb_server_spawn(&server, NULL);
    reconcile_start(agent.ovn);
    ovsdb_wait_ready(agent.ovn->nb, 10000, NULL);
    wait_clean();
    g_assert_nonnull(row("Logical_Switch", "net1-ls"));
    finish();
}

/* ---- a hundred random changes ---- */

static const char *
change(GRand *rand)
{
    static char scope[16];
    int id = g_rand_int_range(rand, 1, NETS + 1);
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        nets[id].there = !nets[id].there;
        break;
    case 1:
        nets[id].peered = !nets[id].peered;
        break;
    case 2:
        nets[id].mtu = 1280 + g_rand_int_range(rand, 0, 300);
        break;
    default:
        nets[id].there = true;
        nets[id].nic[g_rand_int_range(rand, 0, NICS)] ^= true;
    }
    g_snprintf(scope, sizeof scope, "net%d", id);
    return scope;
}

static bool changing, killing;

static void
killer(void *data)
{
    GRand *rand = data;
    while (changing) {
        ovsdb_wait_ready(agent.ovn->nb, 10000, NULL);
        fiber_sleep_ms(g_rand_int_range(rand, 1, 60), NULL, NULL);
        ovsdb_server_kill(&server);
        fiber_sleep_ms(g_rand_int_range(rand, 1, 30), NULL, NULL);
        ovsdb_server_spawn(&server, NULL);
    }
    g_rand_free(rand);
    killing = false;
}

static json_t *
hundred_changes(bool with_kills)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);
    begin(NULL);
    reconcile_start(agent.ovn);
    if (with_kills) {
        killing = changing = true;
        fiber_start("killer", killer, g_rand_new_with_seed(7));
    }
    for (int i = 0; i < 100; i++) {
        const char *scope = change(rand);
        g_autoptr(GError) error = NULL;
        bool ok = ovn_apply(&agent, OVN_WAIT_NONE, &error, scope, NULL);
        g_assert_true(ok || with_kills);
        fiber_sleep_ms(with_kills ? 5 : 0, NULL, NULL);
    }
    changing = false;
    g_assert_true(!with_kills || ovsdb_epoch(agent.ovn->nb) > 8);
    while (killing) {
        fiber_sleep_ms(10, NULL, NULL);
    }
    ovsdb_wait_ready(agent.ovn->nb, 20000, NULL);
    ovn_kick(&agent, NULL);
    wait_clean();
    json_t *rows = dump();
    finish();
    return rows;
}

static void
kills_change_nothing(void *unused)
{
    json_t *calm = hundred_changes(false);
    json_t *stormy = hundred_changes(true);
    g_assert_cmpuint(json_object_size(calm), >, 20);
    g_assert_true(json_equal(calm, stormy));
    json_decref(calm);
    json_decref(stormy);
}

/* ---- frame ---- */

/* As another server: what it has to do for the networks as they are now. */
static guint
steps_of_another(const char *scope)
{
    g_autoptr(GError) error = NULL;
    char *mine = g_steal_pointer(&agent.ovn->owner);
    agent.ovn->owner = g_strdup("others");
    ovn_apply(&agent, OVN_WAIT_NONE, &error, scope, NULL);
    g_assert_no_error(error);
    g_free(agent.ovn->owner);
    agent.ovn->owner = mine;
    guint rows = 0;
    g_autoptr(GPtrArray) ports =
        ovsdb_list(agent.ovn->nb, "Logical_Switch_Port", "external_ids:" DIFF_OWNER, "others");
    rows += ports->len;
    return rows;
}

static void
a_shared_network_is_used_as_it_stands(void *unused)
{
    begin(NULL);
    nets[1].there = nets[1].shared = nets[1].nic[0] = true;
    apply("net1");
    nets[1].nic[1] = true; /* the other server's; ours is one that it sees, and leaves alone */
    g_assert_cmpuint(steps_of_another("net1"), ==, 1);
    g_assert_cmpuint(rows_of("Logical_Switch"), ==, 1);
    g_assert_cmpuint(set_size(row("Logical_Switch", "net1-ls"), "ports"), ==, 2);
    g_assert_cmpuint(set_size(row("Port_Group", "net1_pg"), "ports"), ==, 2);
    g_assert_cmpstr(ovsdb_map_text(row("Logical_Switch", "net1-ls"), "external_ids", DIFF_OWNER),
                    ==, "us");
    g_assert_cmpstr(
        ovsdb_map_text(row("Logical_Switch_Port", "net1-nic1"), "external_ids", DIFF_OWNER), ==,
        "others");

    nets[1].nic[1] = false; /* what is theirs stays when we have none of it */
    apply("net1");
    g_assert_nonnull(row("Logical_Switch_Port", "net1-nic1"));
    g_assert_cmpuint(steps_of_another("net1"), ==, 0);
    g_assert_cmpuint(rows_of("Logical_Switch_Port"), ==, 1);
    finish();
}

int
main(int argc, char **argv)
{
    static const struct fiber_claim claims[] = {
        {"/reconcile/one-transaction-makes-everything", one_transaction_makes_everything},
        {"/reconcile/a-scope-that-is-gone-leaves-nothing", a_scope_that_is_gone_leaves_nothing},
        {"/reconcile/foreign-rows-are-never-touched", foreign_rows_are_never_touched},
        {"/reconcile/a-foreign-row-of-that-name-is-named", a_foreign_row_of_that_name_is_named},
        {"/reconcile/what-an-operator-deletes-comes-back", what_an_operator_deletes_comes_back},
        {"/reconcile/a-shared-network-is-used-as-it-stands", a_shared_network_is_used_as_it_stands},
        {"/reconcile/doubles-become-one", doubles_become_one},
        {"/reconcile/a-read-only-database-says-so", a_read_only_database_says_so},
        {"/reconcile/an-unreachable-database-is-named", an_unreachable_database_is_named},
        {"/reconcile/kills-of-the-server-in-100-changes-change-nothing", kills_change_nothing},
    };
    g_test_init(&argc, &argv, NULL);
    g_autofree char *program = g_find_program_in_path("ovsdb-server");
    if (program == NULL || access(SCHEMA, R_OK) < 0) {
        g_print("1..0 # SKIP ovsdb-server or OVN's schema is not installed\n");
        return 77;
    }
    fiber_claims_add(claims, G_N_ELEMENTS(claims));
    return g_test_run();
}
