/* guestexec.h: a command inside a virtual machine, with the descriptors of InstExecSpec.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/vm/guestlink.h"

typedef struct GuestExec GuestExec;
/* Starts spec->argv; spec's descriptors are borrowed (kept as duplicates). With spec->terminal the guest
 * makes the pty, of width × height (0: unknown), and fds[0] is read and fds[1] written as its near end;
 * one socket may be both. Yields. */
GuestExec *guestexec_start(GuestLink *link, const InstExecSpec *spec, int width, int height,
                           GError **error);
void guestexec_signal(GuestExec *exec, int number);
void guestexec_resize(GuestExec *exec, int width, int height);
/* Until the command has ended and what it wrote is passed on. Code as a shell's. Yields. */
bool guestexec_wait(GuestExec *exec, GCancellable *cancel, int *ret_code, GError **error);
/* Kills what still runs. Yields, until its fibers have let go. */
void guestexec_free(GuestExec *exec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestExec, guestexec_free)
