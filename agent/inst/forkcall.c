/* Calls of our own helpers. liblxc, setns and chroot want a process with one thread, so whatever
 * enters a container runs in a child of the same binary that ends with the request.
 * K1  A channel is one SOCK_SEQPACKET pair: one message each way. A child that dies without an
 *     answer is an error, not a hang.
 * K2  The child is reaped here on every way out (but for forkcall_spawn's, which goes on).
 * K3  What comes back is data: a helper inside a container's namespaces is not trusted with more
 *     than a JSON text of FORKCALL_MAX bytes and one descriptor. */
#include "agent/inst/forkcall.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

#define FORKCALL_MAX (160 * 1024)
#define FORKCALL_FDS 6

static bool
send_message(int channel, json_t *message, int fd)
{
    g_autofree char *text = json_dumps(message, JSON_COMPACT);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = text, .iov_len = text != NULL ? strlen(text) : 0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    ssize_t n;
    do {
        n = sendmsg(channel, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t) iov.iov_len;
}

/* NULL at the end of the stream or when it is no JSON object. */
static json_t *
receive_message(int channel, int *ret_fd)
{
    g_autofree char *text = g_malloc(FORKCALL_MAX);
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = text, .iov_len = FORKCALL_MAX};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;

    *ret_fd = -1;
    do {
        n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return NULL;
    }
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    if (cmsg != NULL && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
        cmsg->cmsg_len >= CMSG_LEN(sizeof(int))) {
        memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(int));
    }
    json_t *message = json_loadb(text, (size_t) n, 0, NULL);
    if (!json_is_object(message)) {
        json_decref(message);
        fd_close(ret_fd);
        return NULL;
    }
    return message;
}

/* ---- the agent's side ---- */

typedef struct {
    pid_t pid;
    int channel;
} Call;

static bool
call_start(Agent *agent, const char *helper, json_t *request, const int *fds, size_t fd_count,
           const char *log_path, Call *ret_call, GError **error)
{
    int pair[2], all[FORKCALL_FDS];
    const char *argv[] = {agent->exe, helper, NULL};

    g_assert(fd_count < FORKCALL_FDS);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return haw_fail_errno(error, errno, "open a channel to '%s'", helper);
    }
    all[0] = pair[1];
    for (size_t i = 0; i < fd_count; i++) {
        all[i + 1] = fds[i];
    }
    pid_t pid = proc_spawn(argv, NULL, log_path, all, fd_count + 1, error);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return false;
    }
    *ret_call = (Call){.pid = pid, .channel = pair[0]};
    send_message(pair[0], request, -1); /* a failure shows as the missing answer (K1) */
    return true;
}

static bool
call_result(const char *helper, json_t *reply, GError **error)
{
    const char *text = json_string_value(json_object_get(reply, "error"));
    json_int_t code = json_integer_value(json_object_get(reply, "code"));

    if (reply == NULL) {
        return haw_fail(error, HAW_FAILED, "helper '%s' ended without an answer", helper);
    }
    if (text != NULL) {
        return haw_fail(error, code >= 0 && code < HAW_CODE_COUNT ? (HawCode) code : HAW_FAILED,
                        "%s", text);
    }
    return true;
}

bool
forkcall(Agent *agent, const char *helper, json_t *request, const int *fds, size_t fd_count,
         gint64 wait_ms, GCancellable *cancel, json_t **ret_reply, int *ret_fd, GError **error)
{
    Call call;
    json_t *reply = NULL;
    haw_autofd int fd = -1;
    int status;

    bool ok = call_start(agent, helper, request, fds, fd_count, NULL, &call, error);
    json_decref(request);
    if (!ok) {
        return false;
    }
    ok = fiber_wait_fd(call.channel, G_IO_IN, wait_ms == 0 ? -1 : wait_ms, cancel, error);
    if (ok) {
        reply = receive_message(call.channel, &fd);
        ok = call_result(helper, reply, error);
    } else {
        kill(call.pid, SIGKILL);
    }
    close(call.channel);
    fiber_wait_pid(call.pid, -1, NULL, &status, NULL); /* K2 */
    if (!ok) {
        json_decref(reply);
        return false;
    }
    if (ret_fd != NULL) {
        *ret_fd = fd_steal(&fd);
    }
    if (ret_reply != NULL) {
        *ret_reply = reply;
    } else {
        json_decref(reply);
    }
    return true;
}

pid_t
forkcall_spawn(Agent *agent, const char *helper, json_t *request, const int *fds, size_t fd_count,
               const char *log_path, gint64 wait_ms, GError **error)
{
    Call call;
    json_t *reply = NULL;
    int fd = -1, status;

    bool ok = call_start(agent, helper, request, fds, fd_count, log_path, &call, error);
    json_decref(request);
    if (!ok) {
        return -1;
    }
    ok = fiber_wait_fd(call.channel, G_IO_IN, wait_ms, NULL, error);
    if (ok) {
        reply = receive_message(call.channel, &fd);
        ok = call_result(helper, reply, error);
        json_decref(reply);
    }
    fd_close(&fd);
    close(call.channel);
    if (!ok) {
        kill(call.pid, SIGKILL);
        fiber_wait_pid(call.pid, -1, NULL, &status, NULL);
        return -1;
    }
    return call.pid;
}

/* ---- the child's side ---- */

json_t *
forkcall_take(GError **error)
{
    int fd = -1;
    json_t *request = receive_message(FORKCALL_FD, &fd);

    fd_close(&fd);
    if (request == NULL) {
        haw_fail(error, HAW_INVALID, "no request came: this helper is started by hawserd only");
    }
    return request;
}

bool
forkcall_answer(json_t *reply, int fd, const GError *failure)
{
    json_t *message = reply != NULL ? reply : json_object();

    if (failure != NULL) {
        json_object_set_new(message, "code", json_integer(haw_code(failure)));
        json_object_set_new(message, "error", json_string(failure->message));
    }
    bool ok = send_message(FORKCALL_FD, message, fd);
    json_decref(message);
    return ok;
}

int
forkcall_serve(ForkcallFn fn)
{
    g_autoptr(GError) error = NULL;
    json_t *request, *reply = NULL;
    int fd = -1;

    request = forkcall_take(&error);
    if (request == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    if (!fn(request, &reply, &fd, &error)) {
        json_decref(reply);
        reply = NULL;
    }
    bool ok = forkcall_answer(reply, fd, error);
    fd_close(&fd);
    json_decref(request);
    return ok && error == NULL ? 0 : 1;
}
