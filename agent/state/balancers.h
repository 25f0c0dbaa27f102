/* balancers.h: rows of load balancers. Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id, network_id;
    char *listen, *description;
    json_t *config, *backends, *ports; /* owned */
} BalancerRow;
void balancerrow_free(BalancerRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BalancerRow, balancerrow_free)

/* Of one network (0: of all), by listen address; elements are owned by the array. */
GPtrArray *balancerrow_list(Db *db, gint64 network_id, GError **error);
/* NULL with NOT_FOUND "Network load balancer not found". */
BalancerRow *balancerrow_load(Db *db, gint64 network_id, const char *listen, GError **error);
bool balancerrow_insert(Db *db, BalancerRow *row, GError **error);
bool balancerrow_update(Db *db, const BalancerRow *row, GError **error);
bool balancerrow_delete(Db *db, gint64 id, GError **error);
