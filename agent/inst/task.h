/* task.h: a task in a container whose system call waits for our answer, as a helper sees it.
 * Threads: the helper's only one. */
#pragma once
#include <glib.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct Task {
    struct seccomp_notif notif;
    int proc_fd, mem_fd, notify_fd; /* /proc/PID, /proc/PID/mem, the kernel's; borrowed */
    pid_t tgid;
    uid_t uid, fsuid; /* the effective ones, on the host */
    gid_t gid, fsgid;
    gid_t groups[64];
    size_t group_count;
    guint64 caps; /* effective */
    mode_t mask;
} Task;

/* What the call comes to. */
typedef struct {
    bool own;     /* the kernel goes on with the call as if nobody had looked */
    int error;    /* errno that the task sees */
    gint64 value; /* else what the call returns */
} TaskAnswer;
static inline TaskAnswer
task_own(void)
{
    return (TaskAnswer){.own = true};
}
static inline TaskAnswer
task_errno(int error)
{
    return (TaskAnswer){.error = error};
}

/* Reads who it is. The descriptors name one process for good; false once it has gone. */
bool task_load(Task *task);
/* Whether its ids and capabilities are those of the container itself ('users_fd': its user namespace)
 * and not of one that was made inside. */
bool task_is_of(const Task *task, int users_fd);
bool task_can(const Task *task, int capability);
/* An argument that points to text; NULL when it points nowhere or is longer than PATH_MAX. Caller frees. */
char *task_text(const Task *task, guint64 address);
bool task_bytes(const Task *task, guint64 address, void *ret, size_t size);
/* We see files by the names that the task uses: its mounts, root and working directory. */
bool task_enter(const Task *task);
/* We make files as the task would: its ids, its umask, its capabilities, which here hold on the host. */
bool task_become(const Task *task);
