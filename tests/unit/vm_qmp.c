/* vm/qmp.c: Q1 to Q4 against a QEMU that is played by a fiber on the other end of a socket pair. */
#include "agent/vm/qmp.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/jsonscan.h"
#include "tests/fakes/in_fiber.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char greeting[] =
    "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":22,\"minor\":2,\"major\":7},\"package\":\"\"},"
    "\"capabilities\":[\"oob\"]}}\r\n";

/* What the played QEMU does with each command. */
struct fake {
    int fd; /* owned */
    void (*answer)(struct fake *fake, const char *command, json_int_t id, json_t *args);
    guint events;
    int got_fd;
    json_int_t first_id;
};

static void say(struct fake *fake, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
say(struct fake *fake, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    g_autofree char *text = g_strdup_vprintf(format, list);
    va_end(list);
    g_assert_cmpint(write(fake->fd, text, strlen(text)), ==, (gssize) strlen(text));
}

/* A descriptor may come with the bytes. */
static ssize_t
receive(struct fake *fake, char *buffer, size_t size)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fake->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL) {
        memcpy(&fake->got_fd, CMSG_DATA(header), sizeof(int));
    }
    return n;
}

static void
fake_body(void *data)
{
    struct fake *fake = data;
    g_autoptr(JsonScan) scan = jsonscan_new(65536);
    char buffer[4096];
    say(fake, "%s", greeting);
    for (;;) {
        json_t *object = NULL;
        fiber_wait_fd(fake->fd, G_IO_IN, -1, NULL, NULL);
        ssize_t n = receive(fake, buffer, sizeof buffer);
        if (n <= 0) {
            break;
        }
        jsonscan_feed(scan, buffer, (size_t) n);
        while (jsonscan_next(scan, &object, NULL) && object != NULL) {
            const char *command = json_string_value(json_object_get(object, "execute"));
            json_int_t id = json_integer_value(json_object_get(object, "id"));
            if (strcmp(command, "qmp_capabilities") == 0) {
                say(fake, "{\"return\":{},\"id\":%lld}\r\n", (long long) id);
            } else {
                fake->answer(fake, command, id, json_object_get(object, "arguments"));
            }
            json_decref(object);
        }
        if (fake->fd < 0) {
            return;
        }
    }
    fd_close(&fake->fd);
}

static Qmp *
open_fake(struct fake *fake, QmpEvent event, QmpEnded ended, void *user)
{
    int fds[2];
    g_autoptr(GError) error = NULL;
    QmpOptions options = {.event = event, .ended = ended, .user = user, .wait_ms = 10000};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    fake->fd = fds[1];
    fake->got_fd = -1;
    fiber_start("qemu", fake_body, fake);
    Qmp *qmp = qmp_open(&fds[0], &options, &error);
    g_assert_no_error(error);
    g_assert_cmpint(fds[0], ==, -1);
    return qmp;
}

/* ---- answers ---- */

static void
echo(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    say(fake, "{\"return\":{\"was\":\"%s\"},\"id\":%lld}", command, (long long) id);
}

static void
answers_body(void *data)
{
    struct fake fake = {.answer = echo};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    json_t *result = qmp_call(qmp, "query-status", NULL, NULL);
    g_assert_cmpstr(qmp_version(qmp), ==, "7.2.22");
    g_assert_cmpstr(json_string_value(json_object_get(result, "was")), ==, "query-status");
    json_decref(result);
}

/* Answers the first of two only after the second. */
static void
late(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    if (fake->first_id == 0) {
        fake->first_id = id;
        return;
    }
    echo(fake, command, id, args);
    echo(fake, "one", fake->first_id, NULL);
}

struct caller {
    Qmp *qmp;
    const char *command;
    guint *left;
};

static void
caller_body(void *data)
{
    struct caller *caller = data;
    json_t *result = qmp_call(caller->qmp, caller->command, NULL, NULL);
    g_assert_cmpstr(json_string_value(json_object_get(result, "was")), ==, caller->command);
    json_decref(result);
    --*caller->left;
}

static void
order_body(void *data)
{
    guint left = 2;
    struct fake fake = {.answer = late};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    struct caller one = {qmp, "one", &left}, two = {qmp, "two", &left};
    fiber_start("one", caller_body, &one);
    fiber_start("two", caller_body, &two);
    while (left > 0) {
        fiber_yield();
    }
}

