/* Trust: the server's own key pair, and whose certificates we know.
 * T1  A peer is known by the SHA-256 of its certificate's DER, and by nothing else in it; one that
 *     is not yet or no longer valid is a stranger.
 * T2  Memory holds what the table holds: every change goes to the rows first.
 * T3  The private key never leaves server.key (mode 0600) and this process's memory.
 * T4  With server.ca in the directory only certificates that this authority signed, and did not take
 *     back (ca.crl), are looked at; core.trust_ca_certificates makes its signature enough.
 * Main loop only; the REST side is certificates.c. */
#include "agent/auth/trust.h"

#include "agent/api/settings.h"
#include "agent/state/db.h"
#include "agent/state/trust_rows.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/x509.h"
#include "proto/x509ca.h"

#include <string.h>
#include <unistd.h>

enum { TRUST_FILE_MAX = 256 * 1024 };

struct Trust {
    Agent *agent;
    char *cert_pem, *key_pem, *fingerprint;
    char *ca_pem; /* NULL without an authority */
    X509Ca *ca;
    json_t *certs; /* array, by fingerprint */
};

static bool
make_identity(Trust *trust, const char *cert_path, const char *key_path, GError **error)
{
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
    g_autofree char *name = g_strdup_printf("root@%.48s", host); /* a CN has 64 bytes at most */
    haw_info("trust.identity-made", KS("path", cert_path));
    return x509_make(name, host, true, &trust->cert_pem, &trust->key_pem, error) &&
           fd_write_atomic(key_path, trust->key_pem, strlen(trust->key_pem), 0600,
                           error) && /* T3 */
           fd_write_atomic(cert_path, trust->cert_pem, strlen(trust->cert_pem), 0644, error);
}

static bool
load_identity(Trust *trust, GError **error)
{
    g_autofree char *cert_path = agent_path(trust->agent, "server.crt");
    g_autofree char *key_path = agent_path(trust->agent, "server.key");
    g_autofree guint8 *der = NULL;
    size_t size;

    if (access(cert_path, F_OK) != 0 || access(key_path, F_OK) != 0) {
        if (!make_identity(trust, cert_path, key_path, error)) {
            return false;
        }
    } else {
        trust->cert_pem = fd_read_file(cert_path, TRUST_FILE_MAX, &size, error);
        trust->key_pem =
            trust->cert_pem != NULL ? fd_read_file(key_path, TRUST_FILE_MAX, &size, error) : NULL;
        if (trust->key_pem == NULL) {
            return false;
        }
    }
    der = x509_pem_to_der(trust->cert_pem, &size, error);
    if (der == NULL) {
        return haw_push(error, "read '%s'", cert_path);
    }
    trust->fingerprint = x509_fingerprint(der, size);
    return true;
}

/* T4 */
static bool
load_authority(Trust *trust, GError **error)
{
    g_autofree char *ca_path = agent_path(trust->agent, "server.ca");
    g_autofree char *crl_path = agent_path(trust->agent, "ca.crl");
    g_autofree char *crl = NULL;

    if (access(ca_path, F_OK) != 0) {
        return true;
    }
    trust->ca_pem = fd_read_file(ca_path, TRUST_FILE_MAX, NULL, error);
    if (trust->ca_pem == NULL) {
        return false;
    }
    if (access(crl_path, F_OK) == 0) {
        crl = fd_read_file(crl_path, TRUST_FILE_MAX, NULL, error);
        if (crl == NULL) {
            return false;
        }
    }
    trust->ca = x509ca_new(trust->ca_pem, crl, error);
    if (trust->ca == NULL) {
        return haw_push(error, "read '%s'", ca_path);
    }
    haw_info("trust.authority", KS("path", ca_path));
    return true;
}

static bool
load_rows(DbTx *tx, void *data, GError **error)
{
    *(json_t **) data = trust_rows_load(tx, error);
    return *(json_t **) data != NULL;
}

bool
trust_reload(Trust *trust, GError **error)
{
    json_t *certs = NULL;
    if (!db_read(trust->agent->db, load_rows, &certs, error)) {
        return haw_push(error, "load the trust store");
    }
    json_decref(trust->certs);
    trust->certs = certs;
    return true;
}

Trust *
trust_load(Agent *agent, GError **error)
{
    Trust *trust = g_new0(Trust, 1);
    trust->agent = agent;
    if (!load_identity(trust, error) || !load_authority(trust, error) ||
        !trust_reload(trust, error)) {
        trust_free(trust);
        return NULL;
    }
    return trust;
}

