/* hawser config: of the server, of instances and of their snapshots, one command for all.
 * Without a name the server is meant; "key=value" and keys with a dot are no names of instances.
 * Not here: devices (cmd_device.c), trusted certificates (cmd_trust.c). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/wait.h"

static const char instance_writable[] =
    "architecture config devices ephemeral profiles stateful description";

/* What a command is about: the server, an instance or a snapshot. */
typedef struct {
    Rest *rest; /* borrows */
    char *path; /* owns */
    const char *what, *writable;
    const char *name; /* borrows; "" for the server */
    int next;         /* first argument behind it */
} Subject;

static void
subject_done(Subject *subject)
{
    g_free(subject->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Subject, subject_done)

/* named: argument 0 is the remote and name, not yet a key. */
static bool
pick(Ctl *ctl, bool named, Subject *ret_subject, GError **error)
{
    const char *name = "";
    bool first_is_name = named || ctl_leads_with_remote(ctl);
    Subject subject = {.next = first_is_name ? 1 : 0};
    subject.rest = ctl_server(ctl, first_is_name ? ctl_arg(ctl, 0) : NULL, &name, error);
    if (subject.rest == NULL) {
        return false;
    }
    subject.name = name;
    if (*name == '\0') {
        subject.path = g_strdup("/1.0");
        subject.what = "server configuration";
        subject.writable = "config";
    } else {
        bool snapshot = strchr(name, '/') != NULL;
        subject.path = cmd_instance_path(name);
        subject.what = snapshot ? "snapshot" : "instance";
        subject.writable = snapshot ? "expires_at" : instance_writable;
    }
    *ret_subject = subject;
    return true;
}

static bool
fail_subject(const Subject *subject, GError **error)
{
    return *subject->name != '\0' ? haw_push(error, "%s '%s'", subject->what, subject->name)
                                  : haw_push(error, "%s", subject->what);
}

static const char *
settings_map(Ctl *ctl)
{
    return ctl_flag(ctl, "expanded") ? "expanded_config" : "config";
}

bool
cmd_config_get(Ctl *ctl, GError **error)
{
    g_auto(Subject) subject = {0};
    if (!pick(ctl, ctl_arg_count(ctl) == 2, &subject, error)) {
        return false;
    }
    g_autoptr(json_t) object = rest_get(subject.rest, subject.path, error);
    if (object == NULL) {
        return fail_subject(&subject, error);
    }
    const json_t *from =
        ctl_flag(ctl, "property") ? object : json_object_get(object, settings_map(ctl));
    const json_t *value = json_object_get(from, ctl_arg(ctl, subject.next));
    if (json_is_string(value)) {
        puts(json_string_value(value));
    } else if (value != NULL) {
        out_json(value);
    } else {
        puts("");
    }
    return true;
}

static bool
write_change(Ctl *ctl, const Subject *subject, json_t *settings, char *const *unset, GError **error)
{
    bool whole = ctl_flag(ctl, "property") || strcmp(subject->writable, "expires_at") == 0;
    return entity_change(ctl, subject->rest, subject->path, subject->writable,
                         whole ? NULL : "config", settings, unset, error) ||
           fail_subject(subject, error);
}

bool
cmd_config_set(Ctl *ctl, GError **error)
{
    const char *first = ctl_arg(ctl, 0), *second = ctl_arg(ctl, 1);
    bool server =
        strchr(first, '=') != NULL || (ctl_arg_count(ctl) == 2 && strchr(first, '.') != NULL &&
                                       second != NULL && strchr(first, ':') == NULL);
    g_auto(Subject) subject = {0};
    g_autoptr(json_t) settings = json_object();
    if (!pick(ctl, !server, &subject, error)) {
        return false;
    }
    if (ctl_arg(ctl, subject.next) == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "<key>=<value> is missing (see 'hawser config set --help')");
    }
    if (!entity_parse_settings(ctl_args_from(ctl, subject.next), settings, error)) {
        return false;
    }
    return write_change(ctl, &subject, settings, NULL, error);
}

bool
cmd_config_unset(Ctl *ctl, GError **error)
{
    g_auto(Subject) subject = {0};
    return pick(ctl, ctl_arg_count(ctl) == 2, &subject, error) &&
           write_change(ctl, &subject, NULL, ctl_args_from(ctl, subject.next), error);
}

