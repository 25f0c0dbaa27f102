/* One channel of the receiving end: a thread that takes frames from its connection until the final round.
 * L1  Pages are received straight into the mapped file, at offsets that were checked before
 *     (pageframe.h); a sealed frame is opened where it lies. A stream that turns out wrong ends the
 *     migration, and its file is thrown away: half a page never runs.
 * L2  A hole stays a hole: only extents of DATA frames are populated, just before their bytes come, as
 *     page faults one by one are the dearest part of receiving. Zeros punch.
 * L3  Frames of a channel count upwards from 0 without a gap; the first is HELLO, its token is the
 *     migration's; rounds only rise, each ends once, and in each a page comes once. A replay of an old frame or round,
 *     or of another migration's, is refused.
 * L4  A round's end names what was sent; what was received must be that, and in a final round the
 *     contents too.
 * L5  Channels share no page: a region's pages all come on one (pageframe.c refuses others), so the map
 *     and the bits of 'populated', whole bytes a region, need no lock. What they share has the sink's.
 * L6  What is owed comes after the final round, into the same file: a page of it is let to the guest once its frame
 *     is whole (pageguard.h), and asked for when somebody waits for it.
 * L7  A region whose first half comes at once in the first round is made as a huge page, which costs a third of its small
 *     ones. What of it has not come when the round ends is punched: a hole costs memory no longer than that.
 * Called by pagesink.c. */
#include "dataplane/pages/pageintake.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.h"

enum { RING_ENTRIES = 16, IDLE_MS = 30 * 1000, PROGRESS_US = 200 * 1000 };

void
pageintake_fail(PageSink *sink, GError *error)
{
    g_mutex_lock(&sink->lock);
    if (sink->failure == NULL) {
        sink->failure = error;
    } else {
        g_error_free(error);
    }
    g_cond_broadcast(&sink->raised_or_failed);
    g_mutex_unlock(&sink->lock);
    (void) eventfd_write(sink->halt_fd, 1);
}

void
pageintake_stop(struct intake *intake, GError *error)
{
    intake->stopped = true;
    pageintake_fail(intake->sink, error);
}

static void
receive(struct intake *intake)
{
    struct io_uring_sqe *sqe = pagering_take(intake->ring, &intake->op);
    io_uring_prep_recvmsg(sqe, intake->fd, &intake->message, MSG_WAITALL);
}

/* Receives into intake->left[0…n). */
static void
expect(struct intake *intake, enum intake_step step, int n)
{
    intake->step = step;
    intake->message = (struct msghdr){.msg_iov = intake->left, .msg_iovlen = (size_t) n};
    receive(intake);
}

/* ---- pages that have come ---- */

static bool
is_populated(const PageSink *sink, guint64 offset)
{
    guint64 page = offset / PAGE_BYTES;
    return (sink->populated[page >> 3] & (1 << (page & 7))) != 0;
}

/* Whether that is news to any of the extent's pages. */
static bool
set_populated(PageSink *sink, const struct page_run *extent, bool populated)
{
    bool news = false;
    for (guint64 at = 0; at < extent->bytes; at += PAGE_BYTES) {
        guint64 page = (extent->offset + at) / PAGE_BYTES;
        news = news || is_populated(sink, extent->offset + at) != populated;
        if (populated) {
            sink->populated[page >> 3] |= (guint8) (1 << (page & 7));
        } else {
            sink->populated[page >> 3] &= (guint8) ~(1 << (page & 7));
        }
    }
    return news;
}

static bool
punch_run(const PageSink *sink, guint64 offset, guint64 bytes, GError **error)
{
    return fallocate(sink->options->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     (off_t) offset, (off_t) bytes) == 0 ||
           haw_fail_errno(error, errno, "punching a hole into the guest's memory");
}

/* ---- what a frame does ---- */

