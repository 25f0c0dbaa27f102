/* The command of an exec: ids, directory, environment, then itself. Exit codes are a shell's: 127 not
 * found, 126 not executable. A directory that is not there is passed over, as liblxc does.
 * Runs in the session's child (errand.c). */
#include "guest/errand.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int
command_run(const struct asked *asked)
{
    static char *nothing[] = {NULL};
    gid_t gid = (gid_t) asked_number(asked, GUESTWIRE_GID, 10, 0);
    uid_t uid = (uid_t) asked_number(asked, GUESTWIRE_UID, 10, 0);

    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
        if (uid != getuid() || gid != getgid()) {
            return 126;
        }
    }
    if (asked->text[GUESTWIRE_CWD] == NULL || chdir(asked->text[GUESTWIRE_CWD]) < 0) {
        if (chdir("/") < 0) {
            return 126;
        }
    }
    environ = asked->env != NULL ? asked->env : nothing;
    execvp(asked->argv[0], asked->argv);
    return errno == ENOENT || errno == ENOTDIR ? 127 : 126;
}
