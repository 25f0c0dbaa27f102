/* move/movemux.c: messages and streams over one WebSocket, both ends in one process; then a peer that breaks the rules;
 * and what a target makes of devices' state (move/livestate.c). */
#include "agent/move/livestate.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "tests/fakes/in_fiber.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static void
pair(Ws **ret_one, Ws **ret_other)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    *ret_one = ws_new(&fds[0], true, 1 << 20);
    *ret_other = ws_new(&fds[1], false, 1 << 20);
}

static void
muxes(MoveMux **ret_one, MoveMux **ret_other)
{
    Ws *one, *other;
    pair(&one, &other);
    *ret_one = movemux_new(&one);
    *ret_other = movemux_new(&other);
}

/* What comes out of 'fd' is this. */
static void
expect(int fd, const char *text)
{
    char got[64] = {0};
    size_t have = 0, want = strlen(text);
    while (have < want) {
        g_assert_true(fiber_wait_fd(fd, G_IO_IN, WAIT_MS, NULL, NULL));
        ssize_t n = recv(fd, got + have, want - have, MSG_DONTWAIT);
        g_assert_cmpint(n, >, 0);
        have += (size_t) n;
    }
    g_assert_cmpstr(got, ==, text);
}

static void
expect_end(int fd)
{
    char byte;
    g_assert_true(fiber_wait_fd(fd, G_IO_IN, WAIT_MS, NULL, NULL));
    g_assert_cmpint(recv(fd, &byte, 1, MSG_DONTWAIT), <=, 0);
}

static void
put(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize) strlen(text));
}

static void
streams_body(void *data)
{
    MoveMux *one, *other;
    muxes(&one, &other);
    haw_autofd int near = movemux_open(one, MOVEMUX_DEVICES, NULL);
    haw_autofd int pages = movemux_open(one, MOVEMUX_PAGES, NULL);
    put(near, "state");
    put(pages, "pages");
    g_assert_true(movemux_send(one, json_pack("{s:i}", "ready", 7), NULL));
    json_auto_t *ready = movemux_recv(other, "ready", WAIT_MS, NULL, NULL);
    g_assert_cmpint(json_integer_value(json_object_get(ready, "ready")), ==, 7);
    haw_autofd int far = movemux_open(other, MOVEMUX_DEVICES, NULL); /* what came before is kept */
    haw_autofd int far_pages = movemux_open(other, MOVEMUX_PAGES, NULL);
    expect(far, "state");
    expect(far_pages, "pages");
    shutdown(near, SHUT_WR);
    expect_end(far);
    movemux_free(one);
    expect_end(far_pages);
    movemux_free(other);
}

static void
failed_body(void *data)
{
    MoveMux *one, *other;
    g_autoptr(GError) error = NULL;
    muxes(&one, &other);
    movemux_send(one, json_pack("{s:s}", "failed", "no space"), NULL);
    g_assert_null(movemux_recv(other, "ready", WAIT_MS, NULL, &error));
    g_assert_cmpstr(error->message, ==, "no space");
    g_clear_error(&error);
    movemux_free(one);
    g_assert_null(movemux_recv(other, "ready", WAIT_MS, NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNAVAILABLE);
    g_assert_false(movemux_alive(other));
    g_assert_cmpint(movemux_open(other, MOVEMUX_DEVICES, NULL), <, 0);
    movemux_free(other);
}

static int
knock(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path + 1, name, size);
    if (connect(fd, (struct sockaddr *) &address,
                (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + size)) != 0) {
        fd_close(&fd);
    }
    return fd;
}

/* An NBD server speaks first, and may have spoken before its client is there. */
static void
door_body(void *data)
{
    MoveMux *one, *other;
    g_autofree char *name = NULL;
    muxes(&one, &other);
    haw_autofd int server = movemux_open(one, MOVEMUX_DISK, NULL);
    put(server, "greeting");
    g_assert_true(movemux_send(one, json_pack("{s:i}", "sent", 1), NULL));
    json_auto_t *sent = movemux_recv(other, "sent", WAIT_MS, NULL, NULL);
    g_assert_nonnull(sent);
    g_assert_true(movemux_door(other, MOVEMUX_DISK, getpid(), &name, NULL));
    haw_autofd int client = knock(name);
    g_assert_cmpint(client, >=, 0);
    expect(client, "greeting");
    put(client, "answer");
    expect(server, "answer");
    put(server, "more");
    expect(client, "more");
    g_assert_cmpint(knock(name), <, 0); /* for one only */
    fd_close(&client);
    expect_end(server);
    movemux_free(one);
    movemux_free(other);
}

