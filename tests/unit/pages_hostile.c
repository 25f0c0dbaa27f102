/* A page stream's hostile or broken peer, made by hand: each end against what the other must not do. Nothing that is
 * refused reaches the memory, and whoever refuses says why. */
#include "dataplane/pages/pagesink.h"
#include "dataplane/pages/pagesource.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MEMORY = 8 << 20,
    SEQUENCE_AT = 24, /* in the header: pageframe.h */
    VERSION_AT = 10,
    CRC_AT = 20,
    IDLE_MS = 20000,
    LORIS_IDLE_MS = 300,
    LORIS_BYTE_US = 20000,
};
static const guint8 TOKEN[FRAME_TOKEN_BYTES] = "a migration";
static const guint8 KEY[PAGECRYPT_KEY_BYTES] = {7};
static guint8 pages[FRAME_REGION_BYTES];

/* ---- a source without scruples ---- */

struct peer {
    int fd;
    PageCrypt *crypt; /* NULL: plain */
    guint64 sequence;
    guint32 round;
    struct frame_end end;
};

static void
send_all(int fd, const void *bytes, size_t size)
{
    for (const guint8 *at = bytes; size > 0;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* it refused already */
        }
        at += n;
        size -= (size_t) n;
    }
}

static void
put32(guint8 *out, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(out, &value, sizeof value);
}

/* A frame as a source of ours would send it, but for what the caller made of it: its whole length. */
static size_t
pack(struct peer *peer, struct frame *frame, const void *payload, guint8 *out)
{
    guint32 crc;
    frame->sequence = peer->sequence++;
    frame->flags |= peer->crypt != NULL ? FRAME_SEALED : 0;
    size_t size = frame_put(frame, out, &crc);
    if (frame->kind == FRAME_DATA || frame->kind == FRAME_PUNCH) {
        guint32 wire = GUINT32_TO_LE(crc);
        peer->end.tables_crc = frame_crc(peer->end.tables_crc, &wire, sizeof wire);
        peer->end.data_bytes += frame->payload_bytes;
        if ((frame->flags & FRAME_FINAL) != 0) {
            peer->end.content_crc = frame_crc(peer->end.content_crc, payload, frame->payload_bytes);
        }
    }
    if (peer->crypt == NULL) {
        memcpy(out + size, payload, frame->payload_bytes);
        return size + frame->payload_bytes;
    }
    struct iovec part = {(void *) payload, frame->payload_bytes};
    g_assert_true(
        pagecrypt_seal(peer->crypt, frame->sequence, out, size, &part, 1, out + size, NULL));
    return size + frame->payload_bytes + FRAME_TAG_BYTES;
}

static guint8 wire[FRAME_TABLE_MAX + FRAME_PAYLOAD_MAX + FRAME_TAG_BYTES];

static void
say(struct peer *peer, struct frame frame, const void *payload)
{
    send_all(peer->fd, wire, pack(peer, &frame, payload, wire));
}

static size_t
pack_hello(struct peer *peer, guint8 *out)
{
    struct frame_hello hello = {.channels = 1, .memory_bytes = MEMORY};
    guint8 payload[FRAME_HELLO_BYTES];
    memcpy(hello.token, TOKEN, sizeof hello.token);
    frame_put_hello(&hello, payload);
    struct frame frame = {.kind = FRAME_HELLO, .payload_bytes = FRAME_HELLO_BYTES};
    return pack(peer, &frame, payload, out);
}

static void
say_hello(struct peer *peer)
{
    send_all(peer->fd, wire, pack_hello(peer, wire));
}

static struct frame
data_at(const struct peer *peer, guint64 offset, guint32 bytes)
{
    return (struct frame){.kind = FRAME_DATA,
                          .round = peer->round,
                          .n_extents = 1,
                          .extents = {{offset, bytes}},
                          .payload_bytes = bytes};
}

static void
say_data(struct peer *peer, guint64 offset, guint32 bytes)
{
    say(peer, data_at(peer, offset, bytes), pages);
}

static void
say_end(struct peer *peer, guint8 flags)
{
    guint8 payload[FRAME_END_BYTES];
    frame_put_end(&peer->end, payload);
    say(peer,
        (struct frame){.kind = FRAME_ROUND_END,
                       .flags = flags,
                       .round = peer->round,
                       .payload_bytes = FRAME_END_BYTES},
        payload);
    peer->end = (struct frame_end){0};
}

