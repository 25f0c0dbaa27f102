/* The sending end.
 * Q1  A round's runs are dealt to the channels by region, so the versions of a page keep their order
 *     without a barrier between rounds.
 * Q2  Zero pages travel as their extents; a hole is never read through the mapping, which would
 *     allocate it.
 * Q3  A page that changes while it is sent is sent again by a later round: it was written after the
 *     scan that put it here, so the tracker has it. In the final round nothing changes.
 * Q4  A round is over when every channel's sink said so: rates are what arrived, not what was queued.
 * Q5  Scattered pages go by sendmsg from the mapping, long extents by the cheapest route measured.
 * Main thread of hawser-pages. */
#include "dataplane/pages/pagesource.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "dataplane/pages/pagering.h"

enum {
    RING_ENTRIES = 256,
    IDLE_MS = 30 * 1000,
    SPLICE_EXTENTS_MAX = 16, /* more than that a frame and sendmsg is cheaper */
    TRIAL_BYTES = 32 << 20,  /* of each route, before one is chosen */
    PROGRESS_US = 200 * 1000,
    REPLY_MAX = 512,
};

enum step { STEP_IDLE, STEP_TABLE, STEP_PAYLOAD, STEP_SPLICE, STEP_PAUSE };

struct channel {
    struct page_op op; /* first: the send in progress */
    struct page_op reply_op;
    PageSource *source;
    guint index;
    int fd;      /* borrowed */
    int pipe[2]; /* for splices; holds a whole payload */
    PageCrypt *out, *in;
    guint64 sequence, reply_sequence;
    enum step step;

    GArray *runs; /* of this round */
    guint run;    /* the one being sent */
    guint64 run_done;
    GArray *zeros; /* found in this round, not announced yet */
    bool end_sent, acked;
    struct frame_end end;

    struct frame frame; /* the one being sent */
    guint8 table[FRAME_TABLE_MAX];
    guint8 small[FRAME_END_BYTES + FRAME_HELLO_BYTES + 256]; /* payloads that are not pages */
    guint8 *sealed;
    struct iovec parts[FRAME_EXTENTS_MAX + 2];
    struct msghdr message;
    enum page_route route; /* of the frame */
    int n_parts;           /* of its payload */
    size_t splice_left;
    struct __kernel_timespec pause;

    guint8 reply[FRAME_HEADER_BYTES + REPLY_MAX + FRAME_TAG_BYTES];
    size_t reply_have, reply_want;
};

