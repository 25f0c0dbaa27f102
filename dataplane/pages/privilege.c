/* Dropping privileges: the bytes that a stream brings come from another host.
 * V1  What is needed is opened before: sockets, memory, the ring is made of them. A network namespace
 *     of its own leaves connected sockets working and lets no others be made.
 *     What carries RDMA keeps its network: devices are found by it.
 * V2  A source keeps two capabilities: to trace QEMU and to read what the kernel shows of it.
 * Called by job.c and rdmaoffer.c. */
#include "dataplane/pages/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534 };

bool
privilege_drop(enum privilege keep, GError **error)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (geteuid() != 0) {
        return true;
    }
    /* Of zero-copy sends the kernel counts the pages against this, for those who are not root; where it
     * can't be raised, they fail, and are sent with a copy. */
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    (void) setrlimit(RLIMIT_MEMLOCK, &unlimited);
    if (keep != PRIVILEGE_NETWORK && unshare(CLONE_NEWNET) != 0 && errno != EPERM) { /* V1 */
        return haw_fail_errno(error, errno, "leaving the network");
    }
    if (prctl(PR_SET_KEEPCAPS, 1) != 0 || syscall(SYS_setgroups, 0, NULL) != 0 ||
        setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        return haw_fail_errno(error, errno, "becoming nobody");
    }
    if (keep == PRIVILEGE_TRACE) { /* V2 */
        data[0].permitted = data[0].effective = 1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH;
    }
    if (syscall(SYS_capset, &header, data) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return haw_fail_errno(error, errno, "giving up capabilities");
    }
    prctl(PR_SET_DUMPABLE, 0); /* another user id has set it again */
    return true;
}