/* ---- what it does ---- */

static void
other_version(struct peer *peer, int by)
{
    size_t size = pack_hello(peer, wire);
    wire[VERSION_AT] = (guint8) (wire[VERSION_AT] + by);
    put32(wire + CRC_AT, 0);
    put32(wire + CRC_AT, frame_crc(0, wire, FRAME_HEADER_BYTES));
    send_all(peer->fd, wire, size);
}

static void
version_before(struct peer *peer)
{
    other_version(peer, -1);
}

static void
version_after(struct peer *peer)
{
    other_version(peer, 1);
}

static void
no_hello(struct peer *peer)
{
    say_data(peer, 0, PAGE_BYTES);
}

static void
hello_twice(struct peer *peer)
{
    say_hello(peer);
    say_hello(peer);
}

static void
broken_checksum(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    size_t size = pack(peer, &frame, pages, wire);
    wire[FRAME_HEADER_BYTES + 1] ^= 0x10; /* another page of the memory */
    send_all(peer->fd, wire, size);
}

static void
page_beyond(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, MEMORY, PAGE_BYTES);
}

static void
page_that_wraps(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, G_MAXUINT64 - PAGE_BYTES + 1, PAGE_BYTES);
}

static void
half_a_page(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, 0, PAGE_BYTES / 2);
}

static void
wrong_size(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    frame.payload_bytes = 2 * PAGE_BYTES;
    say(peer, frame, pages);
}

static void
huge_size(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, FRAME_REGION_BYTES);
    guint32 crc;
    frame.sequence = peer->sequence++;
    send_all(peer->fd, wire, frame_put(&frame, wire, &crc));
}

static void
foreign_channel(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    frame.channel = 1;
    say(peer, frame, pages);
}

static void
page_twice_in_a_frame(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, PAGE_BYTES, PAGE_BYTES);
    frame.n_extents = 2;
    frame.extents[1] = frame.extents[0];
    frame.payload_bytes = 2 * PAGE_BYTES;
    say(peer, frame, pages);
}

static void
page_twice_in_a_round(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, 4 * PAGE_BYTES, 2 * PAGE_BYTES);
    say_data(peer, 5 * PAGE_BYTES, PAGE_BYTES);
}

static void
page_missing(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, 0, PAGE_BYTES);
    peer->end.data_bytes += PAGE_BYTES;
    say_end(peer, FRAME_FINAL);
}

static void
frame_missing(struct peer *peer)
{
    say_hello(peer);
    peer->sequence++;
    say_data(peer, 0, PAGE_BYTES);
}

static void
other_contents(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    frame.flags = FRAME_FINAL;
    say(peer, frame, pages);
    peer->end.content_crc ^= 1;
    say_end(peer, FRAME_FINAL);
}

static void
frame_replayed(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    size_t size = pack(peer, &frame, pages, wire);
    send_all(peer->fd, wire, size);
    send_all(peer->fd, wire, size);
}

/* The same bytes with the number that is due: their seal is that of the old one. */
static void
frame_replayed_renumbered(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, PAGE_BYTES);
    size_t size = pack(peer, &frame, pages, wire);
    send_all(peer->fd, wire, size);
    guint64 sequence = GUINT64_TO_LE(peer->sequence);
    memcpy(wire + SEQUENCE_AT, &sequence, sizeof sequence);
    wire[12]++; /* a round further, where the page may come again */
    put32(wire + CRC_AT, 0);
    put32(wire + CRC_AT, frame_crc(0, wire, FRAME_HEADER_BYTES + FRAME_EXTENT_BYTES));
    send_all(peer->fd, wire, size);
}

static void
round_replayed(struct peer *peer)
{
    say_hello(peer);
    say_data(peer, 0, PAGE_BYTES);
    say_end(peer, 0);
    say_data(peer, 0, PAGE_BYTES);
}

static void
round_before(struct peer *peer)
{
    say_hello(peer);
    peer->round = 3;
    say_data(peer, 0, PAGE_BYTES);
    peer->round = 2;
    say_data(peer, PAGE_BYTES, PAGE_BYTES);
}

