/* The receiving end.
 * L1  Pages are received straight into the mapped file, at offsets that were checked before
 *     (pageframe.h); a sealed frame is opened where it lies. A stream that turns out wrong ends the
 *     migration, and its file is thrown away: half a page never runs.
 * L2  A hole stays a hole: only extents of DATA frames are populated, just before their bytes come, as
 *     page faults one by one are the dearest part of receiving. Zeros punch.
 * L3  Frames of a channel count upwards from 0 without a gap; the first is HELLO, its token is the
 *     migration's; rounds only rise. A replay of an old frame, or of another migration's, is refused.
 * L4  A round's end names what was sent; what was received must be that, and in a final round the
 *     contents too.
 * Main thread of hawser-pages. */
#include "dataplane/pages/pagesink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.h"
#include "dataplane/pages/pagering.h"

enum { RING_ENTRIES = 256, IDLE_MS = 30 * 1000, PROGRESS_US = 200 * 1000, REASON_MAX = 256 };

typedef struct Sink Sink;
enum step { STEP_HEADER, STEP_TABLE, STEP_PAYLOAD };

struct channel {
    struct page_op op; /* first: the receive in progress */
    struct page_op reply_op;
    Sink *sink;
    int fd; /* borrowed */
    bool hello, finished;
    guint index; /* as the source numbers it; known after HELLO */
    PageCrypt *in, *out;
    guint64 sequence, reply_sequence;
    guint32 round;
    enum step step;
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

struct Sink {
    const struct page_sink_options *options;
    PageRing *ring;
    guint8 *map;
    guint8 *populated; /* a bit a page: it exists */
    struct channel *channels;
    guint finished;
    GError *failure; /* owned */
    struct page_sink_total total;
    gint64 told_us;
};

static void read_frame(struct channel *channel);

static void
fail(Sink *sink, GError *error)
{
    if (sink->failure == NULL) {
        sink->failure = error;
    } else {
        g_error_free(error);
    }
}

static void
receive(struct channel *channel)
{
    struct io_uring_sqe *sqe = pagering_take(channel->sink->ring, &channel->op);
    io_uring_prep_recvmsg(sqe, channel->fd, &channel->message, MSG_WAITALL);
}

/* Receives into channel->left[0…n). */
static void
expect(struct channel *channel, enum step step, int n)
{
    channel->step = step;
    channel->message = (struct msghdr){.msg_iov = channel->left, .msg_iovlen = (size_t) n};
    receive(channel);
}

/* ---- answering ---- */

static void
send_reply(struct channel *channel)
{
    struct io_uring_sqe *sqe = pagering_take(channel->sink->ring, &channel->reply_op);
    io_uring_prep_send(sqe, channel->fd, channel->reply + channel->reply_done,
                       channel->reply_bytes - channel->reply_done, MSG_NOSIGNAL);
}

/* Puts one frame without extents into 'out', sealed where the stream is: its length, 0 on failure. */
static size_t
pack(struct channel *channel, enum frame_kind kind, const void *payload, guint32 payload_bytes,
     guint8 *out, GError **error)
{
    struct frame frame = {
        .kind = (guint8) kind,
        .flags = channel->out != NULL ? FRAME_SEALED : 0,
        .channel = (guint16) channel->index,
        .round = channel->round,
        .payload_bytes = payload_bytes,
        .sequence = channel->reply_sequence++,
    };
    guint32 crc;
    size_t size = frame_put(&frame, out, &crc);
    if (channel->out == NULL) {
        memcpy(out + size, payload, payload_bytes);
        return size + payload_bytes;
    }
    struct iovec part = {(void *) payload, payload_bytes};
    return pagecrypt_seal(channel->out, frame.sequence, out, size, &part, 1, out + size, error)
               ? size + payload_bytes + FRAME_TAG_BYTES
               : 0;
}

static bool
acknowledge(struct channel *channel, GError **error)
{
    guint8 payload[FRAME_END_BYTES];
    frame_put_end(&channel->end, payload);
    channel->reply_bytes =
        pack(channel, FRAME_ACK, payload, sizeof(payload), channel->reply, error);
    channel->reply_done = 0;
    if (channel->reply_bytes == 0) {
        return false;
    }
    send_reply(channel);
    return true;
}

static void
on_replied(struct page_op *op, int result)
{
    struct channel *channel =
        (struct channel *) ((char *) op - G_STRUCT_OFFSET(struct channel, reply_op));
    Sink *sink = channel->sink;
    GError *error = NULL;
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        haw_fail_errno(&error, -result, "page stream: answering the source");
        fail(sink, error);
        return;
    }
    channel->reply_done += (size_t) MAX(result, 0);
    if (channel->reply_done < channel->reply_bytes) {
        send_reply(channel);
    } else if (channel->finished) {
        sink->finished++;
    } else {
        read_frame(channel);
    }
}

