/* agent/dpd/dpdsession.c: the agent beside a hawser-dpd of another release, played here: N-1 and N+1 that know our version
 * are spoken with, what has no version in common is refused with the next step. */
#include "agent/dpd/dpdsession.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/dpdwire.h"

#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct meeting {
    guint lowest, highest; /* what the played one speaks */
    bool knows_no_far;     /* as one did before it knew of other hosts */
    char *path;            /* owned */
    int listener;
    GError *error; /* of the agent; owned */
    guint64 generation;
    bool met;
    GError *far_error; /* of telling it of other hosts; owned */
    bool goes_on;      /* the connection, after that */
};

static void
answer(DpdWire *wire, guint64 id, Dpd__Frame *frame)
{
    frame->id = id;
    g_assert_true(dpdwire_send(wire, frame, -1, NULL));
}

/* Says hello, and yes to whatever else comes. */
static void
play(void *data)
{
    struct meeting *meeting = data;
    haw_autofd int fd = accept4(meeting->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    g_assert_cmpint(fd, >=, 0);
    g_autoptr(DpdWire) wire = dpdwire_new(&fd);
    for (;;) {
        g_autoptr(DpdFrame) frame = dpdwire_receive(wire, NULL, 5000, NULL, NULL);
        Dpd__Frame reply = DPD__FRAME__INIT;
        Dpd__Hello hello = DPD__HELLO__INIT;
        Dpd__Done done = DPD__DONE__INIT;
        Dpd__Failure failure = DPD__FAILURE__INIT;
        if (frame == NULL) {
            return;
        }
        if (frame->body_case == DPD__FRAME__BODY_HELLO) {
            hello.lowest = meeting->lowest;
            hello.highest = meeting->highest;
            hello.generation = 7;
            hello.software = (char *) "9.9";
            reply.body_case = DPD__FRAME__BODY_HELLO;
            reply.hello = &hello;
        } else if (frame->body_case == DPD__FRAME__BODY_FAST_FAR && meeting->knows_no_far) {
            failure.code = HAW_UNSUPPORTED;
            failure.message = (char *) "hawser-dpd does not know this request";
            reply.body_case = DPD__FRAME__BODY_FAILURE;
            reply.failure = &failure;
        } else {
            reply.body_case = DPD__FRAME__BODY_DONE;
            reply.done = &done;
        }
        answer(wire, frame->id, &reply);
    }
}

static gboolean
on_connection(gint fd, GIOCondition condition, gpointer data)
{
    fiber_start("play", play, data);
    return G_SOURCE_REMOVE;
}

static void
on_end(void *data)
{
}

static void
visit(void *data)
{
    struct meeting *meeting = data;
    DpdSession *session =
        dpdsession_open(meeting->path, on_end, NULL, &meeting->generation, &meeting->error);
    meeting->met = session != NULL;
    if (session != NULL) {
        Dpd__FastFar far = DPD__FAST_FAR__INIT;
        Dpd__Frame frame = DPD__FRAME__INIT;
        frame.body_case = DPD__FRAME__BODY_FAST_FAR;
        frame.fast_far = &far;
        dpdsession_answer_free(dpdsession_ask(session, &frame, 5000, &meeting->far_error));
        meeting->goes_on = dpdsession_alive(session);
    }
    dpdsession_end(session);
}

static void
meet(struct meeting *meeting)
{
    g_autofree char *dir = g_dir_make_tmp("hawser-test-XXXXXX", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    meeting->path = g_build_filename(dir, "dpd.socket", NULL);
    g_strlcpy(address.sun_path, meeting->path, sizeof address.sun_path);
    meeting->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(bind(meeting->listener, (struct sockaddr *) &address, sizeof address), ==, 0);
    g_assert_cmpint(listen(meeting->listener, 1), ==, 0);
    g_unix_fd_add(meeting->listener, G_IO_IN, on_connection, meeting);
    fiber_start("visit", visit, meeting);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    close(meeting->listener);
    g_unlink(meeting->path);
    g_rmdir(dir);
    g_free(meeting->path);
}

static void
test_neighbours(void)
{
    static const guint both[][2] = {{DPDWIRE_LOWEST - 1, DPDWIRE_LOWEST}, /* N-1 */
                                    {DPDWIRE_LOWEST, DPDWIRE_HIGHEST},
                                    {DPDWIRE_HIGHEST, DPDWIRE_HIGHEST + 1}}; /* N+1 */
    for (size_t i = 0; i < G_N_ELEMENTS(both); i++) {
        struct meeting meeting = {.lowest = both[i][0], .highest = both[i][1]};
        meet(&meeting);
        g_assert_no_error(meeting.error);
        g_assert_true(meeting.met);
        g_assert_cmpuint(meeting.generation, ==, 7);
        g_assert_no_error(meeting.far_error);
        g_assert_true(meeting.goes_on);
    }
}

static void
test_without_far(void)
{
    struct meeting meeting = {
        .lowest = DPDWIRE_LOWEST, .highest = DPDWIRE_HIGHEST, .knows_no_far = true};
    meet(&meeting);
    g_assert_error(meeting.far_error, HAW_ERROR,
                   HAW_UNSUPPORTED); /* which the agent takes for done */
    g_assert_true(meeting.goes_on);
    g_error_free(meeting.far_error);
}

static void
test_strangers(void)
{
    struct meeting meeting = {.lowest = DPDWIRE_HIGHEST + 1, .highest = DPDWIRE_HIGHEST + 2};
    meet(&meeting);
    g_assert_false(meeting.met);
    g_assert_error(meeting.error, HAW_ERROR, HAW_UNSUPPORTED);
    g_assert_nonnull(strstr(meeting.error->message, "9.9"));
    g_assert_nonnull(strstr(meeting.error->message, "install the same release of both"));
    g_error_free(meeting.error);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dpdsession/a-release-before-and-one-after-are-spoken-with", test_neighbours);
    g_test_add_func("/dpdsession/one-that-knows-no-other-hosts-says-so-and-goes-on",
                    test_without_far);
    g_test_add_func("/dpdsession/none-in-common-is-refused-with-the-next-step", test_strangers);
    return g_test_run();
}
