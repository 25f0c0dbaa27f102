/* proto/x509.c: certificates of our own are what peers expect of them. */
#include "proto/x509.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

static void
made_pair_fits_together(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *cert = NULL, *key = NULL;
    g_assert_true(x509_make("root@host", "host", true, &cert, &key, &error));
    g_assert_no_error(error);

    gnutls_certificate_credentials_t creds;
    gnutls_datum_t cert_datum = {(unsigned char *) cert, (unsigned) strlen(cert)};
    gnutls_datum_t key_datum = {(unsigned char *) key, (unsigned) strlen(key)};
    gnutls_certificate_allocate_credentials(&creds);
    g_assert_cmpint(
        gnutls_certificate_set_x509_key_mem(creds, &cert_datum, &key_datum, GNUTLS_X509_FMT_PEM),
        ==, 0);
    gnutls_certificate_free_credentials(creds);

    size_t size;
    g_autofree guint8 *der = x509_pem_to_der(cert, &size, &error);
    X509Facts facts;
    g_assert_true(x509_read(der, size, &facts, &error));
    g_assert_cmpstr(facts.common_name, ==, "root@host");
    g_assert_cmpint(facts.not_after_us - facts.not_before_us, >, 3650 * G_TIME_SPAN_DAY - 1);
    g_free(facts.common_name);
}

static void
encodings_go_back_and_forth(void)
{
    g_autofree char *cert = NULL, *key = NULL;
    size_t size, again_size;
    g_assert_true(x509_make("a", "host", false, &cert, &key, NULL));
    g_autofree guint8 *der = x509_pem_to_der(cert, &size, NULL);
    g_autofree char *pem = x509_der_to_pem(der, size, NULL);
    g_assert_cmpstr(pem, ==, cert);
    g_autofree guint8 *again = x509_pem_to_der(pem, &again_size, NULL);
    g_autofree char *left = x509_fingerprint(der, size);
    g_autofree char *right = x509_fingerprint(again, again_size);
    g_assert_cmpstr(left, ==, right);
    g_assert_cmpuint(strlen(left), ==, 64);
}

static void
other_bytes_are_refused(void)
{
    static const char *const bad[] = {"", "x", "-----BEGIN CERTIFICATE-----\n", "\x30\x82\x01"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        X509Facts facts;
        size_t size;
        g_assert_false(x509_read((const guint8 *) bad[i], strlen(bad[i]), &facts, &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
        g_assert_null(x509_pem_to_der(bad[i], &size, NULL));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x509/made-pair-fits-together", made_pair_fits_together);
    g_test_add_func("/x509/encodings-go-back-and-forth", encodings_go_back_and_forth);
    g_test_add_func("/x509/other-bytes-are-refused", other_bytes_are_refused);
    return g_test_run();
}