static void
owed_unasked(struct peer *peer)
{
    say_hello(peer);
    say(peer,
        (struct frame){.kind = FRAME_PUNCH,
                       .flags = FRAME_FINAL | FRAME_OWED,
                       .n_extents = 1,
                       .extents = {{0, PAGE_BYTES}}},
        pages);
}

static void
answers_itself(struct peer *peer)
{
    guint8 payload[FRAME_END_BYTES] = {0};
    say_hello(peer);
    say(peer, (struct frame){.kind = FRAME_ACK, .payload_bytes = FRAME_END_BYTES}, payload);
}

static void
noise(struct peer *peer)
{
    for (size_t i = 0; i < FRAME_HEADER_BYTES; i++) {
        wire[i] = (guint8) (i * 37 + 11);
    }
    send_all(peer->fd, wire, FRAME_HEADER_BYTES);
}

/* A byte now and then, for ever: until the sink hangs up. */
static void
slow_loris(struct peer *peer)
{
    say_hello(peer);
    struct frame frame = data_at(peer, 0, FRAME_PAYLOAD_MAX / 2);
    size_t size = pack(peer, &frame, pages, wire);
    for (size_t i = 0; i < size && send(peer->fd, wire + i, 1, MSG_NOSIGNAL) == 1; i++) {
        g_usleep(LORIS_BYTE_US);
    }
}

static void
silent(struct peer *peer)
{
    char byte;
    say_hello(peer);
    (void) recv(peer->fd, &byte, 1, MSG_PEEK);
}

static const struct {
    const char *name, *why;
    void (*act)(struct peer *peer);
    bool sealed;
    guint got_pages; /* which came as they may, before */
    gint64 idle_ms;
} sources[] = {
    {"version-before", "unknown version", version_before, .idle_ms = IDLE_MS},
    {"version-after", "unknown version", version_after, .idle_ms = IDLE_MS},
    {"noise", "no page stream", noise, .idle_ms = IDLE_MS},
    {"no-hello", "out of order", no_hello, .idle_ms = IDLE_MS},
    {"hello-twice", "out of order", hello_twice, .idle_ms = IDLE_MS},
    {"broken-checksum", "checksum is wrong", broken_checksum, .idle_ms = IDLE_MS},
    {"page-beyond-the-memory", "outside the guest's memory", page_beyond, .idle_ms = IDLE_MS},
    {"page-that-wraps", "outside the guest's memory", page_that_wraps, .idle_ms = IDLE_MS},
    {"half-a-page", "not whole pages", half_a_page, .idle_ms = IDLE_MS},
    {"wrong-size", "do not add up", wrong_size, .idle_ms = IDLE_MS},
    {"huge-size", "wrong size of payload", huge_size, .idle_ms = IDLE_MS},
    {"foreign-channel", "out of order", foreign_channel, .idle_ms = IDLE_MS},
    {"page-twice-in-a-frame", "overlap", page_twice_in_a_frame, .idle_ms = IDLE_MS},
    {"page-twice-in-a-round", "came already", page_twice_in_a_round, .got_pages = 2,
     .idle_ms = IDLE_MS},
    {"page-missing", "not what was sent", page_missing, .got_pages = 1, .idle_ms = IDLE_MS},
    {"frame-missing", "out of order", frame_missing, .idle_ms = IDLE_MS},
    {"other-contents", "not what was sent", other_contents, .got_pages = 1, .idle_ms = IDLE_MS},
    {"frame-replayed", "out of order", frame_replayed, .got_pages = 1, .idle_ms = IDLE_MS},
    {"sealed-frame-replayed", "seal is broken", frame_replayed_renumbered, .sealed = true,
     .got_pages = 1, .idle_ms = IDLE_MS},
    {"round-replayed", "strays", round_replayed, .got_pages = 1, .idle_ms = IDLE_MS},
    {"round-before", "strays", round_before, .got_pages = 1, .idle_ms = IDLE_MS},
    {"owed-unasked", "may not owe", owed_unasked, .idle_ms = IDLE_MS},
    {"answers-itself", "out of order", answers_itself, .idle_ms = IDLE_MS},
    {"slow-loris", "nothing moved", slow_loris, .got_pages = FRAME_PAYLOAD_MAX / 2 / PAGE_BYTES,
     .idle_ms = LORIS_IDLE_MS},
    {"silent", "nothing moved", silent, .idle_ms = LORIS_IDLE_MS},
};

