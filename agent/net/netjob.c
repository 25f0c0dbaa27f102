/* Jobs on worker threads, and the kernel's switches under /proc/sys.
 * J1  A job sees copies or data that nobody changes while it runs: the fiber that owns them waits. */
#include "agent/net/netjob.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"

struct job {
    NetJobFn fn;
    void *data;
    bool ok;
    GError *error; /* owned until it is handed on */
};

static void
job_run(void *data)
{
    struct job *job = data;
    g_autoptr(NlSock) sock = nlsock_open(&job->error);
    job->ok = sock != NULL && job->fn(sock, job->data, &job->error);
}

bool
netjob_run(NetJobFn fn, void *data, GError **error)
{
    struct job job = {.fn = fn, .data = data};
    fiber_run(job_run, &job);
    if (job.error != NULL) {
        if (job.ok) {
            g_clear_error(&job.error);
        } else {
            g_propagate_error(error, job.error);
        }
    }
    return job.ok;
}

static char *
sysctl_path(const char *format, va_list args)
{
    g_autofree char *tail = g_strdup_vprintf(format, args);
    return g_strconcat("/proc/sys/", tail, NULL);
}

bool
netjob_sysctl(const char *value, GError **error, const char *path_format, ...)
{
    va_list args;
    va_start(args, path_format);
    g_autofree char *path = sysctl_path(path_format, args);
    va_end(args);
    g_autoptr(GError) unread = NULL;
    g_autofree char *now = fd_read_file(path, 256, NULL, &unread);
    if (now != NULL && strcmp(g_strstrip(now), value) == 0) {
        return true;
    }
    return fd_write_kernel(path, value, error);
}

char *
netjob_sysctl_get(const char *path_format, ...)
{
    va_list args;
    va_start(args, path_format);
    g_autofree char *path = sysctl_path(path_format, args);
    va_end(args);
    char *now = fd_read_file(path, 256, NULL, NULL);
    return now != NULL ? g_strstrip(now) : NULL;
}

bool
netjob_have_ipv6(void)
{
    return access("/proc/sys/net/ipv6", F_OK) == 0;
}
