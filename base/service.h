/* service.h: what systemd and we tell each other: sockets that it opened for us, states that we reach.
 * Two lines of protocol each, so that its library (with a cipher suite behind it) stays out of the
 * agent. Threads: main loop, before others start. */
#pragma once
#include "base/error.h"

/* The one socket that systemd passed (LISTEN_FDS), close-on-exec from now on; -1 when it passed none or
 * several. Children don't inherit the variables. */
int service_listen_fd(void);
/* "READY=1", "STOPPING=1": nothing happens when nobody listens at NOTIFY_SOCKET. */
void service_notify(const char *state);
