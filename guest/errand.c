/* Sessions. Everything that was asked for happens in a child of its own, so that a file system that
 * hangs, or a bug, costs that session and no other; the parent only moves bytes and never blocks.
 * J1  Input beyond the credit that we gave ends the session.
 * J2  A pty is drained after the child's end until it is dry; pipes are read to their end.
 * J3  A child is signalled only while it is unreaped: never a recycled pid.
 * Called by mux.c. */
#include "guest/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const ErrandFn errand_fns[GUESTWIRE_KIND_COUNT] = {
    [GUESTWIRE_EXEC] = command_run,        [GUESTWIRE_GET] = fileserve_get,
    [GUESTWIRE_PUT] = fileserve_put,       [GUESTWIRE_DELETE] = fileserve_delete,
    [GUESTWIRE_SFTP] = sftpserve_run,      [GUESTWIRE_STATE] = report_state,
    [GUESTWIRE_METRICS] = report_metrics,  [GUESTWIRE_POWER] = setup_power,
    [GUESTWIRE_HOSTNAME] = setup_hostname, [GUESTWIRE_TIME] = setup_time,
    [GUESTWIRE_MOUNT] = setup_mount,       [GUESTWIRE_UMOUNT] = setup_umount,
    [GUESTWIRE_NICS] = setup_nics,         [GUESTWIRE_READY] = setup_ready,
    [GUESTWIRE_DEVLXD] = devsock_run,
};

struct errand *
errand_new(uint32_t id)
{
    struct errand *errand = calloc(1, sizeof(*errand));

    if (errand != NULL) {
        errand->id = id;
        errand->in = errand->out[1] = errand->out[2] = -1;
        errand->credit[1] = errand->credit[2] = GUESTWIRE_WINDOW;
    }
    return errand;
}

static void
shut(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void
errand_free(struct errand *errand)
{
    if (errand == NULL) {
        return;
    }
    if (errand->pid > 0) {
        kill(errand->pid, SIGKILL); /* reaped by the loop: it may hang in the kernel */
    }
    shut(&errand->in);
    shut(&errand->out[1]);
    shut(&errand->out[2]);
    free(errand->in_bytes);
    free(errand->ask);
    free(errand);
}

bool
errand_ask(struct errand *errand, const uint8_t *bytes, size_t size)
{
    uint8_t *grown;

    if (errand->started || errand->ask_size + size > GUESTWIRE_ASK_MAX) {
        return false;
    }
    grown = realloc(errand->ask, errand->ask_size + size + 1);
    if (grown == NULL) {
        return false;
    }
    memcpy(grown + errand->ask_size, bytes, size);
    errand->ask = grown;
    errand->ask_size += size;
    return true;
}

/* ---- starting ---- */

/* The child's three descriptors, and our ends of them; -1 where there is none. */
struct ends {
    int child[3], near[3];
};

static bool
ends_pipes(struct ends *ends)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0) {
            return false;
        }
        ends->child[i] = pair[i == 0 ? 0 : 1];
        ends->near[i] = pair[i == 0 ? 1 : 0];
        fcntl(ends->near[i], F_SETFL, O_NONBLOCK);
    }
    return true;
}

static bool
ends_pty(const struct asked *asked, struct ends *ends)
{
    struct winsize size = {0};
    unsigned width = 0, height = 0;
    int number, lock = 0;
    char path[32];

    ends->near[0] = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (ends->near[0] < 0 || ioctl(ends->near[0], TIOCSPTLCK, &lock) < 0 ||
        ioctl(ends->near[0], TIOCGPTN, &number) < 0) {
        return false;
    }
    snprintf(path, sizeof(path), "/dev/pts/%d", number);
    ends->near[1] = fcntl(ends->near[0], F_DUPFD_CLOEXEC, 3);
    ends->child[0] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends->near[1] < 0 || ends->child[0] < 0) {
        return false;
    }
    ends->child[1] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    ends->child[2] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    if (sscanf(asked->text[GUESTWIRE_SIZE], "%ux%u", &width, &height) == 2 && width > 0) {
        size.ws_col = (unsigned short) width;
        size.ws_row = (unsigned short) height;
        ioctl(ends->near[0], TIOCSWINSZ, &size);
    }
    fchown(ends->child[0], (uid_t) asked_number(asked, GUESTWIRE_UID, 10, 0), (gid_t) -1);
    return ends->child[1] >= 0 && ends->child[2] >= 0;
}

static void
ends_done(struct ends *ends)
{
    for (int i = 0; i < 3; i++) {
        shut(&ends->child[i]);
        shut(&ends->near[i]);
    }
}

static void
child_main(const struct asked *asked, const struct ends *ends, bool pty)
{
    sigset_t none;
    int fds[3], listener = asked->kind == GUESTWIRE_DEVLXD ? devsock_listener() : -1;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int i = 1; i < NSIG; i++) {
        signal(i, SIG_DFL);
    }
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who reads it is gone with us */
    for (int i = 0; i < 3; i++) {     /* above 2 first, so that none is overwritten */
        fds[i] = fcntl(ends->child[i], F_DUPFD_CLOEXEC, 10);
    }
    for (int i = 0; i < 3; i++) {
        dup2(fds[i], i);
    }
    if (listener >= 0) {
        dup2(fcntl(listener, F_DUPFD, 10), ERRAND_LISTENER);
    }
    close_range(listener >= 0 ? ERRAND_LISTENER + 1 : 3, ~0U, 0);
    if (pty) {
        ioctl(0, TIOCSCTTY, 0);
    }
    _exit(errand_fns[asked->kind](asked));
}

