/* forkserve.h: a helper's end of forkcall.h: it takes one request and answers it.
 * Threads: any; none is shared. */
#pragma once
#include "base/error.h"
#include <jansson.h>

#define FORKSERVE_FD  3 /* the channel, in the child; the caller's fds[i] is 4+i */
#define FORKSERVE_MAX (160 * 1024)

/* Answers one request by 'fn', whose *ret_reply is stolen and whose *ret_fd is given. Returns the exit
 * status. */
typedef bool (*ForkserveFn)(json_t *request, json_t **ret_reply, int *ret_fd, GError **error);
int forkserve(ForkserveFn fn);
/* The same in two steps, for a child that goes on. */
json_t *forkserve_take(GError **error);
bool forkserve_answer(json_t *reply /* stolen, may be NULL */, int fd, const GError *failure);

/* The messages, for both ends: 'fd' -1 sends none. NULL at the end of the stream, and for what is no JSON
 * object; *ret_fd is the caller's, or -1. */
bool forkserve_send(int channel, json_t *message, int fd);
json_t *forkserve_receive(int channel, int *ret_fd);
