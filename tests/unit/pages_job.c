/* hawser-pages as the agent runs it: two processes, a guest that writes, orders and reports. */
#include "dataplane/pages/converge.h"
#include "dataplane/pages/pageframe.h"
#include "proto/pages.pb-c.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMORY = 96 << 20, PAGES = MEMORY / PAGE_BYTES, CHANNELS = 2, GUEST_PAGES_S = 4000 };

struct side {
    pid_t pid;
    int orders;
};

struct rig {
    int memory, target;
    guint8 *map;
    pid_t guest;
    struct side source, sink;
    guint stops, progresses;
    Pages__Progress last;
};

static struct side
side_start(void)
{
    int pair[2];
    struct side side;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
    side.pid = fork();
    if (side.pid == 0) {
        dup2(pair[1], STDIN_FILENO);
        execl(g_getenv("HAWSER_PAGES"), "hawser-pages", NULL);
        _exit(127);
    }
    close(pair[1]);
    side.orders = pair[0];
    return side;
}

static int
side_end(struct side *side)
{
    int status;
    close(side->orders);
    g_assert_cmpint(waitpid(side->pid, &status, 0), ==, side->pid);
    return status;
}

static void
order(const struct side *side, const Pages__Order *body, const int *fds, guint n_fds)
{
    guint8 bytes[1024];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control = {0};
    struct iovec part = {bytes, pages__order__pack(body, bytes)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (n_fds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * n_fds);
    }
    g_assert_cmpint(sendmsg(side->orders, &message, MSG_NOSIGNAL), ==, (gssize) part.iov_len);
}

static Pages__Report *
report(const struct side *side)
{
    guint8 bytes[4096];
    ssize_t size = recv(side->orders, bytes, sizeof(bytes), 0);
    return size > 0 ? pages__report__unpack(NULL, (size_t) size, bytes) : NULL;
}

static void
answer(const struct side *side, bool ok)
{
    Pages__Answer body = PAGES__ANSWER__INIT;
    Pages__Order wrapped = PAGES__ORDER__INIT;
    body.ok = ok;
    body.reason = "the guest has other plans";
    wrapped.body_case = PAGES__ORDER__BODY_ANSWER;
    wrapped.answer = &body;
    order(side, &wrapped, NULL, 0);
}

/* Writes GUEST_PAGES_S pages a second, anywhere in the first half of its memory. */
static void
guest_main(guint8 *map)
{
    guint32 seed = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        for (int i = 0; i < GUEST_PAGES_S / 200; i++) {
            seed = seed * 1664525 + 1013904223;
            memcpy(map + (seed >> 8) % (PAGES / 2) * PAGE_BYTES + (seed & 0xff0), &seed, 4);
        }
        g_usleep(5000);
    }
}

static struct rig *
rig_new(void)
{
    struct rig *rig = g_new0(struct rig, 1);
    rig->memory = memfd_create("guest", MFD_CLOEXEC);
    rig->target = memfd_create("target", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(rig->memory, MEMORY), ==, 0);
    g_assert_cmpint(ftruncate(rig->target, MEMORY), ==, 0);
    rig->map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memory, 0);
    for (int page = 0; page < PAGES / 3; page++) {
        memset(rig->map + page * PAGE_BYTES, page % 251, PAGE_BYTES);
    }
    rig->guest = fork();
    if (rig->guest == 0) {
        guest_main(rig->map);
    }
    rig->source = side_start();
    rig->sink = side_start();
    return rig;
}

static void
connect_over(const char *host, int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    g_assert_cmpint(inet_pton(AF_INET, host, &address.sin_addr), ==, 1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *) &address, size), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *) &address, &size), ==, 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(pair[0], (struct sockaddr *) &address, size), ==, 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(pair[1], >=, 0);
    close(listener);
}

/* By TCP over the address in PAGES_RDMA (tests/lab/pages_rdma.sh), which has an RDMA device; else both ends are
 * here. */
static void
connect_pair(int pair[2])
{
    const char *host = g_getenv("PAGES_RDMA");
    if (host != NULL) {
        connect_over(host, pair);
    } else {
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    }
}

