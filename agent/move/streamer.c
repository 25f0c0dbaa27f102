/* Starting hawser-pages, and talking with it.
 * S1  Its socket is its leash: closed, it ends. One that failed is awaited before we return, and killed when it
 *     lingers. One that succeeded takes itself down behind us, for a guest stands still: the next one waits.
 * S2  It gets the descriptors it works on and no others; keys go by its socket.
 * S3  One that is owed pages, or owes them, is the guest's life: it goes on when we die, or leave it.
 * Called by liveout.c, livememory.c and livein.c. */
#include "agent/move/streamer.h"

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REPORT_MAX = 4096, END_MS = 5000, PROBE_MS = 20000, FDS_MAX = 65 };

static struct streamer_counts counts;

void
streamer_counts(struct streamer_counts *ret)
{
    *ret = counts;
}

static char *
find_program(void)
{
    const char *env = g_getenv("HAWSER_PAGES");
    g_autofree char *own = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *here = own != NULL ? g_path_get_dirname(own) : g_strdup(".");
    const char *const places[] = {"hawser-pages", "../libexec/hawser-pages",
                                  "../dataplane/pages/hawser-pages"};
    if (env != NULL && *env != '\0') {
        return g_strdup(env);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(here, places[i], NULL);
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    return g_strdup("hawser-pages");
}

bool
streamer_works(Agent *agent, GError **error)
{
    g_autofree char *program = find_program();
    const char *const argv[] = {program, "--probe", NULL};
    const ProcSpec spec = {.argv = argv, .fd_in = -1, .fd_out = -1, .wait_ms = PROBE_MS};
    if (proc_run(&spec, NULL, error)) {
        return true;
    }
    haw_recode(error, HAW_UNSUPPORTED);
    return false;
}

static bool
give_order(int fd, const Pages__Order *order, const int *fds, guint n_fds, GError **error)
{
    guint8 bytes[REPORT_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    g_assert(n_fds <= FDS_MAX && pages__order__get_packed_size(order) <= sizeof(bytes));
    struct iovec part = {bytes, pages__order__pack(order, bytes)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * n_fds);
    }
    bool ok = sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t) part.iov_len;
    explicit_bzero(bytes, sizeof(bytes));
    return ok || haw_fail(error, HAW_FAILED, "hawser-pages has ended");
}

