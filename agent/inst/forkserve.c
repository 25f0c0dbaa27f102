/* The channel between the agent and a helper, and the helper's end of it.
 * K1 to K3 are told in forkcall.c, which is the agent's end. A room of its own: the helpers start in a few
 * milliseconds because they are linked without GIO and the agent (forkmain.c).
 * Called by the fork*.c files, and by forkcall.c. */
#include "agent/inst/forkserve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

bool
forkserve_send(int channel, json_t *message, int fd)
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

json_t *
forkserve_receive(int channel, int *ret_fd)
{
    g_autofree char *text = g_malloc(FORKSERVE_MAX);
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = text, .iov_len = FORKSERVE_MAX};
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

/* ---- the child ---- */

json_t *
forkserve_take(GError **error)
{
    int fd = -1;
    json_t *request = forkserve_receive(FORKSERVE_FD, &fd);

    fd_close(&fd);
    if (request == NULL) {
        haw_fail(error, HAW_INVALID, "no request came: this helper is started by hawserd only");
    }
    return request;
}

bool
forkserve_answer(json_t *reply, int fd, const GError *failure)
{
    json_t *message = reply != NULL ? reply : json_object();

    if (failure != NULL) {
        json_object_set_new(message, "code", json_integer(haw_code(failure)));
        json_object_set_new(message, "error", json_string(failure->message));
    }
    bool ok = forkserve_send(FORKSERVE_FD, message, fd);
    json_decref(message);
    return ok;
}

int
forkserve(ForkserveFn fn)
{
    g_autoptr(GError) error = NULL;
    json_t *request, *reply = NULL;
    int fd = -1;

    request = forkserve_take(&error);
    if (request == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    if (!fn(request, &reply, &fd, &error)) {
        json_decref(reply);
        reply = NULL;
    }
    bool ok = forkserve_answer(reply, fd, error);
    fd_close(&fd);
    json_decref(request);
    return ok && error == NULL ? 0 : 1;
}
