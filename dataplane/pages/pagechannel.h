/* pagechannel.h: the channels of a PageSource: what the sending half shares with the rounds.
 * Threads: the source's. */
#pragma once
#include "dataplane/pages/pageowed.h"
#include "dataplane/pages/pagering.h"
#include "dataplane/pages/pagesource.h"

enum { CHANNEL_REPLY_MAX = 512 };
enum channel_step { STEP_IDLE, STEP_TABLE, STEP_PAYLOAD, STEP_SPLICE, STEP_PAUSE };

/* One of the stream's connections. */
struct channel {
    struct page_op op; /* first: the send in progress */
    struct page_op reply_op;
    PageSource *source;
    guint index;
    int fd;      /* borrowed */
    int pipe[2]; /* for splices; holds a whole payload */
    PageCrypt *out, *in;
    guint64 sequence, reply_sequence;
    enum channel_step step;

    GArray *runs; /* of this round */
    guint run;    /* the one being sent */
    guint64 run_done;
    GArray *zeros; /* found in this round, not announced yet */
    GArray *wants; /* guint64: offsets that the sink asked for, of what is owed */
    bool end_sent, acked;
    struct frame_end end;

    struct frame frame; /* the one being sent */
    guint8 table[FRAME_TABLE_MAX];
    guint8 small[FRAME_END_BYTES + FRAME_HELLO_BYTES + 256]; /* payloads that are not pages */
    guint8 *sealed;
    struct iovec parts[FRAME_EXTENTS_MAX + 2];
    struct msghdr message;
    enum page_route route; /* of the frame */
    bool zero_copy;        /* the message that is under way */
    int n_parts;           /* of its payload */
    size_t splice_left;
    struct __kernel_timespec pause;

    guint8 reply[FRAME_HEADER_BYTES + CHANNEL_REPLY_MAX + FRAME_TAG_BYTES];
    size_t reply_have, reply_want;
};

struct PageSource {
    struct page_source_options options;
    PageRing *ring;
    guint8 *map; /* of the memory file, read only */
    struct channel *channels;
    guint32 round;
    bool final, done;
    bool owing;      /* this round says what is owed, in place of sending it */
    PageOwed *owed;  /* NULL: nothing; in the round that pays it, what is still to be sent */
    GError *failure; /* owned: what ends it */
    guint8 *sent;    /* a bit a page: the sink has, or had, a copy of it */

    bool no_zero_copy;
    enum page_route route, trial_route;
    guint64 trial_bytes;
    gint64 trial_from_us;
    double trial_cost[PAGE_ROUTE_ZC + 1]; /* µs of CPU a byte */

    guint64 round_bytes;
    gint64 round_began_us, told_us;
};

/* Sends the frames that are left of the round, one after the other, up to its end. */
void channel_next(struct channel *channel);
/* Sends one frame; of DATA and PUNCH the extents are in channel->frame, of others the payload in
 * channel->small. */
void channel_send(struct channel *channel, enum frame_kind kind, guint8 flags,
                  guint32 payload_bytes);
/* Deals pages to the channel that are zero; one extent, one region. */
void channel_add_zeros(struct channel *channel, guint64 offset, guint64 bytes);
void channel_on_sent(struct page_op *op, int result);
/* CPU time of the process, io_uring's workers included. */
gint64 channel_cpu_us(void);
/* The first failure is the one that is told; takes 'error'. */
void channel_fail(PageSource *source, GError *error);
void channel_fail_errno(PageSource *source, int err, const char *what);
