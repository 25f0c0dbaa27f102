/* The difference between a plan and the northbound database.
 * D1  Ours is what carries our owner mark. Nothing else is changed, with one exception: a strong
 *     reference to a row of ours that goes is taken out of a foreign set, for the database would refuse
 *     the removal otherwise.
 * D2  Of doubles (same table, same key, made by two writers at once) the one with the lowest uuid stays.
 * D3  A row moves to another scope without being made anew.
 * D4  Membership is decided by the member's scope: sets keep what is foreign or of other scopes.
 * D5  Rows of a shared scope that another server has made are used as they stand: never changed or removed; ours
 *     may become members of their sets.
 * Called by reconcile.c and tests. Not here: what becomes of the steps (diffstep.c). */
#include "agent/ovn/diff.h"

#include <string.h>

#include "agent/ovn/diffstep.h"
#include "agent/ovn/watched.h"

/* One row of the plan on its way. */
struct slot {
    const OvnPlanRow *row;
    const OvsdbRow *found;
    const OvsdbRow *foreign; /* D5: stands in its place; 'found' is NULL then */
    struct diffstep *create;
    guint n;
};

/* A found row that is, and is to be, in a set of another. */
struct membership {
    const OvsdbRow *parent, *child;
    const char *column;
};

struct OvnDiff {
    const OvnPlan *plan;
    Ovsdb *db;
    const char *owner;
    GHashTable *scopes;     /* set of the applied ones */
    GArray *slots;          /* struct slot, by the plan's order */
    GHashTable *removed;    /* set of OvsdbRow */
    GHashTable *kept;       /* OvsdbRow → struct slot */
    GHashTable *members;    /* set of struct membership, owned */
    GHashTable *sets;       /* "parent column" → struct diffstep of kind JOIN */
    GHashTable *references; /* table → GArray of OvsdbReference */
    GPtrArray *steps;       /* owned */
};

static guint
membership_hash(gconstpointer pointer)
{
    const struct membership *member = pointer;
    return g_direct_hash(member->parent) * 31 + g_direct_hash(member->child);
}

static gboolean
membership_equal(gconstpointer a, gconstpointer b)
{
    const struct membership *one = a;
    const struct membership *other = b;
    return one->parent == other->parent && one->child == other->child &&
           strcmp(one->column, other->column) == 0;
}

void
diff_free(OvnDiff *diff)
{
    if (diff != NULL) {
        g_hash_table_unref(diff->scopes);
        g_array_unref(diff->slots);
        g_hash_table_unref(diff->removed);
        g_hash_table_unref(diff->kept);
        g_hash_table_unref(diff->members);
        g_hash_table_unref(diff->sets);
        g_hash_table_unref(diff->references);
        g_ptr_array_unref(diff->steps);
        g_free(diff);
    }
}

static struct slot *
slot_of(const OvnDiff *diff, const OvnPlanRow *row)
{
    return &g_array_index(diff->slots, struct slot, row->n);
}

static bool
is_ours(const OvnDiff *diff, const OvsdbRow *row)
{
    return g_strcmp0(ovsdb_map_text(row, "external_ids", DIFF_OWNER), diff->owner) == 0;
}

/* ---- what is found ---- */

/* Our row of that key; doubles behind the first go (D2) when 'removed' is wanted. */
static const OvsdbRow *
find_ours(OvnDiff *diff, const char *table, const char *key, bool drop_doubles)
{
    const GPtrArray *rows = ovsdb_peek(diff->db, table, "external_ids:" DIFF_KEY, key);
    const OvsdbRow *first = NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const OvsdbRow *row = g_ptr_array_index(rows, i);
        if (is_ours(diff, row) && (first == NULL || strcmp(row->uuid, first->uuid) < 0)) {
            first = row;
        }
    }
    for (guint i = 0; drop_doubles && rows != NULL && rows->len > 1 && i < rows->len; i++) {
        OvsdbRow *row = g_ptr_array_index(rows, i);
        if (row != first && is_ours(diff, row)) {
            g_hash_table_add(diff->removed, row);
        }
    }
    return first;
}

