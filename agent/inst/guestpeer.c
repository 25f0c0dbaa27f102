/* Peers of the guest socket: from a pid to an instance, by pid namespaces. Not by parents: a command
 * of `exec` has its parent on the host, and a nested container's processes have inits of their own.
 * The kernel's namespace tree cannot be forged from inside. Called by devlxd.c. */
#include "agent/inst/guestpeer.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inst/shift.h"
#include "base/fd.h"

#define GUESTPEER_DEPTH 32 /* the kernel's own limit of nesting */

static ino_t
namespace_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/pid", (int) pid);
    struct stat st;

    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static Inst *
find_by_namespace(GPtrArray *instances, ino_t wanted)
{
    for (guint i = 0; i < instances->len; i++) {
        Inst *inst = g_ptr_array_index(instances, i);
        if (inst_pid(inst) > 0 && namespace_of(inst_pid(inst)) == wanted) {
            return inst;
        }
    }
    return NULL;
}

Inst *
guestpeer_find(InstTable *table, pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/pid", (int) pid);
    haw_autofd int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ino_t ours = namespace_of(getpid());
    g_autoptr(GPtrArray) instances = inst_list(table, NULL);
    struct stat st;

    for (int depth = 0; fd >= 0 && depth < GUESTPEER_DEPTH; depth++) {
        if (fstat(fd, &st) < 0 || st.st_ino == ours) {
            return NULL;
        }
        Inst *inst = find_by_namespace(instances, st.st_ino);
        if (inst != NULL) {
            return inst_ref(inst);
        }
        int parent = ioctl(fd, NS_GET_PARENT);
        fd_close(&fd);
        fd = parent;
    }
    return NULL;
}

bool
guestpeer_is_root(Inst *inst, uid_t uid)
{
    json_t *idmap = shift_of_pid(inst_pid(inst));
    bool root = shift_to_host(idmap, SHIFT_UID, 0) == (gint64) uid;

    json_decref(idmap);
    return root;
}
