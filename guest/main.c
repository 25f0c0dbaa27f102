/* hawser-guest: the agent's hands inside a virtual machine.
 *   hawser-guest [--wait-s N] [PORT]
 * PORT is found by its name when it is not given. It is served for ever: a port that goes away (the
 * virtio-serial device was unplugged, the module reloaded) is looked for again. With --wait-s, whoever
 * waits for our readiness (systemd) is let go after N seconds, even if no agent came. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/errand.h"
#include "guest/mux.h"
#include "guest/plant.h"
#include "guest/seed.h"
#include "guest/vport.h"

#define MAIN_RETRY_US 500000

static void
on_alarm(int number)
{
    setup_notify();
}

int
main(int argc, char **argv)
{
    const char *path = NULL;
    unsigned wait_s = 0;
    struct stat st;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--wait-s") == 0 && i + 1 < argc) {
            wait_s = (unsigned) atoi(argv[++i]);
        } else if (strcmp(argv[i], "--version") == 0) {
            puts("hawser-guest " HAWSER_VERSION);
            return 0;
        } else if (argv[i][0] == '-') {
            fputs("usage: hawser-guest [--wait-s SECONDS] [PORT]\n", stderr);
            return 2;
        } else {
            path = argv[i];
        }
    }
    bool once = path != NULL && stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
    plant_files();
    seed_cloud_init();
    signal(SIGALRM, on_alarm);
    if (wait_s == 0) {
        setup_notify();
    }
    alarm(wait_s);
    do {
        int port = vport_open(path);
        if (port >= 0) {
            mux_run(port);
            close(port);
        }
        if (!once) {
            usleep(MAIN_RETRY_US);
        }
    } while (!once);
    return 0;
}
