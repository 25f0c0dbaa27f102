/* Certificates on the client's side, by GnuTLS.
 * I1  The key is written with mode 0600 before the certificate: a certificate without key never is.
 * Called by rest.c, link.c, cmd_remote.c and cmd_trust.c. */
#include "ctl/identity.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"

enum { CERT_DAYS = 3650 };

/* Sets the error when 'code' is one of GnuTLS. */
static bool
tls_ok(int code, const char *step, GError **error)
{
    return code >= 0 || haw_fail(error, HAW_FAILED, "%s: %s", step, gnutls_strerror(code));
}

static void
datum_clear(gnutls_datum_t *datum)
{
    gnutls_free(datum->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(gnutls_datum_t, datum_clear)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crt_t, gnutls_x509_crt_deinit, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_privkey_t, gnutls_x509_privkey_deinit, NULL)

static bool
fill_certificate(gnutls_x509_crt_t cert, gnutls_x509_privkey_t key, GError **error)
{
    unsigned char serial[16];
    ids_random(serial, sizeof serial);
    serial[0] &= 0x7f;
    g_autofree char *name = g_strdup_printf("%s@%s", g_get_user_name(), g_get_host_name());
    time_t now = time(NULL);
    return tls_ok(gnutls_x509_crt_set_version(cert, 3), "certificate version", error) &&
           tls_ok(gnutls_x509_crt_set_serial(cert, serial, sizeof serial), "serial", error) &&
           tls_ok(gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                                (unsigned) strlen(name)),
                  "certificate name", error) &&
           tls_ok(gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_ORGANIZATION_NAME, 0,
                                                "hawser", 6),
                  "certificate name", error) &&
           tls_ok(gnutls_x509_crt_set_activation_time(cert, now - 3600), "start", error) &&
           tls_ok(gnutls_x509_crt_set_expiration_time(cert, now + CERT_DAYS * 86400L), "end",
                  error) &&
           tls_ok(gnutls_x509_crt_set_key_usage(cert, GNUTLS_KEY_DIGITAL_SIGNATURE |
                                                          GNUTLS_KEY_KEY_ENCIPHERMENT),
                  "key usage", error) &&
           tls_ok(gnutls_x509_crt_set_key_purpose_oid(cert, GNUTLS_KP_TLS_WWW_CLIENT, 0),
                  "key purpose", error) &&
           tls_ok(gnutls_x509_crt_set_key(cert, key), "certificate key", error) &&
           tls_ok(gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA384, 0), "sign", error);
}

static bool
make_pair(const char *cert_path, const char *key_path, GError **error)
{
    g_auto(gnutls_x509_privkey_t) key = NULL;
    g_auto(gnutls_x509_crt_t) cert = NULL;
    g_auto(gnutls_datum_t) key_pem = {0}, cert_pem = {0};
    gnutls_x509_privkey_init(&key);
    gnutls_x509_crt_init(&cert);
    unsigned bits = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1);
    return tls_ok(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, bits, 0), "make a key",
                  error) &&
           fill_certificate(cert, key, error) &&
           tls_ok(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem), "key", error) &&
           tls_ok(gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &cert_pem), "cert", error) &&
           fd_write_atomic(key_path, key_pem.data, key_pem.size, 0600, error) && /* I1 */
           fd_write_atomic(cert_path, cert_pem.data, cert_pem.size, 0644, error);
}

bool
identity_ensure(Remotes *remotes, char **ret_cert_path, char **ret_key_path, GError **error)
{
    g_autofree char *cert = remotes_path(remotes, "client.crt", error);
    g_autofree char *key = cert != NULL ? remotes_path(remotes, "client.key", error) : NULL;
    if (key == NULL) {
        return false;
    }
    if (access(cert, R_OK) != 0 || access(key, R_OK) != 0) {
        g_autofree char *folder = g_path_get_dirname(cert);
        if (!make_pair(cert, key, error)) {
            return haw_push(error, "make a client certificate in '%s'", folder);
        }
        g_printerr("Made a client certificate in '%s'.\n", folder);
    }
    *ret_cert_path = g_steal_pointer(&cert);
    *ret_key_path = g_steal_pointer(&key);
    return true;
}

static bool
import_pem(const char *pem, gnutls_x509_crt_t *ret_cert, GError **error)
{
    g_auto(gnutls_x509_crt_t) cert = NULL;
    gnutls_datum_t text = {.data = (unsigned char *) pem, .size = (unsigned) strlen(pem)};
    gnutls_x509_crt_init(&cert);
    if (!tls_ok(gnutls_x509_crt_import(cert, &text, GNUTLS_X509_FMT_PEM), "read a certificate",
                error)) {
        return haw_recode(error, HAW_INVALID);
    }
    *ret_cert = g_steal_pointer(&cert);
    return true;
}

static bool
export_der(const char *pem, gnutls_datum_t *ret_der, GError **error)
{
    g_auto(gnutls_x509_crt_t) cert = NULL;
    return import_pem(pem, &cert, error) &&
           tls_ok(gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_DER, ret_der), "certificate",
                  error);
}

char *
identity_fingerprint(const char *pem, GError **error)
{
    g_auto(gnutls_datum_t) der = {0};
    if (!export_der(pem, &der, error)) {
        return NULL;
    }
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, der.data, der.size);
}

char *
identity_der_base64(const char *pem, GError **error)
{
    g_auto(gnutls_datum_t) der = {0};
    if (!export_der(pem, &der, error)) {
        return NULL;
    }
    return g_base64_encode(der.data, der.size);
}

char *
identity_pin(const char *pem, GError **error)
{
    g_auto(gnutls_x509_crt_t) cert = NULL;
    if (!import_pem(pem, &cert, error)) {
        return NULL;
    }
    unsigned char id[32];
    size_t size = sizeof id;
    if (!tls_ok(gnutls_x509_crt_get_key_id(cert, GNUTLS_KEYID_USE_SHA256, id, &size), "key id",
                error)) {
        return NULL;
    }
    g_autofree char *base64 = g_base64_encode(id, size);
    return g_strconcat("sha256//", base64, NULL);
}

bool
identity_describe(const char *pem, char **ret_name, char **ret_from, char **ret_until,
                  GError **error)
{
    g_auto(gnutls_x509_crt_t) cert = NULL;
    if (!import_pem(pem, &cert, error)) {
        return false;
    }
    char name[256] = "";
    size_t size = sizeof name;
    if (gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) < 0) {
        name[0] = '\0';
    }
    *ret_name = g_strdup(name);
    *ret_from = clock_format((gint64) gnutls_x509_crt_get_activation_time(cert) * G_USEC_PER_SEC);
    *ret_until = clock_format((gint64) gnutls_x509_crt_get_expiration_time(cert) * G_USEC_PER_SEC);
    return true;
}
