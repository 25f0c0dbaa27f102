/* The sending half of a channel: frames of pages, by the cheapest route.
 * Q2  Zero pages travel as their extents.
 * Q5  Scattered pages go by sendmsg from the mapping, long extents by the cheapest route measured.
 * Q6  What is sent without a copy is read by the kernel later: only pages go that way, never the table,
 *     whose buffer serves the next frame.
 * Q7  Of what is owed, what the sink asks for goes first, with what lies behind it; frames are short then, and little is
 *     queued in the kernel, so that an answer does not wait behind others.
 * Q8  A region that is there as a whole begins a frame: the sink makes a huge page of it (pageintake.c, L7).
 * Called by pagesource.c, and by the ring. */
#include "dataplane/pages/pagechannel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SPLICE_EXTENTS_MAX = 16, /* more than that a frame and sendmsg is cheaper */
    TRIAL_BYTES = 32 << 20,  /* by each route, before one is chosen */
    PROGRESS_US = 200 * 1000,
    OWED_PAYLOAD_MAX = 128 * 1024,
    OWED_AHEAD = 16 * PAGE_BYTES,
    OWED_PAUSE_US = 5000,
};

gint64
channel_cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

/* The first failure is the one that is told. */
void
channel_fail(PageSource *source, GError *error)
{
    if (source->failure == NULL) {
        source->failure = error;
    } else {
        g_error_free(error);
    }
}

