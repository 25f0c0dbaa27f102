/* tunnel.h: TLS on one side, plain bytes on the other.
 * Threads: a thread of the caller's own, for as long as the connection lives. */
#pragma once
#include <gnutls/gnutls.h>
#include <stdbool.h>

/* The handshake of a non-blocking session whose transport is 'net', wait_ms at most: a GnuTLS status,
 * 0 for success. */
int tunnel_handshake(gnutls_session_t session, int net, int wait_ms);
/* Carries bytes both ways until either side has ended; sends TLS's goodbye. The caller frees all three
 * afterwards. */
void tunnel_run(gnutls_session_t session, int net, int plain);
