/* The helper that gives up root and becomes QEMU: vmuser.c says as whom.
 * X1  Nothing gives it back: no set-user-ID program, no capability, in this process or in one that it makes.
 * X2  Memory may be locked without a limit, as VFIO and vDPA do with all of the guest's: who may open their
 *     devices is the limit.
 * Called by fork.c of hawserd. */
#include "agent/vm/forkuser.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GROUPS_MAX = 8 };

static bool
become(unsigned long user, const char *groups)
{
    const struct rlimit no_limit = {RLIM_INFINITY, RLIM_INFINITY};
    gid_t list[GROUPS_MAX];
    size_t count = 0;
    for (const char *at = groups; *at != '\0' && count < GROUPS_MAX;) {
        char *end = NULL;
        list[count++] = (gid_t) strtoul(at, &end, 10);
        at = *end == ',' ? end + 1 : "";
    }
    setrlimit(RLIMIT_MEMLOCK, &no_limit); /* X2 */
    return user > 0 && setgroups(count, list) == 0 &&
           setresgid((gid_t) user, (gid_t) user, (gid_t) user) == 0 &&
           setresuid((uid_t) user, (uid_t) user, (uid_t) user) == 0 &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0; /* X1 */
}

int
forkuser_main(int argc, char **argv)
{
    if (argc < 5) {
        return 2;
    }
    if (fchdir(atoi(argv[3])) < 0 || !become(strtoul(argv[1], NULL, 10), argv[2])) {
        perror("hawserd: become the user of the virtual machine");
        return 1;
    }
    execvp(argv[4], argv + 4);
    fprintf(stderr, "hawserd: run %s: %s\n", argv[4], strerror(errno));
    return 1;
}
