/* fastport.h: the daemon's ports on the fast path: slow pairs, bindings, and the switch's conntrack.
 * Threads: main loop, inside fibers where marked "Yields". */
#pragma once
#include "dataplane/slow/fastload.h"
#include "dataplane/slow/pollhost.h"
#include "proto/dpd.pb-c.h"

#include <net/if.h>

enum { FASTPORT_FLOWS = 65536 }; /* of each family, by default */

typedef struct FastPorts FastPorts;
/* Loads the programs, or adopts what a former daemon left. Never fails: where the kernel can't,
 * fastport_trouble() says what is missing and every port stays on the slow path. What was switched off is off
 * again: a file in 'state_dir' says so. 'poll' (borrowed) has the ports that are polled. */
FastPorts *fastport_new(const char *bpf_dir, const char *state_dir, PollHost *poll);
/* For all ports, until it is asked otherwise, also after a restart of the host. Yields. */
bool fastport_switch(FastPorts *fast, bool on, GError **error);
/* What is bound goes on without us. With 'end', for a daemon without ports that ends, nothing does. */
void fastport_free(FastPorts *fast, bool end);
const char *fastport_trouble(const FastPorts *fast); /* NULL: there is none */
/* Borrowed; NULL when there is trouble. */
FastLoad *fastport_load(FastPorts *fast);
/* Whose conntrack it is, by its database's remote ("unix:/run/…/db.sock"), and whether the datapath is the
 * kernel's. Everything goes slow while that one is not shown to keep what it sees parts of. */
void fastport_follow(FastPorts *fast, const char *remote, bool kernel);

/* Where a port is. */
struct fastport_place {
    char plug
        [IFNAMSIZ]; /* what belongs on the bridge in the place of its interface; "": that itself */
    char slow[160]; /* why it is not fast; "": it is, or nobody asked for it */
};
/* Sees to the slow pair and the binding of a port that is about to be put on its bridge, or takes
 * them away when it no longer asks for that and nothing would be lost. What can't be is a
 * reason in *ret. Repeats safely. Yields. */
void fastport_make(FastPorts *fast, const char *id, const Dpd__Port *spec,
                   struct fastport_place *ret);
/* After the port is off its bridge: unbinds it and removes its pair. Not there is success. Yields. */
bool fastport_undo(FastPorts *fast, const char *id, const Dpd__Port *spec, GError **error);
/* The port of a slot; "" when it is unknown, "(other host)" for the far side of a zone. Borrowed. */
const char *fastport_id(FastPorts *fast, guint slot);
/* Slots from ids; -1 when it isn't bound. */
int fastport_slot(FastPorts *fast, const char *id);
/* Ports that asked for it, and why each is slow ("": it isn't); texts are borrowed for the call. */
typedef void (*FastPortSeen)(const char *id, const char *netdev, const char *slow, void *data);
void fastport_each(FastPorts *fast, FastPortSeen fn, void *data);
guint fastport_count(const FastPorts *fast);
