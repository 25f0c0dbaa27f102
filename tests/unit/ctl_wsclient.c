/* ctl/wsclient.c: W1, W2; ctl/stream.c: upgrades. The other side is written by hand, frame by frame. */
#include "ctl/wsclient.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

typedef struct {
    GString *text;
    int texts, binaries;
} Got;

static void
on_message(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    Got *got = data;
    g_string_append_len(got->text, (const char *) bytes, (gssize) size);
    got->texts += is_text;
    got->binaries += !is_text;
}

/* A client whose peer is 'ret_peer'. */
static WsClient *
connect_pair(Got *got, int *ret_peer)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    *ret_peer = pair[1];
    *got = (Got){.text = g_string_new(NULL)};
    g_autoptr(Stream) stream = stream_take_fd(pair[0]);
    return wsclient_on_stream(&stream, on_message, got);
}

static void
feed(int peer, const void *bytes, size_t size)
{
    g_assert_true(fd_write_all(peer, bytes, size, "peer", NULL));
}

static void
frames_become_whole_messages(void)
{
    Got got;
    haw_autofd int peer = -1;
    g_autoptr(WsClient) ws = connect_pair(&got, &peer);
    feed(peer, "\x01\x02he", 4); /* text, not the last fragment */
    wsclient_pump(ws);
    g_assert_cmpint(got.texts, ==, 0);
    feed(peer, "\x80\x03llo\x82\x01!", 8); /* the rest, then a binary one */
    feed(peer, "\x81\x00", 2);             /* LXD's mark for the end of a stream */
    while (wsclient_poll(&ws, 1, -1, 10, NULL)) {
    }
    g_assert_cmpstr(got.text->str, ==, "hello!");
    g_assert_cmpint(got.texts, ==, 2);
    g_assert_cmpint(got.binaries, ==, 1);
    g_assert_true(wsclient_is_open(ws));
    g_string_free(got.text, TRUE);
}

static void
what_is_sent_is_masked_and_pings_are_answered(void)
{
    Got got;
    haw_autofd int peer = -1;
    g_autoptr(WsClient) ws = connect_pair(&got, &peer);
    guint8 bytes[64];
    wsclient_send(ws, false, "abc", 3);
    g_assert_cmpuint(wsclient_queued(ws), ==, 3);
    wsclient_pump(ws);
    g_assert_cmpuint(wsclient_queued(ws), ==, 0);
    g_assert_cmpint(read(peer, bytes, sizeof bytes), ==, 2 + 4 + 3);
    g_assert_cmpint(bytes[0], ==, 0x82);
    g_assert_cmpint(bytes[1], ==, 0x80 | 3);
    g_assert_cmpint(bytes[6] ^ bytes[2], ==, 'a');

    feed(peer, "\x89\x02hi", 4);
    wsclient_pump(ws);
    g_assert_cmpint(read(peer, bytes, sizeof bytes), ==, 2 + 4 + 2);
    g_assert_cmpint(bytes[0], ==, 0x8a);
    g_string_free(got.text, TRUE);
}

/* W2 */
static void
the_end_of_the_stream_is_the_end(void)
{
    Got got;
    haw_autofd int peer = -1;
    g_autoptr(WsClient) ws = connect_pair(&got, &peer);
    feed(peer, "\x81\x01x", 3);
    fd_close(&peer);
    for (int i = 0; i < 5 && wsclient_is_open(ws); i++) {
        wsclient_pump(ws);
    }
    g_assert_false(wsclient_is_open(ws));
    g_assert_cmpstr(got.text->str, ==, "x");
    g_string_free(got.text, TRUE);
}

/* W1 */
static void
bad_and_giant_frames_end_it(void)
{
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"\xff\x00", 2},                                  /* reserved bits */
               {"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10}, /* 2^63 bytes */
               {"\x82\x7f\x00\x00\x00\x00\x10\x00\x00\x00", 10}, /* 256 MiB */
               {"\x89\x7e\x01\x00", 4}};                         /* a large ping */
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        Got got;
        haw_autofd int peer = -1;
        g_autoptr(WsClient) ws = connect_pair(&got, &peer);
        feed(peer, bad[i].bytes, bad[i].size);
        feed(peer, "x", 1); /* lengths are looked at with the first byte of a payload */
        for (int k = 0; k < 5; k++) {
            wsclient_pump(ws);
        }
        g_assert_false(wsclient_is_open(ws));
        g_assert_cmpuint(got.text->len, ==, 0);
        g_string_free(got.text, TRUE);
    }
}

static void
refused_upgrade_gives_the_servers_text(void)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    haw_autofd int peer = pair[1];
    g_autoptr(Stream) stream = stream_take_fd(pair[0]);
    static const char answer[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n"
                                 "{\"error\":\"no such op\"}";
    feed(peer, answer, strlen(answer));
    g_autoptr(GError) error = NULL;
    g_assert_false(stream_upgrade(stream, "/x", "websocket", NULL, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_NOT_FOUND);
    g_assert_cmpstr(error->message, ==, "no such op");
}

static void
bytes_behind_an_upgrade_are_not_lost(void)
{
    int pair[2];
    char bytes[16] = "";
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    haw_autofd int peer = pair[1];
    g_autoptr(Stream) stream = stream_take_fd(pair[0]);
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\n\r\nearly";
    feed(peer, answer, strlen(answer));
    g_assert_true(stream_upgrade(stream, "/x", "sftp", NULL, NULL, NULL));
    g_assert_true(stream_pending(stream));
    g_assert_cmpint(stream_read(stream, bytes, sizeof bytes, NULL), ==, 5);
    g_assert_cmpstr(bytes, ==, "early");
    g_assert_cmpint(stream_read(stream, bytes, sizeof bytes, NULL), ==, STREAM_AGAIN);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wsclient/frames-become-whole-messages", frames_become_whole_messages);
    g_test_add_func("/wsclient/what-is-sent-is-masked-and-pings-are-answered",
                    what_is_sent_is_masked_and_pings_are_answered);
    g_test_add_func("/wsclient/the-end-of-the-stream-is-the-end", the_end_of_the_stream_is_the_end);
    g_test_add_func("/wsclient/bad-and-giant-frames-end-it", bad_and_giant_frames_end_it);
    g_test_add_func("/stream/refused-upgrade-gives-the-servers-text",
                    refused_upgrade_gives_the_servers_text);
    g_test_add_func("/stream/bytes-behind-an-upgrade-are-not-lost",
                    bytes_behind_an_upgrade_are_not_lost);
    return g_test_run();
}
