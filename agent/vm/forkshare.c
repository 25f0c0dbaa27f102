/* The helper that becomes a share's daemon; vmshare.c starts it, and S2 is told there.
 * Called by fork.c of hawserd. A room of its own, so that the helpers do without the agent (forkmain.c). */
#include "agent/vm/forkshare.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* S2: whatever is mounted below the source, too. */
static bool
mount_readonly(const char *source)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount(source, source, NULL, MS_BIND | MS_REC, NULL) == 0 &&
           syscall(SYS_mount_setattr, AT_FDCWD, source, AT_RECURSIVE, &attr, sizeof(attr)) == 0;
}

int
forkshare_main(int argc, char **argv)
{
    if (argc != 5) {
        return 2;
    }
    if (strcmp(argv[2], "ro") == 0 && !mount_readonly(argv[1])) {
        perror("hawserd: mount the share read-only");
        return 1;
    }
    g_autofree char *source = g_strdup_printf("source=%s", argv[1]);
    if (strcmp(argv[3], "9p") == 0) {
        execl(argv[4], argv[4], "-n", "-f", "3", "-p", argv[1], (char *) NULL);
    } else {
        execl(argv[4], argv[4], "--fd=3", "-o", source, "-o", "cache=auto", "-o", "xattr", "-o",
              "announce_submounts", (char *) NULL);
    }
    fprintf(stderr, "hawserd: start %s: %s\n", argv[4], strerror(errno));
    return 1;
}
