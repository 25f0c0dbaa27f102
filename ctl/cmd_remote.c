/* hawser remote and hawser alias: the user's configuration file.
 * T1  A new server is trusted only after a person saw its fingerprint, a token named it, or
 *     --accept-certificate said so.
 * T2  A remote is stored only after it answered and, unless it is public, trusts us. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/identity.h"
#include "ctl/out.h"
#include "ctl/stream.h"

/* What 'remote add' is given, in any of its forms. */
typedef struct {
    char *name, *address; /* own */
    char *token;          /* owns; the text to present, may be NULL */
    char *fingerprint;    /* owns; the server's, of a token; may be NULL */
    const char *protocol;
} Add;

static void
add_done(Add *add)
{
    g_free(add->name);
    g_free(add->address);
    g_free(add->token);
    g_free(add->fingerprint);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Add, add_done)

/* "host", "host:port", "[::1]", "https://…", "unix:///…" */
static char *
address_of(const char *text)
{
    if (strstr(text, "://") != NULL || g_str_has_prefix(text, "unix:")) {
        g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_NONE, NULL);
        bool bare = uri != NULL && g_strcmp0(g_uri_get_scheme(uri), "https") == 0 &&
                    g_uri_get_port(uri) < 0;
        bool lxd = bare && (*g_uri_get_path(uri) == '\0' || strcmp(g_uri_get_path(uri), "/") == 0);
        return lxd ? g_strdup_printf(
                         "https://%s%s%s:8443", strchr(g_uri_get_host(uri), ':') != NULL ? "[" : "",
                         g_uri_get_host(uri), strchr(g_uri_get_host(uri), ':') != NULL ? "]" : "")
                   : g_strdup(text);
    }
    const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
    bool many = colon != NULL && strchr(text, ':') != colon && bracket == NULL;
    if (many) {
        return g_strdup_printf("https://[%s]:8443", text);
    }
    bool port = colon != NULL && (bracket == NULL || colon > bracket);
    return g_strdup_printf("https://%s%s", text, port ? "" : ":8443");
}

/* A trust token: base64 of JSON; NULL when the text is none. */
static json_t *
token_of(const char *text)
{
    gsize size = 0;
    if (strlen(text) < 40 || strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                          "0123456789+/=") != strlen(text)) {
        return NULL;
    }
    g_autofree guchar *bytes = g_base64_decode(text, &size);
    json_t *token = json_loadb((const char *) bytes, size, 0, NULL);
    if (json_object_get(token, "secret") == NULL || json_object_get(token, "addresses") == NULL) {
        json_decref(token);
        return NULL;
    }
    return token;
}

/* The certificate of the server, once it is trusted (T1). */
static char *
fetch_certificate(Ctl *ctl, const Add *add, GError **error)
{
    g_autofree char *pem = NULL;
    g_autoptr(Stream) stream = stream_open_unchecked(add->address, &pem, error);
    g_autofree char *fingerprint = stream != NULL ? identity_fingerprint(pem, error) : NULL;
    if (fingerprint == NULL) {
        return NULL;
    }
    if (add->fingerprint != NULL) {
        if (strcmp(add->fingerprint, fingerprint) != 0) {
            haw_fail(error, HAW_DENIED, "'%s' is not the server that made the token", add->address);
            return NULL;
        }
        return g_steal_pointer(&pem);
    }
    if (ctl_flag(ctl, "accept-certificate")) {
        return g_steal_pointer(&pem);
    }
    g_printerr("Certificate fingerprint: %s\n", fingerprint);
    if (!edit_confirm("Is this the server that you mean?")) {
        haw_fail(
            error, HAW_CANCELLED,
            "the certificate was not accepted (compare it with 'hawser info' on the server, or "
            "use a token from 'hawser config trust add')");
        return NULL;
    }
    return g_steal_pointer(&pem);
}

/* Makes the server trust us, by token or password. */
static bool
gain_trust(Ctl *ctl, Rest *rest, const Add *add, GError **error)
{
    g_autoptr(json_t) server = rest_get(rest, "/1.0", error);
    if (server == NULL) {
        return false;
    }
    if (strcmp(out_get(server, "auth"), "trusted") == 0) {
        return true;
    }
    const char *given = ctl_option(ctl, "password");
    g_autofree char *secret =
        add->token != NULL
            ? g_strdup(add->token)
            : (given != NULL ? g_strdup(given) : edit_ask_secret("Trust password or token:"));
    if (secret == NULL) {
        return haw_fail(error, HAW_DENIED,
                        "the server does not trust this client (make a token there with 'hawser "
                        "config trust add --name …' and use it here)");
    }
    g_autoptr(json_t) body = json_pack("{ss ss}", "type", "client", "password", secret);
    if (!rest_do(rest, "POST", "/1.0/certificates", body, error)) {
        return false;
    }
    g_autoptr(json_t) again = rest_get(rest, "/1.0", error);
    return again != NULL && (strcmp(out_get(again, "auth"), "trusted") == 0 ||
                             haw_fail(error, HAW_DENIED, "the server still does not trust us"));
}

