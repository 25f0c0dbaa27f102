/* Plans: rows that ought to be, collected from builders.
 * P1  A row is known by (table, key); its scope is that of the first call.
 * P2  A mistake of a builder (a key in two scopes, a member that was never planned) is remembered and
 *     told by ovnplan_check(), so that builders need no error handling of their own.
 * Pure data: no database, no clock. Called by builders (agent/net), diff.c, tests. */
#include "agent/ovn/plan.h"

#include <string.h>

struct row_key {
    const char *table, *key;
};

struct member {
    OvnPlanMember pub;
    const char *table,
        *key; /* of the child, resolved late: it may be planned after the membership */
};

struct OvnPlan {
    GStringChunk *texts;
    GPtrArray *rows;    /* OvnPlanRow, owned */
    GHashTable *by_key; /* struct row_key (inside the row's allocation) → OvnPlanRow */
    GArray *members;    /* struct member */
    GHashTable *shared; /* set of scopes; keys are of texts */
    char *mistake;      /* P2; NULL when there is none */
};

struct plan_row {
    OvnPlanRow pub;
    struct row_key id;
};

static guint
row_key_hash(gconstpointer pointer)
{
    const struct row_key *id = pointer;
    return g_str_hash(id->table) * 31 + g_str_hash(id->key);
}

static gboolean
row_key_equal(gconstpointer a, gconstpointer b)
{
    const struct row_key *one = a;
    const struct row_key *other = b;
    return strcmp(one->key, other->key) == 0 && strcmp(one->table, other->table) == 0;
}

static void
row_free(gpointer pointer)
{
    struct plan_row *row = pointer;
    json_decref(row->pub.columns);
    g_free(row);
}

OvnPlan *
ovnplan_new(void)
{
    OvnPlan *plan = g_new0(OvnPlan, 1);
    plan->texts = g_string_chunk_new(4096);
    plan->rows = g_ptr_array_new_with_free_func(row_free);
    plan->by_key = g_hash_table_new(row_key_hash, row_key_equal);
    plan->members = g_array_new(FALSE, FALSE, sizeof(struct member));
    plan->shared = g_hash_table_new(g_str_hash, g_str_equal);
    return plan;
}

void
ovnplan_free(OvnPlan *plan)
{
    if (plan != NULL) {
        g_hash_table_unref(plan->by_key);
        g_ptr_array_unref(plan->rows);
        g_array_unref(plan->members);
        g_hash_table_unref(plan->shared);
        g_string_chunk_free(plan->texts);
        g_free(plan->mistake);
        g_free(plan);
    }
}

