/* agent/vm/guestlink.c and guestask.c against guests that lie: G1 to G6, K1, K2. */
#include "agent/vm/guestlink.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/vm/guestask.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "tests/fakes/guest_bed.h"

/* The agent's greeting, read from the guest's end. */
static guint32
read_greeting(int fd)
{
    static struct guestwire_reader reader;
    struct guestwire_head head;
    const uint8_t *payload;
    bool frame = false;

    reader = (struct guestwire_reader){0};
    while (!frame) {
        guint8 byte;
        g_assert_true(fiber_wait_fd(fd, G_IO_IN, WAIT_MS, NULL, NULL));
        g_assert_cmpint(read(fd, &byte, 1), ==, 1);
        guestwire_take(&reader, &byte, 1, &frame, &head, &payload);
    }
    g_assert_cmpint(head.type, ==, GUESTWIRE_HELLO);
    return head.epoch;
}

static void
say(int fd, guint8 type, int stream, guint32 epoch, guint32 session, const void *payload,
    size_t size)
{
    static guint8 out[GUESTWIRE_FRAME_MAX];
    struct guestwire_head head = {type, (guint8) stream, epoch, session, (guint32) size};
    size_t used = guestwire_encode(&head, payload, out);

    for (size_t at = 0; at < used;) {
        ssize_t n = send(fd, out + at, used - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            return; /* the agent has hung up, as it may */
        }
        if (n < 0) {
            g_assert_true(fiber_wait_fd(fd, G_IO_OUT, WAIT_MS, NULL, NULL));
        }
        at += n > 0 ? (size_t) n : 0;
    }
}

static int
liar_connect(Bed *bed)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(to.sun_path, bed->path, sizeof(to.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *) &to, sizeof(to)), ==, 0);
    return fd;
}

static int
liar_start(Bed *bed, guint32 *ret_epoch)
{
    static const guint8 hello[] = {1, 0, 'x'};

    bed_open(bed);
    int fd = liar_connect(bed);
    *ret_epoch = read_greeting(fd);
    say(fd, GUESTWIRE_HELLO, 0, *ret_epoch, 0, hello, sizeof(hello));
    g_assert_true(guestlink_wait(bed->link, WAIT_MS, NULL, NULL));
    return fd;
}

static void
expect_hang_up(int fd)
{
    char buffer[4096];

    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            break;
        }
        g_assert_true(n > 0 || fiber_wait_fd(fd, G_IO_IN, WAIT_MS, NULL, NULL));
    }
    close(fd);
}

static void
data_beyond_the_credit_ends_the_connection(void)
{
    static guint8 much[GUESTWIRE_PAYLOAD_MAX];
    struct guestwire_ask ask;
    guint32 epoch;
    Bed bed;
    int fd = liar_start(&bed, &epoch);

    guestwire_ask_begin(&ask, GUESTWIRE_STATE);
    GuestCall *call = guestcall_open(bed.link, &ask, NULL);
    for (int i = 0; i < 9; i++) {
        say(fd, GUESTWIRE_DATA, 1, epoch, 1, much, sizeof(much));
    }
    expect_hang_up(fd);
    guestcall_free(call);
    guestwire_ask_done(&ask);
    bed_close(&bed);
}

typedef struct {
    int fd;
    const char *reply;
    guint32 epoch;
} Lie;

static void
lie_body(void *data)
{
    Lie *lie = data;
    guint8 head[4];

    guestwire_put_u32(head, (guint32) strlen(lie->reply));
    say(lie->fd, GUESTWIRE_DATA, 1, lie->epoch, 1, head, sizeof(head));
    say(lie->fd, GUESTWIRE_DATA, 1, lie->epoch, 1, lie->reply, strlen(lie->reply));
    say(lie->fd, GUESTWIRE_END, 1, lie->epoch, 1, NULL, 0);
    say(lie->fd, GUESTWIRE_EXIT, 0, lie->epoch, 1, "\377\377\377\377", 4);
}

static void
replies_are_checked(void)
{
    static const char *const replies[] = {"",
                                          "[",
                                          "[]",
                                          "7",
                                          "{\"error\":7}",
                                          "{\"network\":[],\"disk\":7,\"memory\":{\"usage\":-5}}",
                                          "{\"network\":{\"eth0\":{\"addresses\":[7,{\"family\":{}}"
                                          "],\"counters\":\"x\",\"mtu\":1e99}}}"};

    for (size_t i = 0; i < G_N_ELEMENTS(replies); i++) {
        Bed bed;
        Lie lie = {.reply = replies[i]};
        lie.fd = liar_start(&bed, &lie.epoch);
        fiber_start("lie", lie_body, &lie);
        json_t *state = guestask_state(bed.link, NULL);
        g_assert_true((state != NULL) == (i >= 4));
        json_t *usage = json_object_get(json_object_get(state, "memory"), "usage");
        g_assert_cmpint(json_integer_value(usage), ==, 0);
        json_decref(state);
        close(lie.fd);
        bed_close(&bed);
    }
}

static void
rubbish_does_not_last(void)
{
    static guint8 rubbish[65536];
    guint32 epoch;
    Bed bed;
    int fd = liar_start(&bed, &epoch);

    memset(rubbish, 'x', sizeof(rubbish));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t n = send(fd, rubbish, sizeof(rubbish), MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            break; /* hung up */
        }
        if (n < 0) {
            g_assert_true(fiber_wait_fd(fd, G_IO_OUT, WAIT_MS, NULL, NULL));
        }
    }
    close(fd);
    g_assert_false(guestlink_present(bed.link));
    bed_close(&bed);
}

static void
a_guest_without_a_version_of_ours_is_absent(void)
{
    static const guint8 hello[] = {9, 0};
    g_autoptr(GError) error = NULL;
    Bed bed;

    bed_open(&bed);
    int fd = liar_connect(&bed);
    guint32 epoch = read_greeting(fd);
    say(fd, GUESTWIRE_HELLO, 0, epoch, 0, hello, sizeof(hello));
    say(fd, GUESTWIRE_HELLO, 0, epoch + 1, 0, "\001\000", 2); /* nor is one of another time */
    g_assert_false(guestlink_wait(bed.link, 300, NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_TIMEOUT);
    close(fd);
    bed_close(&bed);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    add("data-beyond-the-credit-ends-the-connection", data_beyond_the_credit_ends_the_connection);
    add("replies-are-checked", replies_are_checked);
    add("rubbish-does-not-last", rubbish_does_not_last);
    add("a-guest-without-a-version-of-ours-is-absent", a_guest_without_a_version_of_ours_is_absent);
    return g_test_run();
}
