/* x509ca.h: an authority that signs clients' certificates, and its list of those it took back.
 * Threads: any; an X509Ca does not change. */
#pragma once
#include "base/error.h"
#include <stddef.h>

typedef struct X509Ca X509Ca;

/* The first certificate of 'ca_pem'; 'crl_pem' may be NULL. INVALID when either is no such thing. */
X509Ca *x509ca_new(const char *ca_pem, const char *crl_pem, GError **error);
void x509ca_free(X509Ca *ca);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509Ca, x509ca_free)

typedef enum {
    X509CA_STRANGER, /* of another issuer, or no certificate at all */
    X509CA_SIGNED,
    X509CA_REVOKED,
} X509CaVerdict;
/* Dates are not looked at: x509_read() tells them. */
X509CaVerdict x509ca_judge(const X509Ca *ca, const guint8 *der, size_t size);
