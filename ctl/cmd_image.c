/* hawser image: what images there are, their properties and aliases, and where they come from.
 * G1  An image of a private server is asked for with a secret of one use: the other server needs no
 *     trust in ours.
 * Not here: files in and out (cmd_transfer.c), copies (cmd_imagecopy.c). */
#include <stdio.h>
#include <string.h>

#include "ctl/catalog.h"
#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/wait.h"

static const char writable[] = "auto_update expires_at profiles properties public";

char *
cmd_image_fingerprint(Rest *rest, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (*name == '\0') {
        haw_fail(error, HAW_INVALID, "an image needs a name");
        return NULL;
    }
    g_autofree char *path = rest_path("/1.0/images/aliases/%s", name);
    g_autoptr(json_t) alias = rest_get(rest, path, &why);
    if (alias != NULL) {
        return g_strdup(out_get(alias, "target"));
    }
    if (haw_code(why) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return g_strdup(name);
}

/* A secret with which anybody can fetch the image once; "" for a public one (G1). */
static char *
image_secret(Ctl *ctl, Rest *rest, const char *fingerprint, GError **error)
{
    g_autofree char *path = rest_path("/1.0/images/%s", fingerprint);
    g_autoptr(json_t) image = rest_get(rest, path, error);
    if (image == NULL || json_is_true(json_object_get(image, "public"))) {
        return image != NULL ? g_strdup("") : NULL;
    }
    g_autofree char *secret_path =
        rest_path("/1.0/images/%s/secret", out_get(image, "fingerprint"));
    g_autoptr(json_t) operation = rest_call(rest, "POST", secret_path, NULL, NULL, error);
    if (operation == NULL) {
        return NULL;
    }
    return g_strdup(out_get(json_object_get(operation, "metadata"), "secret"));
}

static json_t *
source_of_server(Ctl *ctl, Rest *from, const char *name, GError **error)
{
    g_autofree char *fingerprint = cmd_image_fingerprint(from, name, error);
    g_autofree char *secret =
        fingerprint != NULL ? image_secret(ctl, from, fingerprint, error) : NULL;
    g_autofree char *address = secret != NULL ? cmd_copy_address(from, error) : NULL;
    g_autofree char *certificate = address != NULL ? cmd_copy_certificate(from, error) : NULL;
    if (certificate == NULL) {
        return NULL;
    }
    json_t *source =
        json_pack("{ss ss ss ss ss ss}", "type", "image", "mode", "pull", "protocol", "lxd",
                  "server", address, "fingerprint", fingerprint, "certificate", certificate);
    if (*secret != '\0') {
        json_object_set_new(source, "secret", json_string(secret));
    }
    if (strcmp(rest_project(from), "default") != 0) {
        json_object_set_new(source, "project", json_string(rest_project(from)));
    }
    return source;
}

json_t *
cmd_image_source(Ctl *ctl, Rest *into, const char *arg, GError **error)
{
    const char *name = "";
    const Remote *remote = remotes_split(ctl_remotes(ctl), arg, &name, error);
    if (remote == NULL) {
        return NULL;
    }
    if (*name == '\0') {
        haw_fail(error, HAW_INVALID, "an image needs a name");
        return NULL;
    }
    if (strcmp(remote->protocol, "simplestreams") == 0) {
        return json_pack("{ss ss ss ss ss}", "type", "image", "mode", "pull", "protocol",
                         "simplestreams", "server", remote->address, "alias", name);
    }
    bool local = ctl_flag(ctl, "force-local") || strcmp(remote->name, rest_remote(into)->name) == 0;
    if (local) {
        g_autofree char *fingerprint = cmd_image_fingerprint(into, name, error);
        return fingerprint != NULL
                   ? json_pack("{ss ss}", "type", "image", "fingerprint", fingerprint)
                   : NULL;
    }
    Rest *from = ctl_server(ctl, arg, NULL, error);
    return from != NULL ? source_of_server(ctl, from, name, error) : NULL;
}

/* One image named on the command line. */
typedef struct {
    Rest *rest;       /* borrows */
    char *path;       /* owns */
    const char *name; /* borrows */
} Pick;

static void
pick_done(Pick *pick)
{
    g_free(pick->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pick, pick_done)

static bool
pick_image(Ctl *ctl, const char *arg, Pick *ret_pick, GError **error)
{
    Pick pick = {0};
    pick.rest = ctl_server(ctl, arg, &pick.name, error);
    g_autofree char *fingerprint =
        pick.rest != NULL ? cmd_image_fingerprint(pick.rest, pick.name, error) : NULL;
    if (fingerprint == NULL) {
        return false;
    }
    pick.path = rest_path("/1.0/images/%s", fingerprint);
    *ret_pick = pick;
    return true;
}

json_t *
cmd_image_load(Ctl *ctl, const char *arg, GError **error)
{
    g_auto(Pick) pick = {0};
    const char *name = "";
    const Remote *remote = remotes_split(ctl_remotes(ctl), arg, &name, error);
    if (remote == NULL) {
        return NULL;
    }
    if (strcmp(remote->protocol, "simplestreams") == 0) {
        return catalog_find(remote, name, error);
    }
    if (!pick_image(ctl, arg, &pick, error)) {
        return NULL;
    }
    json_t *image = rest_get(pick.rest, pick.path, error);
    if (image == NULL) {
        haw_push(error, "image '%s'", pick.name);
    }
    return image;
}

bool
cmd_image_show(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) image = cmd_image_load(ctl, ctl_arg(ctl, 0), error);
    if (image == NULL) {
        return false;
    }
    g_autoptr(json_t) shown = entity_fields(image, writable);
    out_yaml(shown);
    return true;
}

static void
print_time(const json_t *image, const char *label, const char *key, const char *never)
{
    g_autofree char *text = out_time(out_get(image, key));
    printf("    %s: %s\n", label, *text != '\0' ? text : never);
}

static void
print_list(const char *title, const json_t *list, const char *key)
{
    size_t index;
    json_t *item;
    printf("%s:%s\n", title, json_array_size(list) == 0 ? " []" : "");
    json_array_foreach (list, index, item) {
        printf("    - %s\n", key != NULL ? out_get(item, key) : json_string_value(item));
    }
}

bool
cmd_image_info(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) image = cmd_image_load(ctl, ctl_arg(ctl, 0), error);
    if (image == NULL) {
        return false;
    }
    g_autofree char *size = out_bytes(json_integer_value(json_object_get(image, "size")));
    printf("Fingerprint: %s\nSize: %s\nArchitecture: %s\nType: %s\nPublic: %s\n",
           out_get(image, "fingerprint"), size, out_get(image, "architecture"),
           out_get(image, "type"), json_is_true(json_object_get(image, "public")) ? "yes" : "no");
    printf("Timestamps:\n");
    print_time(image, "Created", "created_at", "never");
    print_time(image, "Uploaded", "uploaded_at", "never");
    print_time(image, "Expires", "expires_at", "never");
    print_time(image, "Last used", "last_used_at", "never");
    printf("Properties:\n");
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(image, "properties"), key, value) {
        printf("    %s: %s\n", key, json_string_value(value));
    }
    print_list("Aliases", json_object_get(image, "aliases"), "name");
    printf("Cached: %s\nAuto update: %s\n",
           json_is_true(json_object_get(image, "cached")) ? "yes" : "no",
           json_is_true(json_object_get(image, "auto_update")) ? "enabled" : "disabled");
    print_list("Profiles", json_object_get(image, "profiles"), NULL);
    return true;
}

