/* mux.h: the guest's loop: frames of the port, streams of the children.
 * Threads: the only one. */
#pragma once
#include <stdbool.h>

/* Serves the port; returns when it has ended (it was unplugged, or is no port but a socket). */
void mux_run(int port);