static bool
take_hello(struct intake *intake, GError **error)
{
    const struct page_sink_options *options = intake->sink->options;
    struct frame_hello hello;
    frame_get_hello(intake->small, &hello);
    guint8 differs = 0;
    for (int i = 0; i < FRAME_TOKEN_BYTES; i++) {
        differs |= (guint8) (hello.token[i] ^ options->token[i]);
    }
    if (differs != 0) {
        return haw_fail(error, HAW_DENIED, "page stream: this is another migration's connection");
    }
    if (hello.channels != options->channels || hello.memory_bytes != options->memory_bytes) {
        return haw_fail(error, HAW_INVALID,
                        "page stream: the source has %u channels and %" G_GUINT64_FORMAT
                        " bytes of memory, here are %u and %" G_GUINT64_FORMAT,
                        hello.channels, hello.memory_bytes, options->channels,
                        options->memory_bytes);
    }
    bool twice = false;
    g_mutex_lock(&intake->sink->lock);
    for (guint i = 0; i < options->channels; i++) {
        const struct intake *other = &intake->sink->intakes[i];
        twice = twice || (other != intake && other->hello && other->index == intake->index);
    }
    intake->hello = !twice;
    g_mutex_unlock(&intake->sink->lock);
    return !twice ||
           haw_fail(error, HAW_INVALID, "page stream: channel %u came twice", intake->index);
}

/* L7 */
static bool
trim_huge(struct intake *intake, GError **error)
{
    for (guint i = 0; i < intake->made->len; i++) {
        guint64 from = g_array_index(intake->made, guint64, i);
        guint64 end = from + FRAME_REGION_BYTES;
        for (guint64 at = from; at <= end; at += PAGE_BYTES) {
            if (at < end && !is_populated(intake->sink, at)) {
                continue;
            }
            if (at > from && !punch_run(intake->sink, from, at - from, error)) {
                return false;
            }
            from = at + PAGE_BYTES;
        }
    }
    g_array_set_size(intake->made, 0);
    return true;
}

/* L4 */
static bool
take_end(struct intake *intake, GError **error)
{
    struct frame_end theirs;
    bool final = (intake->frame.flags & FRAME_FINAL) != 0;
    bool owing = (intake->frame.flags & FRAME_OWED) != 0;
    frame_get_end(intake->small, &theirs);
    if (theirs.data_bytes != intake->end.data_bytes ||
        theirs.punched_bytes != intake->end.punched_bytes ||
        theirs.tables_crc != intake->end.tables_crc ||
        theirs.content_crc != intake->end.content_crc) {
        return haw_fail(error, HAW_CORRUPT,
                        "page stream: round %u of channel %u is not what was sent", intake->round,
                        intake->index);
    }
    if (owing && (intake->owing || intake->sink->owed == NULL)) {
        return haw_fail(error, HAW_INVALID, "page stream: the source may not owe pages");
    }
    if (!trim_huge(intake, error)) {
        return false;
    }
    intake->ended = true;
    intake->owing = owing;
    intake->finished = final && !owing;
    g_mutex_lock(&intake->sink->lock);
    intake->sink->total.rounds = MAX(intake->sink->total.rounds, intake->round + 1);
    g_mutex_unlock(&intake->sink->lock);
    intake->ack_due = true;
    return pagereply_speak(intake, error);
}

/* Adds to the total, and tells of it some times a second. */
static void
count(PageSink *sink, guint64 data_bytes, guint64 punched_bytes)
{
    gint64 now_us = g_get_monotonic_time();
    g_mutex_lock(&sink->lock);
    sink->total.data_bytes += data_bytes;
    sink->total.punched_bytes += punched_bytes;
    if (sink->options->progress != NULL && now_us - sink->told_us >= PROGRESS_US) {
        sink->told_us = now_us;
        sink->options->progress(sink->total.data_bytes, sink->options->data);
    }
    g_mutex_unlock(&sink->lock);
}