bool
cmd_image_edit(Ctl *ctl, GError **error)
{
    g_auto(Pick) pick = {0};
    return pick_image(ctl, ctl_arg(ctl, 0), &pick, error) &&
           (entity_edit_at(ctl, pick.rest, pick.path, "image", writable, error) ||
            haw_push(error, "image '%s'", pick.name));
}

bool
cmd_image_get_property(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) image = cmd_image_load(ctl, ctl_arg(ctl, 0), error);
    if (image == NULL) {
        return false;
    }
    puts(out_get(json_object_get(image, "properties"), ctl_arg(ctl, 1)));
    return true;
}

bool
cmd_image_set_property(Ctl *ctl, GError **error)
{
    g_auto(Pick) pick = {0};
    g_autoptr(json_t) settings = json_pack("{ss}", ctl_arg(ctl, 1), ctl_arg(ctl, 2));
    return pick_image(ctl, ctl_arg(ctl, 0), &pick, error) &&
           (entity_change(ctl, pick.rest, pick.path, writable, "properties", settings, NULL,
                          error) ||
            haw_push(error, "image '%s'", pick.name));
}

bool
cmd_image_unset_property(Ctl *ctl, GError **error)
{
    g_auto(Pick) pick = {0};
    return pick_image(ctl, ctl_arg(ctl, 0), &pick, error) &&
           (entity_change(ctl, pick.rest, pick.path, writable, "properties", NULL,
                          ctl_args_from(ctl, 1), error) ||
            haw_push(error, "image '%s'", pick.name));
}

