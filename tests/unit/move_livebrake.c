/* move/livebrake.c: B1 and B2 against a QEMU that only knows whether its guest runs. */
#include "agent/move/livebrake.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/jsonscan.h"
#include "tests/fakes/in_fiber.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    int fd;
    bool running;
    guint stops;
} qemu;

static void
say(const char *text)
{
    g_assert_cmpint(write(qemu.fd, text, strlen(text)), ==, (gssize) strlen(text));
}

static void
obey(json_t *object)
{
    const char *command = json_string_value(json_object_get(object, "execute"));
    json_int_t id = json_integer_value(json_object_get(object, "id"));
    g_autofree char *reply = g_strdup_printf("{\"return\":{},\"id\":%lld}\r\n", (long long) id);
    if (strcmp(command, "stop") == 0) {
        qemu.running = false;
        qemu.stops++;
    } else if (strcmp(command, "cont") == 0) {
        qemu.running = true;
    }
    say(reply);
}

static void
play(void *data)
{
    g_autoptr(JsonScan) scan = jsonscan_new(65536);
    char buffer[4096];
    ssize_t n;
    say("{\"QMP\":{\"version\":{\"qemu\":{\"micro\":22,\"minor\":2,\"major\":7},\"package\":\"\"},"
        "\"capabilities\":[]}}\r\n");
    while (fiber_wait_fd(qemu.fd, G_IO_IN, -1, NULL, NULL) &&
           (n = read(qemu.fd, buffer, sizeof buffer)) > 0) {
        json_t *object = NULL;
        jsonscan_feed(scan, buffer, (size_t) n);
        while (jsonscan_next(scan, &object, NULL) && object != NULL) {
            obey(object);
            json_decref(object);
        }
    }
    fd_close(&qemu.fd);
}

static Qmp *
open_qemu(void)
{
    int fds[2];
    const QmpOptions options = {.wait_ms = 10000};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    qemu.fd = fds[1];
    qemu.running = true;
    qemu.stops = 0;
    fiber_start("qemu", play, NULL);
    Qmp *qmp = qmp_open(&fds[0], &options, NULL);
    g_assert_nonnull(qmp);
    return qmp;
}

/* Until it was stopped so often. */
static void
await_stops(guint stops)
{
    for (int i = 0; i < 30000 && qemu.stops < stops; i++) {
        fiber_sleep_ms(1, NULL, NULL);
    }
    g_assert_cmpuint(qemu.stops, >=, stops);
}

static void
idle_body(void *data)
{
    g_autoptr(Qmp) qmp = open_qemu();
    LiveBrake *brake = livebrake_new(qmp);
    livebrake_hold(brake);
    livebrake_let(brake);
    livebrake_free(brake);
    g_assert_cmpuint(qemu.stops, ==, 0);
}

static void
harder_body(void *data)
{
    g_autoptr(Qmp) qmp = open_qemu();
    LiveBrake *brake = livebrake_new(qmp);
    for (guint want = LIVEBRAKE_STEP; want < LIVEBRAKE_MOST; want += LIVEBRAKE_STEP) {
        g_assert_cmpuint(livebrake_harder(brake), ==, want);
    }
    g_assert_cmpuint(livebrake_harder(brake), ==, LIVEBRAKE_MOST);
    g_assert_cmpuint(livebrake_harder(brake), ==, LIVEBRAKE_MOST);
    await_stops(3);
    livebrake_free(brake);
    g_assert_true(qemu.running); /* B2 */
}

/* Held at moments that differ by a few ms: it runs then, and is nobody else's. */
static void
held_body(void *data)
{
    g_autoptr(Qmp) qmp = open_qemu();
    LiveBrake *brake = livebrake_new(qmp);
    livebrake_harder(brake);
    livebrake_harder(brake);
    for (guint round = 0; round < 20; round++) {
        await_stops(qemu.stops + 1);
        fiber_sleep_ms(round * 3, NULL, NULL);
        livebrake_hold(brake);
        g_assert_true(qemu.running); /* B2 */
        g_assert_true(qmp_do(qmp, "stop", NULL, NULL));
        guint stops = qemu.stops;
        fiber_sleep_ms(5, NULL, NULL);
        g_assert_false(qemu.running); /* B1 */
        g_assert_cmpuint(qemu.stops, ==, stops);
        g_assert_true(qmp_do(qmp, "cont", NULL, NULL));
        livebrake_let(brake);
    }
    livebrake_free(brake);
    g_assert_true(qemu.running);
}

int
main(int argc, char **argv)
{
    static const struct fiber_claim claims[] = {
        {"/livebrake/unused-it-does-nothing", idle_body},
        {"/livebrake/is-put-on-step-by-step", harder_body},
        {"/livebrake/a-held-guest-is-not-touched", held_body},
    };
    g_test_init(&argc, &argv, NULL);
    fiber_claims_add(claims, G_N_ELEMENTS(claims));
    return g_test_run();
}
