/* pagesink.h: the receiving end of a page stream: into the memory file, and nowhere else.
 * Threads: one, which pagesink_run() blocks. */
#pragma once
#include "dataplane/pages/pagecrypt.h"

struct page_sink_total {
    guint64 data_bytes, punched_bytes;
    guint rounds;
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
    /* The memory is whole: told before the mapping of it is taken down, which takes its time. */
    void (*done)(const struct page_sink_total *total, void *data);
    void *data;
};

/* Receives until the final round is whole on every channel, and says so to the source. On failure the
 * source is told why, and the memory file is worthless. */
bool pagesink_run(const struct page_sink_options *options, GError **error);
