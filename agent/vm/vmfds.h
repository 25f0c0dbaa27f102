/* vmfds.h: what QEMU is handed open when it starts. Threads: any, one at a time. */
#pragma once
#include <glib.h>

enum { VMFDS_FIRST = 3 };

/* An array of ints, which it closes in the end; g_array_unref() it. */
GArray *vmfds_new(void);
/* Takes *fd and leaves -1; returns its number in QEMU, -1 for -1. */
int vmfds_add(GArray *fds, int *fd);