static void
rig_order(struct rig *rig, bool sealed, guint64 downtime_us, guint64 limit_bytes_s)
{
    guint8 token[FRAME_TOKEN_BYTES] = "of this migration", key[32] = "its key";
    Pages__Start start = PAGES__START__INIT;
    Pages__Order wrapped = PAGES__ORDER__INIT;
    int ours[CHANNELS + 1] = {rig->memory}, theirs[CHANNELS + 1] = {rig->target};
    start.memory_bytes = MEMORY;
    start.token = (ProtobufCBinaryData){sizeof(token), token};
    start.key = (ProtobufCBinaryData){sealed ? sizeof(key) : 0, key};
    start.idle_ms = 10000;
    start.pid = rig->guest;
    start.downtime_us = downtime_us;
    start.limit_bytes_s = limit_bytes_s;
    start.rounds_max = 50;
    start.rdma = g_getenv("PAGES_RDMA") != NULL;
    wrapped.body_case = PAGES__ORDER__BODY_START;
    wrapped.start = &start;
    for (int i = 0; i < CHANNELS; i++) {
        int pair[2];
        connect_pair(pair);
        ours[i + 1] = pair[0];
        theirs[i + 1] = pair[1];
    }
    order(&rig->source, &wrapped, ours, CHANNELS + 1);
    start.sink = true;
    order(&rig->sink, &wrapped, theirs, CHANNELS + 1);
    for (int i = 1; i <= CHANNELS; i++) {
        close(ours[i]);
        close(theirs[i]);
    }
}

static char
guest_state(const struct rig *rig)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) rig->guest);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return strrchr(text, ')')[2];
}

static void
guest_stop(struct rig *rig)
{
    kill(rig->guest, SIGSTOP);
    g_assert_cmpint(waitpid(rig->guest, NULL, WUNTRACED), ==, rig->guest);
    rig->stops++;
}

/* Serves the source's wishes until it is done (true) or failed. */
static bool
serve(struct rig *rig, Pages__Wish refuse, char **ret_reason)
{
    for (;;) {
        Pages__Report *got = report(&rig->source);
        g_assert_nonnull(got);
        bool done = got->body_case == PAGES__REPORT__BODY_DONE;
        bool failed = got->body_case == PAGES__REPORT__BODY_FAILURE;
        if (done) {
            rig->last = *got->done;
        } else if (failed) {
            *ret_reason = g_strdup(got->failure->message);
        } else if (got->body_case == PAGES__REPORT__BODY_PROGRESS) {
            rig->progresses++;
        } else if (got->ask == refuse) {
            answer(&rig->source, false);
        } else {
            if (got->ask == PAGES__WISH__RESUME) {
                kill(rig->guest, SIGCONT);
            } else {
                guest_stop(rig);
            }
            answer(&rig->source, true);
        }
        pages__report__free_unpacked(got, NULL);
        if (done || failed) {
            return done;
        }
    }
}

static bool
sink_done(struct rig *rig)
{
    for (;;) {
        Pages__Report *got = report(&rig->sink);
        bool done = got != NULL && got->body_case == PAGES__REPORT__BODY_DONE;
        bool progress = got != NULL && got->body_case == PAGES__REPORT__BODY_PROGRESS;
        if (got != NULL) {
            pages__report__free_unpacked(got, NULL);
        }
        if (!progress) {
            return done;
        }
    }
}

static void
rig_end(struct rig *rig)
{
    kill(rig->guest, SIGKILL);
    waitpid(rig->guest, NULL, 0);
    munmap(rig->map, MEMORY);
    close(rig->memory);
    close(rig->target);
    g_free(rig);
}

static void
moves_a_writing_guest(gconstpointer sealed)
{
    struct rig *rig = rig_new();
    g_autofree char *reason = NULL;
    rig_order(rig, sealed != NULL, 20000, 0);
    if (!serve(rig, PAGES__WISH__NOTHING, &reason)) {
        g_error("%s", reason);
    }
    g_assert_true(sink_done(rig));
    g_assert_cmpint(rig->last.rdma, ==,
                    g_getenv("PAGES_RDMA") != NULL && g_getenv("PAGES_NO_DEVICE") == NULL);
    g_assert_cmpint(guest_state(rig), ==, 'T');
    guint8 *target = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, rig->target, 0);
    for (int page = 0; page < PAGES; page++) {
        if (memcmp(target + page * PAGE_BYTES, rig->map + page * PAGE_BYTES, PAGE_BYTES) != 0) {
            g_error("page %d differs", page);
        }
    }
    munmap(target, MEMORY);
    g_assert_cmpuint(rig->stops, >=, 3);
    g_assert_cmpuint(rig->progresses, >=, 2);
    g_assert_cmpint(side_end(&rig->source), ==, 0);
    g_assert_cmpint(side_end(&rig->sink), ==, 0);
    rig_end(rig);
}

