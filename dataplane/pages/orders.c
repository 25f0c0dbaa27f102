/* Orders in, reports out.
 * O1  Descriptors are closed on every way that does not hand them out.
 * Called by main.c. */
#include "dataplane/pages/orders.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

static guint
take_fds(struct msghdr *message, int *fds)
{
    guint count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            count = (guint) ((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(part), count * sizeof(int));
        }
    }
    return count;
}

static void
close_all(int *fds, guint count)
{
    for (guint i = 0; i < count; i++) {
        fd_close(&fds[i]);
    }
}

Pages__Order *
orders_receive(int fd, int *ret_fds, guint *ret_n_fds, GError **error)
{
    guint8 bytes[ORDERS_BYTES_MAX];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * ORDERS_FDS_MAX)];
    } control;
    int fds[ORDERS_FDS_MAX];
    struct iovec part = {bytes, sizeof(bytes)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t size;
    do {
        size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size <= 0) {
        haw_fail(error, HAW_UNAVAILABLE, "the agent has gone");
        return NULL;
    }
    guint n_fds = take_fds(&message, fds);
    Pages__Order *order = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
                              ? NULL
                              : pages__order__unpack(NULL, (size_t) size, bytes);
    if (order == NULL || (n_fds > 0 && ret_fds == NULL)) {
        close_all(fds, n_fds); /* O1 */
        if (order != NULL) {
            pages__order__free_unpacked(order, NULL);
        }
        haw_fail(error, HAW_INVALID, "this is no order");
        return NULL;
    }
    if (ret_fds != NULL) {
        memcpy(ret_fds, fds, n_fds * sizeof(int));
        *ret_n_fds = n_fds;
    }
    return order;
}

bool
orders_report(int fd, const Pages__Report *report, GError **error)
{
    guint8 bytes[ORDERS_BYTES_MAX];
    if (pages__report__get_packed_size(report) > sizeof(bytes)) {
        return haw_fail(error, HAW_LIMIT, "a report is too long");
    }
    size_t size = pages__report__pack(report, bytes);
    ssize_t sent;
    do {
        sent = send(fd, bytes, size, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t) size || haw_fail(error, HAW_UNAVAILABLE, "the agent has gone");
}
