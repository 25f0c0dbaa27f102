/* hawser config trust: who may talk to the server over the network.
 * Not here: our own certificate (identity.c), trust in servers (cmd_remote.c). */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/identity.h"
#include "ctl/out.h"
#include "ctl/wait.h"

static json_t *
trust_body(Ctl *ctl, const char *name)
{
    json_t *body = json_pack("{ss ss sb}", "type", ctl_option(ctl, "type"), "name", name,
                             "restricted", (int) ctl_flag(ctl, "restricted"));
    json_t *projects = json_array();
    const char *text = ctl_option(ctl, "projects");
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", ",", -1);
    for (char **word = words; *word != NULL; word++) {
        json_array_append_new(projects, json_string(g_strstrip(*word)));
    }
    json_object_set_new(body, "projects", projects);
    return body;
}

static char *
token_text(const json_t *metadata)
{
    g_autoptr(json_t) token = json_pack(
        "{sO sO sO sO sO}", "client_name",
        json_object_get(json_object_get(metadata, "request"), "name"), "fingerprint",
        json_object_get(metadata, "fingerprint"), "addresses",
        json_object_get(metadata, "addresses"), "secret", json_object_get(metadata, "secret"),
        "expires_at", json_object_get(metadata, "expiresAt"));
    if (token == NULL) { /* servers without expiry leave it out */
        token =
            json_pack("{sO sO sO sO ss}", "client_name",
                      json_object_get(json_object_get(metadata, "request"), "name"), "fingerprint",
                      json_object_get(metadata, "fingerprint"), "addresses",
                      json_object_get(metadata, "addresses"), "secret",
                      json_object_get(metadata, "secret"), "expires_at", "0001-01-01T00:00:00Z");
    }
    g_autofree char *text = token != NULL ? json_dumps(token, JSON_COMPACT) : NULL;
    return text != NULL ? g_base64_encode((guint8 *) text, strlen(text)) : NULL;
}

static bool
add_token(Ctl *ctl, Rest *rest, GError **error)
{
    const char *given = ctl_option(ctl, "name");
    g_autofree char *name = given != NULL ? g_strdup(given) : edit_ask("Name of the client:", NULL);
    if (name == NULL || *name == '\0') {
        return haw_fail(error, HAW_INVALID, "a token needs a name (--name)");
    }
    g_autoptr(json_t) body = trust_body(ctl, name);
    json_object_set_new(body, "token", json_true());
    g_autoptr(json_t) operation = rest_call(rest, "POST", "/1.0/certificates", body, NULL, error);
    if (operation == NULL) {
        return false;
    }
    g_autofree char *token = token_text(json_object_get(operation, "metadata"));
    if (token == NULL) {
        return haw_fail(error, HAW_FAILED, "the server gave no token");
    }
    g_printerr("Client %s certificate add token:\n", name);
    puts(token);
    return true;
}

bool
cmd_trust_add(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    const char *file = ctl_arg(ctl, led ? 1 : 0);
    Rest *rest = ctl_server(ctl, led ? ctl_arg(ctl, 0) : NULL, NULL, error);
    if (rest == NULL) {
        return false;
    }
    if (file == NULL) {
        return add_token(ctl, rest, error) || haw_push(error, "trust");
    }
    g_autofree char *pem = strcmp(file, "-") == 0 ? edit_read_stdin(error)
                                                  : fd_read_file(file, 64 * 1024, NULL, error);
    g_autofree char *der = pem != NULL ? identity_der_base64(pem, error) : NULL;
    if (der == NULL) {
        return haw_push(error, "'%s'", file);
    }
    g_autofree char *base = g_path_get_basename(file);
    g_autoptr(json_t) body =
        trust_body(ctl, ctl_option(ctl, "name") != NULL ? ctl_option(ctl, "name") : base);
    json_object_set_new(body, "certificate", json_string(der));
    return rest_do(rest, "POST", "/1.0/certificates", body, error) ||
           haw_push(error, "trust '%s'", file);
}