struct PageSource {
    struct page_source_options options;
    PageRing *ring;
    guint8 *map; /* of the memory file, read only */
    struct channel *channels;
    struct page_op cancel_op;
    guint32 round;
    bool final, done;
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

static void next_frame(struct channel *channel);

static gint64
cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

/* The first failure is the one that is told. */
static void
fail(PageSource *source, GError *error)
{
    if (source->failure == NULL) {
        source->failure = error;
    } else {
        g_error_free(error);
    }
}

static void
fail_errno(PageSource *source, int err, const char *what)
{
    GError *error = NULL;
    haw_fail_errno(&error, err, "page stream: %s", what);
    fail(source, error);
}

/* ---- which route ---- */

/* The route of this frame of pages. */
static enum page_route
route_for(const struct channel *channel)
{
    const PageSource *source = channel->source;
    enum page_route route = source->route == PAGE_ROUTE_AUTO ? source->trial_route : source->route;
    bool scattered = channel->frame.n_extents > SPLICE_EXTENTS_MAX;
    return route == PAGE_ROUTE_SPLICE && scattered ? PAGE_ROUTE_COPY : route; /* Q5 */
}

/* The trial: TRIAL_BYTES by each route, one after the other; the process's CPU time between, io_uring's
 * workers included, is what it cost. */
static void
trial(PageSource *source, guint64 bytes)
{
    source->trial_bytes += bytes;
    if (source->trial_bytes < TRIAL_BYTES) {
        return;
    }
    gint64 now_us = cpu_us();
    source->trial_cost[source->trial_route] =
        (double) (now_us - source->trial_from_us) / (double) source->trial_bytes;
    source->trial_bytes = 0;
    source->trial_from_us = now_us;
    if (source->trial_route < PAGE_ROUTE_ZC) {
        source->trial_route++;
        return;
    }
    enum page_route best = PAGE_ROUTE_COPY;
    for (int each = PAGE_ROUTE_SPLICE; each <= PAGE_ROUTE_ZC; each++) {
        if (source->trial_cost[each] < source->trial_cost[best]) {
            best = each;
        }
    }
    source->route = best;
}

/* ---- one frame ---- */

static bool
is_zero(const guint8 *page)
{
    guint64 first;
    memcpy(&first, page, sizeof(first));
    return first == 0 && memcmp(page, page + 8, PAGE_BYTES - 8) == 0;
}

/* One extent, one region: that is what the sink takes. */
static void
add_zeros(struct channel *channel, guint64 offset, guint64 bytes)
{
    if (offset % FRAME_REGION_BYTES == 0) {
        g_array_append_val(channel->zeros, ((struct page_run){offset, bytes}));
    } else {
        pagescan_append(channel->zeros, offset, bytes);
    }
}

/* Pages of the channel's runs, until the frame is full; zero pages go to 'zeros' (Q2). */
static void
gather(struct channel *channel)
{
    PageSource *source = channel->source;
    struct frame *frame = &channel->frame;
    frame->n_extents = 0;
    frame->payload_bytes = 0;
    while (channel->run < channel->runs->len && frame->payload_bytes < FRAME_PAYLOAD_MAX &&
           channel->zeros->len < FRAME_EXTENTS_MAX) {
        const struct page_run *run = &g_array_index(channel->runs, struct page_run, channel->run);
        guint64 offset = run->offset + channel->run_done;
        struct page_run *last = frame->n_extents > 0 ? &frame->extents[frame->n_extents - 1] : NULL;
        if (is_zero(source->map + offset)) {
            add_zeros(channel, offset, PAGE_BYTES);
        } else if (last != NULL && last->offset + last->bytes == offset &&
                   offset % FRAME_REGION_BYTES != 0) {
            last->bytes += PAGE_BYTES;
            frame->payload_bytes += PAGE_BYTES;
        } else if (frame->n_extents < FRAME_EXTENTS_MAX) {
            frame->extents[frame->n_extents++] = (struct page_run){offset, PAGE_BYTES};
            frame->payload_bytes += PAGE_BYTES;
        } else {
            return;
        }
        channel->run_done += PAGE_BYTES;
        if (channel->run_done == run->bytes) {
            channel->run++;
            channel->run_done = 0;
        }
    }
}

/* Sends what is in channel->message; more of it when the socket took a part. */
static void
send_message(struct channel *channel, bool zero_copy, int flags)
{
    struct io_uring_sqe *sqe = pagering_take(channel->source->ring, &channel->op);
    if (zero_copy) {
        io_uring_prep_sendmsg_zc(sqe, channel->fd, &channel->message,
                                 MSG_NOSIGNAL | (unsigned) flags);
    } else {
        io_uring_prep_sendmsg(sqe, channel->fd, &channel->message, MSG_NOSIGNAL | (unsigned) flags);
    }
}

static void
send_spliced(struct channel *channel)
{
    struct io_uring_sqe *sqe = pagering_take(channel->source->ring, &channel->op);
    io_uring_prep_splice(sqe, channel->pipe[0], -1, channel->fd, -1,
                         (unsigned) channel->splice_left, 0);
    channel->step = STEP_SPLICE;
}

/* Points channel->parts[1…] at the payload: the pages, or the bytes in channel->small. */
static int
payload_parts(struct channel *channel)
{
    const struct frame *frame = &channel->frame;
    if (frame->kind != FRAME_DATA) {
        channel->parts[1] = (struct iovec){channel->small, frame->payload_bytes};
        return frame->payload_bytes > 0;
    }
    for (guint i = 0; i < frame->n_extents; i++) {
        channel->parts[1 + i] = (struct iovec){channel->source->map + frame->extents[i].offset,
                                               frame->extents[i].bytes};
    }
    return frame->n_extents;
}

static bool
fill_pipe(struct channel *channel)
{
    for (guint i = 0; i < channel->frame.n_extents; i++) {
        loff_t offset = (loff_t) channel->frame.extents[i].offset;
        guint64 left = channel->frame.extents[i].bytes;
        while (left > 0) {
            ssize_t got = splice(channel->source->options.memory_fd, &offset, channel->pipe[1],
                                 NULL, left, SPLICE_F_NONBLOCK);
            if (got <= 0) {
                fail_errno(channel->source, got == 0 ? EIO : errno, "splicing the guest's memory");
                return false;
            }
            left -= (guint64) got;
        }
    }
    return true;
}

static void
count(struct channel *channel, guint32 crc, int n_parts)
{
    const struct frame *frame = &channel->frame;
    guint8 wire[4] = {(guint8) crc, (guint8) (crc >> 8), (guint8) (crc >> 16),
                      (guint8) (crc >> 24)};
    if (frame->kind != FRAME_DATA && frame->kind != FRAME_PUNCH) {
        return;
    }
    channel->end.tables_crc = frame_crc(channel->end.tables_crc, wire, sizeof(wire));
    for (guint i = 0; i < frame->n_extents; i++) {
        const struct page_run *extent = &frame->extents[i];
        for (guint64 page = 0; page < extent->bytes / PAGE_BYTES; page++) {
            guint64 bit = extent->offset / PAGE_BYTES + page;
            guint8 mask = (guint8) (1 << (bit & 7));
            if (frame->kind == FRAME_DATA) {
                channel->source->sent[bit >> 3] |= mask;
            } else {
                channel->source->sent[bit >> 3] &= (guint8) ~mask;
            }
        }
        if (frame->kind == FRAME_PUNCH) {
            channel->end.punched_bytes += extent->bytes;
        }
    }
    channel->end.data_bytes += frame->payload_bytes;
    channel->source->round_bytes += frame->payload_bytes;
    for (int i = 1; channel->source->final && i <= n_parts; i++) {
        channel->end.content_crc = frame_crc(channel->end.content_crc, channel->parts[i].iov_base,
                                             channel->parts[i].iov_len);
    }
}

/* Seals the payload into one part behind the table. */
static bool
seal(struct channel *channel, size_t table_bytes, int n_parts)
{
    GError *error = NULL;
    if (!pagecrypt_seal(channel->out, channel->frame.sequence, channel->table, table_bytes,
                        channel->parts + 1, n_parts, channel->sealed, &error)) {
        fail(channel->source, error);
        return false;
    }
    channel->parts[1] =
        (struct iovec){channel->sealed, channel->frame.payload_bytes + (size_t) FRAME_TAG_BYTES};
    return true;
}

/* Sends channel->frame. */
static void
send_frame(struct channel *channel)
{
    PageSource *source = channel->source;
    struct frame *frame = &channel->frame;
    bool sealed = source->options.key != NULL;
    bool pages = frame->kind == FRAME_DATA;
    enum page_route route = pages && !sealed ? route_for(channel) : PAGE_ROUTE_COPY;
    if (pages && !sealed && source->route == PAGE_ROUTE_AUTO) {
        trial(source, frame->payload_bytes);
    }
    frame->channel = (guint16) channel->index;
    frame->round = source->round;
    frame->sequence = channel->sequence++;
    frame->flags |= sealed ? FRAME_SEALED : 0;
    guint32 crc;
    size_t table_bytes = frame_put(frame, channel->table, &crc);
    int n_parts = payload_parts(channel);
    count(channel, crc, n_parts);
    channel->parts[0] = (struct iovec){channel->table, table_bytes};
    if (sealed) {
        if (!seal(channel, table_bytes, n_parts)) {
            return;
        }
        n_parts = 1;
    }
    if (route == PAGE_ROUTE_SPLICE && !fill_pipe(channel)) {
        return;
    }
    channel->route = route;
    channel->n_parts = n_parts;
    bool table_alone = route != PAGE_ROUTE_COPY;
    channel->message = (struct msghdr){.msg_iov = channel->parts,
                                       .msg_iovlen = table_alone ? 1 : (size_t) n_parts + 1};
    channel->step = table_alone ? STEP_TABLE : STEP_PAYLOAD;
    send_message(channel, false, table_alone ? MSG_MORE : 0);
}

/* The table is out, and its buffer free for the next: the kernel would read it later if it went without
 * a copy. Now the pages. */
static void
send_pages(struct channel *channel)
{
    if (channel->route == PAGE_ROUTE_SPLICE) {
        channel->splice_left = channel->frame.payload_bytes;
        send_spliced(channel);
        return;
    }
    channel->message =
        (struct msghdr){.msg_iov = channel->parts + 1, .msg_iovlen = (size_t) channel->n_parts};
    channel->step = STEP_PAYLOAD;
    send_message(channel, !channel->source->no_zero_copy, 0);
}

static void
send_kind(struct channel *channel, enum frame_kind kind, guint8 flags, guint32 payload_bytes)
{
    channel->frame.kind = (guint8) kind;
    channel->frame.flags = flags;
    channel->frame.payload_bytes = payload_bytes;
    if (kind != FRAME_DATA && kind != FRAME_PUNCH) {
        channel->frame.n_extents = 0;
    }
    send_frame(channel);
}

static void
send_zeros(struct channel *channel)
{
    struct frame *frame = &channel->frame;
    frame->n_extents = 0;
    guint taken = 0;
    for (; taken < channel->zeros->len && frame->n_extents < FRAME_EXTENTS_MAX; taken++) {
        struct page_run extent = g_array_index(channel->zeros, struct page_run, taken);
        if (taken > 0 && extent.offset < frame->extents[taken - 1].offset) {
            break; /* holes are dealt before what the scan found: a frame's extents rise */
        }
        frame->extents[frame->n_extents++] = extent;
    }
    g_array_remove_range(channel->zeros, 0, taken);
    send_kind(channel, FRAME_PUNCH, 0, 0);
}

/* How long the bandwidth limit wants us to wait; 0: not at all. */
static gint64
over_limit_us(const PageSource *source)
{
    if (source->options.limit_bytes_s == 0) {
        return 0;
    }
    gint64 due_us = (gint64) ((double) source->round_bytes * G_USEC_PER_SEC /
                              (double) source->options.limit_bytes_s);
    return MAX(0, due_us - (g_get_monotonic_time() - source->round_began_us));
}

static void
tell_progress(PageSource *source)
{
    gint64 now_us = g_get_monotonic_time();
    if (source->options.progress != NULL && now_us - source->told_us >= PROGRESS_US) {
        source->told_us = now_us;
        source->options.progress(source->round_bytes, source->options.data);
    }
}

/* The channel has nothing under way: what comes next in this round. */
static void
next_frame(struct channel *channel)
{
    PageSource *source = channel->source;
    tell_progress(source);
    gint64 wait_us = over_limit_us(source);
    if (wait_us > 0) {
        channel->pause =
            (struct __kernel_timespec){wait_us / G_USEC_PER_SEC, wait_us % G_USEC_PER_SEC * 1000};
        channel->step = STEP_PAUSE;
        struct io_uring_sqe *sqe = pagering_take(source->ring, &channel->op);
        io_uring_prep_timeout(sqe, &channel->pause, 0, 0);
        return;
    }
    channel->frame.n_extents = 0;
    channel->frame.payload_bytes = 0;
    if (channel->zeros->len < FRAME_EXTENTS_MAX) {
        gather(channel);
    }
    if (channel->frame.n_extents > 0) {
        send_kind(channel, FRAME_DATA, source->final ? FRAME_FINAL : 0,
                  channel->frame.payload_bytes);
    } else if (channel->zeros->len > 0) {
        send_zeros(channel);
    } else if (!channel->end_sent) {
        channel->end_sent = true;
        frame_put_end(&channel->end, channel->small);
        send_kind(channel, FRAME_ROUND_END, source->final ? FRAME_FINAL : 0, FRAME_END_BYTES);
    } else {
        channel->step = STEP_IDLE;
    }
}

static void
on_sent(struct page_op *op, int result)
{
    struct channel *channel = (struct channel *) op;
    PageSource *source = channel->source;
    if (source->failure != NULL) {
        return;
    }
    if (channel->step == STEP_PAUSE) {
        next_frame(channel);
        return;
    }
    if (result == -EAGAIN || result == -EINTR) {
        result = 0;
    }
    if (result == -EOPNOTSUPP && channel->step == STEP_PAYLOAD && !source->no_zero_copy) {
        source->no_zero_copy = true; /* not on this kind of socket */
        send_message(channel, false, 0);
    } else if (result < 0) {
        fail_errno(source, -result, "sending");
    } else if (channel->step == STEP_SPLICE) {
        channel->splice_left -= (size_t) result;
        if (channel->splice_left > 0) {
            send_spliced(channel);
        } else {
            next_frame(channel);
        }
    } else if (pagering_advance(&channel->message, (size_t) result)) {
        send_message(channel, false, channel->step == STEP_TABLE ? MSG_MORE : 0);
    } else if (channel->step == STEP_TABLE) {
        send_pages(channel);
    } else {
        next_frame(channel);
    }
}

/* ---- what the sink says ---- */

static void
read_reply(struct channel *channel)
{
    struct io_uring_sqe *sqe = pagering_take(channel->source->ring, &channel->reply_op);
    io_uring_prep_recv(sqe, channel->fd, channel->reply + channel->reply_have,
                       channel->reply_want - channel->reply_have, 0);
}

/* A whole reply: opens it, and takes it. */
static bool
take_reply(struct channel *channel, const struct frame *frame, GError **error)
{
    PageSource *source = channel->source;
    guint8 *payload = channel->reply + FRAME_HEADER_BYTES;
    struct iovec part = {payload, frame->payload_bytes};
    struct frame_end end;
    guint32 crc;
    struct frame whole = *frame;
    if (!frame_get_table(channel->reply, payload, source->options.memory_bytes,
                         source->options.channels, &whole, &crc, error)) {
        return false;
    }
    if (frame->sequence != channel->reply_sequence++ || frame->channel != channel->index) {
        return haw_fail(error, HAW_CORRUPT, "page stream: the sink's replies are out of order");
    }
    if (source->options.key != NULL &&
        !pagecrypt_open(channel->in, frame->sequence, channel->reply, FRAME_HEADER_BYTES, &part, 1,
                        payload + frame->payload_bytes, error)) {
        return false;
    }
    if (frame->kind == FRAME_ABORT) {
        g_autofree char *reason = g_utf8_make_valid((char *) payload, frame->payload_bytes);
        return haw_fail(error, HAW_CANCELLED, "the other side gave up: %s", reason);
    }
    frame_get_end(payload, &end);
    if (frame->kind != FRAME_ACK || frame->round != source->round || !channel->end_sent ||
        end.data_bytes != channel->end.data_bytes || end.tables_crc != channel->end.tables_crc ||
        end.content_crc != channel->end.content_crc) {
        return haw_fail(error, HAW_CORRUPT, "page stream: the sink has not what was sent");
    }
    channel->acked = true;
    return true;
}

static void
on_reply(struct page_op *op, int result)
{
    struct channel *channel =
        (struct channel *) ((char *) op - G_STRUCT_OFFSET(struct channel, reply_op));
    PageSource *source = channel->source;
    struct frame frame;
    GError *error = NULL;
    if (result <= 0 && result != -EAGAIN && result != -EINTR) {
        /* What broke the stream is worth more than that it broke: a send may know. */
        fail_errno(source, result == 0 ? ECONNRESET : -result, "waiting for the sink");
        return;
    }
    channel->reply_have += (size_t) MAX(result, 0);
    if (channel->reply_have >= FRAME_HEADER_BYTES) {
        bool sealed = source->options.key != NULL;
        if (!frame_get_header(channel->reply, &frame, &error)) {
            fail(source, error);
            return;
        }
        if ((frame.kind != FRAME_ACK && frame.kind != FRAME_ABORT) ||
            frame.payload_bytes > REPLY_MAX || ((frame.flags & FRAME_SEALED) != 0) != sealed) {
            haw_fail(&error, HAW_INVALID, "page stream: the sink speaks out of turn");
            fail(source, error);
            return;
        }
        channel->reply_want =
            FRAME_HEADER_BYTES + frame.payload_bytes + (sealed ? FRAME_TAG_BYTES : 0);
        if (channel->reply_have == channel->reply_want) {
            if (!take_reply(channel, &frame, &error)) {
                fail(source, error);
                return;
            }
            channel->reply_have = 0;
            channel->reply_want = FRAME_HEADER_BYTES;
        }
    }
    read_reply(channel);
}

static void
on_cancel(struct page_op *op, int result)
{
    PageSource *source = (PageSource *) ((char *) op - G_STRUCT_OFFSET(PageSource, cancel_op));
    GError *error = NULL;
    haw_fail(&error, HAW_CANCELLED, "the migration was cancelled");
    fail(source, error);
}

/* ---- rounds ---- */

/* Q1 */
static void
deal(PageSource *source, const GArray *runs, bool holes)
{
    for (guint i = 0; runs != NULL && i < runs->len; i++) {
        struct page_run run = g_array_index(runs, struct page_run, i);
        while (run.bytes > 0) {
            guint64 region = run.offset / FRAME_REGION_BYTES;
            guint64 bytes = MIN(run.bytes, (region + 1) * FRAME_REGION_BYTES - run.offset);
            struct channel *channel = &source->channels[region % source->options.channels];
            if (holes) {
                add_zeros(channel, run.offset, bytes);
            } else {
                pagescan_append(channel->runs, run.offset, bytes);
            }
            run.offset += bytes;
            run.bytes -= bytes;
        }
    }
}

static bool
all_acked(const PageSource *source)
{
    for (guint i = 0; i < source->options.channels; i++) {
        if (!source->channels[i].acked) {
            return false;
        }
    }
    return true;
}

static bool
run_until(PageSource *source, bool (*finished)(const PageSource *), GError **error)
{
    gint64 idle_ms = source->options.idle_ms > 0 ? source->options.idle_ms : IDLE_MS;
    while (source->failure == NULL && !finished(source)) {
        GError *why = NULL;
        if (!pagering_turn(source->ring, idle_ms, &why)) {
            fail(source, why);
        }
    }
    if (source->failure != NULL) {
        g_propagate_error(error, g_error_copy(source->failure));
        return false;
    }
    return true;
}

bool
pagesource_round(PageSource *source, const GArray *runs, const GArray *holes, bool final,
                 struct page_round *ret_round, GError **error)
{
    source->final = final;
    source->round_bytes = 0;
    source->round_began_us = g_get_monotonic_time();
    source->told_us = source->round_began_us;
    gint64 cpu_from_us = cpu_us();
    for (guint i = 0; i < source->options.channels; i++) {
        struct channel *channel = &source->channels[i];
        g_array_set_size(channel->runs, 0);
        channel->run = 0;
        channel->run_done = 0;
        channel->end_sent = channel->acked = false;
        channel->end = (struct frame_end){0};
    }
    g_autoptr(GArray) rest = holes != NULL ? pagescan_without(runs, holes) : NULL; /* Q2 */
    deal(source, holes, true);
    deal(source, rest != NULL ? rest : runs, false);
    for (guint i = 0; i < source->options.channels; i++) {
        next_frame(&source->channels[i]);
    }
    if (!run_until(source, all_acked, error)) { /* Q4 */
        return false;
    }
    *ret_round = (struct page_round){
        .wall_us = g_get_monotonic_time() - source->round_began_us,
        .cpu_us = cpu_us() - cpu_from_us,
    };
    for (guint i = 0; i < source->options.channels; i++) {
        ret_round->data_bytes += source->channels[i].end.data_bytes;
        ret_round->punched_bytes += source->channels[i].end.punched_bytes;
    }
    if (source->round++ == 0 && source->route == PAGE_ROUTE_AUTO) {
        source->route =
            PAGE_ROUTE_SPLICE; /* too little was sent to tell: what is cheapest mostly */
    }
    source->done = final;
    return true;
}

bool
pagesource_punched(PageSource *source, GArray *runs, GError **error)
{
    g_autoptr(GArray) present = pagescan_runs();
    if (!pagescan_extents(source->options.memory_fd, source->options.memory_bytes, present,
                          error)) {
        return false;
    }
    guint at = 0;
    guint64 pages = source->options.memory_bytes / PAGE_BYTES;
    for (guint64 page = 0; page < pages; page++) {
        guint64 offset = page * PAGE_BYTES;
        while (at < present->len) {
            const struct page_run *run = &g_array_index(present, struct page_run, at);
            if (offset < run->offset + run->bytes) {
                break;
            }
            at++;
        }
        bool there =
            at < present->len && offset >= g_array_index(present, struct page_run, at).offset;
        if (!there && (source->sent[page >> 3] & (1 << (page & 7))) != 0) {
            pagescan_append(runs, offset, PAGE_BYTES);
        }
    }
    return true;
}

/* ---- life ---- */

static bool
nobody_busy(const PageSource *source)
{
    for (guint i = 0; i < source->options.channels; i++) {
        if (source->channels[i].op.busy) {
            return false;
        }
    }
    return true;
}

static bool
open_channel(PageSource *source, guint index, GError **error)
{
    const struct page_source_options *options = &source->options;
    struct channel *channel = &source->channels[index];
    channel->source = source;
    channel->index = index;
    channel->fd = options->sockets[index];
    channel->op.done = on_sent;
    channel->reply_op.done = on_reply;
    channel->reply_want = FRAME_HEADER_BYTES;
    channel->runs = pagescan_runs();
    channel->zeros = pagescan_runs();
    if (options->key != NULL) {
        channel->sealed = g_malloc(FRAME_PAYLOAD_MAX + FRAME_TAG_BYTES);
        channel->out = pagecrypt_new(options->key, index, PAGECRYPT_TO_SINK, error);
        channel->in = channel->out != NULL
                          ? pagecrypt_new(options->key, index, PAGECRYPT_TO_SOURCE, error)
                          : NULL;
        return channel->in != NULL;
    }
    if (pipe2(channel->pipe, O_CLOEXEC) != 0 ||
        fcntl(channel->pipe[1], F_SETPIPE_SZ, FRAME_PAYLOAD_MAX) < 0) {
        return haw_fail_errno(error, errno, "a pipe for splices");
    }
    return true;
}

static void
say_hello(struct channel *channel)
{
    const struct page_source_options *options = &channel->source->options;
    struct frame_hello hello = {options->channels, options->memory_bytes, {0}};
    memcpy(hello.token, options->token, sizeof(hello.token));
    frame_put_hello(&hello, channel->small);
    channel->end_sent = true; /* nothing follows by itself */
    send_kind(channel, FRAME_HELLO, 0, FRAME_HELLO_BYTES);
    read_reply(channel);
}

static bool
map_memory(PageSource *source, GError **error)
{
    const struct page_source_options *options = &source->options;
    if (options->memory_bytes == 0 || options->memory_bytes % PAGE_BYTES != 0 ||
        options->channels == 0 || options->channels > FRAME_CHANNELS_MAX) {
        return haw_fail(error, HAW_INVALID,
                        "page stream: %u channels for %" G_GUINT64_FORMAT " bytes of memory",
                        options->channels, options->memory_bytes);
    }
    void *map = mmap(NULL, options->memory_bytes, PROT_READ, MAP_SHARED, options->memory_fd, 0);
    if (map == MAP_FAILED) {
        return haw_fail_errno(error, errno, "mapping the guest's memory");
    }
    source->map = map;
    return true;
}

PageSource *
pagesource_new(const struct page_source_options *options, GError **error)
{
    g_autoptr(PageSource) source = g_new0(PageSource, 1);
    source->options = *options;
    source->route = options->route;
    source->trial_route = PAGE_ROUTE_COPY;
    source->trial_from_us = cpu_us();
    source->channels = g_new0(struct channel, options->channels);
    for (guint i = 0; i < options->channels; i++) {
        source->channels[i].pipe[0] = source->channels[i].pipe[1] = -1;
    }
    source->sent = g_malloc0(options->memory_bytes / PAGE_BYTES / 8 + 1);
    if (!map_memory(source, error) || (source->ring = pagering_new(RING_ENTRIES, error)) == NULL) {
        return NULL;
    }
    for (guint i = 0; i < options->channels; i++) {
        if (!open_channel(source, i, error)) {
            return NULL;
        }
    }
    if (options->cancel_fd >= 0) {
        source->cancel_op.done = on_cancel;
        struct io_uring_sqe *sqe = pagering_take(source->ring, &source->cancel_op);
        io_uring_prep_poll_add(sqe, options->cancel_fd, POLLIN);
    }
    source->round_began_us = g_get_monotonic_time();
    for (guint i = 0; i < options->channels; i++) {
        say_hello(&source->channels[i]);
    }
    return run_until(source, nobody_busy, error) ? g_steal_pointer(&source) : NULL;
}

void
pagesource_abort(PageSource *source, const char *reason)
{
    for (guint i = 0; i < source->options.channels; i++) {
        struct channel *channel = &source->channels[i];
        if (!channel->op.busy) { /* else it is in the middle of a frame: cutting must do */
            gsize size = MIN(strlen(reason), sizeof(channel->small));
            memcpy(channel->small, reason, size);
            send_kind(channel, FRAME_ABORT, 0, (guint32) size);
        }
    }
    pagering_turn(source->ring, 100, NULL);
}

/* Drops what is queued, so that no send keeps the ring waiting. */
static void
cut(int fd)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    if (connect(fd, &nobody, sizeof(nobody)) != 0) {
        shutdown(fd, SHUT_RDWR);
    }
}

void
pagesource_free(PageSource *source)
{
    if (source == NULL) {
        return;
    }
    for (guint i = 0; i < source->options.channels && !source->done; i++) {
        cut(source->options.sockets[i]);
    }
    g_clear_pointer(&source->ring, pagering_free);
    for (guint i = 0; i < source->options.channels; i++) {
        struct channel *channel = &source->channels[i];
        g_clear_pointer(&channel->runs, g_array_unref);
        g_clear_pointer(&channel->zeros, g_array_unref);
        pagecrypt_free(channel->out);
        pagecrypt_free(channel->in);
        g_free(channel->sealed);
        fd_close(&channel->pipe[0]);
        fd_close(&channel->pipe[1]);
    }
    if (source->map != NULL) {
        munmap(source->map, source->options.memory_bytes);
    }
    g_clear_error(&source->failure);
    g_free(source->sent);
    g_free(source->channels);
    g_free(source);
}

enum page_route
pagesource_route(const PageSource *source)
{
    return source->route;
}
