/* X.509 by GnuTLS: the few things that both ends of a connection need.
 * X1  Nothing here trusts anything: a certificate is only ever compared by its fingerprint. */
#include "proto/x509.h"

#include "base/ids.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>

enum { X509_YEARS = 10 };

typedef struct gnutls_x509_crt_int Crt;
typedef struct gnutls_x509_privkey_int Privkey;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Crt, gnutls_x509_crt_deinit)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Privkey, gnutls_x509_privkey_deinit)

static bool
fail_gnutls(int status, const char *what, GError **error)
{
    return haw_fail(error, HAW_FAILED, "%s: %s", what, gnutls_strerror(status));
}

/* GnuTLS's datum as our text. */
static char *
take_text(gnutls_datum_t *datum)
{
    char *text = g_strndup((const char *) datum->data, datum->size);
    gnutls_free(datum->data);
    return text;
}

/* Subject, validity, uses and names; the key is set by the caller. */
static int
describe(gnutls_x509_crt_t crt, const char *common_name, const char *host, bool server)
{
    guint8 serial[16];
    time_t now = time(NULL);
    struct tm later;
    const guint8 localhost4[4] = {127, 0, 0, 1}, localhost6[16] = {[15] = 1};

    ids_random(serial, sizeof serial);
    serial[0] &= 0x7f; /* RFC 5280: positive */
    gmtime_r(&now, &later);
    later.tm_year += X509_YEARS;

    int status = gnutls_x509_crt_set_version(crt, 3);
#define STEP(call) status = status < 0 ? status : (call)
    STEP(gnutls_x509_crt_set_serial(crt, serial, sizeof serial));
    STEP(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "hawser", 6));
    STEP(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, common_name,
                                       (unsigned) strlen(common_name)));
    STEP(gnutls_x509_crt_set_activation_time(crt, now));
    STEP(gnutls_x509_crt_set_expiration_time(crt, timegm(&later)));
    STEP(gnutls_x509_crt_set_basic_constraints(crt, 0, -1));
    STEP(gnutls_x509_crt_set_key_usage(crt,
                                       GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT));
    STEP(gnutls_x509_crt_set_key_purpose_oid(
        crt, server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT, 0));
    if (server) {
        STEP(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host,
                                                  (unsigned) strlen(host), GNUTLS_FSAN_SET));
        STEP(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, localhost4,
                                                  sizeof localhost4, GNUTLS_FSAN_APPEND));
        STEP(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, localhost6,
                                                  sizeof localhost6, GNUTLS_FSAN_APPEND));
    }
#undef STEP
    return status;
}

bool
x509_make(const char *common_name, const char *host, bool server, char **ret_cert_pem,
          char **ret_key_pem, GError **error)
{
    g_autoptr(Crt) crt = NULL;
    g_autoptr(Privkey) key = NULL;
    gnutls_datum_t cert_out = {NULL, 0}, key_out = {NULL, 0};

    int status = gnutls_x509_privkey_init(&key);
    status = status < 0
                 ? status
                 : gnutls_x509_privkey_generate(
                       key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), 0);
    status = status < 0 ? status : gnutls_x509_crt_init(&crt);
    status = status < 0 ? status : describe(crt, common_name, host, server);
    status = status < 0 ? status : gnutls_x509_crt_set_key(crt, key);
    status = status < 0 ? status : gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA384, 0);
    status = status < 0 ? status : gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_out);
    status = status < 0 ? status : gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_out);
    if (status < 0) {
        gnutls_free(cert_out.data);
        return fail_gnutls(status, "make a certificate", error);
    }
    *ret_cert_pem = take_text(&cert_out);
    *ret_key_pem = take_text(&key_out);
    return true;
}

char *
x509_fingerprint(const guint8 *der, size_t size)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, der, size);
}

static Crt *
import(const void *bytes, size_t size, gnutls_x509_crt_fmt_t format, GError **error)
{
    g_autoptr(Crt) crt = NULL;
    gnutls_datum_t datum = {(unsigned char *) bytes, (unsigned) size};
    int status = gnutls_x509_crt_init(&crt);
    status = status < 0 ? status : gnutls_x509_crt_import(crt, &datum, format);
    if (status < 0) {
        haw_fail(error, HAW_INVALID, "Invalid certificate material: %s", gnutls_strerror(status));
        return NULL;
    }
    return g_steal_pointer(&crt);
}

char *
x509_der_to_pem(const guint8 *der, size_t size, GError **error)
{
    g_autoptr(Crt) crt = import(der, size, GNUTLS_X509_FMT_DER, error);
    gnutls_datum_t out;
    if (crt == NULL) {
        return NULL;
    }
    int status = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &out);
    if (status < 0) {
        fail_gnutls(status, "write a certificate", error);
        return NULL;
    }
    return take_text(&out);
}

guint8 *
x509_pem_to_der(const char *pem, size_t *ret_size, GError **error)
{
    g_autoptr(Crt) crt = import(pem, strlen(pem), GNUTLS_X509_FMT_PEM, error);
    gnutls_datum_t out;
    if (crt == NULL) {
        return NULL;
    }
    int status = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &out);
    if (status < 0) {
        fail_gnutls(status, "write a certificate", error);
        return NULL;
    }
    guint8 *der = g_memdup2(out.data, out.size);
    *ret_size = out.size;
    gnutls_free(out.data);
    return der;
}

bool
x509_read(const guint8 *der, size_t size, X509Facts *ret_facts, GError **error)
{
    g_autoptr(Crt) crt = import(der, size, GNUTLS_X509_FMT_DER, error);
    char name[256];
    size_t length = sizeof name;
    if (crt == NULL) {
        return false;
    }
    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &length) < 0) {
        length = 0;
    }
    char *text = g_strndup(name, length);
    ret_facts->common_name = g_utf8_make_valid(text, -1);
    g_free(text);
    ret_facts->not_before_us = (gint64) gnutls_x509_crt_get_activation_time(crt) * G_USEC_PER_SEC;
    ret_facts->not_after_us = (gint64) gnutls_x509_crt_get_expiration_time(crt) * G_USEC_PER_SEC;
    return true;
}
