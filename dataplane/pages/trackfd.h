/* trackfd.h: a userfaultfd in the address space of another, running process.
 * Kernel: ptrace(2), pidfd_getfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
 * Threads: any, one call a process at a time; the caller becomes its tracer for the moment. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* Stops the process's main thread for some tens of microseconds, has it open a userfaultfd (user mode
 * only, close on exec), takes that and has it close its own. The caller owns the descriptor. DENIED
 * when the process may not be traced, UNSUPPORTED on a machine other than x86-64. */
int trackfd_open(pid_t pid, GError **error);