static void
refused_stop_ends_it(void)
{
    struct rig *rig = rig_new();
    g_autofree char *reason = NULL;
    rig_order(rig, false, 20000, 0);
    g_assert_false(serve(rig, PAGES__WISH__STOP_FINAL, &reason));
    g_assert_cmpstr(reason, ==, "the guest has other plans");
    g_assert_false(sink_done(rig));
    g_assert_cmpint(guest_state(rig), !=, 'T');
    g_assert_cmpint(side_end(&rig->source), !=, 0);
    g_assert_cmpint(side_end(&rig->sink), !=, 0);
    rig_end(rig);
}

static void
killed_source_leaves_the_guest_running(void)
{
    struct rig *rig = rig_new();
    rig_order(rig, true, 1, 8 << 20);
    Pages__Report *got = report(&rig->source); /* asks to stop for the arming */
    g_assert_cmpint(got->ask, ==, PAGES__WISH__STOP);
    pages__report__free_unpacked(got, NULL);
    guest_stop(rig);
    answer(&rig->source, true);
    got = report(&rig->source);
    g_assert_cmpint(got->ask, ==, PAGES__WISH__RESUME);
    pages__report__free_unpacked(got, NULL);
    kill(rig->guest, SIGCONT);
    answer(&rig->source, true);
    got = report(&rig->source); /* progress: pages are under way */
    g_assert_cmpint(got->body_case, ==, PAGES__REPORT__BODY_PROGRESS);
    pages__report__free_unpacked(got, NULL);
    kill(rig->source.pid, SIGKILL);
    g_assert_false(sink_done(rig));
    guint8 before[64];
    memcpy(before, rig->map, sizeof(before));
    g_usleep(50000);
    g_assert_cmpint(guest_state(rig), !=, 'T');
    side_end(&rig->source);
    g_assert_cmpint(side_end(&rig->sink), !=, 0);

    /* A second attempt on the same guest succeeds. */
    g_autofree char *reason = NULL;
    g_assert_cmpint(ftruncate(rig->target, 0), ==, 0);
    g_assert_cmpint(ftruncate(rig->target, MEMORY), ==, 0);
    rig->source = side_start();
    rig->sink = side_start();
    rig_order(rig, true, 20000, 0);
    g_assert_true(serve(rig, PAGES__WISH__NOTHING, &reason));
    g_assert_true(sink_done(rig));
    side_end(&rig->source);
    side_end(&rig->sink);
    rig_end(rig);
}

static void
the_agent_going_ends_both(void)
{
    struct rig *rig = rig_new();
    rig_order(rig, false, 1, 8 << 20);
    g_assert_cmpint(side_end(&rig->sink), !=, 0);
    g_assert_cmpint(side_end(&rig->source), !=, 0);
    rig_end(rig);
}

/* ---- who asks for RDMA ---- */

static const guint8 its_token[FRAME_TOKEN_BYTES] = "of this migration";

/* A sink, and the far ends of its connections. */
static struct rig *
rig_of_sink(int ret_far[CHANNELS])
{
    struct rig *rig = g_new0(struct rig, 1);
    Pages__Start start = PAGES__START__INIT;
    Pages__Order wrapped = PAGES__ORDER__INIT;
    int theirs[CHANNELS + 1];
    rig->target = theirs[0] = memfd_create("target", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(rig->target, MEMORY), ==, 0);
    start.sink = true;
    start.memory_bytes = MEMORY;
    start.token = (ProtobufCBinaryData){sizeof(its_token), (guint8 *) its_token};
    start.idle_ms = 10000;
    wrapped.body_case = PAGES__ORDER__BODY_START;
    wrapped.start = &start;
    for (int i = 0; i < CHANNELS; i++) {
        int pair[2];
        connect_over("127.0.0.1", pair);
        ret_far[i] = pair[0];
        theirs[i + 1] = pair[1];
    }
    rig->sink = side_start();
    order(&rig->sink, &wrapped, theirs, CHANNELS + 1);
    for (int i = 1; i <= CHANNELS; i++) {
        close(theirs[i]);
    }
    return rig;
}

static void
assert_sink_fails(struct rig *rig)
{
    g_assert_false(sink_done(rig));
    g_assert_cmpint(side_end(&rig->sink), !=, 0);
    struct stat file;
    g_assert_cmpint(fstat(rig->target, &file), ==, 0);
    g_assert_cmpint(file.st_blocks, ==, 0); /* nothing was written */
    close(rig->target);
    g_free(rig);
}

