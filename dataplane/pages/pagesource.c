/* The sending end: rounds, and what the sink says to them.
 * Q1  A round's runs are dealt to the channels by region, so the versions of a page keep their order
 *     without a barrier between rounds.
 * Q2  Known holes are never read through the mapping, which would allocate them.
 * Q3  A page that changes while it is sent is sent again by a later round: it was written after the
 *     scan that put it here, so the tracker has it. In the final round nothing changes.
 * Q4  A round is over when every channel's sink said so: rates are what arrived, not what was queued.
 * Main thread of hawser-pages. */
#include "dataplane/pages/pagesource.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "dataplane/pages/pagechannel.h"

enum { RING_ENTRIES = 256, IDLE_MS = 30 * 1000, NOTSENT_BYTES = 128 * 1024 };

/* ---- what the sink says ---- */

static void
read_reply(struct channel *channel)
{
    struct io_uring_sqe *sqe = pagering_take(channel->source->ring, &channel->reply_op);
    io_uring_prep_recv(sqe, channel->fd, channel->reply + channel->reply_have,
                       channel->reply_want - channel->reply_have, 0);
}

static bool
take_wants(struct channel *channel, const guint8 *payload, const struct frame *frame,
           GError **error)
{
    const PageSource *source = channel->source;
    guint64 offsets[FRAME_WANTS_MAX];
    if (source->owed == NULL || channel->wants->len > source->options.memory_bytes / PAGE_BYTES) {
        return haw_fail(error, HAW_INVALID, "page stream: the sink asks for what is not owed");
    }
    if (!frame_get_wants(payload, frame, source->options.memory_bytes, source->options.channels,
                         offsets, error)) {
        return false;
    }
    g_array_append_vals(channel->wants, offsets, frame->payload_bytes / 8);
    return true;
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
    if (frame->kind == FRAME_WANT) {
        return take_wants(channel, payload, frame, error);
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
        channel_fail_errno(source, result == 0 ? ECONNRESET : -result, "waiting for the sink");
        return;
    }
    channel->reply_have += (size_t) MAX(result, 0);
    if (channel->reply_have >= FRAME_HEADER_BYTES) {
        bool sealed = source->options.key != NULL;
        if (!frame_get_header(channel->reply, &frame, &error)) {
            channel_fail(source, error);
            return;
        }
        if ((frame.kind != FRAME_ACK && frame.kind != FRAME_ABORT && frame.kind != FRAME_WANT) ||
            frame.payload_bytes > CHANNEL_REPLY_MAX ||
            ((frame.flags & FRAME_SEALED) != 0) != sealed) {
            haw_fail(&error, HAW_INVALID, "page stream: the sink speaks out of turn");
            channel_fail(source, error);
            return;
        }
        channel->reply_want =
            FRAME_HEADER_BYTES + frame.payload_bytes + (sealed ? FRAME_TAG_BYTES : 0);
        if (channel->reply_have == channel->reply_want) {
            if (!take_reply(channel, &frame, &error)) {
                channel_fail(source, error);
                return;
            }
            channel->reply_have = 0;
            channel->reply_want = FRAME_HEADER_BYTES;
        }
    }
    read_reply(channel);
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
                channel_add_zeros(channel, run.offset, bytes);
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
            channel_fail(source, why);
        }
    }
    if (source->failure != NULL) {
        g_propagate_error(error, g_error_copy(source->failure));
        return false;
    }
    return true;
}

static bool
run_round(PageSource *source, const GArray *runs, const GArray *holes, bool final,
          struct page_round *ret_round, GError **error)
{
    source->final = final;
    source->round_bytes = 0;
    source->round_began_us = g_get_monotonic_time();
    source->told_us = source->round_began_us;
    gint64 cpu_from_us = channel_cpu_us();
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
        channel_next(&source->channels[i]);
    }
    if (!run_until(source, all_acked, error)) { /* Q4 */
        return false;
    }
    *ret_round = (struct page_round){
        .wall_us = g_get_monotonic_time() - source->round_began_us,
        .cpu_us = channel_cpu_us() - cpu_from_us,
    };
    for (guint i = 0; i < source->options.channels; i++) {
        ret_round->data_bytes += source->channels[i].end.data_bytes;
        ret_round->punched_bytes += source->channels[i].end.punched_bytes;
    }
    if (source->round++ == 0 && source->route == PAGE_ROUTE_AUTO) {
        source->route =
            PAGE_ROUTE_SPLICE; /* too little was sent to tell: what is cheapest mostly */
    }
    return true;
}

bool
pagesource_round(PageSource *source, const GArray *runs, const GArray *holes, bool final,
                 struct page_round *ret_round, GError **error)
{
    bool ok = run_round(source, runs, holes, final, ret_round, error);
    source->done = ok && final;
    return ok;
}

/* ---- what is owed ---- */

guint64
pagesource_owed(const PageSource *source)
{
    g_autoptr(GArray) runs = pageowed_runs(source->owed);
    return pagescan_total(runs);
}

bool
pagesource_owe(PageSource *source, const GArray *runs, const GArray *holes,
               struct page_round *ret_round, GError **error)
{
    const GArray *lists[] = {runs, holes};
    g_autoptr(GArray) none = pagescan_runs();
    source->owed = pageowed_new(source->options.memory_bytes);
    for (guint k = 0; k < G_N_ELEMENTS(lists); k++) {
        for (guint i = 0; lists[k] != NULL && i < lists[k]->len; i++) {
            const struct page_run *run = &g_array_index(lists[k], struct page_run, i);
            pageowed_add(source->owed, run->offset, run->bytes);
        }
    }
    g_autoptr(GArray) all = pageowed_runs(source->owed);
    source->owing = true;
    bool ok = run_round(source, none, all, true, ret_round, error);
    source->owing = false;
    return ok;
}

bool
pagesource_pay(PageSource *source, struct page_round *ret_round, GError **error)
{
    int lowat = NOTSENT_BYTES;
    g_autoptr(GArray) all = pageowed_runs(source->owed);
    for (guint i = 0; i < source->options.channels; i++) { /* a lane of RDMA has no such queue */
        (void) setsockopt(source->options.sockets[i], IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat,
                          sizeof lowat);
    }
    pagering_loosen(source->ring);
    source->done = run_round(source, all, NULL, true, ret_round, error);
    return source->done;
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
    channel->op.done = channel_on_sent;
    channel->reply_op.done = on_reply;
    channel->reply_want = FRAME_HEADER_BYTES;
    channel->runs = pagescan_runs();
    channel->zeros = pagescan_runs();
    channel->wants = g_array_new(FALSE, FALSE, sizeof(guint64));
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
    channel_send(channel, FRAME_HELLO, 0, FRAME_HELLO_BYTES);
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
    source->trial_from_us = channel_cpu_us();
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
        pagering_leash(source->ring, options->cancel_fd);
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
            channel_send(channel, FRAME_ABORT, 0, (guint32) size);
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
        g_clear_pointer(&channel->wants, g_array_unref);
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
    pageowed_free(source->owed);
    g_free(source->channels);
    g_free(source);
}

enum page_route
pagesource_route(const PageSource *source)
{
    return source->route;
}
