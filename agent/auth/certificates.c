/* Certificates: /1.0/certificates: the trust store over REST, and how strangers get into it.
 * C1  A stranger is added only with a token of ours or the trust password; with a token it gets the
 *     name, projects and restriction of the token, whatever it asked for.
 * C2  A token works once, and until core.remote_token_expiry.
 * C3  A restricted caller sees and changes nothing but its own certificate's bytes.
 * Main loop, in fibers. */
#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/api/settings.h"
#include "agent/auth/password.h"
#include "agent/auth/project.h"
#include "agent/auth/trust.h"
#include "base/clock.h"
#include "base/ids.h"
#include "proto/grammar.h"
#include "proto/x509.h"

#include <string.h>

#define TOKEN_DESCRIPTION "Executing operation" /* LXD has no better words for it */

static const char *
field(json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "";
}

static bool
is_admin(const Caller *caller)
{
    return caller->kind != CALLER_UNTRUSTED && !caller->restricted && !caller->metrics_only;
}

/* ---- reading ---- */

static bool
may_see(const Caller *caller, json_t *cert)
{
    return !caller->restricted ||
           g_strcmp0(caller->username, field(cert, "fingerprint")) == 0; /* C3 */
}

static bool
list_all(Request *req, GError **error)
{
    json_t *list = json_array(), *cert;
    size_t i;

    json_array_foreach (trust_list(req_agent(req)->trust), i, cert) {
        if (!may_see(req_caller(req), cert)) {
            continue;
        }
        if (req_recursion(req) > 0) {
            json_array_append_new(list, json_deep_copy(cert));
        } else {
            json_array_append_new(list,
                                  json_sprintf("/1.0/certificates/%s", field(cert, "fingerprint")));
        }
    }
    return req_reply(req, list);
}

static json_t *
find(Request *req, GError **error)
{
    json_t *cert = trust_find(req_agent(req)->trust, req_arg(req, "fingerprint"), error);
    if (cert != NULL && !may_see(req_caller(req), cert)) {
        haw_fail(error, HAW_NOT_FOUND, "Certificate not found");
        return NULL;
    }
    return cert;
}

static bool
get(Request *req, GError **error)
{
    json_t *cert = find(req, error);
    return cert != NULL && req_reply_etag(req, json_deep_copy(cert), json_deep_copy(cert));
}

/* ---- what a body may say ---- */

static bool
check_type(json_t *body, GError **error)
{
    const char *type = field(body, "type");
    return strcmp(type, "client") == 0 || strcmp(type, "metrics") == 0 ||
           haw_fail(error, HAW_INVALID, "Invalid certificate type");
}

/* The list, checked to name projects that are there; a new reference. Yields. */
static json_t *
read_projects(Agent *agent, json_t *body, GError **error)
{
    json_t *given = json_object_get(body, "projects"), *name, *list = json_array();
    size_t i;

    json_array_foreach (given, i, name) {
        json_t *config =
            json_is_string(name) ? project_config(agent, json_string_value(name), error) : NULL;
        if (config == NULL) {
            if (!json_is_string(name)) {
                haw_fail(error, HAW_INVALID, "Project names must be strings");
            }
            json_decref(list);
            return NULL;
        }
        json_decref(config);
        json_array_append(list, name);
    }
    return list;
}

/* ---- adding ---- */

/* The request that a token was made with, a new reference; ends the token (C2). */
static json_t *
redeem_token(Agent *agent, const char *secret, GError **error)
{
    Operation *op = op_find_token(agent, TOKEN_DESCRIPTION, secret);
    if (op == NULL) {
        haw_fail(error, HAW_DENIED, "No matching certificate add operation found");
        return NULL;
    }
    json_t *shown = op_json(op), *metadata = json_object_get(shown, "metadata");
    json_t *request = json_incref(json_object_get(metadata, "request"));
    gint64 expires_at;
    bool expired = clock_parse(field(metadata, "expiresAt"), &expires_at) && expires_at > 0 &&
                   expires_at < clock_real_us();
    json_decref(shown);
    op_end_token(op);
    if (expired) {
        json_decref(request);
        haw_fail(error, HAW_FAILED,
                 "Failed during search for certificate add token operation: Token has expired");
        return NULL;
    }
    return request;
}

/* The secret inside the text that 'lxc config trust add' prints; NULL when it is no token. */
static char *
token_secret(const char *text)
{
    gsize size;
    if (strlen(text) < 16 || strlen(text) > 16384) {
        return NULL;
    }
    g_autofree guchar *bytes = g_base64_decode(text, &size);
    json_t *token = json_loadb((const char *) bytes, size, 0, NULL);
    char *secret = NULL;
    if (*field(token, "secret") != '\0' && *field(token, "fingerprint") != '\0' &&
        json_is_array(json_object_get(token, "addresses"))) {
        secret = g_strdup(field(token, "secret"));
    }
    json_decref(token);
    return secret;
}

