/* dpdclient.h: the agent's end of hawser-dpd: which ports ought to exist, and what has become of them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "proto/dpd.pb-c.h"
#include <net/if.h>

typedef struct DpdClient DpdClient;
DpdClient *dpdclient_new(Agent *agent);
void dpdclient_free(DpdClient *client);

/* A port that is ready; texts are "" where they do not apply. */
typedef struct {
    Dpd__Kind kind;
    char netdev[IFNAMSIZ], representor[IFNAMSIZ], pf[IFNAMSIZ];
    int vf; /* -1: none */
    char pci[40], vdpa[64], device[64];
    char old_mac[18], old_vf_mac[18]; /* what the function was, and will be again */
    guint old_mtu;
    int old_vlan, old_spoof_check; /* -1: unknown */
} DpdPort;

/* From now on this port ought to exist; returns when it does: one round trip. hawser-dpd is started
 * when none runs. On failure it ought not to any more, and nothing of it is left. 'ret' may be NULL.
 * The error is dpd's: NOT_FOUND, LIMIT and UNSUPPORTED when this host can't have such a port, so that
 * another kind may be tried. Yields. */
bool dpdclient_put(DpdClient *client, const Dpd__Port *spec, DpdPort *ret, GError **error);
/* It ought not to exist any more; returns when it is gone, a function's old settings back in place.
 * Not there is success. Yields. */
bool dpdclient_drop(DpdClient *client, const char *id, GError **error);
/* The port of an instance that was found running; nothing is sent yet. */
void dpdclient_adopt(DpdClient *client, const Dpd__Port *spec);
/* All running instances have been adopted: what dpd has beyond that goes. Comes back at once. */
void dpdclient_settle(DpdClient *client);
/* The character device of a port of kind VDPA; the caller's. -1 with an error. Yields. */
int dpdclient_take(DpdClient *client, const char *id, GError **error);
/* As dpd has it now: {"backend","generation","pid","busy_us","claims":[{"vf","port","pf","index"}],
 * "ports":[{"id","kind","state",…}]}, a new reference; {} when it does not run and is not needed.
 * Yields. */
json_t *dpdclient_status(DpdClient *client, GError **error);

/* ---- the fast path ---- */
/* Whether any port ought to exist, and whether any of them may be fast. */
bool dpdclient_has_ports(DpdClient *client);
bool dpdclient_has_fast(DpdClient *client);
/* Grows with each connection to a hawser-dpd: what the one before was told is to be said again. */
guint64 dpdclient_epoch(const DpdClient *client);
/* Puts a copy of 'fast' (NULL: none) into an unpacked spec. */
void dpdclient_set_fast(Dpd__Port *spec, const Dpd__Fast *fast);
/* Calls fn with each port that ought to exist, sends those that it changed and waits for them. Yields. */
typedef void (*DpdRevise)(Dpd__Port *spec, void *data);
bool dpdclient_revise(DpdClient *client, DpdRevise fn, void *data, GError **error);
/* What was learned in these zones (guint elements; empty or NULL: all) is forgotten when it returns. An older
 * hawser-dpd, which has no fast path, has nothing to forget. Yields. */
bool dpdclient_bump(DpdClient *client, const GArray *zones, GError **error);
/* A request about the fast path and its answer, which the caller frees. UNAVAILABLE when hawser-dpd does
 * not run and no port needs it. Yields. */
Dpd__Frame *dpdclient_fast(DpdClient *client, Dpd__Frame *request, gint64 wait_ms, GError **error);
/* Tells what the server's configuration (dataplane.poll.*) says now; nobody to tell is success. BUSY while NICs are
 * polled that would be so no more. Yields. */
bool dpdclient_poll(DpdClient *client, GError **error);
void dpdclient_answer_free(Dpd__Frame *answer);
/* "PROJECT/INSTANCE/DEVICE"; caller frees. */
char *dpdclient_id(const char *project, const char *inst, const char *device);

extern const Route dataplane_routes[];
