/* PKI mode: server.ca and ca.crl in the agent's directory.
 * A certificate is the authority's when its signature verifies with the authority's key and the issuer
 * is the authority's subject; it is revoked when the list has its serial number. Called by trust.c. */
#include "proto/x509ca.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

struct X509Ca {
    gnutls_x509_crt_t crt;
    gnutls_x509_crl_t crl; /* NULL: nothing is revoked */
};

void
x509ca_free(X509Ca *ca)
{
    if (ca == NULL) {
        return;
    }
    if (ca->crl != NULL) {
        gnutls_x509_crl_deinit(ca->crl);
    }
    if (ca->crt != NULL) {
        gnutls_x509_crt_deinit(ca->crt);
    }
    g_free(ca);
}

X509Ca *
x509ca_new(const char *ca_pem, const char *crl_pem, GError **error)
{
    g_autoptr(X509Ca) ca = g_new0(X509Ca, 1);
    gnutls_datum_t text = {(unsigned char *) ca_pem, (unsigned) strlen(ca_pem)};
    int status = gnutls_x509_crt_init(&ca->crt);
    status = status < 0 ? status : gnutls_x509_crt_import(ca->crt, &text, GNUTLS_X509_FMT_PEM);
    if (status < 0) {
        haw_fail(error, HAW_INVALID, "Invalid CA certificate: %s", gnutls_strerror(status));
        return NULL;
    }
    if (crl_pem == NULL) {
        return g_steal_pointer(&ca);
    }
    text = (gnutls_datum_t){(unsigned char *) crl_pem, (unsigned) strlen(crl_pem)};
    status = gnutls_x509_crl_init(&ca->crl);
    status = status < 0 ? status : gnutls_x509_crl_import(ca->crl, &text, GNUTLS_X509_FMT_PEM);
    if (status < 0) {
        haw_fail(error, HAW_INVALID, "Invalid revocation list: %s", gnutls_strerror(status));
        return NULL;
    }
    return g_steal_pointer(&ca);
}

X509CaVerdict
x509ca_judge(const X509Ca *ca, const guint8 *der, size_t size)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_datum_t bytes = {(unsigned char *) der, (unsigned) size};
    const unsigned flags = GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
                           GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS |
                           GNUTLS_VERIFY_DISABLE_CRL_CHECKS;
    unsigned why = 0;
    X509CaVerdict verdict = X509CA_STRANGER;
    if (gnutls_x509_crt_init(&crt) < 0) {
        return verdict;
    }
    if (gnutls_x509_crt_import(crt, &bytes, GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_crt_check_issuer(crt, ca->crt) == 1 &&
        gnutls_x509_crt_verify(crt, &ca->crt, 1, flags, &why) == 0 && why == 0) {
        bool revoked = ca->crl != NULL &&
                       gnutls_x509_crt_check_revocation(crt, &(gnutls_x509_crl_t){ca->crl}, 1) == 1;
        verdict = revoked ? X509CA_REVOKED : X509CA_SIGNED;
    }
    gnutls_x509_crt_deinit(crt);
    return verdict;
}