/* NULL when it has gone, or we are not to wait any longer. */
static Pages__Report *
take_report(int fd, GCancellable *cancel, GError **error)
{
    guint8 bytes[REPORT_MAX];
    ssize_t size;
    do {
        if (!fiber_wait_fd(fd, G_IO_IN, -1, cancel, error)) {
            return NULL;
        }
        size = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (size < 0 && (errno == EAGAIN || errno == EINTR));
    Pages__Report *report = size > 0 ? pages__report__unpack(NULL, (size_t) size, bytes) : NULL;
    if (report == NULL) {
        haw_fail(error, HAW_FAILED, "hawser-pages has ended");
    }
    return report;
}

static bool
reply(int fd, const StreamerHooks *hooks, Pages__Wish wish, GError **error)
{
    Pages__Answer answer = PAGES__ANSWER__INIT;
    Pages__Order order = PAGES__ORDER__INIT;
    g_autoptr(GError) why = NULL;
    answer.ok = hooks->ask != NULL && hooks->ask(wish, hooks->data, &why);
    answer.reason = why != NULL ? why->message : "";
    answer.punched = wish == PAGES__WISH__STOP_FINAL && answer.ok &&
                     (hooks->punched == NULL || hooks->punched(hooks->data));
    order.body_case = PAGES__ORDER__BODY_ANSWER;
    order.answer = &answer;
    if (!give_order(fd, &order, NULL, 0, error)) {
        return false;
    }
    if (!answer.ok) {
        if (why != NULL) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        return haw_fail(error, HAW_FAILED, "hawser-pages asks for what is not to be had");
    }
    return hooks->answered == NULL || hooks->answered(wish, hooks->data, error);
}

static bool
converse(int fd, const StreamerHooks *hooks, GCancellable *cancel, Pages__Progress *ret_done,
         GError **error)
{
    for (;;) {
        Pages__Report *report = take_report(fd, cancel, error);
        bool over = report == NULL, ok = false;
        if (report == NULL) {
            return false;
        }
        switch (report->body_case) {
        case PAGES__REPORT__BODY_ASK:
            over = !reply(fd, hooks, report->ask, error);
            break;
        case PAGES__REPORT__BODY_PROGRESS:
            if (hooks->progress != NULL) {
                hooks->progress(report->progress, hooks->data);
            }
            break;
        case PAGES__REPORT__BODY_DONE:
        case PAGES__REPORT__BODY_PAID:
            over = ok = true;
            if (ret_done != NULL) {
                *ret_done = *report->done; /* holds no pointers */
            }
            break;
        case PAGES__REPORT__BODY_FAILURE:
            over = true;
            haw_fail(error, HAW_FAILED, "%s", report->failure->message);
            break;
        default:
            break;
        }
        pages__report__free_unpacked(report, NULL);
        if (over) {
            return ok;
        }
    }
}

/* S1 */
static guint ending;
static FiberSignal ended = FIBER_SIGNAL_INIT;

static void
await_end(pid_t pid)
{
    int status;
    if (!fiber_wait_pid(pid, END_MS, NULL, &status, NULL)) {
        kill(pid, SIGKILL);
        fiber_wait_pid(pid, -1, NULL, &status, NULL);
    }
}

static void
await_end_behind(void *data)
{
    await_end((pid_t) GPOINTER_TO_INT(data));
    ending--;
    fiber_signal_all(&ended);
}

/* ---- what is owed: S3 ---- */

struct Streamer {
    int fd;
    pid_t pid;
    int role; /* of its bytes, in 'counts' */
    guint64 bytes;
};

bool
streamer_pay(Streamer *owing, GCancellable *cancel, GError **error)
{
    const StreamerHooks none = {0};
    Pages__Progress done = PAGES__PROGRESS__INIT;
    bool ok = converse(owing->fd, &none, cancel, &done, error);
    counts.bytes[owing->role] += MAX(done.sent_bytes, owing->bytes) - owing->bytes;
    return ok;
}

void
streamer_free(Streamer *owing)
{
    if (owing != NULL) {
        Pages__Order order = PAGES__ORDER__INIT;
        order.body_case = PAGES__ORDER__BODY_CANCEL;
        order.cancel = true;
        (void) give_order(owing->fd, &order, NULL, 0, NULL); /* it may have ended */
        fd_close(&owing->fd);
        await_end(owing->pid);
        g_free(owing);
    }
}

static void
await_end_for_ever(void *data)
{
    int status;
    fiber_wait_pid((pid_t) GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

void
streamer_leave(Streamer *owing)
{
    if (owing != NULL) {
        fd_close(&owing->fd);
        fiber_start("pages-left", await_end_for_ever, GINT_TO_POINTER(owing->pid));
        g_free(owing);
    }
}

static bool
run(Agent *agent, Pages__Start *start, const int *fds, guint n_fds, const StreamerHooks *hooks,
    GCancellable *cancel, Pages__Progress *ret_done, Streamer **ret_owing, GError **error)
{
    g_autofree char *program = find_program(), *log = agent_path(agent, "logs/hawser-pages.log");
    const char *const argv[] = {program, "3", NULL};
    int pair[2];
    while (ending > 0) {
        fiber_signal_wait(&ended, -1, NULL, NULL);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return haw_fail_errno(error, errno, "make a socket pair");
    }
    haw_autofd int ours = pair[0];
    haw_autofd int theirs = pair[1];
    pid_t pid = proc_spawn(argv, NULL, log, &theirs, 1, error);
    if (pid < 0) {
        return haw_push(error, "start hawser-pages");
    }
    fd_close(&theirs);
    Pages__Order order = PAGES__ORDER__INIT;
    order.body_case = PAGES__ORDER__BODY_START;
    order.start = start;
    bool ok = give_order(ours, &order, fds, n_fds, error) &&
              converse(ours, hooks, cancel, ret_done, error);
    if (ok && ret_owing != NULL && ret_done->owed_bytes > 0) {
        *ret_owing = g_new0(Streamer, 1);
        **ret_owing = (Streamer){fd_steal(&ours), pid, start->sink ? 1 : 0, ret_done->sent_bytes};
        return true;
    }
    fd_close(&ours);
    if (ok) {
        ending++;
        fiber_start("pages-end", await_end_behind, GINT_TO_POINTER(pid));
    } else {
        await_end(pid);
    }
    return ok;
}

/* Keeps what it said last, for the counts. */
struct tally {
    const StreamerHooks *hooks;
    guint64 bytes;
};

static bool
tally_ask(Pages__Wish wish, void *data, GError **error)
{
    struct tally *tally = data;
    return tally->hooks->ask(wish, tally->hooks->data, error);
}

static bool
tally_punched(void *data)
{
    struct tally *tally = data;
    return tally->hooks->punched(tally->hooks->data);
}

static bool
tally_answered(Pages__Wish wish, void *data, GError **error)
{
    struct tally *tally = data;
    return tally->hooks->answered(wish, tally->hooks->data, error);
}

static void
tally_progress(const Pages__Progress *progress, void *data)
{
    struct tally *tally = data;
    tally->bytes = progress->sent_bytes;
    if (tally->hooks->progress != NULL) {
        tally->hooks->progress(progress, tally->hooks->data);
    }
}

bool
streamer_run(Agent *agent, Pages__Start *start, const int *fds, guint n_fds,
             const StreamerHooks *hooks, GCancellable *cancel, Pages__Progress *ret_done,
             Streamer **ret_owing, GError **error)
{
    int role = start->sink ? 1 : 0;
    Pages__Progress done = PAGES__PROGRESS__INIT;
    struct tally tally = {.hooks = hooks};
    const StreamerHooks over = {.punched = hooks->punched != NULL ? tally_punched : NULL,
                                .ask = hooks->ask != NULL ? tally_ask : NULL,
                                .answered = hooks->answered != NULL ? tally_answered : NULL,
                                .progress = tally_progress,
                                .data = &tally};
    counts.running[role]++;
    bool ok = run(agent, start, fds, n_fds, &over, cancel, &done, ret_owing, error);
    counts.running[role]--;
    counts.bytes[role] += MAX(done.sent_bytes, tally.bytes);
    if (ret_done != NULL) {
        *ret_done = done;
    }
    return ok;
}
