/* agent/state/peers.c: two sides that name each other become one peering, and part again. */
#include "agent/state/peers.h"

#include "agent/state/networks.h"
#include "base/fiber.h"

static Db *db;
static GMainLoop *loop;
static gint64 nets[3];

static gint64
add_network(const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(NetRow) row = g_new0(NetRow, 1);
    row->project = g_strdup("default");
    row->name = g_strdup(name);
    row->type = g_strdup("ovn");
    row->description = g_strdup("");
    row->state = g_strdup(NETROW_CREATED);
    row->hwaddr = g_strdup("");
    row->old_name = g_strdup("");
    row->config = json_object();
    g_assert_true(netrow_insert(db, row, 1, 1000, &error));
    return row->id;
}

static PeerRow *
asked(int net, const char *name, const char *target)
{
    PeerRow *row = g_new0(PeerRow, 1);
    row->network_id = nets[net];
    row->name = g_strdup(name);
    row->description = g_strdup("");
    row->config = json_object();
    row->target_project = g_strdup("default");
    row->target_network = g_strdup(target);
    return row;
}

static void
is_state(int net, const char *name, const char *status, const char *target)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PeerRow) row = peerrow_load(db, nets[net], name, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(row->status, ==, status);
    g_assert_cmpstr(row->target_network, ==, target);
}

static void
sides_join_part_and_are_put_back(void *data)
{
    g_autoptr(GError) error = NULL;
    nets[0] = add_network("a");
    nets[1] = add_network("b");
    nets[2] = add_network("c");

    g_autoptr(PeerRow) first = asked(0, "to-b", "b");
    g_assert_true(peerrow_insert(db, first, &error));
    is_state(0, "to-b", PEERROW_PENDING, "b");
    g_autoptr(PeerRow) same_name = asked(0, "to-b", "c");
    g_assert_false(peerrow_insert(db, same_name, &error));
    g_assert_error(error, HAW_ERROR, HAW_EXISTS);
    g_clear_error(&error);
    g_autoptr(PeerRow) same_target = asked(0, "again", "b");
    g_assert_false(peerrow_insert(db, same_target, &error));
    g_assert_error(error, HAW_ERROR, HAW_EXISTS);
    g_clear_error(&error);

    g_autoptr(PeerRow) second = asked(1, "to-a", "a");
    g_assert_true(peerrow_insert(db, second, &error));
    g_assert_cmpint(second->target_id, ==, nets[0]);
    is_state(0, "to-b", PEERROW_CREATED, "b");
    is_state(1, "to-a", PEERROW_CREATED, "a");
    g_assert_false(peerrow_insert(db, same_target, &error)); /* by id as well as by name */
    g_clear_error(&error);

    g_assert_true(peerrow_undo_insert(db, second, &error));
    is_state(0, "to-b", PEERROW_PENDING, "b");
    g_assert_true(peerrow_insert(db, second, &error));

    g_autoptr(PeerRow) gone = peerrow_load(db, nets[1], "to-a", &error);
    g_assert_true(peerrow_delete(db, gone->id, &error));
    is_state(0, "to-b", PEERROW_ERRORED, "");
    g_assert_true(peerrow_undo_delete(db, gone, &error));
    is_state(0, "to-b", PEERROW_CREATED, "b");

    g_assert_true(peerrow_delete(db, gone->id, &error)); /* P2 */
    g_autoptr(PeerRow) anew = asked(1, "to-a", "a");
    g_assert_true(peerrow_insert(db, anew, &error));
    is_state(1, "to-a", PEERROW_PENDING, "a");
    is_state(0, "to-b", PEERROW_ERRORED, "");
    g_main_loop_quit(loop);
}

static void
run(void)
{
    g_autoptr(GError) error = NULL;
    db = db_open(":memory:", &error);
    g_assert_no_error(error);
    loop = g_main_loop_new(NULL, FALSE);
    fiber_start("test", sides_join_part_and_are_put_back, NULL);
    g_main_loop_run(loop);
    g_main_loop_unref(loop);
    db_close(db);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peers/sides-join-part-and-are-put-back", run);
    return g_test_run();
}
