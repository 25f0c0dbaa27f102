/* pollflows.h: what a device's hardware could do for learned flows, found out by asking it.
 * Threads: the control thread only. */
#pragma once
#include <stdint.h>

enum pollflows {
    POLLFLOWS_NONE,    /* it takes no rule, or its kernel does not */
    POLLFLOWS_MATCH,   /* a flow's rule is taken, but nothing is done there that forwards it */
    POLLFLOWS_FORWARD, /* it would rewrite and send a flow's packets by itself */
};

/* A started device. Leaves no rule behind. */
enum pollflows pollflows_probe(uint16_t port);
/* "none", "match", "forward" */
const char *pollflows_word(enum pollflows flows);