/* L6 */
static bool
note_owed(struct intake *intake, GError **error)
{
    PageSink *sink = intake->sink;
    for (guint i = 0; sink->owed != NULL && i < intake->frame.n_extents; i++) {
        const struct page_run *extent = &intake->frame.extents[i];
        pageowed_add(sink->owed, extent->offset, extent->bytes);
        intake->end.punched_bytes += extent->bytes;
    }
    return sink->owed != NULL ||
           haw_fail(error, HAW_INVALID, "page stream: the source may not owe pages");
}

/* L3: a round's data comes in the memory's order; what is owed, as it is waited for. */
static bool
check_once(struct intake *intake, GError **error)
{
    const struct frame *frame = &intake->frame;
    if (frame->kind != FRAME_DATA || intake->owing) {
        return true;
    }
    const struct page_run *last = &frame->extents[frame->n_extents - 1];
    if (frame->extents[0].offset < intake->data_until) {
        return haw_fail(error, HAW_INVALID,
                        "page stream: the page at %" G_GUINT64_FORMAT
                        " came already in round %u, or is out of order",
                        frame->extents[0].offset, frame->round);
    }
    intake->data_until = last->offset + last->bytes;
    return true;
}

/* L6: of a guest that runs, nothing else is touched. */
static bool
check_owed(const struct intake *intake, GError **error)
{
    const PageOwed *owed = intake->sink->owed;
    for (guint i = 0; intake->owing && i < intake->frame.n_extents; i++) {
        const struct page_run *extent = &intake->frame.extents[i];
        if (!pageowed_is(owed, extent->offset) ||
            pageowed_alike(owed, extent->offset, extent->bytes) != extent->bytes) {
            return haw_fail(error, HAW_INVALID, "page stream: pages come that are not owed");
        }
    }
    return true;
}

/* L6: the frame's pages are as they have to be. */
static bool
let_guest(struct intake *intake, GError **error)
{
    PageSink *sink = intake->sink;
    bool holes = intake->frame.kind == FRAME_PUNCH;
    for (guint i = 0; intake->owing && i < intake->frame.n_extents; i++) {
        const struct page_run *extent = &intake->frame.extents[i];
        pageowed_pay(sink->owed, extent->offset, extent->bytes);
        if (!(holes ? pageguard_wake : pageguard_let)(sink->options->guard, extent->offset,
                                                      extent->bytes, error)) {
            return false;
        }
    }
    return true;
}

static bool
punch(struct intake *intake, GError **error)
{
    PageSink *sink = intake->sink;
    guint64 punched_bytes = 0;
    for (guint i = 0; i < intake->frame.n_extents; i++) {
        const struct page_run *extent = &intake->frame.extents[i];
        if (set_populated(sink, extent, false) &&
            !punch_run(sink, extent->offset, extent->bytes, error)) {
            return false;
        }
        punched_bytes += extent->bytes;
    }
    intake->end.punched_bytes += punched_bytes;
    count(sink, 0, punched_bytes);
    return true;
}

/* The frame is whole. */
static bool
take_frame(struct intake *intake, GError **error)
{
    struct frame *frame = &intake->frame;
    size_t table_bytes = FRAME_HEADER_BYTES + frame_table_bytes(frame);
    if (intake->in != NULL &&
        !pagecrypt_open(intake->in, frame->sequence, intake->table, table_bytes, intake->parts,
                        intake->n_parts, intake->tag, error)) {
        return false;
    }
    if (frame->kind == FRAME_DATA || frame->kind == FRAME_PUNCH) {
        guint32 wire = GUINT32_TO_LE(intake->crc);
        intake->end.tables_crc = frame_crc(intake->end.tables_crc, &wire, sizeof(wire));
    }
    switch (frame->kind) {
    case FRAME_HELLO:
        if (!take_hello(intake, error)) {
            return false;
        }
        break;
    case FRAME_DATA:
        for (int i = 0; (frame->flags & FRAME_FINAL) != 0 && i < intake->n_parts; i++) {
            intake->end.content_crc = frame_crc(intake->end.content_crc, intake->parts[i].iov_base,
                                                intake->parts[i].iov_len);
        }
        intake->end.data_bytes += frame->payload_bytes;
        count(intake->sink, frame->payload_bytes, 0);
        if (!let_guest(intake, error)) {
            return false;
        }
        break;
    case FRAME_PUNCH:
        if ((frame->flags & FRAME_OWED) != 0 ? !note_owed(intake, error)
                                             : !punch(intake, error) || !let_guest(intake, error)) {
            return false;
        }
        break;
    case FRAME_ROUND_END:
        return take_end(intake, error); /* the next frame is read once the answer is out */
    default: {
        g_autofree char *reason = g_utf8_make_valid((char *) intake->small, frame->payload_bytes);
        return haw_fail(error, HAW_CANCELLED, "the other side gave up: %s", reason);
    }
    }
    pageintake_next(intake);
    return true;
}

