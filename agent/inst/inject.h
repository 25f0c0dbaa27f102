/* inject.h: mounts and device permissions into, and out of, a running container.
 * Threads: main loop, inside fibers. All yield. */
#pragma once
#include "agent/inst/cgroup.h"
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
/* kind 'c' or 'b'. Hosts without a device controller: success. */
bool inject_allow(Agent *agent, Inst *inst, char kind, unsigned major_no, unsigned minor_no,
                  bool allow, GError **error);
/* Writes a value into the container's cgroup, in the file that the host's version of the controller
 * has; UNSUPPORTED when there is none. */
bool inject_cgroup(Inst *inst, CgController controller, const char *v1_file, const char *v2_file,
                   const char *value, GError **error);
