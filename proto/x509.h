/* x509.h: self-signed certificates as LXD's peers use them: made, read, and told apart by the
 * SHA-256 of their DER. Threads: any. */
#pragma once
#include "base/error.h"
#include <stddef.h>

/* A new ECDSA P-384 key and its certificate for ten years, as PEM; callers free. 'common_name' is
 * "root@host"; 'server' tells what it may be used for. */
bool x509_make(const char *common_name, const char *host, bool server, char **ret_cert_pem,
               char **ret_key_pem, GError **error);
/* Lower-case hex; caller frees. */
char *x509_fingerprint(const guint8 *der, size_t size);
/* Between the two encodings; INVALID when it is no certificate. */
char *x509_der_to_pem(const guint8 *der, size_t size, GError **error);
guint8 *x509_pem_to_der(const char *pem, size_t *ret_size, GError **error);
typedef struct {
    char *common_name; /* owned; "" without */
    gint64 not_before_us, not_after_us;
} X509Facts;
/* INVALID "Invalid certificate material: …". */
bool x509_read(const guint8 *der, size_t size, X509Facts *ret_facts, GError **error);
