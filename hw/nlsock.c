/* Netlink conversations, on libnl's messages and attributes; the exchange itself is ours, as we want
 * errno and the kernel's extended acknowledgement in the error.
 * N1  A request is answered before the next one is sent: a socket has no state between calls.
 * N2  The thread's network namespace is the same after nlsock_open_in() as before it, or the process
 *     ends: a thread that stays in a container's namespace would make every later socket a lie. */
#include "hw/nlsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

/* A PF with all its VFs is one message. */
enum { REPLY_BYTES = 128 * 1024 };

struct NlSock {
    int fd; /* owned */
    guint32 seq;
    char reply[REPLY_BYTES];
};

static int
socket_make(int protocol)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    int room = 1024 * 1024;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    /* Old kernels know neither option; we live without the better answers then. */
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    if (bind(fd, (struct sockaddr *) &self, sizeof(self)) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

/* N2 */
static int
socket_make_in(int netns_fd)
{
    haw_autofd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(netns_fd, CLONE_NEWNET) < 0) {
        return -1;
    }
    int fd = socket_make(NETLINK_ROUTE);
    int err = errno;
    if (setns(home, CLONE_NEWNET) < 0) {
        g_error("cannot return to our network namespace: %s", g_strerror(errno));
    }
    errno = err;
    return fd;
}

static NlSock *
wrap(int fd, GError **error)
{
    if (fd < 0) {
        haw_fail_errno(error, errno, "open a netlink socket");
        return NULL;
    }
    NlSock *sock = g_malloc(sizeof(*sock));
    sock->fd = fd;
    sock->seq = 0;
    return sock;
}

NlSock *
nlsock_open(GError **error)
{
    return nlsock_open_in(-1, error);
}

NlSock *
nlsock_open_in(int netns_fd, GError **error)
{
    return wrap(netns_fd < 0 ? socket_make(NETLINK_ROUTE) : socket_make_in(netns_fd), error);
}

NlSock *
nlsock_open_generic(GError **error)
{
    return wrap(socket_make(NETLINK_GENERIC), error);
}

void
nlsock_close(NlSock *sock)
{
    if (sock != NULL) {
        fd_close(&sock->fd);
        g_free(sock);
    }
}

struct nl_msg *
nlsock_msg(int type, int flags, const void *header, size_t header_size)
{
    struct nl_msg *msg = nlmsg_alloc_size(16 * 1024);
    g_assert(msg != NULL);
    nlmsg_put(msg, 0, 0, type, 0, NLM_F_REQUEST | flags);
    if (header_size > 0) {
        int err = nlmsg_append(msg, (void *) (guintptr) header, header_size, NLMSG_ALIGNTO);
        g_assert(err == 0);
    }
    return msg;
}

/* The kernel's words behind an error message, NULL when it has none. */
static const char *
kernel_words(struct nlmsghdr *row)
{
    const struct nlmsgerr *answer = NLMSG_DATA(row);
    if ((row->nlmsg_flags & NLM_F_ACK_TLVS) == 0) {
        return NULL;
    }
    size_t skip = sizeof(*answer);
    if ((row->nlmsg_flags & NLM_F_CAPPED) == 0) {
        skip += answer->msg.nlmsg_len - sizeof(struct nlmsghdr);
    }
    struct nlattr *attrs = (struct nlattr *) ((char *) NLMSG_DATA(row) + NLMSG_ALIGN(skip));
    int left = (int) (row->nlmsg_len - NLMSG_HDRLEN) - (int) NLMSG_ALIGN(skip);
    struct nlattr *words = left > 0 ? nla_find(attrs, left, NLMSGERR_ATTR_MSG) : NULL;
    return words != NULL ? nla_get_string(words) : NULL;
}

static bool
refused(struct nlmsghdr *row, const char *what, GError **error)
{
    const struct nlmsgerr *answer = NLMSG_DATA(row);
    int err = -answer->error;
    if (err == 0) {
        return true;
    }
    const char *words = kernel_words(row);
    if (words != NULL) {
        haw_fail_errno(error, err, "%s: %s", what, words);
    } else {
        haw_fail_errno(error, err, "%s", what);
    }
    if (err == ENODEV || err == ESRCH || err == EADDRNOTAVAIL || err == ENOENT) {
        haw_recode(error, HAW_NOT_FOUND);
    } else if (err == EOPNOTSUPP || err == EAFNOSUPPORT) {
        haw_recode(error, HAW_UNSUPPORTED);
    } else if (err == EEXIST) {
        haw_recode(error, HAW_EXISTS);
    }
    return false;
}

static bool
send_msg(NlSock *sock, struct nl_msg **msg, const char *what, GError **error)
{
    struct nlmsghdr *header = nlmsg_hdr(*msg);
    header->nlmsg_seq = ++sock->seq;
    ssize_t sent = TEMP_FAILURE_RETRY(send(sock->fd, header, header->nlmsg_len, 0));
    int err = errno;
    nlmsg_free(*msg);
    *msg = NULL;
    return sent >= 0 || haw_fail_errno(error, err, "%s: send to netlink", what);
}

/* Reads until the end of this request's answer; rows go to fn (may be NULL). */
static bool
read_answer(NlSock *sock, NlSockRow fn, void *data, const char *what, GError **error)
{
    for (;;) {
        ssize_t got =
            TEMP_FAILURE_RETRY(recv(sock->fd, sock->reply, sizeof(sock->reply), MSG_TRUNC));
        if (got < 0) {
            return haw_fail_errno(error, errno, "%s: receive from netlink", what);
        }
        if (got > REPLY_BYTES) {
            return haw_fail(error, HAW_LIMIT, "%s: an answer of %zd bytes", what, got);
        }
        int left = (int) got;
        for (struct nlmsghdr *row = (struct nlmsghdr *) sock->reply; nlmsg_ok(row, left);
             row = nlmsg_next(row, &left)) {
            if (row->nlmsg_seq != sock->seq) {
                continue;
            }
            if (row->nlmsg_type == NLMSG_ERROR) {
                return refused(row, what, error);
            }
            if (row->nlmsg_type == NLMSG_DONE) {
                return true;
            }
            if (fn != NULL) {
                fn(row, data);
            }
        }
    }
}

bool
nlsock_ask(NlSock *sock, struct nl_msg **msg, GError **error, const char *what, ...)
{
    va_list args;
    va_start(args, what);
    g_autofree char *step = g_strdup_vprintf(what, args);
    va_end(args);
    nlmsg_hdr(*msg)->nlmsg_flags |= NLM_F_ACK;
    return send_msg(sock, msg, step, error) && read_answer(sock, NULL, NULL, step, error);
}

bool
nlsock_dump(NlSock *sock, struct nl_msg **msg, NlSockRow fn, void *data, GError **error,
            const char *what, ...)
{
    va_list args;
    va_start(args, what);
    g_autofree char *step = g_strdup_vprintf(what, args);
    va_end(args);
    /* A plain GET ends with its one row and an ack, a dump with NLMSG_DONE. */
    if ((nlmsg_hdr(*msg)->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) {
        nlmsg_hdr(*msg)->nlmsg_flags |= NLM_F_ACK;
    }
    return send_msg(sock, msg, step, error) && read_answer(sock, fn, data, step, error);
}
