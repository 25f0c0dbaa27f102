/* rdmaoffer.h: whether a stream's connections go by RDMA, agreed between its two ends on those connections.
 * Threads: the process's only one, before it gives up what it may do. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

typedef struct {
    int *sockets; /* connected streams; those that go by RDMA are replaced */
    guint n;
    const guint8 *token; /* RDMALANE_TOKEN_BYTES: the migration's */
    int cancel_fd;       /* readable: stop waiting */
    gint64 wait_ms;      /* for the other side's first bytes */
} RdmaOffer;

/* The source's: asks the sink. Whatever stands in the way leaves the connections as they are, to be used; the
 * reason is logged. Returns the process that carries the lanes, or 0. */
pid_t rdmaoffer_ask(const RdmaOffer *offer);
/* The sink's: waits for the source's first bytes; nothing is taken of what is no such question. */
pid_t rdmaoffer_answer(const RdmaOffer *offer);
/* After the sockets were closed: until it has carried what was left; 0 is nobody. */
void rdmaoffer_end(pid_t pid);
