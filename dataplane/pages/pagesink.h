/* pagesink.h: the receiving end of a page stream: into the memory file, and nowhere else.
 * Threads: one, which pagesink_run() blocks. */
#pragma once
#include "dataplane/pages/pagecrypt.h"
#include "dataplane/pages/pageguard.h"

struct page_sink_total {
    guint64 data_bytes, punched_bytes;
    guint rounds;
    guint64 owed_bytes; /* at 'done': what is still to come */
};

struct page_sink_options {
    int memory_fd;        /* all holes */
    guint64 memory_bytes; /* must be what the source says */
    const int *sockets;   /* connected streams in any order, borrowed */
    guint channels;
    guint8 token[FRAME_TOKEN_BYTES];
    const guint8 *key; /* PAGECRYPT_KEY_BYTES; NULL: plain frames are taken, sealed ones refused */
    gint64 idle_ms;    /* gives up after so long without a byte; 0: 30 s */
    int cancel_fd;     /* readable: give up with CANCELLED; -1: none */
    void (*progress)(guint64 total_bytes, void *data); /* some times a second; may be NULL */
    PageGuard
        *guard; /* borrowed, not raised: the guest may run before all is there. NULL: it may not */
    /* The memory is whole, or, with a guard, guarded: the guest may run. Told before the mapping of it is taken
     * down, which takes its time. */
    void (*done)(const struct page_sink_total *total, void *data);
    void (*paid)(const struct page_sink_total *total, void *data); /* what was owed is there, too */
    void *data;
};

/* Receives until the final round is whole on every channel, and says so to the source; with a guard, until all
 * that was owed is there, and an owner that goes after 'done' does not end it. On failure the source is told
 * why, and the memory file is worthless: a guest that runs already stands still at what is missing. */
bool pagesink_run(const struct page_sink_options *options, GError **error);