bool
cmd_image_delete(Ctl *ctl, GError **error)
{
    for (int i = 0; i < ctl_arg_count(ctl); i++) {
        g_auto(Pick) pick = {0};
        if (!pick_image(ctl, ctl_arg(ctl, i), &pick, error) ||
            !wait_call(ctl, pick.rest, "DELETE", pick.path, NULL, "Deleting", error)) {
            return haw_push(error, "delete image '%s'", ctl_arg(ctl, i));
        }
    }
    return true;
}

bool
cmd_image_refresh(Ctl *ctl, GError **error)
{
    for (int i = 0; i < ctl_arg_count(ctl); i++) {
        g_auto(Pick) pick = {0};
        if (!pick_image(ctl, ctl_arg(ctl, i), &pick, error)) {
            return false;
        }
        g_autofree char *path = g_strconcat(pick.path, "/refresh", NULL);
        if (!wait_call(ctl, pick.rest, "POST", path, NULL, "Refreshing", error)) {
            return haw_push(error, "refresh image '%s'", pick.name);
        }
    }
    return true;
}

static char *
shortest_alias(const json_t *image)
{
    const json_t *aliases = json_object_get(image, "aliases");
    const char *best = NULL;
    size_t index;
    json_t *alias;
    json_array_foreach (aliases, index, alias) {
        const char *name = out_get(alias, "name");
        if (best == NULL || strlen(name) < strlen(best)) {
            best = name;
        }
    }
    size_t more = json_array_size(aliases);
    return more > 1 ? g_strdup_printf("%s (%zu more)", best, more - 1)
                    : g_strdup(best != NULL ? best : "");
}

static char *
image_cell(const json_t *image, char letter)
{
    GString *text = NULL;
    size_t index;
    json_t *alias;
    switch (letter) {
    case 'l':
        return shortest_alias(image);
    case 'L':
        text = g_string_new(NULL);
        json_array_foreach (json_object_get(image, "aliases"), index, alias) {
            g_string_append_printf(text, "%s%s", index > 0 ? "\n" : "", out_get(alias, "name"));
        }
        return g_string_free(text, FALSE);
    case 'f':
        return g_strndup(out_get(image, "fingerprint"), 12);
    case 'd':
        return g_strdup(out_get(json_object_get(image, "properties"), "description"));
    case 's':
        return out_bytes(json_integer_value(json_object_get(image, "size")));
    case 'p':
        return g_strdup(json_is_true(json_object_get(image, "public")) ? "yes" : "no");
    case 'F':
        return g_strdup(out_get(image, "fingerprint"));
    case 'a':
        return g_strdup(out_get(image, "architecture"));
    case 't':
        return g_ascii_strup(out_get(image, "type"), -1);
    default:
        return out_time(out_get(image, "uploaded_at"));
    }
}

static const struct {
    char letter;
    const char *header;
} image_columns[] = {
    {'l', "ALIAS"},  {'L', "ALIASES"},     {'f', "FINGERPRINT"},  {'F', "FINGERPRINT"},
    {'p', "PUBLIC"}, {'d', "DESCRIPTION"}, {'a', "ARCHITECTURE"}, {'t', "TYPE"},
    {'s', "SIZE"},   {'u', "UPLOAD DATE"},
};

/* "os=debian" or a part of an alias, of the fingerprint or of the description. */
static bool
image_matches(const json_t *image, const char *filter)
{
    const char *equals = strchr(filter, '=');
    if (equals != NULL) {
        g_autofree char *key = g_strndup(filter, (gsize) (equals - filter));
        const char *have = out_get(json_object_get(image, "properties"), key);
        return g_ascii_strcasecmp(have, equals + 1) == 0 ||
               strcmp(out_get(image, key), equals + 1) == 0;
    }
    if (g_str_has_prefix(out_get(image, "fingerprint"), filter)) {
        return true;
    }
    size_t index;
    json_t *alias;
    json_array_foreach (json_object_get(image, "aliases"), index, alias) {
        if (strstr(out_get(alias, "name"), filter) != NULL) {
            return true;
        }
    }
    return false;
}