/* C1: what a stranger may have added: the token's request, or its own. A new reference. Yields. */
static json_t *
admit_stranger(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    const char *password = field(req_json(req), "password");
    const char *hash = settings_get(agent->settings, "core.trust_password");

    if (*password != '\0') {
        g_autofree char *secret = token_secret(password);
        if (secret != NULL) {
            return redeem_token(agent, secret, error);
        }
        if (hash != NULL) {
            return password_check(hash, password, error) ? json_incref(req_json(req)) : NULL;
        }
    }
    haw_fail(error, HAW_DENIED, "not authorized");
    return NULL;
}

static bool
reply_token(Request *req, json_t *projects, GError **error)
{
    Agent *agent = req_agent(req);
    json_t *body = req_json(req);
    const char *expiry = settings_get(agent->settings, "core.remote_token_expiry");
    gint64 expires_at = grammar_expiry_after(expiry, clock_real_us());
    g_autofree char *secret = ids_secret(32), *expires = clock_format(expires_at);

    json_t *request = json_pack("{s:s,s:s,s:b,s:O,s:s,s:s,s:b}", "name", field(body, "name"),
                                "type", field(body, "type"), "restricted",
                                json_is_true(json_object_get(body, "restricted")), "projects",
                                projects, "certificate", "", "password", "", "token", 1);
    json_t *metadata =
        json_pack("{s:s,s:s,s:o,s:o,s:s}", "secret", secret, "fingerprint",
                  trust_server_fingerprint(agent->trust), "addresses",
                  server_addresses(agent->server), "request", request, "expiresAt", expires);
    return op_reply(req, (OpSpec){.class = OP_TOKEN,
                                  .description = TOKEN_DESCRIPTION,
                                  .project = "default",
                                  .admin_only = true,
                                  .metadata = metadata,
                                  .cancellable = true});
}

/* The certificate's DER: of the body, else what the TLS peer showed. */
static GBytes *
read_der(Request *req, GError **error)
{
    const char *text = field(req_json(req), "certificate");
    const Caller *caller = req_caller(req);
    gsize size;

    if (*text != '\0') {
        guchar *bytes = g_base64_decode(text, &size);
        if (size == 0) {
            g_free(bytes);
            haw_fail(error, HAW_INVALID, "illegal base64 data at input byte 0");
            return NULL;
        }
        return g_bytes_new_take(bytes, size);
    }
    if (caller->kind == CALLER_UNIX) {
        haw_fail(error, HAW_INVALID, "Can't use TLS data on non-TLS link");
        return NULL;
    }
    if (caller->certificate == NULL) {
        haw_fail(error, HAW_INVALID, "No client certificate provided");
        return NULL;
    }
    return g_bytes_ref(caller->certificate);
}

/* The object for the trust store. 'projects' is borrowed. */
static json_t *
build_cert(Request *req, json_t *request, json_t *projects, GError **error)
{
    g_autoptr(GBytes) der = read_der(req, error);
    X509Facts facts = {0};
    gsize size;
    const guint8 *bytes = der != NULL ? g_bytes_get_data(der, &size) : NULL;

    if (bytes == NULL || !x509_read(bytes, size, &facts, error)) {
        return NULL;
    }
    g_autofree char *common_name = facts.common_name;
    gint64 now = clock_real_us();
    if (now < facts.not_before_us || now > facts.not_after_us) {
        haw_fail(error, HAW_INVALID, "The provided certificate isn't valid %s",
                 now < facts.not_before_us ? "yet" : "anymore");
        return NULL;
    }
    g_autofree char *pem = x509_der_to_pem(bytes, size, error);
    g_autofree char *fingerprint = x509_fingerprint(bytes, size);
    if (pem == NULL) {
        return NULL;
    }
    const char *name = field(request, "name");
    if (*name == '\0') {
        name = *common_name != '\0' ? common_name : req_caller(req)->address;
    }
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:O}", "fingerprint", fingerprint, "type",
                     field(request, "type"), "name", name, "certificate", pem, "restricted",
                     json_is_true(json_object_get(request, "restricted")), "projects", projects);
}

static bool
store_new(Request *req, json_t *request, json_t *projects, GError **error)
{
    Agent *agent = req_agent(req);
    json_t *cert = build_cert(req, request, projects, error);
    bool ok = cert != NULL && trust_add(agent->trust, cert, error);
    if (ok) {
        event_lifecycle(agent, NULL, req_caller(req), NULL, "certificate-created",
                        "/1.0/certificates/%s", field(cert, "fingerprint"));
        req_reply_created(req, "/1.0/certificates/%s", field(cert, "fingerprint"));
    }
    json_decref(cert);
    return ok;
}

