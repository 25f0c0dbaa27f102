/* hawser-pages: streams one guest's memory, for the agent that started it. Its orders come by the socket
 * that is its standard input, or the descriptor that it is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "dataplane/pages/job.h"
#include "dataplane/pages/tracker.h"

/* Whether this kernel lets us track a guest's memory. */
static int
probe(void)
{
    g_autoptr(GError) error = NULL;
    if (tracker_works(&error)) {
        return 0;
    }
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

int
main(int argc, char **argv)
{
    int orders = argc == 2 ? atoi(argv[1]) : STDIN_FILENO;
    if (argc == 2 && strcmp(argv[1], "--probe") == 0) {
        return probe();
    }
    if (argc > 2 || (argc == 2 && orders < 3)) {
        bool asked = strcmp(argv[1], "--version") == 0;
        fprintf(asked ? stdout : stderr,
                asked ? "hawser-pages " HAWSER_VERSION "\n"
                      : "hawser-pages is started by hawserd, with its orders on standard input or "
                        "the descriptor that is named\n");
        return asked ? 0 : 2;
    }
    prctl(PR_SET_DUMPABLE, 0); /* guest memory and keys are nobody's core dump */
    return job_run(orders) ? 0 : 1;
}
