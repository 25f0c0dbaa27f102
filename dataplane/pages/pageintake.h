/* pageintake.h: the channels of a PageSink: what a channel's thread shares with the sink.
 * Threads: one a channel, which pageintake_run() blocks; what several use is marked. */
#pragma once
#include "dataplane/pages/pagering.h"
#include "dataplane/pages/pagesink.h"

typedef struct PageSink PageSink;
enum intake_step { INTAKE_HEADER, INTAKE_TABLE, INTAKE_PAYLOAD };

/* One of the stream's connections. */
struct intake {
    struct page_op op; /* first: the receive in progress */
    struct page_op reply_op;
    PageSink *sink;
    PageRing *ring;
    GThread *thread;
    int fd;     /* borrowed */
    bool hello; /* under the sink's lock */
    bool acknowledged, finished, stopped;
    guint index; /* as the source numbers it; known after HELLO */
    PageCrypt *in, *out;
    guint64 sequence, reply_sequence;
    guint32 round;
    enum intake_step step;
    struct frame frame;
    guint32 crc;
    guint8 table[FRAME_TABLE_MAX];
    guint8 small[FRAME_PAYLOAD_MAX / 1024];
    guint8 tag[FRAME_TAG_BYTES];
    struct iovec parts[FRAME_EXTENTS_MAX + 1], left[FRAME_EXTENTS_MAX + 1];
    int n_parts;
    struct msghdr message;
    struct frame_end end;
    guint8 reply[FRAME_HEADER_BYTES + FRAME_END_BYTES + FRAME_TAG_BYTES];
    size_t reply_bytes, reply_done;
};

struct PageSink {
    const struct page_sink_options *options;
    guint8 *map;       /* of the memory file */
    guint8 *populated; /* a bit a page: it exists */
    struct intake *intakes;
    int halt_fd;     /* an event: readable once all are to end */
    int ended_fd;    /* an event: how many threads have ended */
    gint64 moved_us; /* atomic: when anything moved last, on whichever channel */

    GMutex lock; /* of what is below */
    GError *failure;
    struct page_sink_total total;
    gint64 told_us;
};

/* Takes the channel's frames until its final round is acknowledged, it fails, or halt_fd is raised. */
void pageintake_run(struct intake *intake);
/* The first failure is the one that is told, and ends every channel; takes 'error'. Any thread. */
void pageintake_fail(PageSink *sink, GError *error);
/* After the threads, before their rings go: tells the source why it ends, if the socket takes it. */
void pageintake_tell_failure(PageSink *sink);
