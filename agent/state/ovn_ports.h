/* ovn_ports.h: the ports that NICs ought to have on ovn networks. A row lives as long as the device is
 * on its instance; 'running' says whether it has a port now. Northbound rows follow from these.
 * Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id, network_id, instance_id;
    char *project, *inst; /* of the instance, as it is called now */
    char *device, *lsp, *mac;
    json_t *config; /* the expanded device; owned */
    bool running;
} OvnPort;
void ovn_ports_free(OvnPort *port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnPort, ovn_ports_free)

/* Those of a network (0: of all), by lsp: OvnPort elements, owned by the array. */
GPtrArray *ovn_ports_list(Db *db, gint64 network_id, GError **error);
/* Of one device; NULL without an error when there is none. */
OvnPort *ovn_ports_find(Db *db, gint64 instance_id, const char *device, GError **error);
/* Inserts or replaces the device's row by the port's ids, device, lsp, mac, config and running. */
bool ovn_ports_put(Db *db, const OvnPort *port, GError **error);
/* Changes 'running'; no such row is success. */
bool ovn_ports_run(Db *db, gint64 instance_id, const char *device, bool running, GError **error);
bool ovn_ports_drop(Db *db, gint64 instance_id, const char *device, GError **error);
