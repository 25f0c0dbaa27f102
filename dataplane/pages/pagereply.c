/* What a sink says to the source, a frame at a time: that it has a round, which pages somebody waits for, why it ends.
 * R1  A round's answer goes before wants; the next frame is read once it is out.
 * Called by pageintake.c and pagesink.c, and by the ring. */
#include "dataplane/pages/pageintake.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/log.h"

enum { REASON_MAX = 256 };

static void
send_reply(struct intake *intake)
{
    struct io_uring_sqe *sqe = pagering_take(intake->ring, &intake->reply_op);
    io_uring_prep_send(sqe, intake->fd, intake->reply + intake->reply_done,
                       intake->reply_bytes - intake->reply_done, MSG_NOSIGNAL);
}

/* Puts one frame without extents into 'out', sealed where the stream is: its length, 0 on failure. */
static size_t
pack(struct intake *intake, enum frame_kind kind, const void *payload, guint32 payload_bytes,
     guint8 *out, GError **error)
{
    struct frame frame = {
        .kind = (guint8) kind,
        .flags = intake->out != NULL ? FRAME_SEALED : 0,
        .channel = (guint16) intake->index,
        .round = intake->round,
        .payload_bytes = payload_bytes,
        .sequence = intake->reply_sequence++,
    };
    guint32 crc;
    size_t size = frame_put(&frame, out, &crc);
    if (intake->out == NULL) {
        memcpy(out + size, payload, payload_bytes);
        return size + payload_bytes;
    }
    struct iovec part = {(void *) payload, payload_bytes};
    return pagecrypt_seal(intake->out, frame.sequence, out, size, &part, 1, out + size, error)
               ? size + payload_bytes + FRAME_TAG_BYTES
               : 0;
}

/* The wants that fit into one frame, and are none any more. */
static guint
take_wants(struct intake *intake, guint64 *ret_offsets)
{
    g_mutex_lock(&intake->sink->lock);
    guint n = intake->wants != NULL ? MIN(intake->wants->len, (guint) FRAME_WANTS_MAX) : 0;
    for (guint i = 0; i < n; i++) {
        ret_offsets[i] = g_array_index(intake->wants, guint64, i);
    }
    if (n > 0) {
        g_array_remove_range(intake->wants, 0, n);
    }
    g_mutex_unlock(&intake->sink->lock);
    return n;
}

bool
pagereply_speak(struct intake *intake, GError **error)
{
    guint8 payload[FRAME_WANTS_MAX * 8];
    guint64 offsets[FRAME_WANTS_MAX];
    if (intake->reply_op.busy) {
        return true;
    }
    intake->acking = intake->ack_due;
    intake->ack_due = false;
    guint32 bytes = FRAME_END_BYTES;
    if (intake->acking) {
        frame_put_end(&intake->end, payload);
        intake->end = (struct frame_end){0};
    } else {
        guint n = take_wants(intake, offsets);
        frame_put_wants(offsets, n, payload);
        bytes = n * 8;
    }
    if (bytes == 0) {
        return true;
    }
    intake->reply_bytes =
        pack(intake, intake->acking ? FRAME_ACK : FRAME_WANT, payload, bytes, intake->reply, error);
    intake->reply_done = 0;
    if (intake->reply_bytes == 0) {
        return false;
    }
    send_reply(intake);
    return true;
}

/* L6: nothing that is owed is taken before the guard is up. */
static bool
await_guard(PageSink *sink)
{
    g_mutex_lock(&sink->lock);
    while (!sink->raised && sink->failure == NULL) {
        g_cond_wait(&sink->raised_or_failed, &sink->lock);
    }
    bool raised = sink->raised;
    g_mutex_unlock(&sink->lock);
    return raised;
}

static void
on_answered(struct intake *intake)
{
    intake->acking = false;
    if (intake->finished) {
        intake->acknowledged = true;
        return;
    }
    if (intake->owing) {
        (void) eventfd_write(intake->sink->owing_fd, 1);
        intake->stopped = !await_guard(intake->sink);
    }
    if (!intake->stopped) {
        pageintake_next(intake);
    }
}

static void
on_replied(struct page_op *op, int result)
{
    struct intake *intake =
        (struct intake *) ((char *) op - G_STRUCT_OFFSET(struct intake, reply_op));
    GError *error = NULL;
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        haw_fail_errno(&error, -result, "page stream: answering the source");
        pageintake_stop(intake, error);
        return;
    }
    intake->reply_done += (size_t) MAX(result, 0);
    if (intake->reply_done < intake->reply_bytes) {
        send_reply(intake);
        return;
    }
    if (intake->acking) {
        on_answered(intake);
    }
    if (!intake->stopped && !intake->acknowledged && !pagereply_speak(intake, &error)) {
        pageintake_stop(intake, error);
    }
}

static void
watch_wants(struct intake *intake)
{
    io_uring_prep_poll_add(pagering_take(intake->ring, &intake->want_op), intake->want_fd, POLLIN);
}

static void
on_want(struct page_op *op, int result)
{
    struct intake *intake =
        (struct intake *) ((char *) op - G_STRUCT_OFFSET(struct intake, want_op));
    eventfd_t kicks;
    GError *error = NULL;
    (void) eventfd_read(intake->want_fd, &kicks);
    if (!pagereply_speak(intake, &error)) {
        pageintake_stop(intake, error);
        return;
    }
    watch_wants(intake);
}

/* The socket takes it at once or not at all. Our direction is closed then, so that the source need not
 * wait for its deadline where the reason can't be told. */
void
pagereply_tell_failure(PageSink *sink)
{
    const char *reason = sink->failure->message;
    guint8 out[FRAME_HEADER_BYTES + REASON_MAX + FRAME_TAG_BYTES];
    for (guint i = 0; i < sink->options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        bool can = sink->options->key == NULL || intake->out != NULL;
        size_t size = can && !intake->reply_op.busy
                          ? pack(intake, FRAME_ABORT, reason,
                                 (guint32) MIN(strlen(reason), REASON_MAX), out, NULL)
                          : 0;
        if (size == 0 || send(intake->fd, out, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            haw_debug("pages.reason-untold", KU("channel", intake->index));
        }
        shutdown(intake->fd, SHUT_WR);
    }
}

void
pagereply_want(PageSink *sink, guint64 offset)
{
    guint channel = (guint) (offset / FRAME_REGION_BYTES % sink->options->channels);
    for (guint i = 0; i < sink->options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        if (intake->index == channel) {
            g_mutex_lock(&sink->lock);
            g_array_append_val(intake->wants, offset);
            g_mutex_unlock(&sink->lock);
            (void) eventfd_write(intake->want_fd, 1);
        }
    }
}

void
pagereply_begin(struct intake *intake)
{
    intake->reply_op.done = on_replied;
    intake->want_op.done = on_want;
    if (intake->sink->owed != NULL) {
        watch_wants(intake);
    }
}
