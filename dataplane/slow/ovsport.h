/* ovsport.h: interfaces on OVS bridges, by the local Open_vSwitch database.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"

typedef struct OvsPorts OvsPorts;
/* 'changed' is called when rows of ours came, went or changed, and when the database came back; it
 * must not yield. */
typedef void (*OvsPortsChanged)(void *data);
/* remote NULL: the system's. */
OvsPorts *ovsport_open(const char *remote, OvsPortsChanged changed, void *data);
void ovsport_close(OvsPorts *ports);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvsPorts, ovsport_close)
/* From now on there; nothing happens when it is the same. */
void ovsport_set_remote(OvsPorts *ports, const char *remote);
const char *ovsport_remote(const OvsPorts *ports);

struct ovsport_want {
    const char *id; /* ours, in external_ids:hawser-port */
    const char *bridge, *netdev;
    const char *type; /* "" for an interface of the kernel, "dpdkvhostuserclient", … */
    const char *path; /* of a vhost-user socket, else NULL */
    const char *iface_id, *mac;
    const char *const *pairs; /* further external_ids: key, value, …, NULL; NULL: none */
};
/* Puts it there, once: what had its id or its iface-id before goes in the same transaction.
 * UNAVAILABLE when the database or the bridge is not there. With a type, waits until the switch has
 * opened it. Yields. */
bool ovsport_plug(OvsPorts *ports, const struct ovsport_want *want, GError **error);
/* Takes it off, by our id; with 'wait', returns when the switch has let go of the interface. Not there is
 * success. Yields. */
bool ovsport_unplug(OvsPorts *ports, const char *id, bool wait, GError **error);
/* Whether it is there, as far as we know without asking. */
bool ovsport_has(OvsPorts *ports, const char *id, const char *netdev);
/* Whether the database is connected, so that ovsport_has() can be believed. */
bool ovsport_ready(OvsPorts *ports);