struct sink {
    struct page_sink_options options;
    GError *error;
    bool ok;
};

static gpointer
sink_thread(gpointer data)
{
    struct sink *sink = data;
    sink->ok = pagesink_run(&sink->options, &sink->error);
    for (guint i = 0; i < sink->options.channels; i++) {
        shutdown(sink->options.sockets[i], SHUT_RDWR); /* as its process's end does */
    }
    return NULL;
}

static void
never_whole(const struct page_sink_total *total, void *data)
{
    g_error("a stream that is to be refused was taken");
}

static int
new_memory(void)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, MEMORY), ==, 0);
    return fd;
}

/* The file is as long as it was, and has no page but the first 'most' that came before. */
static void
assert_untouched(int memory, guint most)
{
    struct stat file;
    g_assert_cmpint(fstat(memory, &file), ==, 0);
    g_assert_cmpint(file.st_size, ==, MEMORY);
    g_assert_cmpint(file.st_blocks * 512, <=, (gint64) most * PAGE_BYTES);
}

static void
sink_refuses(gconstpointer data)
{
    gsize which = GPOINTER_TO_SIZE(data);
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    int memory = new_memory();
    const guint8 *key = sources[which].sealed ? KEY : NULL;
    struct sink sink = {.options = {
                            .memory_fd = memory,
                            .memory_bytes = MEMORY,
                            .sockets = &pair[1],
                            .channels = 1,
                            .key = key,
                            .idle_ms = sources[which].idle_ms,
                            .cancel_fd = -1,
                            .done = never_whole,
                            .data = &sink,
                        }};
    memcpy(sink.options.token, TOKEN, sizeof TOKEN);
    struct peer peer = {.fd = pair[0]};
    if (key != NULL) {
        peer.crypt = pagecrypt_new(key, 0, PAGECRYPT_TO_SINK, NULL);
    }
    GThread *thread = g_thread_new("sink", sink_thread, &sink);
    sources[which].act(&peer);
    g_thread_join(thread);
    g_assert_false(sink.ok);
    if (strstr(sink.error->message, sources[which].why) == NULL) {
        g_error("\"%s\" is not \"%s\"", sink.error->message, sources[which].why);
    }
    assert_untouched(memory, sources[which].got_pages);
    g_error_free(sink.error);
    pagecrypt_free(peer.crypt);
    close(memory);
    close(pair[0]);
    close(pair[1]);
}

/* ---- a sink without scruples ---- */

struct wrong {
    const char *name, *why;
    bool at_once; /* when the hello has come, not when the round has ended */
    struct frame frame;
    guint32 claims_bytes; /* of data, in an answer */
    int version;
    gint64 idle_ms;
};

static const struct wrong sinks[] = {
    {"answers-too-soon",
     "has not what was sent",
     true,
     {.kind = FRAME_ACK, .payload_bytes = FRAME_END_BYTES},
     .idle_ms = IDLE_MS},
    {"has-other-pages",
     "has not what was sent",
     false,
     {.kind = FRAME_ACK, .payload_bytes = FRAME_END_BYTES},
     PAGE_BYTES,
     .idle_ms = IDLE_MS},
    {"answers-another-round",
     "has not what was sent",
     false,
     {.kind = FRAME_ACK, .round = 1, .payload_bytes = FRAME_END_BYTES},
     4 * PAGE_BYTES,
     .idle_ms = IDLE_MS},
    {"sends-pages",
     "out of turn",
     true,
     {.kind = FRAME_DATA,
      .n_extents = 1,
      .extents = {{0, PAGE_BYTES}},
      .payload_bytes = PAGE_BYTES},
     .idle_ms = IDLE_MS},
    {"wants-what-is-not-owed",
     "not owed",
     true,
     {.kind = FRAME_WANT, .payload_bytes = 8},
     .idle_ms = IDLE_MS},
    {"other-number",
     "out of order",
     false,
     {.kind = FRAME_ACK, .sequence = 5, .payload_bytes = FRAME_END_BYTES},
     4 * PAGE_BYTES,
     .idle_ms = IDLE_MS},
    {"version-before",
     "unknown version",
     true,
     {.kind = FRAME_ACK, .payload_bytes = FRAME_END_BYTES},
     .version = -1,
     .idle_ms = IDLE_MS},
    {"version-after",
     "unknown version",
     true,
     {.kind = FRAME_ACK, .payload_bytes = FRAME_END_BYTES},
     .version = 1,
     .idle_ms = IDLE_MS},
    {"gives-up",
     "gave up: \xef\xbf\xbd",
     true,
     {.kind = FRAME_ABORT, .payload_bytes = 4},
     .idle_ms = IDLE_MS},
    {"silent", "nothing moved", true, {0}, .idle_ms = LORIS_IDLE_MS},
};

