/* nlsock.h: one conversation with netlink: a request and its answer, or a dump.
 * Threads: any, one thread a socket at a time. Calls block, for as long as the kernel takes. */
#pragma once
#include "base/error.h"
#include <netlink/attr.h>
#include <netlink/msg.h>

typedef struct NlSock NlSock;

/* In our own network namespace. */
NlSock *nlsock_open(GError **error);
/* In the namespace behind an open /proc/PID/ns/net (-1: ours). The calling thread visits it for the
 * moment that the socket is made. */
NlSock *nlsock_open_in(int netns_fd, GError **error);
/* To generic netlink, whose families nlfamily.h finds. */
NlSock *nlsock_open_generic(GError **error);
void nlsock_close(NlSock *sock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlSock, nlsock_close)

/* An empty message with the family's header behind it; the caller's to free, unless it is given. */
struct nl_msg *nlsock_msg(int type, int flags, const void *header, size_t header_size);
/* Sends *msg (taken) and waits for the kernel's yes. The error says 'what', then the kernel's own
 * words where it has some: EXISTS for what is there, NOT_FOUND for what is not (ENOENT, ENODEV,
 * ESRCH, EADDRNOTAVAIL), UNSUPPORTED for what this kernel was built without. */
bool nlsock_ask(NlSock *sock, struct nl_msg **msg, GError **error, const char *what, ...)
    G_GNUC_PRINTF(4, 5);
/* Sends *msg (taken) and hands each row of the answer to fn, borrowed for the call. */
typedef void (*NlSockRow)(struct nlmsghdr *row, void *data);
bool nlsock_dump(NlSock *sock, struct nl_msg **msg, NlSockRow fn, void *data, GError **error,
                 const char *what, ...) G_GNUC_PRINTF(6, 7);