static json_t *
load_images(Ctl *ctl, bool led, GError **error)
{
    const char *name = "";
    const char *arg = led ? ctl_arg(ctl, 0) : NULL;
    const Remote *remote = remotes_split(ctl_remotes(ctl), arg, &name, error);
    if (remote == NULL) {
        return NULL;
    }
    if (strcmp(remote->protocol, "simplestreams") == 0) {
        return catalog_list(remote, error);
    }
    Rest *rest = ctl_server(ctl, arg, NULL, error);
    return rest != NULL ? rest_get(rest, "/1.0/images?recursion=1", error) : NULL;
}

bool
cmd_image_list(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    const char *letters = ctl_option(ctl, "columns");
    g_autoptr(GPtrArray) headers = g_ptr_array_new();
    for (const char *letter = letters; *letter != '\0'; letter++) {
        const char *header = NULL;
        for (size_t i = 0; i < G_N_ELEMENTS(image_columns); i++) {
            header = image_columns[i].letter == *letter ? image_columns[i].header : header;
        }
        if (header != NULL) {
            g_ptr_array_add(headers, (void *) header);
        } else if (*letter != ',') {
            return haw_fail(error, HAW_INVALID,
                            "unknown column '%c' (see 'hawser image list --help')", *letter);
        }
    }
    g_ptr_array_add(headers, NULL);
    g_autoptr(json_t) all = load_images(ctl, led, error), selected = json_array();
    if (all == NULL) {
        return false;
    }
    g_autoptr(OutTable) table = out_table_new((const char *const *) headers->pdata);
    size_t index;
    json_t *image;
    json_array_foreach (all, index, image) {
        bool passes = true;
        for (char *const *filter = ctl_args_from(ctl, led ? 1 : 0); *filter != NULL; filter++) {
            passes = passes && image_matches(image, *filter);
        }
        if (!passes) {
            continue;
        }
        json_array_append(selected, image);
        for (const char *letter = letters; *letter != '\0'; letter++) {
            g_autofree char *cell = *letter != ',' ? image_cell(image, *letter) : NULL;
            if (cell != NULL) {
                out_table_add(table, cell);
            }
        }
    }
    out_table_sort(table);
    return out_print(table, selected, ctl_option(ctl, "format"), error);
}

bool
cmd_image_alias_list(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    Rest *rest = ctl_server(ctl, led ? ctl_arg(ctl, 0) : NULL, NULL, error);
    g_autoptr(json_t) body =
        rest != NULL ? rest_get(rest, "/1.0/images/aliases?recursion=1", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"ALIAS", "FINGERPRINT", "TYPE", "DESCRIPTION", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *alias;
    json_array_foreach (body, index, alias) {
        bool passes = true;
        for (char *const *filter = ctl_args_from(ctl, led ? 1 : 0); *filter != NULL; filter++) {
            passes = passes && (strstr(out_get(alias, "name"), *filter) != NULL ||
                                g_str_has_prefix(out_get(alias, "target"), *filter));
        }
        if (passes) {
            g_autofree char *type = g_ascii_strup(out_get(alias, "type"), -1);
            out_table_add(table, out_get(alias, "name"));
            out_table_addf(table, "%.12s", out_get(alias, "target"));
            out_table_add(table, type);
            out_table_add(table, out_get(alias, "description"));
        }
    }
    out_table_sort(table);
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_image_alias_create(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autofree char *target =
        rest != NULL ? cmd_image_fingerprint(rest, ctl_arg(ctl, 1), error) : NULL;
    if (target == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/images/%s", target);
    g_autoptr(json_t) image = rest_get(rest, path, error); /* the whole of a short fingerprint */
    if (image == NULL) {
        return haw_push(error, "image '%s'", ctl_arg(ctl, 1));
    }
    const char *about = ctl_option(ctl, "description");
    g_autoptr(json_t) body =
        json_pack("{ss ss ss}", "name", name, "target", out_get(image, "fingerprint"),
                  "description", about != NULL ? about : "");
    return rest_do(rest, "POST", "/1.0/images/aliases", body, error) ||
           haw_push(error, "alias '%s'", name);
}

bool
cmd_image_alias_delete(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autofree char *path = rest_path("/1.0/images/aliases/%s", name != NULL ? name : "");
    return rest != NULL &&
           (rest_do(rest, "DELETE", path, NULL, error) || haw_push(error, "alias '%s'", name));
}

bool
cmd_image_alias_rename(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autofree char *path = rest_path("/1.0/images/aliases/%s", name != NULL ? name : "");
    g_autoptr(json_t) body = json_pack("{ss}", "name", ctl_arg(ctl, 1));
    return rest != NULL &&
           (rest_do(rest, "POST", path, body, error) || haw_push(error, "alias '%s'", name));
}
