/* Rows of ovn networks, read once.
 * S1  A list was read while the database's count of writes stood where it stands now; at another count
 *     nothing of it is used any more. So what one plan is made from is of one moment.
 * S2  Lists are shared by reference: who holds one over a wait has the past, not a dangling pointer.
 * Called by ovn_input.c, ovn_peer.c, ovn_lb.c. */
#include "agent/net/ovn_stored.h"

#include "agent/state/balancers.h"
#include "agent/state/forwards.h"
#include "agent/state/ovn_ports.h"
#include "agent/state/peers.h"

typedef GPtrArray *(*List)(Db *db, gint64 network_id, GError **error);
static const struct {
    List list; /* network 0: of all */
    void (*free_row)(void *row);
    size_t network_id; /* where a row has it */
} kinds[OVN_STORED_KINDS] = {
    [OVN_STORED_PORTS] = {ovn_ports_list, (void (*)(void *)) ovn_ports_free,
                          offsetof(OvnPort, network_id)},
    [OVN_STORED_PEERS] = {peerrow_list, (void (*)(void *)) peerrow_free,
                          offsetof(PeerRow, network_id)},
    [OVN_STORED_FORWARDS] = {forwardrow_list, (void (*)(void *)) forwardrow_free,
                             offsetof(ForwardRow, network_id)},
    [OVN_STORED_BALANCERS] = {balancerrow_list, (void (*)(void *)) balancerrow_free,
                              offsetof(BalancerRow, network_id)},
};

/* S1 */
static struct {
    const Db *db; /* only compared */
    guint64 writes;
    GHashTable *lists[OVN_STORED_KINDS]; /* id of the network, owned → GPtrArray, owned */
    bool whole[OVN_STORED_KINDS];        /* a network that is not in it has none */
} seen;

static void
renew(const Db *db)
{
    if (seen.db == db && seen.writes == db_writes(db)) {
        return;
    }
    for (int kind = 0; kind < OVN_STORED_KINDS; kind++) {
        g_clear_pointer(&seen.lists[kind], g_hash_table_unref);
        seen.lists[kind] = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                                 (GDestroyNotify) g_ptr_array_unref);
        seen.whole[kind] = false;
    }
    seen.db = db;
    seen.writes = db_writes(db);
}

/* Puts the list into the table unless the database has been written to since 'writes'. */
static void
keep(const Db *db, guint64 writes, OvnStored kind, gint64 network_id, GPtrArray *list)
{
    renew(db);
    if (writes == seen.writes) {
        g_hash_table_replace(seen.lists[kind], g_memdup2(&network_id, sizeof network_id),
                             g_ptr_array_ref(list));
    }
}

GPtrArray *
ovn_stored(Agent *agent, OvnStored kind, gint64 network_id, GError **error)
{
    renew(agent->db);
    GPtrArray *list = g_hash_table_lookup(seen.lists[kind], &network_id);
    if (list != NULL) {
        return g_ptr_array_ref(list);
    }
    if (seen.whole[kind]) {
        return g_ptr_array_new();
    }
    guint64 writes = seen.writes;
    list = kinds[kind].list(agent->db, network_id, error);
    if (list != NULL) {
        keep(agent->db, writes, kind, network_id, list);
    }
    return list;
}

static gint64
network_of(OvnStored kind, const void *row)
{
    return *(const gint64 *) ((const char *) row + kinds[kind].network_id);
}

/* Hands the rows of all networks out to a list each. */
static void
split(const Db *db, guint64 writes, OvnStored kind, GPtrArray *all)
{
    g_autoptr(GHashTable) lists = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                                        (GDestroyNotify) g_ptr_array_unref);
    g_ptr_array_set_free_func(all, NULL);
    for (guint i = 0; i < all->len; i++) {
        void *row = g_ptr_array_index(all, i);
        gint64 id = network_of(kind, row);
        GPtrArray *list = g_hash_table_lookup(lists, &id);
        if (list == NULL) {
            list = g_ptr_array_new_with_free_func(kinds[kind].free_row);
            keep(db, writes, kind, id, list);
            g_hash_table_insert(lists, (char *) row + kinds[kind].network_id, list);
        }
        g_ptr_array_add(list, row);
    }
    renew(db);
    seen.whole[kind] = writes == seen.writes;
}

bool
ovn_stored_all(Agent *agent, GError **error)
{
    for (int kind = 0; kind < OVN_STORED_KINDS; kind++) {
        renew(agent->db);
        guint64 writes = seen.writes;
        g_autoptr(GPtrArray) all =
            seen.whole[kind] ? g_ptr_array_new() : kinds[kind].list(agent->db, 0, error);
        if (all == NULL) {
            return false;
        }
        if (!seen.whole[kind]) {
            split(agent->db, writes, (OvnStored) kind, all);
        }
    }
    return true;
}
