/* Tables of the northbound database that sessions watch. A row of ours can lie in any of them.
 * W1  A scope is found by its rows alone: one that our database has forgotten is found, too, and removed.
 * Called by reconcile.c, which opens the sessions, and tests. */
#include "agent/ovn/watched.h"

#include <string.h>

#include "agent/ovn/diff.h"

const OvsdbTable watched_tables[] = {
    {"NB_Global", NULL},
    {"Logical_Switch", NULL},
    {"Logical_Switch_Port", NULL},
    {"Logical_Router", NULL},
    {"Logical_Router_Port", NULL},
    {"Logical_Router_Static_Route", NULL},
    {"Logical_Router_Policy", NULL},
    {"NAT", NULL},
    {"Load_Balancer", NULL},
    {"Load_Balancer_Health_Check", NULL},
    {"ACL", NULL},
    {"Address_Set", NULL},
    {"Port_Group", NULL},
    {"DHCP_Options", NULL},
    {"DNS", NULL},
    {"HA_Chassis_Group", NULL},
    {"HA_Chassis", NULL},
    {"Gateway_Chassis", NULL},
    {"Meter", NULL},
    {"Meter_Band", NULL},
    {"QoS", NULL},
    {"BFD", NULL},
    {"Mirror", NULL},
    {"Copp", NULL},
    {NULL, NULL},
};

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

char **
watched_scopes(Ovsdb *db, const char *owner)
{
    g_autoptr(GHashTable) scopes = g_hash_table_new(g_str_hash, g_str_equal);
    for (const OvsdbTable *table = watched_tables; table->table != NULL; table++) {
        const GPtrArray *rows = ovsdb_peek(db, table->table, "external_ids:" DIFF_OWNER, owner);
        for (guint i = 0; rows != NULL && i < rows->len; i++) {
            const char *scope =
                ovsdb_map_text(g_ptr_array_index(rows, i), "external_ids", DIFF_SCOPE);
            if (scope != NULL) {
                g_hash_table_add(scopes, (gpointer) scope);
            }
        }
    }
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter iter;
    gpointer scope;
    g_hash_table_iter_init(&iter, scopes);
    while (g_hash_table_iter_next(&iter, &scope, NULL)) {
        g_ptr_array_add(list, g_strdup(scope));
    }
    g_ptr_array_sort(list, by_text);
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(list, FALSE);
}
