/* poller.h: the poll-mode engine: its tables, ports and cores.
 * Threads: the control thread (the main loop); cores run pollcore_run() on their own. */
#pragma once
#include "base/error.h"
#include "dataplane/poll/pollcore.h"
#include "dataplane/poll/polldev.h"
#include "dataplane/poll/polloffload.h"

typedef struct Poller Poller;

typedef struct {
    guint32 flows;              /* 0: 1048576 */
    guint32 nap_us;             /* the longest nap of a core without work; 0: none */
    guint32 mbufs;              /* 0: 16384 */
    guint32 room;               /* of a packet's data, 0: 2048 */
    gint64 renew_ms, expire_ms; /* 0: 1000, 2000 */
    enum pollflows offload;  /* what a device has to do for it to get rules; NONE: none gets any */
    guint32 offload_packets; /* of a flow since its last proof, for a rule; 0: 512 */
} PollerOptions;

/* EAL is up. UNAVAILABLE without a core beside the main one, or without memory. */
Poller *poller_new(const PollerOptions *options, GError **error);
void poller_free(Poller *poller);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Poller, poller_free)

typedef struct {
    const char *id, *device, *slow;
    guint8 mac[6];
    guint16 mtu, zone;
    bool off;
    guint8 addr4_count, addr6_count;
    guint32 addr4[LAYOUT_ADDRS];
    guint32 addr6[LAYOUT_ADDRS][4];
} PollerPort;
/* Replaces a port of the same id; one with the same devices keeps them, and its flows unless something else differs.
 * On failure there is none of that id. Waits for the cores: some ms. */
bool poller_add(Poller *poller, const PollerPort *port, GError **error);
/* NOT_FOUND */
bool poller_remove(Poller *poller, const char *id, GError **error);
/* Forgets the flows of a zone. */
void poller_bump(Poller *poller, guint16 zone);

/* ---- to look at ---- */

/* From now on cores tell of packets. BUSY while they do. */
bool poller_trace_begin(Poller *poller, const struct polltrace_want *want, GError **error);
/* How many were lost. */
guint64 poller_trace_end(Poller *poller);
/* Borrowed; NULL beyond the last core, and when they do not tell. */
struct polltrace *poller_trace(const Poller *poller, guint core);

typedef struct {
    char *id; /* owned */
    guint16 nic;
    PollDev *dev;  /* owned */
    PollDev *slow; /* owned; NULL: nowhere to go for what is slow */
} PollerSeat;
/* Borrowed: PollerSeat elements. */
GPtrArray *poller_ports(const Poller *poller);
struct engine *poller_engine(Poller *poller);
const PollOffload *poller_offload(const Poller *poller);
const struct pollcore *poller_core(const Poller *poller, guint index); /* NULL beyond the last */
guint64 poller_table_bytes(const Poller *poller);
