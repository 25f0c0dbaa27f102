/* daemon.h: a process that serves OVN: started or adopted, watched, started again, ended.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

typedef struct OvnDaemon OvnDaemon;
/* 'argv' and 'env' (end with NULL) are stolen. Its files: <dir>/NAME.run (who it is), <dir>/NAME.out. */
OvnDaemon *daemon_new(const char *dir, const char *name, char **argv, char **env);
/* Watches no more; the process goes on. NULL is fine. */
void daemon_free(OvnDaemon *daemon);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnDaemon, daemon_free)
/* Adopts the running one when it has our arguments, else starts it; from now on it is started again when
 * it ends by itself, at once for the first time, then ever more slowly. Yields. */
bool daemon_up(OvnDaemon *daemon, GError **error);
/* It goes on, but nobody starts it again. */
void daemon_unwatch(OvnDaemon *daemon);
/* It was told to end by another way: nobody starts it again, and it is waited for up to 5 s. Yields. */
void daemon_let_end(OvnDaemon *daemon);
/* Ends it: SIGTERM, SIGKILL after 5 s. Not there is fine. Yields. */
void daemon_down(OvnDaemon *daemon);
/* 0 when it does not run. */
pid_t daemon_pid(const OvnDaemon *daemon);
const char *daemon_name(const OvnDaemon *daemon);
guint daemon_restarts(const OvnDaemon *daemon); /* that it needed by itself */
