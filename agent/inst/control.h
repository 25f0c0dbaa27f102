/* control.h: the control WebSocket of exec and console operations: window size and signals.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/operation.h"

typedef struct Control Control;

/* Listens to the operation's "control" from now on, whenever it connects. Duplicates both
 * descriptors (-1: none): the pty's master, the pidfd of the command. 'closed' (may be NULL) is
 * cancelled when the client closes it. */
Control *control_start(Operation *op, int master, int pidfd, GCancellable *closed);
/* The command to signal, once it runs: by a pidfd, or (no pidfd) by calls of its own, which also take the
 * window's size; 'data' lives until control_stop(). */
typedef struct {
    void (*signal)(void *data, int number);
    void (*resize)(void *data, int width, int height);
    void *data;
} ControlSink;
void control_set_pidfd(Control *control, int pidfd);
void control_set_sink(Control *control, const ControlSink *sink);
/* Ends it; NULL is fine. */
void control_stop(Control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_stop)
/* The columns and rows of a pty; 0 leaves them. */
void control_resize(int master, int width, int height);