/* D5: the row of that key that another server has made. */
static const OvsdbRow *
find_foreign(OvnDiff *diff, const OvnPlanRow *planned)
{
    const GPtrArray *rows =
        ovnplan_is_shared(diff->plan, planned->scope)
            ? ovsdb_peek(diff->db, planned->table, "external_ids:" DIFF_KEY, planned->key)
            : NULL;
    const OvsdbRow *first = NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const OvsdbRow *row = g_ptr_array_index(rows, i);
        if (!is_ours(diff, row) && (first == NULL || strcmp(row->uuid, first->uuid) < 0)) {
            first = row;
        }
    }
    return first;
}

static void
match_plan(OvnDiff *diff)
{
    guint size = ovnplan_size(diff->plan);
    g_array_set_size(diff->slots, size);
    for (guint i = 0; i < size; i++) {
        struct slot *slot = &g_array_index(diff->slots, struct slot, i);
        const OvnPlanRow *row = ovnplan_nth(diff->plan, i);
        *slot = (struct slot){.row = row, .n = i};
        slot->found = find_ours(diff, row->table, row->key, true);
        if (slot->found != NULL) {
            g_hash_table_insert(diff->kept, (gpointer) slot->found, slot);
        } else {
            slot->foreign = find_foreign(diff, row);
        }
    }
}

static void
match_found(OvnDiff *diff, const char *table, const char *scope)
{
    const GPtrArray *rows = ovsdb_peek(diff->db, table, "external_ids:" DIFF_SCOPE, scope);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        OvsdbRow *row = g_ptr_array_index(rows, i);
        if (is_ours(diff, row) && !g_hash_table_contains(diff->kept, row)) {
            g_hash_table_add(diff->removed, row);
        }
    }
}

/* ---- values ---- */

/* The uuid, or {"ref": "r7"} of a row to be made; a new reference, NULL with CONFLICT. */
static json_t *
resolve_key(OvnDiff *diff, const char *table, const char *key, GError **error)
{
    const OvnPlanRow *planned = ovnplan_find(diff->plan, table, key);
    if (planned != NULL) {
        const struct slot *slot = slot_of(diff, planned);
        if (slot->foreign != NULL) {
            return json_string(slot->foreign->uuid);
        }
        if (slot->found == NULL) {
            g_autofree char *ref = g_strdup_printf("r%u", slot->n);
            return json_pack("{s:s}", "ref", ref);
        }
        return json_string(slot->found->uuid);
    }
    const OvsdbRow *found = find_ours(diff, table, key, false);
    if (found == NULL || g_hash_table_contains(diff->removed, found)) {
        haw_fail(error, HAW_CONFLICT, "%s '%s' does not exist", table, key);
        return NULL;
    }
    return json_string(found->uuid);
}

static json_t *
resolve_one(OvnDiff *diff, const char *table, json_t *value, GError **error)
{
    const char *key = json_string_value(json_object_get(value, "ref"));
    return key != NULL ? resolve_key(diff, table, key, error) : json_incref(value);
}

/* Sets and maps of references. */
static json_t *
resolve_value(OvnDiff *diff, const char *table, json_t *value, GError **error)
{
    size_t i;
    const char *name;
    json_t *one;
    if (json_is_array(value)) {
        json_t *set = json_array();
        json_array_foreach (value, i, one) {
            json_t *resolved = resolve_one(diff, table, one, error);
            if (resolved == NULL) {
                json_decref(set);
                return NULL;
            }
            json_array_append_new(set, resolved);
        }
        return set;
    }
    if (!json_is_object(value) || json_object_get(value, "ref") != NULL) {
        return resolve_one(diff, table, value, error);
    }
    json_t *map = json_object();
    json_object_foreach (value, name, one) {
        json_t *resolved = resolve_one(diff, table, one, error);
        if (resolved == NULL) {
            json_decref(map);
            return NULL;
        }
        json_object_set_new(map, name, resolved);
    }
    return map;
}

/* The column as the replica would show it; a new reference. */
static json_t *
wanted_value(OvnDiff *diff, const OvnPlanRow *row, const char *column, json_t *value,
             GError **error)
{
    const char *target = ovsdb_ref_table(diff->db, row->table, column);
    if (target == NULL) {
        return ovsdb_normal(diff->db, row->table, column, value, error);
    }
    json_t *resolved = resolve_value(diff, target, value, error);
    json_t *normal =
        resolved != NULL ? ovsdb_normal(diff->db, row->table, column, resolved, error) : NULL;
    json_decref(resolved);
    return normal;
}

