/* Steps from what is found to what is planned: operations of a transaction, and text for people.
 * S1  Every row that is changed must still be there, and small transactions make no row whose key came
 *     to be meanwhile: expectations at the server, which refuses the whole otherwise. Large ones go
 *     without the second kind, which costs the server a walk over the table for each; diff.c's D2 mends that.
 * Called by diff.c. */
#include "agent/ovn/diffstep.h"

#include "agent/ovn/diff.h"

enum { GUARD_MOST = 64 };

void
diffstep_free(gpointer pointer)
{
    struct diffstep *step = pointer;
    json_decref(step->wanted);
    json_decref(step->found);
    g_free(step);
}

struct diffstep *
diffstep_add(GPtrArray *steps, DiffStepKind kind, const char *scope, const char *table,
             const char *key)
{
    struct diffstep *step = g_new0(struct diffstep, 1);
    step->kind = kind;
    step->scope = scope;
    step->table = table;
    step->key = key;
    g_ptr_array_add(steps, step);
    return step;
}

/* S1 */
static void
guard(const GPtrArray *steps, const OvnPlan *plan, const char *owner, OvsdbTxn *txn)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    guint creations = 0;
    for (guint i = 0; i < steps->len; i++) {
        const struct diffstep *step = g_ptr_array_index(steps, i);
        creations += step->kind == STEP_CREATE;
        if (step->kind != STEP_CREATE && step->kind != STEP_REMOVE &&
            g_hash_table_add(seen, (gpointer) step->uuid)) {
            ovsdb_txn_expect(txn, step->table, step->uuid, json_object());
        }
    }
    for (guint i = 0; i < steps->len && creations <= GUARD_MOST; i++) {
        const struct diffstep *step = g_ptr_array_index(steps, i);
        if (step->kind == STEP_CREATE) {
            bool shared = ovnplan_is_shared(plan, step->scope);
            ovsdb_txn_expect_none(
                txn, step->table, "external_ids",
                json_pack("{s:s*, s:s}", DIFF_OWNER, shared ? NULL : owner, DIFF_KEY, step->key));
        }
    }
}

void
diffstep_emit(const GPtrArray *steps, const OvnPlan *plan, const char *owner, OvsdbTxn *txn)
{
    guard(steps, plan, owner, txn);
    for (guint i = 0; i < steps->len; i++) {
        const struct diffstep *step = g_ptr_array_index(steps, i);
        switch (step->kind) {
        case STEP_CREATE:
            ovsdb_txn_insert(txn, step->table, step->ref, json_incref(step->wanted));
            break;
        case STEP_CHANGE:
            ovsdb_txn_update(txn, step->table, step->uuid, json_incref(step->wanted));
            break;
        case STEP_REMOVE:
            ovsdb_txn_delete(txn, step->table, step->uuid);
            break;
        case STEP_JOIN:
            ovsdb_txn_mutate(txn, step->table, step->uuid, step->column, "insert",
                             json_incref(step->wanted));
            break;
        case STEP_LEAVE:
            ovsdb_txn_mutate(txn, step->table, step->uuid, step->column, "delete",
                             json_incref(step->wanted));
            break;
        }
    }
}

json_t *
diffstep_json(const GPtrArray *steps)
{
    static const char *const actions[] = {"create", "change", "remove", "join", "leave"};
    json_t *list = json_array();
    for (guint i = 0; i < steps->len; i++) {
        const struct diffstep *step = g_ptr_array_index(steps, i);
        json_t *wanted = step->column != NULL ? json_pack("{s:O}", step->column, step->wanted)
                                              : json_incref(step->wanted);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:o*, s:O*}", "action",
                                              actions[step->kind], "scope", step->scope, "table",
                                              step->table, "key", step->key, "wanted", wanted,
                                              "found", step->found));
    }
    return list;
}