static void
rdma_is_not_for_strangers(void)
{
    int far[CHANNELS];
    struct rig *rig = rig_of_sink(far);
    guint8 ask[8 + FRAME_TOKEN_BYTES] = "HWRD\1", door[3];
    memcpy(ask + 8, "another one", 11);
    for (int i = 0; i < CHANNELS; i++) {
        g_assert_cmpint(send(far[i], ask, sizeof(ask), MSG_NOSIGNAL), ==, sizeof(ask));
    }
    for (int i = 0; i < CHANNELS; i++) {
        g_assert_cmpint(recv(far[i], door, sizeof(door), MSG_WAITALL), ==, sizeof(door));
        g_assert_cmpuint(door[0] | door[1], ==, 0); /* no port */
        close(far[i]);
    }
    assert_sink_fails(rig);
}

static void
a_question_cut_short_ends_it(void)
{
    int far[CHANNELS];
    struct rig *rig = rig_of_sink(far);
    g_assert_cmpint(send(far[0], "HW", 2, MSG_NOSIGNAL), ==, 2);
    for (int i = 0; i < CHANNELS; i++) {
        close(far[i]);
    }
    assert_sink_fails(rig);
}

/* ---- when to switch ---- */

static const struct converge_policy policy = {
    .downtime_us = 50000, .fixed_us = 5000, .rounds_max = 30};

static void
switches_when_the_rest_fits(void)
{
    struct converge state;
    converge_init(&state, &policy);
    /* 1 GB/s; 100 MB are 100 ms, 20 MB fit. */
    g_assert_cmpint(converge_next(&state, &(struct converge_round){1000000000, 1000000, 100000000}),
                    ==, CONVERGE_AGAIN);
    g_assert_cmpint(converge_next(&state, &(struct converge_round){100000000, 100000, 20000000}),
                    ==, CONVERGE_SWITCH);
}

static void
stalls_by_policy(void)
{
    struct converge state;
    struct converge_policy stubborn = policy;
    struct converge_round same = {500000000, 500000, 500000000};
    stubborn.stall = CONVERGE_STALL_ABORT;
    converge_init(&state, &stubborn);
    g_assert_cmpint(converge_next(&state, &same), ==, CONVERGE_AGAIN);
    g_assert_cmpint(converge_next(&state, &same), ==, CONVERGE_AGAIN);
    g_assert_cmpint(converge_next(&state, &same), ==, CONVERGE_ABORT);
    g_assert_cmpint(converge_end_us(&state, 500000000), ==, -1);
}

/* Slowed down at each stall; and when that was not enough, the pause is longer. */
static void
throttles_then_pauses(void)
{
    struct converge state;
    struct converge_policy gentle = policy;
    struct converge_round same = {500000000, 500000, 500000000};
    enum converge_verdict verdict = CONVERGE_AGAIN;
    guint throttled = 0;
    gentle.stall = CONVERGE_STALL_THROTTLE;
    converge_init(&state, &gentle);
    for (guint i = 0; i < gentle.rounds_max; i++) {
        verdict = converge_next(&state, &same);
        throttled += verdict == CONVERGE_THROTTLE;
        g_assert_cmpint(verdict, !=, CONVERGE_ABORT);
    }
    g_assert_cmpuint(throttled, >=, 4);
    g_assert_cmpint(verdict, ==, CONVERGE_SWITCH_LATE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/converge/switches-when-the-rest-fits", switches_when_the_rest_fits);
    g_test_add_func("/converge/stalls-by-policy", stalls_by_policy);
    g_test_add_func("/converge/throttles-then-pauses", throttles_then_pauses);
    g_test_add_data_func("/job/moves-a-writing-guest", NULL, moves_a_writing_guest);
    g_test_add_data_func("/job/moves-a-writing-guest-sealed", "sealed", moves_a_writing_guest);
    g_test_add_func("/job/refused-stop-ends-it", refused_stop_ends_it);
    g_test_add_func("/job/killed-source-leaves-the-guest-running",
                    killed_source_leaves_the_guest_running);
    g_test_add_func("/job/rdma-is-not-for-strangers", rdma_is_not_for_strangers);
    g_test_add_func("/job/a-question-cut-short-ends-it", a_question_cut_short_ends_it);
    g_test_add_func("/job/the-agent-going-ends-both", the_agent_going_ends_both);
    return g_test_run();
}
