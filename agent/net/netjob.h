/* netjob.h: kernel work of this folder, done on a worker thread while the fiber waits.
 * Threads: main loop, inside fibers; the job itself runs on a worker and touches only its data. */
#pragma once
#include "base/error.h"
#include "hw/nlsock.h"

/* 'sock' is a netlink socket in our own network namespace, borrowed for the call. */
typedef bool (*NetJobFn)(NlSock *sock, void *data, GError **error);
/* Yields. */
bool netjob_run(NetJobFn fn, void *data, GError **error);

/* A kernel switch: "net/ipv4/ip_forward". Writes only when it reads something else; NOT_FOUND when
 * there is no such switch. Any thread; blocks. */
bool netjob_sysctl(const char *value, GError **error, const char *path_format, ...)
    G_GNUC_PRINTF(3, 4);
/* "1", stripped; NULL when there is no such switch. Caller frees. */
char *netjob_sysctl_get(const char *path_format, ...) G_GNUC_PRINTF(1, 2);
bool netjob_have_ipv6(void);