void
trust_free(Trust *trust)
{
    if (trust == NULL) {
        return;
    }
    if (trust->key_pem != NULL) {
        explicit_bzero(trust->key_pem, strlen(trust->key_pem));
    }
    g_free(trust->key_pem);
    x509ca_free(trust->ca);
    g_free(trust->ca_pem);
    g_free(trust->cert_pem);
    g_free(trust->fingerprint);
    json_decref(trust->certs);
    g_free(trust);
}

const char *
trust_server_cert_pem(Trust *trust)
{
    return trust->cert_pem;
}

const char *
trust_ca_pem(Trust *trust)
{
    return trust->ca_pem;
}

const char *
trust_server_key_pem(Trust *trust)
{
    return trust->key_pem;
}

const char *
trust_server_fingerprint(Trust *trust)
{
    return trust->fingerprint;
}

static const char *
field(json_t *cert, const char *name)
{
    const char *value = json_string_value(json_object_get(cert, name));
    return value != NULL ? value : "";
}

static json_t *
exact(Trust *trust, const char *fingerprint)
{
    json_t *cert;
    size_t i;

    json_array_foreach (trust->certs, i, cert) {
        if (strcmp(field(cert, "fingerprint"), fingerprint) == 0) {
            return cert;
        }
    }
    return NULL;
}

static char **
project_names(json_t *cert)
{
    json_t *projects = json_object_get(cert, "projects"), *name;
    char **names = g_new0(char *, json_array_size(projects) + 1);
    size_t i;

    json_array_foreach (projects, i, name) {
        names[i] = g_strdup(json_string_value(name));
    }
    return names;
}

static bool
valid_now(const guint8 *der, size_t size)
{
    X509Facts facts;
    gint64 now = clock_real_us();
    if (!x509_read(der, size, &facts, NULL)) {
        return false;
    }
    g_free(facts.common_name);
    return facts.not_before_us <= now && now <= facts.not_after_us;
}

void
trust_identify(Trust *trust, const guint8 *der, size_t size, Caller *ret_caller)
{
    g_autofree char *fingerprint = size > 0 ? x509_fingerprint(der, size) : NULL;
    json_t *cert = fingerprint != NULL ? exact(trust, fingerprint) : NULL;

    ret_caller->kind = CALLER_UNTRUSTED;
    if (trust->ca != NULL && x509ca_judge(trust->ca, der, size) != X509CA_SIGNED) { /* T4 */
        return;
    }
    if (size > 0) {
        ret_caller->certificate = g_bytes_new(der, size);
    }
    bool by_ca = trust->ca != NULL &&
                 grammar_parse_bool(
                     settings_get(trust->agent->settings, "core.trust_ca_certificates"), false);
    if ((cert == NULL && !by_ca) || !valid_now(der, size)) { /* T1 */
        return;
    }
    ret_caller->kind = CALLER_TLS;
    ret_caller->protocol = g_strdup("tls");
    ret_caller->username = g_steal_pointer(&fingerprint);
    ret_caller->restricted = json_is_true(json_object_get(cert, "restricted"));
    ret_caller->projects = project_names(cert);
    ret_caller->metrics_only = strcmp(field(cert, "type"), "metrics") == 0;
}

json_t *
trust_list(Trust *trust)
{
    return trust->certs;
}

json_t *
trust_find(Trust *trust, const char *prefix, GError **error)
{
    json_t *cert, *found = NULL;
    size_t i;

    json_array_foreach (trust->certs, i, cert) {
        if (*prefix != '\0' && g_str_has_prefix(field(cert, "fingerprint"), prefix)) {
            if (found != NULL) {
                haw_fail(error, HAW_INVALID, "More than one certificate matches");
                return NULL;
            }
            found = cert;
        }
    }
    if (found == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Certificate not found");
    }
    return found;
}

struct change {
    const char *fingerprint; /* NULL: add */
    json_t *cert;            /* NULL: delete */
};

static bool
write_change(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    if (change->cert == NULL) {
        return trust_rows_delete(tx, change->fingerprint, error);
    }
    return change->fingerprint != NULL
               ? trust_rows_update(tx, change->fingerprint, change->cert, error)
               : trust_rows_add(tx, change->cert, error);
}

/* T2 */
static bool
store(Trust *trust, struct change change, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (db_write(trust->agent->db, write_change, &change, &why)) {
        return trust_reload(trust, error);
    }
    if (haw_code(why) == HAW_EXISTS) {
        return haw_fail(error, HAW_EXISTS, "Certificate already in trust store");
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
trust_add(Trust *trust, json_t *cert, GError **error)
{
    return store(trust, (struct change){NULL, cert}, error);
}

bool
trust_update(Trust *trust, const char *fingerprint, json_t *cert, GError **error)
{
    return store(trust, (struct change){fingerprint, cert}, error);
}

bool
trust_delete(Trust *trust, const char *fingerprint, GError **error)
{
    return store(trust, (struct change){fingerprint, NULL}, error);
}
