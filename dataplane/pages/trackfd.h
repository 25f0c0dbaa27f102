/* trackfd.h: a userfaultfd in the address space of another, running process.
 * Kernel: ptrace(2), pidfd_getfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
 * Threads: any, one call a process at a time; the caller becomes its tracer for the moment. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

enum trackfd {
    TRACKFD_OURS, /* of faults in user mode only; the process closes its own: it ends with us */
    TRACKFD_KEPT, /* of the kernel's faults, too; stays open in the process: what it holds back stays held
                     back when we die */
};

/* Stops the process's main thread for some tens of microseconds, has it open a userfaultfd (close on
 * exec), and takes that. The caller owns the descriptor. DENIED when the process may not be traced,
 * UNSUPPORTED on a machine other than x86-64. */
int trackfd_open(pid_t pid, enum trackfd kind, GError **error);