static bool
is_mark(const char *key)
{
    return g_str_has_prefix(key, "lxd_") || g_str_has_prefix(key, "hawser-");
}

/* Whether the found row's external_ids are as wanted_marks() would have them; most are. */
static bool
marks_hold(const struct slot *slot)
{
    json_t *found = json_object_get(slot->found->columns, "external_ids");
    json_t *named = json_object_get(slot->row->columns, "external_ids");
    size_t marks = 0;
    const char *key;
    json_t *value;
    json_object_foreach (named, key, value) {
        json_t *now = json_object_get(found, key);
        if (now == NULL || !json_equal(now, value)) {
            return false;
        }
        marks += is_mark(key);
    }
    json_object_foreach (found, key, value) {
        marks -= is_mark(key);
    }
    /* Owner and key were looked up by; no other mark may be left. */
    return marks + 3 == 0 && g_strcmp0(ovsdb_map_text(slot->found, "external_ids", DIFF_SCOPE),
                                       slot->row->scope) == 0;
}

/* What is named, our marks, and of the found row what is an operator's. */
static json_t *
wanted_marks(const OvnDiff *diff, const struct slot *slot)
{
    json_t *marks = json_object();
    const char *key;
    json_t *value;
    if (slot->found != NULL) {
        json_object_foreach (json_object_get(slot->found->columns, "external_ids"), key, value) {
            if (!is_mark(key)) {
                json_object_set(marks, key, value);
            }
        }
    }
    json_object_update(marks, json_object_get(slot->row->columns, "external_ids"));
    json_object_set_new(marks, DIFF_OWNER, json_string(diff->owner));
    json_object_set_new(marks, DIFF_SCOPE, json_string(slot->row->scope));
    json_object_set_new(marks, DIFF_KEY, json_string(slot->row->key));
    return marks;
}

/* ---- rows ---- */

/* Puts the column into the step unless the found row has it so. The value is stolen. */
static void
take_column(OvnDiff *diff, struct slot *slot, struct diffstep **step, const char *column,
            json_t *value)
{
    const OvnPlanRow *row = slot->row;
    json_t *now = slot->found != NULL ? json_object_get(slot->found->columns, column) : NULL;
    if (now != NULL && json_equal(now, value)) {
        json_decref(value);
        return;
    }
    if (*step == NULL) {
        *step = diffstep_add(diff->steps, slot->found != NULL ? STEP_CHANGE : STEP_CREATE,
                             row->scope, row->table, row->key);
        (*step)->wanted = json_object();
        (*step)->found = slot->found != NULL ? json_object() : NULL;
        (*step)->uuid = slot->found != NULL ? slot->found->uuid : NULL;
        g_snprintf((*step)->ref, sizeof(*step)->ref, "r%u", slot->n);
    }
    json_object_set_new((*step)->wanted, column, value);
    if (now != NULL) {
        json_object_set((*step)->found, column, now);
    }
}

static bool
compare_row(OvnDiff *diff, struct slot *slot, GError **error)
{
    struct diffstep *step = NULL;
    const char *column;
    json_t *value;
    if (!g_hash_table_contains(diff->scopes, slot->row->scope)) {
        return haw_fail(error, HAW_BUG, "OVN plan: %s '%s' is of scope '%s', which is not applied",
                        slot->row->table, slot->row->key, slot->row->scope);
    }
    if (slot->foreign != NULL) {
        return true; /* D5 */
    }
    if (slot->found == NULL || !marks_hold(slot)) {
        take_column(diff, slot, &step, "external_ids", wanted_marks(diff, slot));
    }
    json_object_foreach (slot->row->columns, column, value) {
        json_t *now = slot->found != NULL ? json_object_get(slot->found->columns, column) : NULL;
        if (strcmp(column, "external_ids") == 0 || (now != NULL && json_equal(now, value))) {
            continue; /* what equals a plain value is one */
        }
        json_t *wanted = wanted_value(diff, slot->row, column, value, error);
        if (wanted == NULL) {
            return haw_push(error, "%s '%s'", slot->row->table, slot->row->key);
        }
        take_column(diff, slot, &step, column, wanted);
    }
    slot->create = slot->found == NULL ? step : NULL;
    return true;
}

