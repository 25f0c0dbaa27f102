/* inject.h: mounts and device permissions into, and out of, a running container.
 * Threads: main loop, inside fibers. All yield. */
#pragma once
#include "agent/inst/inst.h"

typedef struct {
    const char *source; /* on the host: directory or file */
    const char *target; /* in the container; missing directories and the file are made */
    bool file, readonly, recursive;
    bool idmap;              /* ids on disk are read by the container's map */
    const char *propagation; /* "rslave"; NULL: private */
    guint uid, gid;          /* of directories that are made; in the container */
} InjectMount;

bool inject_mount(Agent *agent, Inst *inst, const InjectMount *mount, GError **error);
/* Not mounted there is success. 'file': the empty file beneath is removed as well. */
bool inject_unmount(Agent *agent, Inst *inst, const char *target, bool file, GError **error);
/* kind 'c' or 'b'. Kernels without either device controller: success. */
bool inject_allow(Inst *inst, char kind, unsigned major_no, unsigned minor_no, bool allow,
                  GError **error);
/* Writes a value into the container's cgroup: 'controller' "blkio" on v1 with v1_file, else v2's.
 * A missing controller is UNSUPPORTED. */
bool inject_cgroup(Inst *inst, const char *controller, const char *v1_file, const char *v2_file,
                   const char *value, GError **error);
