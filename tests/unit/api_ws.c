/* agent/api/ws.c: W1, W2 and the mirror, client and server end over a socket pair. */
#include "agent/api/ws.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "tests/fakes/in_fiber.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT 100000

static void
pair(Ws **ret_server, Ws **ret_client)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    *ret_server = ws_new(&fds[0], true, LIMIT);
    *ret_client = ws_new(&fds[1], false, LIMIT);
}

static void
expect(Ws *ws, WsKind kind, const char *text)
{
    g_autofree guint8 *bytes = NULL;
    size_t size = 0;
    g_assert_cmpint(ws_recv(ws, &bytes, &size), ==, kind);
    if (kind != WS_CLOSED) {
        g_assert_cmpmem(bytes, size, text, strlen(text));
    }
}

static void
order_body(void *data)
{
    g_autoptr(Ws) server = NULL;
    g_autoptr(Ws) client = NULL;
    pair(&server, &client);
    g_assert_true(ws_send(client, WS_TEXT, "one", 3));
    g_assert_true(ws_ping(client, "p"));
    g_assert_true(ws_send(client, WS_BINARY, "two", 3));
    expect(server, WS_TEXT, "one");
    expect(server, WS_BINARY, "two");
    ws_close(client);
    expect(server, WS_CLOSED, NULL);
    g_assert_false(ws_send(client, WS_TEXT, "late", 4)); /* W2 */
}

static void
messages_arrive_whole_and_in_order(void)
{
    in_fiber(order_body, NULL);
}

static void
oversize_body(void *data)
{
    g_autoptr(Ws) server = NULL;
    g_autoptr(Ws) client = NULL;
    g_autofree char *big = g_malloc0(LIMIT + 1);
    pair(&server, &client);
    ws_send(client, WS_BINARY, big, LIMIT + 1);
    expect(server, WS_CLOSED, NULL); /* W1 */
}

static void
oversize_message_closes_the_connection(void)
{
    in_fiber(oversize_body, NULL);
}

struct mirror_end {
    Ws *ws;
    int in, out;
    bool done;
};

static void
mirror_body(void *data)
{
    struct mirror_end *end = data;
    ws_mirror(end->ws, &end->in, &end->out);
    end->done = true;
}

static void
stream_body(void *data)
{
    g_autoptr(Ws) server = NULL;
    g_autoptr(Ws) client = NULL;
    int to_child[2], from_child[2];
    char got[16] = "";
    pair(&server, &client);
    g_assert_cmpint(pipe2(to_child, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(from_child, O_CLOEXEC), ==, 0);
    struct mirror_end end = {server, to_child[1], from_child[0], false};
    fiber_start("mirror", mirror_body, &end);

    g_assert_true(ws_send(client, WS_BINARY, "input", 5));
    g_assert_true(fiber_wait_fd(to_child[0], G_IO_IN, 5000, NULL, NULL));
    g_assert_cmpint(read(to_child[0], got, sizeof got), ==, 5);
    g_assert_true(ws_send(client, WS_TEXT, "", 0));
    g_assert_true(fiber_wait_fd(to_child[0], G_IO_IN, 5000, NULL, NULL));
    g_assert_cmpint(read(to_child[0], got, sizeof got), ==, 0); /* end of input */

    g_assert_cmpint(write(from_child[1], "output", 6), ==, 6);
    expect(client, WS_BINARY, "output");
    fd_close(&from_child[1]);
    expect(client, WS_TEXT, "");
    expect(client, WS_CLOSED, NULL);
    while (!end.done) {
        fiber_yield();
    }
    fd_close(&to_child[0]);
}

static void
mirror_copies_both_ways_and_passes_the_ends_on(void)
{
    in_fiber(stream_body, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ws/messages-arrive-whole-and-in-order", messages_arrive_whole_and_in_order);
    g_test_add_func("/ws/oversize-message-closes-the-connection",
                    oversize_message_closes_the_connection);
    g_test_add_func("/ws/mirror-copies-both-ways-and-passes-the-ends-on",
                    mirror_copies_both_ways_and_passes_the_ends_on);
    return g_test_run();
}
