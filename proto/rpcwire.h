/* rpcwire.h: the byte stream below JSON-RPC: unix:, tcp: or ssl: (TLS), never blocking.
 * Threads: main loop. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>

typedef struct RpcWire RpcWire;

/* PEM texts; NULL members are not used. */
typedef struct {
    const char *ca_pem, *cert_pem, *key_pem;
} RpcWireTls;

/* "unix:PATH", "tcp:HOST:PORT", "ssl:HOST:PORT", IPv6 in brackets: is it one? INVALID otherwise. */
bool rpcwire_check(const char *remote, GError **error);
/* Connects, with the TLS handshake where there is one: the peer's certificate must be of 'ca_pem'
 * (its name is not compared, as with all OVS tools). UNAVAILABLE, DENIED for a certificate. Yields. */
RpcWire *rpcwire_open(const char *remote, const RpcWireTls *tls, gint64 wait_ms,
                      GCancellable *cancel, GError **error);
void rpcwire_close(RpcWire *wire);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcWire, rpcwire_close)
int rpcwire_fd(const RpcWire *wire);
/* Bytes moved; 0 when it would block; -1 with *error at the end of the stream or on failure. */
gssize rpcwire_read(RpcWire *wire, void *bytes, size_t size, GError **error);
gssize rpcwire_write(RpcWire *wire, const void *bytes, size_t size, GError **error);
