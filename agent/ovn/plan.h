/* plan.h: northbound rows that ought to be, as pure data, before anybody asked the database.
 * Builders turn rows of our own database into a plan; diff.c holds it against what is found.
 * Every row carries in its external_ids, beside what the builder names: hawser-owner (this server or
 * cluster), hawser-scope and hawser-key; what carries no such marks, or another owner's, is foreign and
 * is never changed or removed.
 * Scopes that are shared (ovnplan_share()) are planned alike by several servers on one database: whose row of
 * a key is there first, its row it is, and the others use it as it stands.
 * Threads: any; no I/O. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct OvnPlan OvnPlan;
OvnPlan *ovnplan_new(void);
void ovnplan_free(OvnPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnPlan, ovnplan_free)

/* The row of 'table' that is known as 'key', which is unique in its table over all scopes (its LXD
 * name, mostly). 'columns' (stolen) are compared and set; columns that are not named are left alone,
 * so name every column that is ever set, with null for "empty now". In them (proto/ovsdb.h, plain
 * form):
 *   "x", 5, true          one value (also for an optional column)
 *   [..] or null          a set, as a whole
 *   {"k": "v"}            a map, as a whole; but of external_ids only keys that begin with "lxd_" or
 *                         "hawser-", and those named, are ours
 *   {"ref": "key"}        the row of that key in the table that the column refers to: of this plan, else
 *                         one of ours that is found; also inside sets and as values of maps
 * A second call with the same table and key adds its columns to the first one's. */
void ovnplan_row(OvnPlan *plan, const char *scope, const char *table, const char *key,
                 json_t *columns);
/* Puts the row 'key' of 'table' into set 'column' of the row 'parent_key' of 'parent_table', which may be
 * of another scope or, too, found only: a port into "ports" of its switch or router, an ACL into its
 * port group, a port (weakly) into a port group. The child is of the same plan: its scope decides whether it
 * is a member. Foreign members, and members of scopes that are not being applied, stay in such sets. Do not
 * name the same column in ovnplan_row(), where a whole set may only hold rows of its own scope. Rows of tables that are
 * not "root" (ports, routes, NAT, policies, ACLs …) live only by such a parent. */
void ovnplan_into(OvnPlan *plan, const char *table, const char *key, const char *parent_table,
                  const char *parent_key, const char *column);
/* Rows of the scope may stand as another server's. */
void ovnplan_share(OvnPlan *plan, const char *scope);
bool ovnplan_is_shared(const OvnPlan *plan, const char *scope);
/* Adds one element (stolen; a string, a number or {"ref"}) to set 'column' of a row of this plan that
 * was made before; that set is ours as a whole. */
void ovnplan_add(OvnPlan *plan, const char *table, const char *key, const char *column,
                 json_t *element);

/* ---- for diff.c and tests ---- */
typedef struct {
    const char *scope, *table, *key;
    json_t *columns; /* borrowed */
    guint n;         /* its place, from 0 */
} OvnPlanRow;
typedef struct {
    const OvnPlanRow *child, *parent; /* parent NULL: not of this plan */
    const char *parent_table, *parent_key, *column;
} OvnPlanMember;
/* In order of the first call; borrowed, NULL when there is none. */
guint ovnplan_size(const OvnPlan *plan);
const OvnPlanRow *ovnplan_nth(const OvnPlan *plan, guint n);
const OvnPlanRow *ovnplan_find(const OvnPlan *plan, const char *table, const char *key);
guint ovnplan_members(const OvnPlan *plan);
const OvnPlanMember *ovnplan_member(const OvnPlan *plan, guint n);
/* All of it as JSON, sorted, for golden files: {"Table": {"key": {"scope", "columns", "in"}}}; a new
 * reference. */
json_t *ovnplan_json(const OvnPlan *plan);
/* The first builder's mistake (a member of a row that was never planned, a key in two scopes), as BUG. */
bool ovnplan_check(const OvnPlan *plan, GError **error);
