/* proc.h: child processes: an argument vector in, an exit status and output out. No shell.
 * Threads: main loop, inside a fiber. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>
#include <sys/types.h>

typedef struct {
    const char *const *argv; /* argv[0] is looked up in PATH */
    const char *const *env;  /* NULL: ours */
    const char *cwd;         /* NULL: ours */
    int fd_in, fd_out;       /* -1: /dev/null for in; captured for out */
    gint64 wait_ms;          /* 0: for ever; the child is killed when it is over */
    GCancellable *cancel;    /* may be NULL; the child is killed */
    const int *fds;          /* fds[i] becomes descriptor 3+i in the child */
    size_t fd_count;
} ProcSpec;

/* Runs it to its end. True when it exits with 0; else the error has the last lines of its stderr.
 * ret_out (may be NULL) gets its stdout as text, at most 16 MiB; caller frees. Yields. */
bool proc_run(const ProcSpec *spec, char **ret_out, GError **error);
/* The common case: proc_runv(&out, &error, "btrfs", "subvolume", "list", path, NULL). Yields. */
bool proc_runv(char **ret_out, GError **error, const char *argv0, ...) G_GNUC_NULL_TERMINATED;
/* Starts one that goes on by itself (dnsmasq, proxies); it leads a session of its own. 'log_path'
 * (may be NULL) gets stdout and stderr. fds[i] becomes descriptor 3+i in the child. The caller
 * reaps it. */
pid_t proc_spawn(const char *const *argv, const char *const *env, const char *log_path,
                 const int *fds, size_t fd_count, GError **error);

/* When a process began, in ticks since the host's boot (field 22 of /proc/PID/stat): with its pid it
 * names one process for good. 0 when there is none. Threads: any. */
guint64 proc_start_time(pid_t pid);
/* Whether it was started with exactly these arguments. Threads: any. */
bool proc_has_argv(pid_t pid, const char *const *argv);
