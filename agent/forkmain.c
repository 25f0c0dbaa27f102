/* hawserd-fork: the helpers of hawserd in a program of their own. It is linked with what they need and
 * nothing else, so that it starts in a few milliseconds where hawserd's forty libraries take tens;
 * a container's start and each exec wait for it. hawserd itself serves them when it isn't there. */
#include "agent/fork.h"

#include <stdio.h>

int
main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "hawserd-fork: started by hawserd, not by hand\n");
        return 2;
    }
    return fork_main(argc - 1, argv + 1);
}
