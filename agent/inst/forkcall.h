/* forkcall.h: one question to a short-lived child of our own binary (`hawserd forkfile`, …): JSON
 * and descriptors there, JSON and perhaps a descriptor back.
 * The child's end is forkserve.h's.
 * Threads: main loop, inside a fiber. */
#pragma once
#include "agent/agent.h"
#include <gio/gio.h>
#include <sys/types.h>

/* 'request' is stolen; fds[i] becomes the child's descriptor 4+i. *ret_reply (may be NULL) is a new reference; *ret_fd (may be NULL) is -1
 * when the child sent none. The child is killed once wait_ms (0: for ever) is over or at the
 * cancel. Its errors come back with code and text. Yields. */
bool forkcall(Agent *agent, const char *helper, json_t *request, const int *fds, size_t fd_count,
              gint64 wait_ms, GCancellable *cancel, json_t **ret_reply, int *ret_fd,
              GError **error);

/* As forkcall(), but the child goes on after its answer (proxies): its pid, for the caller to reap
 * or to leave. 'log_path' may be NULL. Yields. */
pid_t forkcall_spawn(Agent *agent, const char *helper, json_t *request, const int *fds,
                     size_t fd_count, const char *log_path, gint64 wait_ms, GError **error);