/* L7; where there is no huge page to be had, they are small ones. */
static void
make_huge(struct intake *intake, const struct page_run *extent)
{
    PageSink *sink = intake->sink;
    if (sink->huge_map != NULL && intake->round == 0 && !intake->owing &&
        extent->bytes >= FRAME_PAYLOAD_MAX && extent->offset % FRAME_REGION_BYTES == 0 &&
        sink->options->memory_bytes - extent->offset >= FRAME_REGION_BYTES) {
        g_array_append_val(intake->made, extent->offset);
        (void) madvise(sink->huge_map + extent->offset, FRAME_REGION_BYTES, MADV_POPULATE_WRITE);
    }
}

/* L1, L2: where the payload goes. */
static bool
place_payload(struct intake *intake, GError **error)
{
    PageSink *sink = intake->sink;
    const struct frame *frame = &intake->frame;
    if (frame->kind != FRAME_DATA) {
        intake->parts[0] = (struct iovec){intake->small, frame->payload_bytes};
        intake->n_parts = frame->payload_bytes > 0;
        return true;
    }
    for (guint i = 0; i < frame->n_extents; i++) {
        const struct page_run *extent = &frame->extents[i];
        if (set_populated(sink, extent, true)) {
            make_huge(intake, extent);
            if (madvise(sink->map + extent->offset, extent->bytes, MADV_POPULATE_WRITE) != 0) {
                return haw_fail_errno(error, errno, "taking memory for the guest");
            }
        }
        intake->parts[i] = (struct iovec){sink->map + extent->offset, extent->bytes};
    }
    intake->n_parts = frame->n_extents;
    return true;
}

/* L3 */
static bool
check_order(struct intake *intake, GError **error)
{
    const struct page_sink_options *options = intake->sink->options;
    const struct frame *frame = &intake->frame;
    bool sealed = (frame->flags & FRAME_SEALED) != 0;
    if (sealed != (options->key != NULL)) {
        return haw_fail(error, HAW_DENIED, "page stream: %s",
                        sealed ? "it is encrypted, and here is no key for it"
                               : "it is not encrypted, and has to be");
    }
    if (frame->channel >= options->channels || frame->sequence != intake->sequence ||
        (frame->kind == FRAME_HELLO) == intake->hello || frame->kind == FRAME_ACK ||
        frame->kind == FRAME_WANT || (intake->owing && (frame->flags & FRAME_OWED) != 0) ||
        (frame->kind != FRAME_DATA && frame->payload_bytes > sizeof(intake->small))) {
        return haw_fail(error, HAW_INVALID, "page stream: a frame of kind %u is out of order",
                        frame->kind);
    }
    if (intake->hello && (frame->channel != intake->index || frame->round < intake->round ||
                          (intake->ended && frame->round == intake->round))) {
        return haw_fail(error, HAW_INVALID, "page stream: a frame of round %u, channel %u strays",
                        frame->round, frame->channel);
    }
    if (frame->round != intake->round) {
        intake->data_until = 0;
    }
    intake->ended = false;
    intake->index = frame->channel;
    intake->round = frame->round;
    intake->sequence++;
    if (sealed && intake->in == NULL) {
        intake->in = pagecrypt_new(options->key, intake->index, PAGECRYPT_TO_SINK, error);
        intake->out = intake->in != NULL
                          ? pagecrypt_new(options->key, intake->index, PAGECRYPT_TO_SOURCE, error)
                          : NULL;
        return intake->out != NULL;
    }
    return true;
}

