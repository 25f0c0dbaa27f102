/* acls.h: rows of network ACLs. Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id, project_id;
    char *project, *name, *description;
    json_t *config, *ingress, *egress; /* owned */
} AclRow;
void aclrow_free(AclRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AclRow, aclrow_free)

/* A project's rows by name (project NULL: all); elements are owned by the array. */
GPtrArray *aclrow_list(Db *db, const char *project, GError **error);
/* NULL with NOT_FOUND "Network ACL not found". */
AclRow *aclrow_load(Db *db, const char *project, const char *name, GError **error);
bool aclrow_insert(Db *db, AclRow *row, gint64 first_id, gint64 last_id, GError **error);
/* By id: name, description, config and rules. EXISTS. */
bool aclrow_update(Db *db, const AclRow *row, GError **error);
bool aclrow_delete(Db *db, gint64 id, GError **error);
