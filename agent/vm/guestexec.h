/* guestexec.h: a command inside a virtual machine, with the descriptors of InstExecSpec.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/instdriver.h"
#include "agent/vm/guestlink.h"

/* Starts spec->argv; spec's descriptors are borrowed (kept as duplicates). With spec->terminal the guest
 * makes the pty, and fds[0] is read and fds[1] written as its near end; one socket may be both. Yields. */
InstExec *guestexec_start(GuestLink *link, const InstExecSpec *spec, GError **error);
/* The ExecOps of such a one, for tests by their names too. */
void guestexec_signal(InstExec *exec, int number);
void guestexec_resize(InstExec *exec, int width, int height);
/* Until the command has ended and what it wrote is passed on. Code as a shell's. Yields. */
bool guestexec_wait(InstExec *exec, GCancellable *cancel, int *ret_code, GError **error);
/* Kills what still runs. Yields, until its fibers have let go. */
void guestexec_free(InstExec *exec);
