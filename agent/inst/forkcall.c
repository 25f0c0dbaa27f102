/* Calls of our own helpers. liblxc, setns and chroot want a process with one thread, so whatever
 * enters a container runs in a child of the same binary that ends with the request.
 * K1  A channel is one SOCK_SEQPACKET pair: one message each way. A child that dies without an
 *     answer is an error, not a hang.
 * K2  The child is reaped here on every way out (but for forkcall_spawn's, which goes on).
 * K3  What comes back is data: a helper inside a container's namespaces is not trusted with more
 *     than a JSON text of FORKSERVE_MAX bytes and one descriptor.
 * The channel's messages and the child's side are forkserve.c's. */
#include "agent/inst/forkcall.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/inst/forkserve.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

#define FORKCALL_FDS 6

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
    forkserve_send(pair[0], request, -1); /* a failure shows as the missing answer (K1) */
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
        reply = forkserve_receive(call.channel, &fd);
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
        reply = forkserve_receive(call.channel, &fd);
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