static bool
post(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    json_t *body = req_json(req);
    const Caller *caller = req_caller(req);
    bool token = json_is_true(json_object_get(body, "token"));

    if (caller->kind != CALLER_UNTRUSTED && *field(body, "certificate") == '\0' && !token) {
        return haw_fail(error, HAW_INVALID, "Client is already trusted");
    }
    if (caller->kind != CALLER_UNTRUSTED && !is_admin(caller)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if (token && *field(body, "certificate") != '\0') {
        return haw_fail(error, HAW_INVALID, "Can't use certificate if token is requested");
    }
    json_t *request = is_admin(caller) ? json_incref(body) : admit_stranger(req, error);
    if (request == NULL) {
        return false;
    }
    bool ok = check_type(request, error);
    if (ok && token && is_admin(caller)) {
        if (strcmp(field(body, "type"), "client") != 0) {
            ok = haw_fail(error, HAW_INVALID, "Tokens can only be issued for client certificates");
        } else if (settings_get(agent->settings, "core.https_address") == NULL) {
            ok = haw_fail(error, HAW_INVALID,
                          "Can't issue token when server isn't listening on network");
        }
    }
    json_t *projects = ok ? read_projects(agent, request, error) : NULL;
    ok = projects != NULL && (token && is_admin(caller) ? reply_token(req, projects, error)
                                                        : store_new(req, request, projects, error));
    json_decref(projects);
    json_decref(request);
    return ok;
}

/* ---- changing ---- */

/* The certificate's new bytes into 'cert'; its owner may do that, too. */
static bool
replace_bytes(json_t *cert, const char *pem, GError **error)
{
    size_t size;
    g_autofree guint8 *der = x509_pem_to_der(pem, &size, error);
    if (der == NULL) {
        return false;
    }
    g_autofree char *fingerprint = x509_fingerprint(der, size);
    g_autofree char *clean = x509_der_to_pem(der, size, error);
    json_object_set_new(cert, "fingerprint", json_string(fingerprint));
    json_object_set_new(cert, "certificate", json_string(clean));
    return clean != NULL;
}

/* What PUT (whole) or PATCH makes of 'cert', an owned copy. Yields. */
static bool
apply_body(Request *req, json_t *cert, bool whole, GError **error)
{
    json_t *body = req_json(req);
    const char *type = field(body, "type");

    if ((whole || *type != '\0') && strcmp(type, field(cert, "type")) != 0) {
        return haw_fail(error, HAW_DENIED, "The certificate type cannot be changed");
    }
    if (whole || json_object_get(body, "name") != NULL) {
        json_object_set_new(cert, "name", json_string(field(body, "name")));
    }
    if (whole || json_object_get(body, "restricted") != NULL) {
        json_object_set_new(cert, "restricted",
                            json_boolean(json_is_true(json_object_get(body, "restricted"))));
    }
    if (whole || json_object_get(body, "projects") != NULL) {
        json_t *projects = read_projects(req_agent(req), body, error);
        if (projects == NULL) {
            return false;
        }
        json_object_set_new(cert, "projects", projects);
    }
    const char *pem = field(body, "certificate");
    return *pem == '\0' || strcmp(pem, field(cert, "certificate")) == 0 ||
           replace_bytes(cert, pem, error);
}

/* C3: a restricted owner may exchange the bytes and must leave the rest. */
static bool
apply_own(Request *req, json_t *cert, GError **error)
{
    static const char *const fixed[] = {"name", "type", "restricted", "projects"};
    json_t *body = req_json(req);
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        json_t *value = json_object_get(body, fixed[i]);
        if (value != NULL && !json_equal(value, json_object_get(cert, fixed[i]))) {
            return haw_fail(error, HAW_DENIED, "Only the certificate can be changed");
        }
    }
    const char *pem = field(body, "certificate");
    return *pem == '\0' || replace_bytes(cert, pem, error);
}

static bool
change(Request *req, GError **error)
{
    bool whole = !req_patches(req);
    Agent *agent = req_agent(req);
    json_t *found = find(req, error);
    if (found == NULL || !req_check_etag(req, json_deep_copy(found), error)) {
        return false;
    }
    json_t *cert = json_deep_copy(found);
    g_autofree char *fingerprint = g_strdup(field(cert, "fingerprint"));
    bool ok = is_admin(req_caller(req)) ? apply_body(req, cert, whole, error)
                                        : apply_own(req, cert, error);
    ok = ok && trust_update(agent->trust, fingerprint, cert, error);
    if (ok) {
        event_lifecycle(agent, NULL, req_caller(req), NULL, "certificate-updated",
                        "/1.0/certificates/%s", field(cert, "fingerprint"));
        req_reply(req, NULL);
    }
    json_decref(cert);
    return ok;
}

static bool
delete_one(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    json_t *found = find(req, error);
    if (found == NULL) {
        return false;
    }
    g_autofree char *fingerprint = g_strdup(field(found, "fingerprint"));
    if (!trust_delete(agent->trust, fingerprint, error)) {
        return false;
    }
    event_lifecycle(agent, NULL, req_caller(req), NULL, "certificate-deleted",
                    "/1.0/certificates/%s", fingerprint);
    return req_reply(req, NULL);
}

const Route certificate_routes[] = {
    {"GET", "/1.0/certificates", list_all, 0},
    {"POST", "/1.0/certificates", post, ROUTE_BODY_JSON | ROUTE_UNTRUSTED},
    {"GET", "/1.0/certificates/{fingerprint}", get, 0},
    {"PUT", "/1.0/certificates/{fingerprint}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/certificates/{fingerprint}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/certificates/{fingerprint}", delete_one, 0},
    {NULL},
};
