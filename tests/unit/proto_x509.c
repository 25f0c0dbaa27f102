/* proto/x509.c: certificates of our own are what peers expect of them. */
#include "proto/x509.h"
#include "proto/x509ca.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <unistd.h>

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

/* openssl makes what an authority makes: x509.c only signs itself. */
static char *
openssl(const char *dir, const char *line)
{
    g_autofree char *script = g_strdup_printf("cd '%s' && %s", dir, line);
    const char *argv[] = {"sh", "-c", script, NULL};
    g_autofree char *out = NULL;
    int status = -1;
    g_assert_true(g_spawn_sync(NULL, (char **) argv, NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &out,
                               NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    return g_steal_pointer(&out);
}

static X509CaVerdict
judged(const char *ca_pem, const char *crl_pem, const char *pem)
{
    size_t size;
    g_autofree guint8 *der = x509_pem_to_der(pem, &size, NULL);
    g_autoptr(X509Ca) ca = x509ca_new(ca_pem, crl_pem, NULL);
    g_assert_nonnull(ca);
    return x509ca_judge(ca, der, size);
}

static void
an_authority_knows_whom_it_signed_and_whom_it_took_back(void)
{
    g_autofree char *program = g_find_program_in_path("openssl");
    if (program == NULL) {
        g_test_skip("'openssl' is not installed");
        return;
    }
    g_autofree char *dir = g_dir_make_tmp("x509ca-XXXXXX", NULL);
    g_free(openssl(dir,
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
                   "-keyout ca.key -out ca.pem -subj /CN=ca"));
    g_free(openssl(dir, "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                        "-keyout c.key -out c.req -subj /CN=client"));
    g_free(openssl(dir,
                   "openssl x509 -req -in c.req -CA ca.pem -CAkey ca.key -set_serial 7 -days 9 "
                   "-out c.pem"));
    g_free(openssl(dir, ": >index && printf 'database=index\\ndefault_md=sha256\\n' >body && "
                        "printf '[ca]\\ndefault_ca=x\\n[x]\\n' | cat - body >conf && "
                        "openssl ca -config conf -keyfile ca.key -cert ca.pem -revoke c.pem && "
                        "openssl ca -config conf -keyfile ca.key -cert ca.pem -gencrl -crldays 9 "
                        "-out crl.pem"));
    g_autofree char *ca = openssl(dir, "cat ca.pem"), *client = openssl(dir, "cat c.pem");
    g_autofree char *crl = openssl(dir, "cat crl.pem");
    g_autofree char *other = NULL, *key = NULL;
    g_assert_true(x509_make("client", "host", false, &other, &key, NULL));

    g_assert_cmpint(judged(ca, NULL, client), ==, X509CA_SIGNED);
    g_assert_cmpint(judged(ca, crl, client), ==, X509CA_REVOKED);
    g_assert_cmpint(judged(ca, NULL, other), ==, X509CA_STRANGER);
    g_assert_cmpint(judged(other, NULL, client), ==, X509CA_STRANGER);
    g_free(openssl(dir, "rm -f *"));
    rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x509/made-pair-fits-together", made_pair_fits_together);
    g_test_add_func("/x509/encodings-go-back-and-forth", encodings_go_back_and_forth);
    g_test_add_func("/x509/other-bytes-are-refused", other_bytes_are_refused);
    g_test_add_func("/x509/an-authority-knows-whom-it-signed-and-whom-it-took-back",
                    an_authority_knows_whom_it_signed_and_whom_it_took_back);
    return g_test_run();
}