/* ---- members ---- */

static char *
set_name(const char *parent, const char *column)
{
    return g_strdup_printf("%s %s", parent, column);
}

/* The step that adds to that set of a found row. */
static struct diffstep *
join_step(OvnDiff *diff, const OvsdbRow *parent, const OvnPlanMember *member)
{
    char *name = set_name(parent->uuid, member->column);
    struct diffstep *step = g_hash_table_lookup(diff->sets, name);
    if (step == NULL) {
        step = diffstep_add(diff->steps, STEP_JOIN, member->child->scope, member->parent_table,
                            member->parent_key);
        step->uuid = parent->uuid;
        step->column = member->column;
        step->wanted = json_array();
        g_hash_table_insert(diff->sets, name, step);
    } else {
        g_free(name);
    }
    return step;
}

static bool
is_in(const OvnDiff *diff, const OvsdbRow *parent, const char *column, const OvsdbRow *child)
{
    GPtrArray *parents =
        (GPtrArray *) ovsdb_peek(diff->db, parent->table, column, child->uuid); /* only looked at */
    return parents != NULL && g_ptr_array_find(parents, parent, NULL);
}

static bool
place_member(OvnDiff *diff, const OvnPlanMember *member, GError **error)
{
    const struct slot *child = slot_of(diff, member->child);
    struct slot *slot = member->parent != NULL ? slot_of(diff, member->parent) : NULL;
    const OvsdbRow *parent = slot == NULL
                                 ? find_ours(diff, member->parent_table, member->parent_key, false)
                             : slot->foreign != NULL ? slot->foreign
                                                     : slot->found;
    if (child->foreign != NULL) {
        return true; /* where it belongs is its maker's to say */
    }
    bool making = slot != NULL && parent == NULL;
    if (!making && (parent == NULL || g_hash_table_contains(diff->removed, parent))) {
        return haw_fail(
            error, HAW_CONFLICT, "%s '%s' is to be part of %s '%s', which does not exist",
            member->child->table, member->child->key, member->parent_table, member->parent_key);
    }
    if (!making && child->found != NULL) {
        struct membership wanted = {parent, child->found, member->column};
        g_hash_table_add(diff->members, g_memdup2(&wanted, sizeof wanted));
        if (is_in(diff, parent, member->column, child->found)) {
            return true;
        }
    }
    json_t *element = resolve_key(diff, member->child->table, member->child->key, error);
    g_assert(element != NULL); /* it is in the plan */
    if (!making) {
        json_array_append_new(join_step(diff, parent, member)->wanted, element);
        return true;
    }
    json_t *set = json_object_get(slot->create->wanted, member->column);
    if (set == NULL) {
        set = json_array();
        json_object_set_new(slot->create->wanted, member->column, set);
    }
    json_array_append_new(set, element);
    return true;
}

static const GArray *
references_to(OvnDiff *diff, const char *table)
{
    GArray *list = g_hash_table_lookup(diff->references, table);
    if (list == NULL) {
        list = ovsdb_references(diff->db, table);
        g_hash_table_insert(diff->references, (gpointer) table, list);
    }
    return list;
}

/* Whether the found parent must let go of the found child. */
static bool
must_leave(OvnDiff *diff, const OvsdbRow *parent, const OvsdbReference *reference,
           const OvsdbRow *child)
{
    bool going = g_hash_table_contains(diff->removed, child);
    const struct slot *slot = g_hash_table_lookup(diff->kept, parent);
    if (g_hash_table_contains(diff->removed, parent)) {
        return false; /* with the parent */
    }
    if (slot != NULL && json_object_get(slot->row->columns, reference->column) != NULL) {
        return false; /* the whole column is planned */
    }
    if (going) {
        /* D1. Weak ones the database drops, but ovsdb-server 3.1 now and then forgets some. */
        return reference->strong || (reference->many && is_ours(diff, parent));
    }
    struct membership member = {parent, child, reference->column};
    return reference->many && !g_hash_table_contains(diff->members, &member) &&
           is_ours(diff, parent); /* D4 */
}