/* Best effort, at the end: the socket takes it at once or not at all. Our direction is closed then, so
 * that the source need not wait for its deadline where the reason can't be told. */
static void
tell_failure(Sink *sink)
{
    const char *reason = sink->failure->message;
    guint8 out[FRAME_HEADER_BYTES + REASON_MAX + FRAME_TAG_BYTES];
    for (guint i = 0; i < sink->options->channels; i++) {
        struct channel *channel = &sink->channels[i];
        bool can = sink->options->key == NULL || channel->out != NULL;
        size_t size = can && !channel->reply_op.busy
                          ? pack(channel, FRAME_ABORT, reason,
                                 (guint32) MIN(strlen(reason), REASON_MAX), out, NULL)
                          : 0;
        if (size == 0 || send(channel->fd, out, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            haw_debug("pages.reason-untold", KU("channel", channel->index));
        }
        shutdown(channel->fd, SHUT_WR);
    }
}

/* ---- what a frame does ---- */

static bool
take_hello(struct channel *channel, GError **error)
{
    const struct page_sink_options *options = channel->sink->options;
    struct frame_hello hello;
    frame_get_hello(channel->small, &hello);
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
    for (guint i = 0; i < options->channels; i++) {
        const struct channel *other = &channel->sink->channels[i];
        if (other != channel && other->hello && other->index == channel->index) {
            return haw_fail(error, HAW_INVALID, "page stream: channel %u came twice",
                            channel->index);
        }
    }
    channel->hello = true;
    return true;
}

/* L4 */
static bool
take_end(struct channel *channel, GError **error)
{
    struct frame_end theirs;
    bool final = (channel->frame.flags & FRAME_FINAL) != 0;
    frame_get_end(channel->small, &theirs);
    if (theirs.data_bytes != channel->end.data_bytes ||
        theirs.punched_bytes != channel->end.punched_bytes ||
        theirs.tables_crc != channel->end.tables_crc ||
        theirs.content_crc != channel->end.content_crc) {
        return haw_fail(error, HAW_CORRUPT,
                        "page stream: round %u of channel %u is not what was sent", channel->round,
                        channel->index);
    }
    channel->finished = final;
    channel->sink->total.rounds = MAX(channel->sink->total.rounds, channel->round + 1);
    if (!acknowledge(channel, error)) {
        return false;
    }
    channel->end = (struct frame_end){0};
    return true;
}

static bool
punch(struct channel *channel, GError **error)
{
    Sink *sink = channel->sink;
    for (guint i = 0; i < channel->frame.n_extents; i++) {
        const struct page_run *extent = &channel->frame.extents[i];
        bool some = false;
        for (guint64 at = 0; at < extent->bytes; at += PAGE_BYTES) {
            guint64 page = (extent->offset + at) / PAGE_BYTES;
            guint8 mask = (guint8) (1 << (page & 7));
            some = some || (sink->populated[page >> 3] & mask) != 0;
            sink->populated[page >> 3] &= (guint8) ~mask;
        }
        if (some && fallocate(sink->options->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              (off_t) extent->offset, (off_t) extent->bytes) != 0) {
            return haw_fail_errno(error, errno, "punching a hole into the guest's memory");
        }
        channel->end.punched_bytes += extent->bytes;
        sink->total.punched_bytes += extent->bytes;
    }
    return true;
}

static void
tell_progress(Sink *sink)
{
    gint64 now_us = g_get_monotonic_time();
    if (sink->options->progress != NULL && now_us - sink->told_us >= PROGRESS_US) {
        sink->told_us = now_us;
        sink->options->progress(sink->total.data_bytes, sink->options->data);
    }
}

/* The frame is whole. */
static bool
take_frame(struct channel *channel, GError **error)
{
    struct frame *frame = &channel->frame;
    size_t table_bytes = FRAME_HEADER_BYTES + frame_table_bytes(frame);
    if (channel->in != NULL &&
        !pagecrypt_open(channel->in, frame->sequence, channel->table, table_bytes, channel->parts,
                        channel->n_parts, channel->tag, error)) {
        return false;
    }
    if (frame->kind == FRAME_DATA || frame->kind == FRAME_PUNCH) {
        guint32 wire = GUINT32_TO_LE(channel->crc);
        channel->end.tables_crc = frame_crc(channel->end.tables_crc, &wire, sizeof(wire));
    }
    switch (frame->kind) {
    case FRAME_HELLO:
        if (!take_hello(channel, error)) {
            return false;
        }
        break;
    case FRAME_DATA:
        for (int i = 0; (frame->flags & FRAME_FINAL) != 0 && i < channel->n_parts; i++) {
            channel->end.content_crc = frame_crc(
                channel->end.content_crc, channel->parts[i].iov_base, channel->parts[i].iov_len);
        }
        channel->end.data_bytes += frame->payload_bytes;
        channel->sink->total.data_bytes += frame->payload_bytes;
        tell_progress(channel->sink);
        break;
    case FRAME_PUNCH:
        if (!punch(channel, error)) {
            return false;
        }
        break;
    case FRAME_ROUND_END:
        return take_end(channel, error); /* the next frame is read once the answer is out */
    default: {
        g_autofree char *reason = g_utf8_make_valid((char *) channel->small, frame->payload_bytes);
        return haw_fail(error, HAW_CANCELLED, "the other side gave up: %s", reason);
    }
    }
    read_frame(channel);
    return true;
}

/* L1, L2: where the payload goes. */
static bool
place_payload(struct channel *channel, GError **error)
{
    Sink *sink = channel->sink;
    const struct frame *frame = &channel->frame;
    if (frame->kind != FRAME_DATA) {
        channel->parts[0] = (struct iovec){channel->small, frame->payload_bytes};
        channel->n_parts = frame->payload_bytes > 0;
        return true;
    }
    for (guint i = 0; i < frame->n_extents; i++) {
        const struct page_run *extent = &frame->extents[i];
        bool fresh = false;
        for (guint64 at = 0; at < extent->bytes; at += PAGE_BYTES) {
            guint64 page = (extent->offset + at) / PAGE_BYTES;
            guint8 mask = (guint8) (1 << (page & 7));
            fresh = fresh || (sink->populated[page >> 3] & mask) == 0;
            sink->populated[page >> 3] |= mask;
        }
        if (fresh && madvise(sink->map + extent->offset, extent->bytes, MADV_POPULATE_WRITE) != 0) {
            return haw_fail_errno(error, errno, "taking memory for the guest");
        }
        channel->parts[i] = (struct iovec){sink->map + extent->offset, extent->bytes};
    }
    channel->n_parts = frame->n_extents;
    return true;
}

/* L3 */
static bool
check_order(struct channel *channel, GError **error)
{
    const struct page_sink_options *options = channel->sink->options;
    const struct frame *frame = &channel->frame;
    bool sealed = (frame->flags & FRAME_SEALED) != 0;
    if (sealed != (options->key != NULL)) {
        return haw_fail(error, HAW_DENIED, "page stream: %s",
                        sealed ? "it is encrypted, and here is no key for it"
                               : "it is not encrypted, and has to be");
    }
    if (frame->channel >= options->channels || frame->sequence != channel->sequence ||
        (frame->kind == FRAME_HELLO) == channel->hello || frame->kind == FRAME_ACK ||
        (frame->kind != FRAME_DATA && frame->payload_bytes > sizeof(channel->small))) {
        return haw_fail(error, HAW_INVALID, "page stream: a frame of kind %u is out of order",
                        frame->kind);
    }
    if (channel->hello && (frame->channel != channel->index || frame->round < channel->round)) {
        return haw_fail(error, HAW_INVALID, "page stream: a frame of round %u, channel %u strays",
                        frame->round, frame->channel);
    }
    channel->index = frame->channel;
    channel->round = frame->round;
    channel->sequence++;
    if (sealed && channel->in == NULL) {
        channel->in = pagecrypt_new(options->key, channel->index, PAGECRYPT_TO_SINK, error);
        channel->out = channel->in != NULL
                           ? pagecrypt_new(options->key, channel->index, PAGECRYPT_TO_SOURCE, error)
                           : NULL;
        return channel->out != NULL;
    }
    return true;
}

static bool
expect_payload(struct channel *channel, GError **error)
{
    if (!frame_get_table(channel->table, channel->table + FRAME_HEADER_BYTES,
                         channel->sink->options->memory_bytes, channel->sink->options->channels,
                         &channel->frame, &channel->crc, error) ||
        !place_payload(channel, error)) {
        return false;
    }
    int n = channel->n_parts;
    memcpy(channel->left, channel->parts, sizeof(channel->left[0]) * (size_t) n);
    if (channel->in != NULL) {
        channel->left[n++] = (struct iovec){channel->tag, sizeof(channel->tag)};
    }
    if (n == 0) {
        return take_frame(channel, error);
    }
    expect(channel, STEP_PAYLOAD, n);
    return true;
}

static bool
next_step(struct channel *channel, GError **error)
{
    switch (channel->step) {
    case STEP_HEADER:
        if (!frame_get_header(channel->table, &channel->frame, error) ||
            !check_order(channel, error)) {
            return false;
        }
        if (channel->frame.n_extents == 0) {
            return expect_payload(channel, error);
        }
        channel->left[0] =
            (struct iovec){channel->table + FRAME_HEADER_BYTES, frame_table_bytes(&channel->frame)};
        expect(channel, STEP_TABLE, 1);
        return true;
    case STEP_TABLE:
        return expect_payload(channel, error);
    default:
        return take_frame(channel, error);
    }
}

static void
read_frame(struct channel *channel)
{
    channel->left[0] = (struct iovec){channel->table, FRAME_HEADER_BYTES};
    expect(channel, STEP_HEADER, 1);
}

static void
on_received(struct page_op *op, int result)
{
    struct channel *channel = (struct channel *) op;
    Sink *sink = channel->sink;
    GError *error = NULL;
    if (sink->failure != NULL) {
        return;
    }
    if (result == 0) {
        haw_fail(&error, HAW_IO, "page stream: the source went away");
        fail(sink, error);
    } else if (result < 0 && result != -EAGAIN && result != -EINTR) {
        haw_fail_errno(&error, -result, "page stream: receiving");
        fail(sink, error);
    } else if (pagering_advance(&channel->message, (size_t) MAX(result, 0))) {
        receive(channel);
    } else if (!next_step(channel, &error)) {
        fail(sink, error);
    }
}

/* ---- life ---- */

static bool
open_sink(Sink *sink, GError **error)
{
    const struct page_sink_options *options = sink->options;
    if (options->memory_bytes == 0 || options->memory_bytes % PAGE_BYTES != 0 ||
        options->channels == 0 || options->channels > FRAME_CHANNELS_MAX) {
        return haw_fail(error, HAW_INVALID,
                        "page stream: %u channels for %" G_GUINT64_FORMAT " bytes of memory",
                        options->channels, options->memory_bytes);
    }
    void *map = mmap(NULL, options->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                     options->memory_fd, 0);
    if (map == MAP_FAILED) {
        return haw_fail_errno(error, errno, "mapping the guest's memory");
    }
    sink->map = map;
    sink->populated = g_malloc0(options->memory_bytes / PAGE_BYTES / 8 + 1);
    sink->ring = pagering_new(RING_ENTRIES, error);
    if (sink->ring == NULL) {
        return false;
    }
    for (guint i = 0; i < options->channels; i++) {
        struct channel *channel = &sink->channels[i];
        channel->sink = sink;
        channel->fd = options->sockets[i];
        channel->op.done = on_received;
        channel->reply_op.done = on_replied;
        read_frame(channel);
    }
    if (options->cancel_fd >= 0) {
        pagering_leash(sink->ring, options->cancel_fd);
    }
    return true;
}

static void
close_sink(Sink *sink)
{
    g_clear_pointer(&sink->ring, pagering_free);
    for (guint i = 0; i < sink->options->channels; i++) {
        pagecrypt_free(sink->channels[i].in);
        pagecrypt_free(sink->channels[i].out);
    }
    if (sink->map != NULL) {
        munmap(sink->map, sink->options->memory_bytes);
    }
    g_free(sink->populated);
    g_free(sink->channels);
    g_clear_error(&sink->failure);
}

bool
pagesink_run(const struct page_sink_options *options, GError **error)
{
    Sink sink = {.options = options, .channels = g_new0(struct channel, options->channels)};
    gint64 idle_ms = options->idle_ms > 0 ? options->idle_ms : IDLE_MS;
    GError *why = NULL;
    if (!open_sink(&sink, &why)) {
        fail(&sink, why);
    }
    while (sink.failure == NULL && sink.finished < options->channels) {
        if (!pagering_turn(sink.ring, idle_ms, &why)) {
            fail(&sink, g_steal_pointer(&why));
        }
    }
    bool ok = sink.failure == NULL;
    if (ok) {
        options->done(&sink.total, options->data);
    } else {
        tell_failure(&sink);
        g_propagate_error(error, g_error_copy(sink.failure));
    }
    close_sink(&sink);
    return ok;
}
