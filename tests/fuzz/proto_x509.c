/* Any bytes as a client's certificate, PEM or DER, and as an authority with its list: no crash, a refusal is
 * INVALID, and nobody is signed by an authority that did not make it. */
#include "proto/x509.h"
#include "proto/x509ca.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
as_der(const uint8_t *bytes, size_t size)
{
    g_autoptr(GError) error = NULL;
    X509Facts facts;
    if (!x509_read(bytes, size, &facts, &error)) {
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
        return;
    }
    g_free(facts.common_name);
    g_autofree char *print = x509_fingerprint(bytes, size);
    g_assert_cmpuint(strlen(print), ==, 64);
    g_autofree char *pem = x509_der_to_pem(bytes, size, NULL);
    g_assert_nonnull(pem);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static X509Ca *ours;
    if (ours == NULL) {
        g_autofree char *cert = NULL, *key = NULL;
        g_assert_true(x509_make("authority", "host", true, &cert, &key, NULL));
        ours = x509ca_new(cert, NULL, NULL);
        g_assert_nonnull(ours);
    }
    g_autofree char *text = g_strndup(size > 0 ? (const char *) bytes : "", size);
    g_autoptr(GError) error = NULL;
    size_t der_size = 0;

    as_der(bytes, size);
    g_assert_cmpint(x509ca_judge(ours, bytes, size), ==, X509CA_STRANGER);
    g_autofree guint8 *der = x509_pem_to_der(text, &der_size, NULL);
    if (der != NULL) {
        as_der(der, der_size);
    }
    g_autoptr(X509Ca) ca = x509ca_new(text, text, &error);
    if (ca == NULL) {
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
    return 0;
}
