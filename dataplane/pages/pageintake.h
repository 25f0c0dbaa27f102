/* pageintake.h: the channels of a PageSink: what a channel's thread shares with the sink.
 * Threads: one a channel, which pageintake_run() blocks; what several use is marked. */
#pragma once
#include "dataplane/pages/pageowed.h"
#include "dataplane/pages/pagering.h"
#include "dataplane/pages/pagesink.h"

typedef struct PageSink PageSink;
enum intake_step { INTAKE_HEADER, INTAKE_TABLE, INTAKE_PAYLOAD };

/* One of the stream's connections. */
struct intake {
    struct page_op op; /* first: the receive in progress */
    struct page_op reply_op;
    struct page_op want_op;
    PageSink *sink;
    PageRing *ring;
    GThread *thread;
    int fd;     /* borrowed */
    bool hello; /* under the sink's lock */
    bool acknowledged, finished, stopped;
    bool owing;           /* all but what is owed has come: one round more */
    bool ack_due, acking; /* the answer to a round's end waits, or is under way */
    guint index;          /* as the source numbers it; known after HELLO */
    PageCrypt *in, *out;
    guint64 sequence, reply_sequence;
    guint32 round;
    bool ended;         /* the round: what comes next is of a later one */
    guint64 data_until; /* where the round's data goes on */
    enum intake_step step;
    struct frame frame;
    guint32 crc;
    guint8 table[FRAME_TABLE_MAX];
    guint8 small[FRAME_PAYLOAD_MAX / 1024];
    guint8 tag[FRAME_TAG_BYTES];
    GArray *made; /* guint64: the regions that this round made as huge pages */
    struct iovec parts[FRAME_EXTENTS_MAX + 1], left[FRAME_EXTENTS_MAX + 1];
    int n_parts;
    struct msghdr message;
    struct frame_end end;
    int want_fd;   /* an event: there are wants */
    GArray *wants; /* guint64: offsets to ask for; under the sink's lock */
    guint8 reply[FRAME_HEADER_BYTES + FRAME_WANTS_MAX * 8 + FRAME_TAG_BYTES];
    size_t reply_bytes, reply_done;
};

struct PageSink {
    const struct page_sink_options *options;
    guint8 *map; /* of the memory file */
    guint8 *
        huge_map; /* of the same, never written through: what is populated by it comes as huge pages; or NULL */
    guint8 *populated; /* a bit a page: it has come */
    struct intake *intakes;
    int halt_fd;     /* an event: readable once all are to end */
    int ended_fd;    /* an event: how many threads have ended */
    PageOwed *owed;  /* NULL without a guard */
    int owing_fd;    /* an event: how many channels have all but what is owed */
    gint64 moved_us; /* atomic: when anything moved last, on whichever channel */

    GMutex lock; /* of what is below */
    GCond raised_or_failed;
    bool raised; /* the guard is up: owed pages may come */
    GError *failure;
    struct page_sink_total total;
    gint64 told_us;
};

/* Takes the channel's frames until its final round is acknowledged, it fails, or halt_fd is raised. */
void pageintake_run(struct intake *intake);
/* The first failure is the one that is told, and ends every channel; takes 'error'. Any thread. */
void pageintake_fail(PageSink *sink, GError *error);
/* The channel's thread: its own failure; the next frame. */
void pageintake_stop(struct intake *intake, GError *error);
void pageintake_next(struct intake *intake);

/* ---- what is said to the source (pagereply.c) ---- */
void pagereply_begin(struct intake *intake);
/* Sends what is due, unless something is on its way: then it follows that. */
bool pagereply_speak(struct intake *intake, GError **error);
/* Any thread: asks the source for an owed page. */
void pagereply_want(PageSink *sink, guint64 offset);
/* After the threads, before their rings go: tells the source why it ends, if the socket takes it. */
void pagereply_tell_failure(PageSink *sink);
