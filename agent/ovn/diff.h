/* diff.h: a plan held against the rows that are found: the steps from these to that.
 * Threads: main loop. A diff borrows from the plan and from the replica: it is used before the caller
 * yields. */
#pragma once
#include "agent/ovn/plan.h"
#include "proto/ovsdb.h"

#define DIFF_OWNER "hawser-owner"
#define DIFF_SCOPE "hawser-scope"
#define DIFF_KEY   "hawser-key"

typedef struct OvnDiff OvnDiff;
/* 'scopes' (ends with NULL) are those whose rows the plan has all of; found rows of these scopes that
 * it has not are to go. CONFLICT when it refers to a row that neither it nor the database has; INVALID
 * when a value does not suit its column; BUG. */
OvnDiff *diff_new(const OvnPlan *plan, Ovsdb *db, const char *owner, const char *const *scopes,
                  GError **error);
void diff_free(OvnDiff *diff);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnDiff, diff_free)
guint diff_size(const OvnDiff *diff); /* steps; 0: all is as planned */
/* Adds the operations to a transaction, with the expectations that guard them. */
void diff_emit(const OvnDiff *diff, OvsdbTxn *txn);
/* [{"action": "create" | "change" | "remove" | "join" | "leave", "scope", "table", "key", "wanted",
 * "found"}], a new reference. */
json_t *diff_json(const OvnDiff *diff);
