/* dpd.h: the root object of hawser-dpd: ledger, fleet, ports and the socket.
 * Threads: main loop only. */
#pragma once
#include "base/error.h"

typedef struct Dpd Dpd;
typedef struct {
    const char *dir;     /* of the ledger, the lock and the socket */
    const char *backend; /* as hw_open() takes it; NULL: $HAWSER_HW, else the kernel */
    const char *ovsdb;   /* remote of the local Open_vSwitch database; NULL: the system's */
    const char *bpf;     /* bpffs directory of the fast path's pins; NULL: bpf/ in 'dir' */
    bool embedded;       /* ends by itself once it has neither ports nor peers */
} DpdOptions;
/* 'done' is called when it has nothing left to do (embedded only). BUSY when another one has the
 * directory. */
typedef void (*DpdDone)(void *data);
Dpd *dpd_new(const DpdOptions *options, DpdDone done, void *data, GError **error);
/* Ports stay as they are. */
void dpd_free(Dpd *dpd);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dpd, dpd_free)