static void
stranger_body(void *data)
{
    MoveMux *one, *other;
    g_autofree char *name = NULL;
    muxes(&one, &other);
    g_assert_true(movemux_door(other, MOVEMUX_DISK, getpid() + 1, &name, NULL));
    haw_autofd int stranger = knock(name);
    g_assert_cmpint(stranger, >=, 0);
    expect_end(stranger);
    movemux_free(other);
    g_assert_cmpint(knock(name), <, 0);
    movemux_free(one);
}

/* One message of a peer's that ends it. */
static void
hangs_up(WsKind kind, const char *bytes, size_t size)
{
    Ws *ours, *peer;
    g_autoptr(GError) error = NULL;
    pair(&ours, &peer);
    MoveMux *mux = movemux_new(&ours);
    g_assert_true(ws_send(peer, kind, bytes, size));
    g_assert_null(movemux_recv(mux, "ready", WAIT_MS, NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNAVAILABLE);
    movemux_free(mux);
    ws_free(peer);
}

enum { MUCH = 3 << 20 };

static void
fill_body(void *data)
{
    static char chunk[65536];
    for (int sent = 0; sent < MUCH; sent += (int) sizeof chunk) {
        if (!fiber_write(GPOINTER_TO_INT(data), chunk, sizeof chunk, NULL, NULL)) {
            break;
        }
    }
}

/* More of one than anything holds; the other goes on. */
static void
unread_body(void *data)
{
    MoveMux *one, *other;
    static char chunk[65536];
    muxes(&one, &other);
    haw_autofd int near = movemux_open(one, MOVEMUX_DEVICES, NULL);
    haw_autofd int pages = movemux_open(one, MOVEMUX_PAGES, NULL);
    haw_autofd int far = movemux_open(other, MOVEMUX_DEVICES, NULL);
    haw_autofd int far_pages = movemux_open(other, MOVEMUX_PAGES, NULL);
    fcntl(near, F_SETFL, O_NONBLOCK);
    fiber_start("fill", fill_body, GINT_TO_POINTER(near));
    fiber_sleep_ms(100, NULL, NULL);
    put(pages, "pages");
    expect(far_pages, "pages");
    put(far_pages, "back");
    expect(pages, "back");
    for (int had = 0; had < MUCH;) { /* and it all comes, once it is read */
        g_assert_true(fiber_wait_fd(far, G_IO_IN, WAIT_MS, NULL, NULL));
        ssize_t n = recv(far, chunk, sizeof chunk, MSG_DONTWAIT);
        g_assert_cmpint(n, >, 0);
        had += (int) n;
    }
    movemux_free(one);
    movemux_free(other);
}

/* A peer that sends more of a stream than it was told to. */
static void
greedy_body(void *data)
{
    Ws *ours, *peer;
    g_autofree guint8 *chunk = g_malloc0(65536);
    pair(&ours, &peer);
    MoveMux *mux = movemux_new(&ours);
    chunk[0] = MOVEMUX_PAGES;
    for (int i = 0; i < 1000 && ws_send(peer, WS_BINARY, chunk, 65536); i++) {
    }
    for (int i = 0; i < WAIT_MS && movemux_alive(mux); i++) {
        fiber_sleep_ms(1, NULL, NULL);
    }
    g_assert_false(movemux_alive(mux));
    movemux_free(mux);
    ws_free(peer);
}

static void
hostile_body(void *data)
{
    static const char beyond[] = {MOVEMUX_STREAMS, 'x'};
    hangs_up(WS_BINARY, beyond, sizeof beyond);
    hangs_up(WS_BINARY, "\0{\"ready\":", 10);
    hangs_up(WS_BINARY, "\0", 1);
    hangs_up(WS_BINARY, "", 0);
    hangs_up(WS_TEXT, "{\"ready\":1}", 11);
    hangs_up(WS_BINARY, "\0{\"took\":1,\"stream\":17}", 24); /* of nothing that was sent */
    hangs_up(WS_BINARY, "\0{\"took\":1,\"stream\":81}", 24);
    hangs_up(WS_BINARY, "\0{\"mark\":1,\"stream\":81}", 24);
    hangs_up(WS_BINARY, "\0{\"mark\":-1,\"stream\":17}", 25);
}

/* Messages that nobody takes are bounded. */
static void
flood_body(void *data)
{
    Ws *ours, *peer;
    pair(&ours, &peer);
    MoveMux *mux = movemux_new(&ours);
    for (int i = 0; i < 100000 && ws_send(peer, WS_BINARY, "\0{\"x\":1}", 8); i++) {
    }
    for (int i = 0; i < WAIT_MS && movemux_alive(mux); i++) {
        fiber_sleep_ms(1, NULL, NULL);
    }
    g_assert_false(movemux_alive(mux));
    movemux_free(mux);
    ws_free(peer);
}

/* ---- devices' state ---- */

struct state_pair {
    MoveMux *source, *target;
    LiveState *state;
    int near, qemu; /* the source's QEMU writes, the target's reads */
};

static struct state_pair
state_pair(bool marks)
{
    struct state_pair pair = {.qemu = -1};
    muxes(&pair.source, &pair.target);
    pair.near = movemux_open(pair.source, MOVEMUX_DEVICES, NULL);
    pair.state = livestate_new(pair.target, marks, &pair.qemu, NULL);
    g_assert_nonnull(pair.state);
    return pair;
}

static void
state_pair_free(struct state_pair *pair)
{
    livestate_free(pair->state);
    movemux_free(pair->source);
    movemux_free(pair->target);
    fd_close(&pair->near);
    fd_close(&pair->qemu);
}

/* All that was sent has come, and QEMU still has nothing to read. */
static void
expect_nothing(struct state_pair *pair)
{
    char byte;
    g_assert_true(movemux_send(pair->source, json_pack("{s:i}", "sent", 1), NULL));
    json_auto_t *sent = movemux_recv(pair->target, "sent", WAIT_MS, NULL, NULL);
    g_assert_nonnull(sent);
    fiber_sleep_ms(20, NULL, NULL);
    g_assert_cmpint(recv(pair->qemu, &byte, 1, MSG_DONTWAIT), ==, -1);
}

static void
markless_body(void *data)
{
    struct state_pair pair = state_pair(false);
    put(pair.near, "pages");
    fiber_sleep_ms(20, NULL, NULL);
    expect_nothing(&pair);
    put(pair.near, "devices");
    livestate_release(pair.state);
    expect(pair.qemu, "pagesdevices");
    fd_close(&pair.near);
    expect_end(pair.qemu);
    state_pair_free(&pair);
}

static void
marked_body(void *data)
{
    struct state_pair pair = state_pair(true);
    put(pair.near, "pages");
    expect(pair.qemu, "pages"); /* at once */
    put(pair.near, "rest");     /* in the socket still, when the mark is made */
    movemux_mark(pair.source, MOVEMUX_DEVICES);
    put(pair.near, "devices");
    expect(pair.qemu, "rest");
    expect_nothing(&pair);
    fd_close(&pair.near); /* the end is no leave */
    fiber_sleep_ms(20, NULL, NULL);
    expect_nothing(&pair);
    livestate_release(pair.state);
    expect(pair.qemu, "devices");
    expect_end(pair.qemu);
    state_pair_free(&pair);
}

static void
never_released_body(void *data)
{
    struct state_pair pair = state_pair(true);
    put(pair.near, "pages");
    movemux_mark(pair.source, MOVEMUX_DEVICES);
    put(pair.near, "devices");
    expect(pair.qemu, "pages");
    livestate_free(g_steal_pointer(&pair.state));
    expect_end(pair.qemu);
    state_pair_free(&pair);
}

int
main(int argc, char **argv)
{
    static const struct fiber_claim claims[] = {
        {"/movemux/streams-keep-what-came-early", streams_body},
        {"/movemux/the-other-sides-end-is-seen", failed_body},
        {"/movemux/a-door-is-for-one", door_body},
        {"/movemux/strangers-stay-outside", stranger_body},
        {"/movemux/what-breaks-the-rules-ends-it", hostile_body},
        {"/movemux/a-stream-that-nobody-reads-holds-no-other-up", unread_body},
        {"/movemux/a-stream-is-bounded", greedy_body},
        {"/movemux/messages-are-bounded", flood_body},
        {"/livestate/all-is-kept-of-a-source-that-makes-no-mark", markless_body},
        {"/livestate/what-comes-before-the-mark-goes-at-once", marked_body},
        {"/livestate/a-move-that-fails-lets-nothing-through", never_released_body},
    };
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN); /* as the agent does */
    fiber_claims_add(claims, G_N_ELEMENTS(claims));
    return g_test_run();
}
