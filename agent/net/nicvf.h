/* nicvf.h: a NIC that has a virtual function: what it was, as volatile keys, and what QEMU is given.
 * Threads: main loop. */
#pragma once
#include "agent/dpd/dpdclient.h"
#include "agent/net/nicuse.h"

/* The port that hawser-dpd has made ready, as LXD notes it: volatile.NIC.last_state.*, host_name. */
void nicvf_note(const NicUse *use, const DpdPort *port);
void nicvf_forget(const Nic *nic);
/* What QEMU is given of a function itself (vm/vmitem.h). */
void nicvf_item(NicUse *use, json_t *item);