struct answerer {
    const struct wrong *wrong;
    int fd;
};

static bool
take_all(int fd, guint8 *into, size_t size)
{
    return recv(fd, into, size, MSG_WAITALL) == (ssize_t) size;
}

/* Takes frames as a sink does, until the one of this kind. */
static void
take_until(int fd, enum frame_kind kind)
{
    static guint8 in[FRAME_TABLE_MAX + FRAME_PAYLOAD_MAX];
    struct frame frame = {0};
    do {
        g_assert_true(take_all(fd, in, FRAME_HEADER_BYTES));
        g_assert_true(frame_get_header(in, &frame, NULL));
        g_assert_true(take_all(fd, in, frame_table_bytes(&frame) + frame.payload_bytes));
    } while (frame.kind != kind);
}

static gpointer
answer_wrongly(gpointer data)
{
    const struct answerer *answerer = data;
    const struct wrong *wrong = answerer->wrong;
    guint8 out[FRAME_TABLE_MAX + PAGE_BYTES], payload[PAGE_BYTES];
    guint32 crc;
    memset(payload, 0xff, sizeof payload);
    if (wrong->frame.kind == FRAME_ACK) {
        frame_put_end(&(struct frame_end){.data_bytes = wrong->claims_bytes}, payload);
    } else if (wrong->frame.kind == FRAME_WANT) {
        memset(payload, 0, 8);
    }
    take_until(answerer->fd, wrong->at_once ? FRAME_HELLO : FRAME_ROUND_END);
    size_t size = frame_put(&wrong->frame, out, &crc);
    if (wrong->version != 0) {
        out[VERSION_AT] = (guint8) (out[VERSION_AT] + wrong->version);
    }
    memcpy(out + size, payload, wrong->frame.payload_bytes);
    if (wrong->frame.kind != 0) {
        send_all(answerer->fd, out, size + wrong->frame.payload_bytes);
    }
    return NULL;
}

static void
source_refuses(gconstpointer data)
{
    const struct wrong *wrong = data;
    int pair[2];
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    int memory = new_memory();
    g_assert_cmpint(pwrite(memory, pages, 4 * PAGE_BYTES, 0), ==, 4 * PAGE_BYTES);
    struct page_source_options options = {
        .memory_fd = memory,
        .memory_bytes = MEMORY,
        .sockets = &pair[0],
        .channels = 1,
        .route = PAGE_ROUTE_COPY,
        .idle_ms = wrong->idle_ms,
        .cancel_fd = -1,
    };
    memcpy(options.token, TOKEN, sizeof TOKEN);
    GThread *thread =
        g_thread_new("wrong", answer_wrongly, &(struct answerer){.wrong = wrong, .fd = pair[1]});
    PageSource *source = pagesource_new(&options, &error);
    g_assert_true(source == NULL || (pagescan_extents(memory, MEMORY, runs, &error) &&
                                     !pagesource_round(source, runs, NULL, false, &round, &error)));
    pagesource_free(source);
    shutdown(pair[0], SHUT_RDWR);
    g_thread_join(thread);
    if (strstr(error->message, wrong->why) == NULL) {
        g_error("\"%s\" is not \"%s\"", error->message, wrong->why);
    }
    assert_untouched(memory, 4);
    close(memory);
    close(pair[0]);
    close(pair[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    memset(pages, 0x5a, sizeof pages);
    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autofree char *path = g_strdup_printf("/source/%s", sources[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), sink_refuses);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(sinks); i++) {
        g_autofree char *path = g_strdup_printf("/sink/%s", sinks[i].name);
        g_test_add_data_func(path, &sinks[i], source_refuses);
    }
    return g_test_run();
}