static bool
expect_payload(struct intake *intake, GError **error)
{
    if (!frame_get_table(intake->table, intake->table + FRAME_HEADER_BYTES,
                         intake->sink->options->memory_bytes, intake->sink->options->channels,
                         &intake->frame, &intake->crc, error) ||
        !check_once(intake, error) || !check_owed(intake, error) || !place_payload(intake, error)) {
        return false;
    }
    int n = intake->n_parts;
    memcpy(intake->left, intake->parts, sizeof(intake->left[0]) * (size_t) n);
    if (intake->in != NULL) {
        intake->left[n++] = (struct iovec){intake->tag, sizeof(intake->tag)};
    }
    if (n == 0) {
        return take_frame(intake, error);
    }
    expect(intake, INTAKE_PAYLOAD, n);
    return true;
}

static bool
next_step(struct intake *intake, GError **error)
{
    switch (intake->step) {
    case INTAKE_HEADER:
        if (!frame_get_header(intake->table, &intake->frame, error) ||
            !check_order(intake, error)) {
            return false;
        }
        if (intake->frame.n_extents == 0) {
            return expect_payload(intake, error);
        }
        intake->left[0] =
            (struct iovec){intake->table + FRAME_HEADER_BYTES, frame_table_bytes(&intake->frame)};
        expect(intake, INTAKE_TABLE, 1);
        return true;
    case INTAKE_TABLE:
        return expect_payload(intake, error);
    default:
        return take_frame(intake, error);
    }
}

void
pageintake_next(struct intake *intake)
{
    intake->left[0] = (struct iovec){intake->table, FRAME_HEADER_BYTES};
    expect(intake, INTAKE_HEADER, 1);
}

static void
on_received(struct page_op *op, int result)
{
    struct intake *intake = (struct intake *) op;
    GError *error = NULL;
    if (intake->stopped) {
        return;
    }
    if (result == 0) {
        haw_fail(&error, HAW_IO, "page stream: the source went away");
        pageintake_stop(intake, error);
    } else if (result < 0 && result != -EAGAIN && result != -EINTR) {
        haw_fail_errno(&error, -result, "page stream: receiving");
        pageintake_stop(intake, error);
    } else if (pagering_advance(&intake->message, (size_t) MAX(result, 0))) {
        receive(intake);
    } else if (!next_step(intake, &error)) {
        pageintake_stop(intake, error);
    }
}

/* Whether all channels have been silent for so long, not only this one, whose share may be done. */
static bool
is_idle(const PageSink *sink, gint64 idle_ms)
{
    gint64 moved_us = __atomic_load_n(&sink->moved_us, __ATOMIC_RELAXED);
    return g_get_monotonic_time() - moved_us >= idle_ms * 1000;
}

void
pageintake_run(struct intake *intake)
{
    PageSink *sink = intake->sink;
    gint64 idle_ms = sink->options->idle_ms > 0 ? sink->options->idle_ms : IDLE_MS;
    GError *error = NULL;
    intake->ring = pagering_new(RING_ENTRIES, &error);
    if (intake->ring == NULL) {
        pageintake_stop(intake, error);
        return;
    }
    intake->op.done = on_received;
    pagereply_begin(intake);
    pagering_leash(intake->ring, sink->halt_fd);
    pageintake_next(intake);
    while (!intake->stopped && !intake->acknowledged) {
        if (pagering_turn(intake->ring, idle_ms, &error)) {
            __atomic_store_n(&sink->moved_us, g_get_monotonic_time(), __ATOMIC_RELAXED);
        } else if (haw_code(error) == HAW_TIMEOUT && !is_idle(sink, idle_ms)) {
            g_clear_error(&error);
        } else {
            pageintake_stop(intake, g_steal_pointer(&error));
        }
    }
}
