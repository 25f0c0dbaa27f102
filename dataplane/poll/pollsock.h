/* pollsock.h: the socket by which ports come and go, and what there is to see is seen: frames of dpd.proto.
 * Threads: main loop only. */
#pragma once
#include "base/error.h"
#include "dataplane/poll/poller.h"

typedef struct PollSock PollSock;
/* At <dir>/poll.socket. 'poller' is borrowed; 'tag' (may be NULL) is told with the status. BUSY when another process
 * has the directory. */
PollSock *pollsock_new(const char *dir, const char *tag, Poller *poller, GError **error);
void pollsock_free(PollSock *sock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollSock, pollsock_free)