bool
cmd_config_show(Ctl *ctl, GError **error)
{
    g_auto(Subject) subject = {0};
    if (!pick(ctl, ctl_arg_count(ctl) == 1, &subject, error)) {
        return false;
    }
    g_autoptr(json_t) object = rest_get(subject.rest, subject.path, error);
    if (object == NULL) {
        return fail_subject(&subject, error);
    }
    bool expanded = ctl_flag(ctl, "expanded");
    const char *keys = subject.writable;
    if (strcmp(keys, "expires_at") == 0) {
        keys = "expires_at architecture config devices ephemeral profiles stateful";
    }
    g_autoptr(json_t) shown = entity_fields(object, keys);
    if (expanded && *subject.name != '\0') {
        json_object_set(shown, "config", json_object_get(object, "expanded_config"));
        json_object_set(shown, "devices", json_object_get(object, "expanded_devices"));
    }
    out_yaml(shown);
    return true;
}

bool
cmd_config_edit(Ctl *ctl, GError **error)
{
    g_auto(Subject) subject = {0};
    if (!pick(ctl, ctl_arg_count(ctl) == 1, &subject, error)) {
        return false;
    }
    return entity_edit_at(ctl, subject.rest, subject.path, subject.what, subject.writable, error) ||
           fail_subject(&subject, error);
}

/* The path below an instance that metadata and templates are at. */
static char *
metadata_path(Ctl *ctl, Rest **ret_rest, const char *below, GError **error)
{
    const char *name = NULL;
    *ret_rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (*ret_rest == NULL) {
        return NULL;
    }
    g_autofree char *base = rest_path("/1.0/instances/%s/metadata", name);
    return g_strconcat(base, below, NULL);
}

bool
cmd_config_metadata_show(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = metadata_path(ctl, &rest, "", error);
    g_autoptr(json_t) object = path != NULL ? rest_get(rest, path, error) : NULL;
    if (object == NULL) {
        return false;
    }
    out_yaml(object);
    return true;
}

bool
cmd_config_metadata_edit(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = metadata_path(ctl, &rest, "", error);
    return path != NULL && entity_edit_at(ctl, rest, path, "instance's metadata",
                                          "architecture creation_date expiry_date properties "
                                          "templates",
                                          error);
}

bool
cmd_config_template_list(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = metadata_path(ctl, &rest, "/templates", error);
    g_autoptr(json_t) names = path != NULL ? rest_get(rest, path, error) : NULL;
    if (names == NULL) {
        return false;
    }
    static const char *const headers[] = {"FILENAME", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *name;
    json_array_foreach (names, index, name) {
        out_table_add(table, json_string_value(name));
    }
    out_table_sort(table);
    return out_print(table, names, ctl_option(ctl, "format"), error);
}

static char *
template_path(Ctl *ctl, Rest **ret_rest, GError **error)
{
    g_autofree char *below = rest_path("/templates?path=%s", ctl_arg(ctl, 1));
    return metadata_path(ctl, ret_rest, below, error);
}

bool
cmd_config_template_show(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = template_path(ctl, &rest, error);
    RestRaw raw = {.method = "GET", .path = path, .is_download = true, .fd_save = STDOUT_FILENO};
    return path != NULL && rest_raw(rest, &raw, NULL, NULL, NULL, error);
}

bool
cmd_config_template_create(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = template_path(ctl, &rest, error);
    g_autofree char *text = edit_is_piped() ? edit_read_stdin(error) : g_strdup("");
    if (path == NULL || text == NULL) {
        return false;
    }
    RestRaw raw = {.method = "POST", .path = path, .bytes = text, .size = strlen(text)};
    return rest_raw(rest, &raw, NULL, NULL, NULL, error);
}

bool
cmd_config_template_edit(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = template_path(ctl, &rest, error), *text = NULL;
    if (path == NULL) {
        return false;
    }
    if (edit_is_piped()) {
        text = edit_read_stdin(error);
    } else {
        g_autoptr(GByteArray) bytes = NULL;
        RestRaw get = {.method = "GET", .path = path};
        if (!rest_raw(rest, &get, NULL, NULL, &bytes, error)) {
            return false;
        }
        text = edit_text((const char *) bytes->data, bytes->len, ".tpl", error);
    }
    if (text == NULL) {
        return false;
    }
    RestRaw raw = {.method = "POST", .path = path, .bytes = text, .size = strlen(text)};
    return rest_raw(rest, &raw, NULL, NULL, NULL, error);
}

bool
cmd_config_template_delete(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *path = template_path(ctl, &rest, error);
    return path != NULL && rest_do(rest, "DELETE", path, NULL, error);
}