void
channel_fail_errno(PageSource *source, int err, const char *what)
{
    GError *error = NULL;
    haw_fail_errno(&error, err, "page stream: %s", what);
    channel_fail(source, error);
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
    gint64 now_us = channel_cpu_us();
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
void
channel_add_zeros(struct channel *channel, guint64 offset, guint64 bytes)
{
    if (offset % FRAME_REGION_BYTES == 0) {
        g_array_append_val(channel->zeros, ((struct page_run){offset, bytes}));
    } else {
        pagescan_append(channel->zeros, offset, bytes);
    }
}

/* One page more for the frame, or for 'zeros' (Q2); false: the frame is full. */
static bool
gather_page(struct channel *channel, guint64 offset)
{
    struct frame *frame = &channel->frame;
    struct page_run *last = frame->n_extents > 0 ? &frame->extents[frame->n_extents - 1] : NULL;
    if (is_zero(channel->source->map + offset)) {
        channel_add_zeros(channel, offset, PAGE_BYTES);
    } else if (last != NULL && last->offset + last->bytes == offset &&
               offset % FRAME_REGION_BYTES != 0) {
        last->bytes += PAGE_BYTES;
        frame->payload_bytes += PAGE_BYTES;
    } else if (frame->n_extents < FRAME_EXTENTS_MAX) {
        frame->extents[frame->n_extents++] = (struct page_run){offset, PAGE_BYTES};
        frame->payload_bytes += PAGE_BYTES;
    } else {
        return false;
    }
    return true;
}

/* Pages of the channel's runs, until the frame is full; in the round that pays, those still owed. */
static void
gather(struct channel *channel, guint32 most_bytes)
{
    const PageSource *source = channel->source;
    struct frame *frame = &channel->frame;
    while (channel->run < channel->runs->len && frame->payload_bytes < most_bytes &&
           channel->zeros->len < FRAME_EXTENTS_MAX) {
        const struct page_run *run = &g_array_index(channel->runs, struct page_run, channel->run);
        guint64 offset = run->offset + channel->run_done;
        if (frame->payload_bytes > 0 && offset % FRAME_REGION_BYTES == 0 &&
            run->bytes - channel->run_done >= FRAME_REGION_BYTES) {
            return; /* Q8 */
        }
        bool ours = source->owed == NULL || pageowed_is(source->owed, offset);
        if (ours && !gather_page(channel, offset)) {
            return;
        }
        if (ours && source->owed != NULL) {
            pageowed_pay(source->owed, offset, PAGE_BYTES);
        }
        channel->run_done += PAGE_BYTES;
        if (channel->run_done == run->bytes) {
            channel->run++;
            channel->run_done = 0;
        }
    }
}

/* Q7 */
static void
gather_wanted(struct channel *channel)
{
    PageSource *source = channel->source;
    while (channel->wants->len > 0 && channel->frame.n_extents == 0 && channel->zeros->len == 0) {
        guint64 offset = g_array_index(channel->wants, guint64, 0);
        guint64 rest = FRAME_REGION_BYTES - offset % FRAME_REGION_BYTES;
        guint64 end = offset + MIN(rest, (guint64) OWED_AHEAD);
        g_array_remove_index(channel->wants, 0);
        for (; offset < end && pageowed_is(source->owed, offset); offset += PAGE_BYTES) {
            gather_page(channel, offset);
            pageowed_pay(source->owed, offset, PAGE_BYTES);
        }
    }
}

/* Sends what is in channel->message; more of it when the socket took a part. */
static void
send_message(struct channel *channel, bool zero_copy, int flags)
{
    struct io_uring_sqe *sqe = pagering_take(channel->source->ring, &channel->op);
    channel->zero_copy = zero_copy;
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
                channel_fail_errno(channel->source, got == 0 ? EIO : errno,
                                   "splicing the guest's memory");
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
        channel_fail(channel->source, error);
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

void
channel_send(struct channel *channel, enum frame_kind kind, guint8 flags, guint32 payload_bytes)
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
    channel_send(channel, FRAME_PUNCH, channel->source->owing ? FRAME_FINAL | FRAME_OWED : 0, 0);
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
void
channel_next(struct channel *channel)
{
    PageSource *source = channel->source;
    tell_progress(source);
    if (channel->end_sent) { /* before the limit is asked: the next round finds nothing under way */
        channel->step = STEP_IDLE;
        return;
    }
    gint64 wait_us = over_limit_us(source);
    channel->frame.n_extents = 0;
    channel->frame.payload_bytes = 0;
    if (source->owed != NULL && !source->owing) {
        wait_us = MIN(wait_us, OWED_PAUSE_US);
        gather_wanted(channel);
    }
    bool wanted = channel->frame.n_extents > 0 || channel->zeros->len > 0;
    if (wait_us > 0 && !wanted) {
        channel->pause =
            (struct __kernel_timespec){wait_us / G_USEC_PER_SEC, wait_us % G_USEC_PER_SEC * 1000};
        channel->step = STEP_PAUSE;
        struct io_uring_sqe *sqe = pagering_take(source->ring, &channel->op);
        io_uring_prep_timeout(sqe, &channel->pause, 0, 0);
        return;
    }
    if (!wanted) {
        gather(channel, source->owed != NULL ? OWED_PAYLOAD_MAX : FRAME_PAYLOAD_MAX);
    }
    if (channel->frame.n_extents > 0) {
        channel_send(channel, FRAME_DATA, source->final ? FRAME_FINAL : 0,
                     channel->frame.payload_bytes);
    } else if (channel->zeros->len > 0) {
        send_zeros(channel);
    } else {
        guint8 flags = source->final ? FRAME_FINAL : 0;
        channel->end_sent = true;
        frame_put_end(&channel->end, channel->small);
        channel_send(channel, FRAME_ROUND_END, flags | (source->owing ? FRAME_OWED : 0),
                     FRAME_END_BYTES);
    }
}

void
channel_on_sent(struct page_op *op, int result)
{
    struct channel *channel = (struct channel *) op;
    PageSource *source = channel->source;
    if (source->failure != NULL) {
        return;
    }
    if (channel->step == STEP_PAUSE) {
        channel_next(channel);
        return;
    }
    if (result == -EAGAIN || result == -EINTR) {
        result = 0;
    }
    if ((result == -EOPNOTSUPP || result == -ENOMEM) && channel->zero_copy) {
        source->no_zero_copy = true; /* not on this kind of socket, or not for us */
        send_message(channel, false, 0);
    } else if (result < 0) {
        channel_fail_errno(source, -result, "sending");
    } else if (channel->step == STEP_SPLICE) {
        channel->splice_left -= (size_t) result;
        if (channel->splice_left > 0) {
            send_spliced(channel);
        } else {
            channel_next(channel);
        }
    } else if (pagering_advance(&channel->message, (size_t) result)) {
        send_message(channel, false, channel->step == STEP_TABLE ? MSG_MORE : 0);
    } else if (channel->step == STEP_TABLE) {
        send_pages(channel);
    } else {
        channel_next(channel);
    }
}