/* T2: stores the certificate, then tries; takes both away when it fails. */
static bool
add_server(Ctl *ctl, const Add *add, GError **error)
{
    Remotes *remotes = ctl_remotes(ctl);
    Remote remote = {.name = add->name,
                     .address = add->address,
                     .protocol = add->protocol,
                     .project = ctl_option(ctl, "project"),
                     .is_public = ctl_flag(ctl, "public")};
    bool images = strcmp(add->protocol, "simplestreams") == 0;
    remote.is_public = remote.is_public || images;
    if (!remotes_add(remotes, &remote, error)) {
        return false;
    }
    bool https = g_str_has_prefix(add->address, "https://");
    if (https && !images) {
        g_autofree char *pem = fetch_certificate(ctl, add, error);
        g_autofree char *file = g_strconcat("servercerts/", add->name, ".crt", NULL);
        g_autofree char *path = pem != NULL ? remotes_path(remotes, file, error) : NULL;
        if (path == NULL || !fd_write_atomic(path, pem, strlen(pem), 0644, error)) {
            return false;
        }
    }
    const Remote *stored = remotes_get(remotes, add->name, error);
    g_autoptr(Rest) rest = images || stored == NULL ? NULL : rest_open(remotes, stored, error);
    if (!images &&
        (rest == NULL || (!remote.is_public && https && !gain_trust(ctl, rest, add, error)))) {
        remotes_remove(remotes, add->name, NULL);
        return false;
    }
    return remotes_save(remotes, error);
}

/* Every address of a token in turn. */
static bool
add_by_token(Ctl *ctl, Add *add, const json_t *token, GError **error)
{
    size_t index;
    json_t *address;
    GError *last = NULL;
    add->fingerprint = g_strdup(out_get(token, "fingerprint"));
    json_array_foreach (json_object_get(token, "addresses"), index, address) {
        g_free(add->address);
        add->address = g_strconcat("https://", json_string_value(address), NULL);
        g_clear_error(&last);
        if (add_server(ctl, add, &last)) {
            return true;
        }
        remotes_remove(ctl_remotes(ctl), add->name, NULL);
    }
    if (last == NULL) {
        return haw_fail(error, HAW_INVALID, "the token names no address");
    }
    g_propagate_error(error, last);
    return false;
}

bool
cmd_remote_add(Ctl *ctl, GError **error)
{
    bool named = ctl_arg_count(ctl) == 2;
    const char *where = ctl_arg(ctl, named ? 1 : 0);
    g_autoptr(json_t) token = token_of(where);
    g_auto(Add) add = {.protocol = ctl_option(ctl, "protocol")};
    if (strcmp(add.protocol, "lxd") != 0 && strcmp(add.protocol, "simplestreams") != 0) {
        return haw_fail(error, HAW_INVALID, "unknown protocol '%s' (choose lxd or simplestreams)",
                        add.protocol);
    }
    if (named) {
        add.name = g_strdup(ctl_arg(ctl, 0));
    } else if (token != NULL) {
        g_autofree char *first = address_of(
            json_string_value(json_array_get(json_object_get(token, "addresses"), 0)) ?: "server");
        g_autoptr(GUri) uri = g_uri_parse(first, G_URI_FLAGS_NONE, NULL);
        add.name = g_strdup(uri != NULL ? g_uri_get_host(uri) : "server");
        g_strdelimit(add.name, ":", '-');
    } else {
        add.name = g_strndup(where, strcspn(where, ":/"));
    }
    if (token != NULL) {
        add.token = g_strdup(where);
        return add_by_token(ctl, &add, token, error) || haw_push(error, "remote '%s'", add.name);
    }
    bool images = strcmp(add.protocol, "simplestreams") == 0;
    add.address = images ? g_strdup(where) : address_of(where);
    return add_server(ctl, &add, error) || haw_push(error, "remote '%s'", add.name);
}

