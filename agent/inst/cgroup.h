/* cgroup.h: where a container's control groups are, and reading and writing their files, on cgroup
 * v1, hybrid and v2. Threads: any (the layout is read once). */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <sys/types.h>

typedef struct Cgroup Cgroup;

typedef enum {
    CG_MEMORY,
    CG_CPU,
    CG_CPUACCT,
    CG_CPUSET,
    CG_PIDS,
    CG_BLKIO, /* "io" on v2 */
    CG_FREEZER,
    CG_DEVICES,
    CG_HUGETLB,
    CG_NET_PRIO,
    CG_COUNT
} CgController;

/* 1, 2, or 0 when the host has it in neither. */
int cgroup_version(CgController controller);
/* Whether everything is on one v2 hierarchy. */
bool cgroup_unified(void);
/* Fixes the layout for tests: 'versions' has CG_COUNT entries; NULL reads the host's again. */
void cgroup_set_layout(const int *versions);

/* The groups of a running container, found through its init. */
Cgroup *cgroup_of_pid(pid_t pid, GError **error);
void cgroup_free(Cgroup *group);
/* A copy, for another thread; the caller's. */
Cgroup *cgroup_dup(const Cgroup *group);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cgroup, cgroup_free)
/* Directory of the container in a controller's hierarchy, borrowed; NULL when there is none. */
const char *cgroup_dir(const Cgroup *group, CgController controller);

bool cgroup_write(const Cgroup *group, CgController controller, const char *file, const char *value,
                  GError **error);
bool cgroup_has(const Cgroup *group, CgController controller, const char *file);
/* A file that holds one number; -1 for "max" and when it isn't there. */
gint64 cgroup_number(const Cgroup *group, CgController controller, const char *file);
/* "key value" lines; -1 when absent. */
gint64 cgroup_keyed(const Cgroup *group, CgController controller, const char *file,
                    const char *key);
/* The whole file; caller frees; NULL when it isn't there. */
char *cgroup_text(const Cgroup *group, CgController controller, const char *file);

/* Freezes or thaws; returns once the kernel says so, or TIMEOUT after a second. Yields. */
bool cgroup_freeze(const Cgroup *group, bool frozen, GError **error);
bool cgroup_frozen(const Cgroup *group);
/* Says that a process is about to be moved between groups, which then takes microseconds in place of
 * the ten milliseconds that the first move in a while costs. Returns at once. */
void cgroup_expect_move(void);
/* Number of processes, all levels; -1 when unknown. */
gint64 cgroup_processes(const Cgroup *group);