static void
fail(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    const char *class = strcmp(command, "device_del") == 0 ? "DeviceNotFound" : "GenericError";
    say(fake, "{\"id\":%lld,\"error\":{\"class\":\"%s\",\"desc\":\"no such luck\"}}",
        (long long) id, class);
}

static void
errors_body(void *data)
{
    struct fake fake = {.answer = fail};
    g_autoptr(GError) gone = NULL, other = NULL;
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    g_assert_false(qmp_do(qmp, "device_del", NULL, &gone));
    g_assert_error(gone, HAW_ERROR, HAW_NOT_FOUND);
    g_assert_false(qmp_do(qmp, "cont", NULL, &other));
    g_assert_error(other, HAW_ERROR, HAW_FAILED);
    g_assert_cmpstr(other->message, ==, "QEMU: cont: no such luck");
    g_assert_true(qmp_alive(qmp));
}

/* ---- events, descriptors, the end ---- */

static void
event_then_answer(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    say(fake, "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":1,\"microseconds\":2}}\n"
              "{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"guest-reset\"}}");
    echo(fake, command, id, args);
}

static void
on_event(const char *name, json_t *data, void *user)
{
    GString *seen = user;
    const char *reason = json_string_value(json_object_get(data, "reason"));
    g_string_append_printf(seen, "%s(%s) ", name, reason != NULL ? reason : "");
}

static void
events_body(void *data)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct fake fake = {.answer = event_then_answer};
    g_autoptr(Qmp) qmp = open_fake(&fake, on_event, NULL, seen);
    g_assert_true(qmp_do(qmp, "stop", NULL, NULL));
    g_assert_cmpstr(seen->str, ==, "STOP() SHUTDOWN(guest-reset) ");
}

static void
descriptor_body(void *data)
{
    struct fake fake = {.answer = echo};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    int fds[2];
    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_true(qmp_send_fd(qmp, "name", fds[1], NULL));
    g_assert_cmpint(fake.got_fd, >=, 0);
    g_assert_cmpint(write(fake.got_fd, "x", 1), ==, 1);
    char byte = 0;
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 1);
    g_assert_cmpint(byte, ==, 'x');
    close(fake.got_fd);
    close(fds[0]);
    close(fds[1]);
}

static void
hang_up(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    fd_close(&fake->fd);
}

static void
on_ended(const GError *why, void *user)
{
    ++*(guint *) user;
}

static void
end_body(void *data)
{
    guint ends = 0;
    g_autoptr(GError) error = NULL;
    struct fake fake = {.answer = hang_up};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, on_ended, &ends);
    g_assert_false(qmp_do(qmp, "quit", NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNAVAILABLE);
    g_assert_false(qmp_alive(qmp));
    g_assert_cmpuint(ends, ==, 1);
}

static void
rubbish(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
    say(fake, "{\"neither\":1}");
}

static void
rubbish_body(void *data)
{
    g_autoptr(GError) error = NULL;
    struct fake fake = {.answer = rubbish};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    g_assert_false(qmp_do(qmp, "query-status", NULL, &error));
    g_assert_false(qmp_alive(qmp));
}

static void
silence(struct fake *fake, const char *command, json_int_t id, json_t *args)
{
}

static void
silence_body(void *data)
{
    g_autoptr(GError) error = NULL;
    struct fake fake = {.answer = silence};
    g_autoptr(Qmp) qmp = open_fake(&fake, NULL, NULL, NULL);
    g_assert_null(qmp_call_with(qmp, "query-status", NULL, NULL, 0, 20, &error));
    g_assert_error(error, HAW_ERROR, HAW_TIMEOUT);
    g_assert_true(qmp_alive(qmp));
}

int
main(int argc, char **argv)
{
    static const struct fiber_claim claims[] = {
        {"/qmp/an-answer-reaches-its-command", answers_body},
        {"/qmp/answers-go-by-id-not-by-order", order_body},
        {"/qmp/errors-keep-their-class-and-text", errors_body},
        {"/qmp/events-come-in-order-with-their-data", events_body},
        {"/qmp/a-descriptor-arrives-with-its-command", descriptor_body},
        {"/qmp/the-end-answers-all-and-is-told-once", end_body},
        {"/qmp/what-is-no-message-ends-the-session", rubbish_body},
        {"/qmp/silence-is-a-timeout-of-one-command", silence_body},
    };
    g_test_init(&argc, &argv, NULL);
    fiber_claims_add(claims, G_N_ELEMENTS(claims));
    return g_test_run();
}
