/* Interrupts: what runs is told to end (an operation is cancelled, a half file removed), and one who
 * insists is let go at once.
 * Called by main.c; looked at by rest.c, stream.c, wait.c and every loop over sockets. */
#include "ctl/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t seen;

static void
on_signal(int number)
{
    if (seen++ > 1) {
        _exit(128 + number);
    }
}

void
interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool
interrupt_seen(void)
{
    return seen > 0;
}

void
interrupt_clear(void)
{
    seen = 0;
}