static void
leave_sets(OvnDiff *diff, const OvsdbRow *child)
{
    const GArray *references = references_to(diff, child->table);
    for (guint i = 0; i < references->len; i++) {
        const OvsdbReference *reference = &g_array_index(references, OvsdbReference, i);
        const GPtrArray *parents =
            ovsdb_peek(diff->db, reference->table, reference->column, child->uuid);
        for (guint j = 0; parents != NULL && j < parents->len; j++) {
            const OvsdbRow *parent = g_ptr_array_index(parents, j);
            if (!must_leave(diff, parent, reference, child)) {
                continue;
            }
            const char *key = ovsdb_map_text(parent, "external_ids", DIFF_KEY);
            struct diffstep *step = diffstep_add(diff->steps, STEP_LEAVE,
                                                 ovsdb_map_text(child, "external_ids", DIFF_SCOPE),
                                                 parent->table, key != NULL ? key : parent->uuid);
            step->uuid = parent->uuid;
            step->column = reference->column;
            step->wanted = json_pack("[s]", child->uuid);
        }
    }
}

static void
remove_rows(OvnDiff *diff)
{
    GHashTableIter iter;
    gpointer pointer;
    g_hash_table_iter_init(&iter, diff->removed);
    while (g_hash_table_iter_next(&iter, &pointer, NULL)) {
        const OvsdbRow *row = pointer;
        const char *key = ovsdb_map_text(row, "external_ids", DIFF_KEY);
        struct diffstep *step =
            diffstep_add(diff->steps, STEP_REMOVE, ovsdb_map_text(row, "external_ids", DIFF_SCOPE),
                         row->table, key != NULL ? key : row->uuid);
        step->uuid = row->uuid;
        step->found = json_incref(row->columns);
        leave_sets(diff, row);
    }
}

/* ---- the interface ---- */

static bool
compare(OvnDiff *diff, const char *const *scopes, GError **error)
{
    match_plan(diff);
    for (; *scopes != NULL; scopes++) {
        g_hash_table_add(diff->scopes, (gpointer) *scopes);
        for (const OvsdbTable *table = watched_tables; table->table != NULL; table++) {
            match_found(diff, table->table, *scopes);
        }
    }
    for (guint i = 0; i < diff->slots->len; i++) {
        if (!compare_row(diff, &g_array_index(diff->slots, struct slot, i), error)) {
            return false;
        }
    }
    for (guint i = 0; i < ovnplan_members(diff->plan); i++) {
        if (!place_member(diff, ovnplan_member(diff->plan, i), error)) {
            return false;
        }
    }
    for (guint i = 0; i < diff->slots->len; i++) {
        const struct slot *slot = &g_array_index(diff->slots, struct slot, i);
        if (slot->found != NULL) {
            leave_sets(diff, slot->found);
        }
    }
    remove_rows(diff);
    return true;
}

OvnDiff *
diff_new(const OvnPlan *plan, Ovsdb *db, const char *owner, const char *const *scopes,
         GError **error)
{
    if (!ovnplan_check(plan, error)) {
        return NULL;
    }
    g_autoptr(OvnDiff) diff = g_new0(OvnDiff, 1);
    diff->plan = plan;
    diff->db = db;
    diff->owner = owner;
    diff->scopes = g_hash_table_new(g_str_hash, g_str_equal);
    diff->slots = g_array_new(FALSE, TRUE, sizeof(struct slot));
    diff->removed = g_hash_table_new(NULL, NULL);
    diff->kept = g_hash_table_new(NULL, NULL);
    diff->members = g_hash_table_new_full(membership_hash, membership_equal, g_free, NULL);
    diff->sets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    diff->references =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) g_array_unref);
    diff->steps = g_ptr_array_new_with_free_func(diffstep_free);
    return compare(diff, scopes, error) ? g_steal_pointer(&diff) : NULL;
}

guint
diff_size(const OvnDiff *diff)
{
    return diff->steps->len;
}

void
diff_emit(const OvnDiff *diff, OvsdbTxn *txn)
{
    diffstep_emit(diff->steps, diff->plan, diff->owner, txn);
}

json_t *
diff_json(const OvnDiff *diff)
{
    return diffstep_json(diff->steps);
}