static bool
fork_child(struct errand *errand, const struct asked *asked)
{
    struct ends ends = {.child = {-1, -1, -1}, .near = {-1, -1, -1}};

    errand->pty = asked->kind == GUESTWIRE_EXEC && asked->text[GUESTWIRE_SIZE] != NULL;
    if (!(errand->pty ? ends_pty(asked, &ends) : ends_pipes(&ends))) {
        errand->failed = errno;
        ends_done(&ends);
        return false;
    }
    errand->pid = fork();
    if (errand->pid == 0) {
        child_main(asked, &ends, errand->pty);
    }
    if (errand->pid < 0) {
        errand->pid = 0;
        errand->failed = errno;
        ends_done(&ends);
        return false;
    }
    errand->in = ends.near[0];
    errand->out[1] = ends.near[1];
    errand->out[2] = ends.near[2];
    errand->end_sent[2] = errand->out[2] < 0;
    for (int i = 0; i < 3; i++) {
        shut(&ends.child[i]);
    }
    return true;
}

void
errand_start(struct errand *errand)
{
    struct asked asked;

    errand->started = true;
    if (!asked_read(&asked, errand->ask, errand->ask_size) || errand_fns[asked.kind] == NULL ||
        (asked.kind == GUESTWIRE_EXEC && asked.argc == 0)) {
        errand->failed = EINVAL;
    } else if (asked.kind == GUESTWIRE_DEVLXD && devsock_listener() < 0) {
        errand->failed = errno;
    } else if (fork_child(errand, &asked) && asked.kind == GUESTWIRE_READY) {
        setup_notify(); /* systemd listens to its own child only */
    }
    asked_done(&asked);
    free(errand->ask);
    errand->ask = NULL;
}

/* ---- streams ---- */

bool
errand_feed(struct errand *errand, const uint8_t *bytes, size_t size)
{
    if (size > GUESTWIRE_WINDOW - errand->in_size - errand->in_used) {
        return false; /* J1 */
    }
    if (errand->in < 0) {
        errand->in_used += (uint32_t) size; /* nobody reads it any more */
        return true;
    }
    if (errand->in_bytes == NULL && (errand->in_bytes = malloc(GUESTWIRE_WINDOW)) == NULL) {
        return false;
    }
    size_t to = (errand->in_at + errand->in_size) % GUESTWIRE_WINDOW;
    size_t first = GUESTWIRE_WINDOW - to < size ? GUESTWIRE_WINDOW - to : size;
    memcpy(errand->in_bytes + to, bytes, first);
    memcpy(errand->in_bytes, bytes + first, size - first);
    errand->in_size += size;
    errand_pour(errand);
    return true;
}

void
errand_end(struct errand *errand, uint8_t stream)
{
    if (stream == 0) {
        errand->in_end = true;
        errand_pour(errand);
    } else if (stream < GUESTWIRE_STREAMS && !errand->pty) {
        shut(&errand->out[stream]); /* who writes on gets SIGPIPE */
    }
}

void
errand_pour(struct errand *errand)
{
    while (errand->in >= 0 && errand->in_size > 0) {
        size_t first = GUESTWIRE_WINDOW - errand->in_at;
        size_t part = first < errand->in_size ? first : errand->in_size;
        ssize_t n = write(errand->in, errand->in_bytes + errand->in_at, part);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0 && errno != EINTR) {
            errand->in_used += (uint32_t) errand->in_size;
            errand->in_size = 0;
            shut(&errand->in);
        } else if (n > 0) {
            errand->in_at = (errand->in_at + (size_t) n) % GUESTWIRE_WINDOW;
            errand->in_size -= (size_t) n;
            errand->in_used += (uint32_t) n;
        }
    }
    if (errand->in_end && errand->in_size == 0 && !errand->pty) {
        shut(&errand->in);
    }
}

void
errand_ended(struct errand *errand, int status)
{
    errand->pid = 0;
    errand->exited = true;
    errand->status =
        (uint32_t) (WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

void
errand_signal(struct errand *errand, int number)
{
    if (errand->pid > 0 && number > 0 && number < NSIG) { /* J3 */
        kill(errand->pid, number);
    }
}

void
errand_resize(struct errand *errand, unsigned width, unsigned height)
{
    struct winsize size = {.ws_col = (unsigned short) width, .ws_row = (unsigned short) height};

    if (errand->pty && errand->in >= 0) {
        ioctl(errand->in, TIOCSWINSZ, &size);
    }
}

bool
errand_over(const struct errand *errand)
{
    return errand->exit_sent &&
           (errand->failed != 0 || (errand->end_sent[1] && errand->end_sent[2]));
}
