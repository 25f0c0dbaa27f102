/* tlsfront.h: a listening socket for TLS; what comes out of it are plain connections.
 * Threads: main loop. */
#pragma once
#include "base/error.h"
#include <sys/socket.h>

typedef struct TlsFront TlsFront;
/* A client whose handshake succeeded: the plain end of its connection (given), its address, and the
 * certificate that it showed (DER, borrowed; NULL: none), which nobody has checked. */
typedef void (*TlsFrontFn)(int *fd, const struct sockaddr *address, socklen_t size,
                           GBytes *certificate, void *data);

/* Whether a peer is a proxy that may tell whose connection it passes on. */
typedef bool (*TlsFrontProxyFn)(const struct sockaddr *address, socklen_t size, void *data);

typedef struct {
    const char *cert_pem, *key_pem;
    TlsFrontProxyFn is_proxy;
    const char *ca_pem; /* clients are told to show a certificate of this one; NULL: any */
} TlsFrontSpec;
/* Takes the listening socket. INVALID for a certificate or key that can't be used. */
TlsFront *tlsfront_new(int *fd, const TlsFrontSpec *spec, TlsFrontFn fn, void *data,
                       GError **error);
/* No new connections; what came out lives on. */
void tlsfront_close(TlsFront *front);
void tlsfront_free(TlsFront *front);