static void mistake(OvnPlan *plan, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
mistake(OvnPlan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (plan->mistake == NULL) {
        plan->mistake = g_strdup_vprintf(format, args);
    }
    va_end(args);
}

static const char *
keep(OvnPlan *plan, const char *text)
{
    return g_string_chunk_insert_const(plan->texts, text);
}

void
ovnplan_share(OvnPlan *plan, const char *scope)
{
    g_hash_table_add(plan->shared, (gpointer) keep(plan, scope));
}

bool
ovnplan_is_shared(const OvnPlan *plan, const char *scope)
{
    return g_hash_table_contains(plan->shared, scope);
}

const OvnPlanRow *
ovnplan_find(const OvnPlan *plan, const char *table, const char *key)
{
    return g_hash_table_lookup(plan->by_key, &(struct row_key){table, key});
}

void
ovnplan_row(OvnPlan *plan, const char *scope, const char *table, const char *key, json_t *columns)
{
    struct plan_row *row =
        g_hash_table_lookup(plan->by_key, &(struct row_key){table, key}); /* pub is first */
    if (row != NULL) {
        if (strcmp(row->pub.scope, scope) != 0) {
            mistake(plan, "%s '%s' is planned by both '%s' and '%s'", table, key, row->pub.scope,
                    scope);
        }
        json_object_update(row->pub.columns, columns);
        json_decref(columns);
        return;
    }
    row = g_new0(struct plan_row, 1);
    row->id = (struct row_key){keep(plan, table), keep(plan, key)};
    row->pub =
        (OvnPlanRow){keep(plan, scope), row->id.table, row->id.key, columns, plan->rows->len};
    g_ptr_array_add(plan->rows, row);
    g_hash_table_insert(plan->by_key, &row->id, row);
}

void
ovnplan_into(OvnPlan *plan, const char *table, const char *key, const char *parent_table,
             const char *parent_key, const char *column)
{
    struct member member = {
        .pub = {.parent_table = keep(plan, parent_table),
                .parent_key = keep(plan, parent_key),
                .column = keep(plan, column)},
        .table = keep(plan, table),
        .key = keep(plan, key),
    };
    g_array_append_val(plan->members, member);
}

void
ovnplan_add(OvnPlan *plan, const char *table, const char *key, const char *column, json_t *element)
{
    const OvnPlanRow *row = ovnplan_find(plan, table, key);
    if (row == NULL) {
        mistake(plan, "%s '%s' gets an element of '%s' but was not planned", table, key, column);
        json_decref(element);
        return;
    }
    json_t *set = json_object_get(row->columns, column);
    if (!json_is_array(set)) {
        json_t *fresh = json_array();
        if (set != NULL && !json_is_null(set)) {
            json_array_append(fresh, set);
        }
        json_object_set_new(row->columns, column, fresh);
        set = fresh;
    }
    json_array_append_new(set, element);
}

/* ---- for diff.c and tests ---- */

guint
ovnplan_size(const OvnPlan *plan)
{
    return plan->rows->len;
}

const OvnPlanRow *
ovnplan_nth(const OvnPlan *plan, guint n)
{
    return g_ptr_array_index(plan->rows, n);
}

guint
ovnplan_members(const OvnPlan *plan)
{
    return plan->members->len;
}

const OvnPlanMember *
ovnplan_member(const OvnPlan *plan, guint n)
{
    struct member *member = &g_array_index(plan->members, struct member, n);
    if (member->pub.child == NULL) {
        member->pub.child = ovnplan_find(plan, member->table, member->key);
        member->pub.parent = ovnplan_find(plan, member->pub.parent_table, member->pub.parent_key);
    }
    return member->pub.child != NULL ? &member->pub : NULL;
}

bool
ovnplan_check(const OvnPlan *plan, GError **error)
{
    if (plan->mistake != NULL) {
        return haw_fail(error, HAW_BUG, "OVN plan: %s", plan->mistake);
    }
    for (guint i = 0; i < plan->members->len; i++) {
        const struct member *member = &g_array_index(plan->members, struct member, i);
        if (ovnplan_member(plan, i) == NULL) {
            return haw_fail(
                error, HAW_BUG, "OVN plan: %s '%s' is put into %s '%s' but was not planned",
                member->table, member->key, member->pub.parent_table, member->pub.parent_key);
        }
    }
    return true;
}

static json_t *
row_json(const OvnPlanRow *row)
{
    return json_pack("{s:s, s:O}", "scope", row->scope, "columns", row->columns);
}

json_t *
ovnplan_json(const OvnPlan *plan)
{
    json_t *all = json_object();
    for (guint i = 0; i < plan->rows->len; i++) {
        const OvnPlanRow *row = ovnplan_nth(plan, i);
        if (json_object_get(all, row->table) == NULL) {
            json_object_set_new(all, row->table, json_object());
        }
        json_object_set_new(json_object_get(all, row->table), row->key, row_json(row));
    }
    for (guint i = 0; i < plan->members->len; i++) {
        const OvnPlanMember *member = ovnplan_member(plan, i);
        if (member == NULL) {
            continue;
        }
        json_t *row =
            json_object_get(json_object_get(all, member->child->table), member->child->key);
        if (json_object_get(row, "in") == NULL) {
            json_object_set_new(row, "in", json_array());
        }
        g_autofree char *into =
            g_strdup_printf("%s %s %s", member->parent_table, member->parent_key, member->column);
        json_array_append_new(json_object_get(row, "in"), json_string(into));
    }
    /* Sorted, so that golden files do not depend on the order of the builders' calls. */
    g_autofree char *text = json_dumps(all, JSON_SORT_KEYS | JSON_ENCODE_ANY);
    json_decref(all);
    return json_loads(text, 0, NULL);
}
