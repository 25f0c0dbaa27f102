/* lxcconf.h: the text of a container's liblxc configuration. A pure function of what it is given.
 * Threads: any. */
#pragma once
#include "agent/inst/idmap.h"
#include <jansson.h>

/* What the host can do; found once by lxcconf_host(). */
typedef struct {
    bool unified;    /* cgroup v2 only */
    bool apparmor;   /* the LSM is active */
    bool core_sched; /* prctl(PR_SCHED_CORE) works */
    bool cgroup_ns;
    bool in_userns; /* we are not in the first user namespace */
    bool devices_v1, devices_v2;
    bool lxcfs;                    /* its hook and its filesystem are there */
    bool (*has)(const char *path); /* whether a source of a mount is on this host */
} LxcConfHost;
LxcConfHost lxcconf_host(void);

typedef struct {
    const char *name; /* of the container for liblxc */
    const char *hostname;
    const char *architecture; /* "x86_64" */
    const char *log_dir, *run_dir;
    const char *rootfs;       /* directory */
    bool rootfs_idmapped;     /* ids are mapped by the mount */
    const char *seccomp_path; /* NULL: none */
    const char *devlxd_dir;   /* NULL: none */
    const char *notify_path;  /* socket that intercepted system calls are told to; NULL: none are */
    gint64 id;                /* by which they say whose they are */
    json_t *config;           /* expanded */
    const GArray *map;        /* empty for a privileged one */
    json_t *items;            /* [[key, value], …] of devices and limits */
    LxcConfHost host;
} LxcConf;
/* Caller frees. INVALID when raw.lxc has a forbidden or broken line. */
char *lxcconf_text(const LxcConf *conf, GError **error);

/* raw.lxc: LXD's forbidden keys, and lines that are no "key = value". */
bool lxcconf_check_raw(const char *raw, GError **error);
/* The seccomp profile that the keys ask for; NULL (without error) for none. Caller frees. */
char *lxcconf_seccomp(json_t *config, const char *architecture, const LxcConfHost *host);
/* Whether the container has system calls intercepted: never a privileged one, nor where we are inside of
 * a container ourselves. */
bool lxcconf_intercepts(json_t *config, const LxcConfHost *host);