bool
cmd_remote_list(Ctl *ctl, GError **error)
{
    static const char *const headers[] = {"NAME",   "URL",    "PROTOCOL", "PROJECT",
                                          "PUBLIC", "STATIC", NULL};
    Remotes *remotes = ctl_remotes(ctl);
    g_autoptr(OutTable) table = out_table_new(headers);
    g_autoptr(json_t) body = json_object();
    g_auto(GStrv) names = remotes_names(remotes);
    for (char **name = names; *name != NULL; name++) {
        const Remote *remote = remotes_get(remotes, *name, error);
        bool current = strcmp(*name, remotes_default(remotes)) == 0;
        out_table_addf(table, "%s%s", *name, current ? " (current)" : "");
        out_table_add(table, remote->address);
        out_table_add(table, remote->protocol);
        out_table_add(table, remote->project);
        out_table_add(table, remote->is_public ? "YES" : "NO");
        out_table_add(table, remote->is_builtin ? "YES" : "NO");
        json_object_set_new(body, *name,
                            json_pack("{ss ss ss* sb sb}", "addr", remote->address, "protocol",
                                      remote->protocol, "project", remote->project, "public",
                                      (int) remote->is_public, "static", (int) remote->is_builtin));
    }
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_remote_remove(Ctl *ctl, GError **error)
{
    return remotes_remove(ctl_remotes(ctl), ctl_arg(ctl, 0), error) &&
           remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_rename(Ctl *ctl, GError **error)
{
    return remotes_rename(ctl_remotes(ctl), ctl_arg(ctl, 0), ctl_arg(ctl, 1), error) &&
           remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_switch(Ctl *ctl, GError **error)
{
    g_autofree char *name = g_strdup(ctl_arg(ctl, 0));
    if (g_str_has_suffix(name, ":")) {
        name[strlen(name) - 1] = '\0';
    }
    return remotes_set_default(ctl_remotes(ctl), name, error) &&
           remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_get_default(Ctl *ctl, GError **error)
{
    puts(remotes_default(ctl_remotes(ctl)));
    return true;
}

bool
cmd_remote_set_url(Ctl *ctl, GError **error)
{
    g_autofree char *address = address_of(ctl_arg(ctl, 1));
    return remotes_set(ctl_remotes(ctl), ctl_arg(ctl, 0), "addr", address, error) &&
           remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_alias_add(Ctl *ctl, GError **error)
{
    json_t *aliases = remotes_aliases(ctl_remotes(ctl));
    if (json_object_get(aliases, ctl_arg(ctl, 0)) != NULL) {
        return haw_fail(error, HAW_EXISTS, "alias '%s' exists already", ctl_arg(ctl, 0));
    }
    json_object_set_new(aliases, ctl_arg(ctl, 0), json_string(ctl_arg(ctl, 1)));
    return remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_alias_list(Ctl *ctl, GError **error)
{
    static const char *const headers[] = {"ALIAS", "TARGET", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    json_t *aliases = remotes_aliases(ctl_remotes(ctl)), *target;
    const char *name;
    json_object_foreach (aliases, name, target) {
        out_table_add(table, name);
        out_table_add(table, json_string_value(target));
    }
    out_table_sort(table);
    return out_print(table, aliases, ctl_option(ctl, "format"), error);
}

bool
cmd_remote_alias_remove(Ctl *ctl, GError **error)
{
    if (json_object_del(remotes_aliases(ctl_remotes(ctl)), ctl_arg(ctl, 0)) != 0) {
        return haw_fail(error, HAW_NOT_FOUND, "alias '%s' doesn't exist", ctl_arg(ctl, 0));
    }
    return remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_remote_alias_rename(Ctl *ctl, GError **error)
{
    json_t *aliases = remotes_aliases(ctl_remotes(ctl));
    json_t *target = json_object_get(aliases, ctl_arg(ctl, 0));
    if (target == NULL || json_object_get(aliases, ctl_arg(ctl, 1)) != NULL) {
        return haw_fail(error, target == NULL ? HAW_NOT_FOUND : HAW_EXISTS,
                        target == NULL ? "alias '%s' doesn't exist" : "alias '%s' exists already",
                        ctl_arg(ctl, target == NULL ? 0 : 1));
    }
    json_object_set(aliases, ctl_arg(ctl, 1), target);
    json_object_del(aliases, ctl_arg(ctl, 0));
    return remotes_save(ctl_remotes(ctl), error);
}
