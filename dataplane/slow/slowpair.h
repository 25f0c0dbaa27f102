/* slowpair.h: the pair of interfaces between an instance's and the bridge.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include "proto/dpd.pb-c.h"

#include <net/if.h>

/* One visit to the kernel, on a worker. */
typedef struct {
    char netdev[IFNAMSIZ], near[IFNAMSIZ], far[IFNAMSIZ];
    guint mtu;               /* asked for; 0: the interface's. Result: what it is */
    bool make;               /* the pair, unless it is there */
    bool clear;              /* takes it away */
    guint index, near_index; /* results; 0: not there */
    GError *error;
} SlowPair;

/* Looks at the interface of 'spec' and at its pair, which is named, and made or taken away if 'pair' says so.
 * Yields. */
void slowpair_visit(SlowPair *pair, const char *id, const Dpd__Port *spec);
