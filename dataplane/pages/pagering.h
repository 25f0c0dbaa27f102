/* pagering.h: io_uring as the page streams use it: an operation, and what to do when it is done.
 * Threads: one. Guest memory is never registered with the ring (fixed buffers pin every hole of it and
 * go on sending what a punched page held): operations name addresses. */
#pragma once
#include "base/error.h"
#include <liburing.h>

typedef struct PageRing PageRing;
/* Embedded in whoever waits; stays in place until 'done' was called with the result (>= 0, -errno). */
struct page_op {
    void (*done)(struct page_op *op, int result);
    bool busy;
};

PageRing *pagering_new(guint entries, GError **error);
void pagering_free(PageRing *ring);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageRing, pagering_free)

/* A submission for 'op', to be prepared by io_uring_prep_*() at once; it is sent with the next turn. */
struct io_uring_sqe *pagering_take(PageRing *ring, struct page_op *op);
/* Submits, waits for something to finish, calls every 'done'. TIMEOUT when nothing did in wait_ms. */
bool pagering_turn(PageRing *ring, gint64 wait_ms, GError **error);
/* Before memory or sockets that operations use go away: cancels all and waits for their ends. */
void pagering_drain(PageRing *ring);
/* From now on a turn fails with CANCELLED once 'fd' (borrowed) is readable. */
void pagering_leash(PageRing *ring, int fd);
/* From now on only bytes to be read there do so, not its other end's going. */
void pagering_loosen(PageRing *ring);
/* Takes 'bytes' off the front of the message's parts: whether some are left. */
bool pagering_advance(struct msghdr *message, size_t bytes);