bool
cmd_trust_list(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body =
        rest != NULL ? rest_get(rest, "/1.0/certificates?recursion=1", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"TYPE",        "NAME",       "COMMON NAME",
                                          "FINGERPRINT", "ISSUE DATE", "EXPIRY DATE",
                                          "RESTRICTED",  "PROJECTS",   NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *row;
    json_array_foreach (body, index, row) {
        g_autofree char *projects = out_join(json_object_get(row, "projects"), ", ");
        g_autofree char *name = NULL, *from = NULL, *until = NULL;
        identity_describe(out_get(row, "certificate"), &name, &from, &until, NULL);
        g_autofree char *issued = out_time(from), *expires = out_time(until);
        out_table_add(table, out_get(row, "type"));
        out_table_add(table, out_get(row, "name"));
        out_table_add(table, name);
        out_table_addf(table, "%.12s", out_get(row, "fingerprint"));
        out_table_add(table, issued);
        out_table_add(table, expires);
        out_table_add(table, json_is_true(json_object_get(row, "restricted")) ? "yes" : "no");
        out_table_add(table, projects);
    }
    out_table_sort(table);
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_trust_remove(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    const char *fingerprint = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &fingerprint, error);
    if (rest == NULL) {
        return false;
    }
    fingerprint = led ? ctl_arg(ctl, 1) : fingerprint;
    if (fingerprint == NULL || *fingerprint == '\0') {
        return haw_fail(error, HAW_INVALID, "<fingerprint> is missing");
    }
    g_autofree char *path = rest_path("/1.0/certificates/%s", fingerprint);
    return rest_do(rest, "DELETE", path, NULL, error) ||
           haw_push(error, "certificate '%s'", fingerprint);
}

/* The running token operations; a new reference. */
static json_t *
token_operations(Rest *rest, GError **error)
{
    g_autoptr(json_t) all = rest_get(rest, "/1.0/operations?recursion=1", error);
    if (all == NULL) {
        return NULL;
    }
    json_t *tokens = json_array(), *list, *operation;
    const char *status;
    size_t index;
    json_object_foreach (all, status, list) {
        json_array_foreach (list, index, operation) {
            const json_t *metadata = json_object_get(operation, "metadata");
            if (strcmp(out_get(operation, "class"), "token") == 0 &&
                strcmp(out_get(operation, "status"), "Running") == 0 &&
                json_object_get(metadata, "request") != NULL) {
                json_array_append(tokens, operation);
            }
        }
    }
    return tokens;
}

static const char *
token_name(const json_t *operation)
{
    return out_get(json_object_get(json_object_get(operation, "metadata"), "request"), "name");
}

bool
cmd_trust_list_tokens(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) tokens = rest != NULL ? token_operations(rest, error) : NULL;
    if (tokens == NULL) {
        return false;
    }
    static const char *const headers[] = {"NAME", "TOKEN", "EXPIRES AT", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *operation;
    json_array_foreach (tokens, index, operation) {
        const json_t *metadata = json_object_get(operation, "metadata");
        g_autofree char *token = token_text(metadata);
        g_autofree char *expiry = out_time(out_get(metadata, "expiresAt"));
        out_table_add(table, token_name(operation));
        out_table_add(table, token);
        out_table_add(table, expiry);
    }
    out_table_sort(table);
    return out_print(table, tokens, ctl_option(ctl, "format"), error);
}

bool
cmd_trust_revoke_token(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autoptr(json_t) tokens = rest != NULL ? token_operations(rest, error) : NULL;
    if (tokens == NULL) {
        return false;
    }
    name = led && ctl_arg(ctl, 1) != NULL ? ctl_arg(ctl, 1) : name;
    size_t index;
    json_t *operation;
    json_array_foreach (tokens, index, operation) {
        if (strcmp(token_name(operation), name) == 0) {
            g_autofree char *path = wait_path(operation);
            return rest_do(rest, "DELETE", path, NULL, error);
        }
    }
    return haw_fail(error, HAW_NOT_FOUND, "no token waits for a client '%s'", name);
}
