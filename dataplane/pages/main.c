/* hawser-pages: streams one guest's memory, for the agent that started it. Its orders come by the socket
 * that is its standard input. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "dataplane/pages/job.h"

int
main(int argc, char **argv)
{
    if (argc > 1) {
        bool asked = strcmp(argv[1], "--version") == 0;
        fprintf(asked ? stdout : stderr,
                asked ? "hawser-pages " HAWSER_VERSION "\n"
                      : "hawser-pages is started by hawserd, with its orders on standard input\n");
        return asked ? 0 : 2;
    }
    prctl(PR_SET_DUMPABLE, 0); /* guest memory and keys are nobody's core dump */
    return job_run(STDIN_FILENO) ? 0 : 1;
}
