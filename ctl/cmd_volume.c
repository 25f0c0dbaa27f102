/* hawser storage volume: volumes and their snapshots.
 * V1  A volume is "name" (custom) or "type/name" (container, virtual-machine, image, custom); a
 *     snapshot has one more part. "a/b" is snapshot b of custom volume a unless a is a type.
 * Not here: files of volumes (cmd_backup.c). */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/wait.h"

static const char *const types[] = {"custom", "container", "virtual-machine", "image", NULL};

typedef struct {
    Rest *rest;                   /* borrows */
    const char *pool;             /* borrows */
    char *type, *name, *snapshot; /* own; snapshot may be NULL */
    char *path;                   /* owns: of the volume or of its snapshot */
} Volume;

static void
volume_done(Volume *volume)
{
    g_free(volume->type);
    g_free(volume->name);
    g_free(volume->snapshot);
    g_free(volume->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Volume, volume_done)

/* V1 */
static void
parse_name(const char *text, Volume *volume)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 3);
    int at = parts[0] != NULL && parts[1] != NULL && g_strv_contains(types, parts[0]) ? 1 : 0;
    volume->type = g_strdup(at == 1 ? parts[0] : "custom");
    volume->name = g_strdup(parts[at] != NULL ? parts[at] : "");
    volume->snapshot = parts[at] != NULL ? g_strdup(parts[at + 1]) : NULL;
}

static char *
volume_path(const Volume *volume)
{
    return volume->snapshot != NULL
               ? rest_path("/1.0/storage-pools/%s/volumes/%s/%s/snapshots/%s", volume->pool,
                           volume->type, volume->name, volume->snapshot)
               : rest_path("/1.0/storage-pools/%s/volumes/%s/%s", volume->pool, volume->type,
                           volume->name);
}

/* The volume of arguments "[<remote>:]<pool> <volume>". */
static bool
pick(Ctl *ctl, Volume *ret_volume, GError **error)
{
    Volume volume = {0};
    volume.rest = ctl_server(ctl, ctl_arg(ctl, 0), &volume.pool, error);
    if (volume.rest == NULL) {
        return false;
    }
    parse_name(ctl_arg(ctl, 1), &volume);
    volume.path = volume_path(&volume);
    *ret_volume = volume;
    return true;
}

static bool
fail_volume(const Volume *volume, GError **error)
{
    return haw_push(error, "volume '%s/%s%s%s'", volume->pool, volume->name,
                    volume->snapshot != NULL ? "/" : "",
                    volume->snapshot != NULL ? volume->snapshot : "");
}

static const char *
writable_of(const Volume *volume)
{
    return volume->snapshot != NULL ? "description expires_at" : "config description";
}

bool
cmd_volume_show(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autoptr(json_t) object = rest_get(volume.rest, volume.path, error);
    if (object == NULL) {
        return fail_volume(&volume, error);
    }
    out_yaml(object);
    return true;
}

bool
cmd_volume_get(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autoptr(json_t) object = rest_get(volume.rest, volume.path, error);
    if (object == NULL) {
        return fail_volume(&volume, error);
    }
    const json_t *from = ctl_flag(ctl, "property") ? object : json_object_get(object, "config");
    puts(out_get(from, ctl_arg(ctl, 2)));
    return true;
}

static bool
change(Ctl *ctl, json_t *settings, char *const *unset, GError **error)
{
    g_auto(Volume) volume = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    bool whole = ctl_flag(ctl, "property") || volume.snapshot != NULL;
    return entity_change(ctl, volume.rest, volume.path, writable_of(&volume),
                         whole ? NULL : "config", settings, unset, error) ||
           fail_volume(&volume, error);
}

bool
cmd_volume_set(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) settings = json_object();
    return entity_parse_settings(ctl_args_from(ctl, 2), settings, error) &&
           change(ctl, settings, NULL, error);
}

bool
cmd_volume_unset(Ctl *ctl, GError **error)
{
    return change(ctl, NULL, ctl_args_from(ctl, 2), error);
}

bool
cmd_volume_edit(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    return pick(ctl, &volume, error) &&
           (entity_edit_at(ctl, volume.rest, volume.path, "storage volume", writable_of(&volume),
                           error) ||
            fail_volume(&volume, error));
}

bool
cmd_volume_info(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autofree char *state_path = g_strconcat(volume.path, "/state", NULL);
    g_autofree char *list_path = g_strconcat(volume.path, "/snapshots?recursion=1", NULL);
    g_autoptr(json_t) object = rest_get(volume.rest, volume.path, error);
    g_autoptr(json_t) state = object != NULL ? rest_get(volume.rest, state_path, NULL) : NULL;
    g_autoptr(json_t) snapshots = object != NULL ? rest_get(volume.rest, list_path, NULL) : NULL;
    if (object == NULL) {
        return fail_volume(&volume, error);
    }
    printf("Name: %s\nType: %s\nContent type: %s\nDescription: %s\n", out_get(object, "name"),
           out_get(object, "type"), out_get(object, "content_type"),
           out_get(object, "description"));
    gint64 used = json_integer_value(json_object_get(json_object_get(state, "usage"), "used"));
    gint64 total = json_integer_value(json_object_get(json_object_get(state, "usage"), "total"));
    if (used > 0 || total > 0) {
        g_autofree char *used_text = out_bytes(used), *total_text = out_bytes(total);
        printf("Usage: %s\n", used_text);
        if (total > 0) {
            printf("Total: %s\n", total_text);
        }
    }
    size_t index;
    json_t *snapshot;
    printf("%s", json_array_size(snapshots) > 0 ? "\nSnapshots:\n" : "");
    json_array_foreach (snapshots, index, snapshot) {
        g_autofree char *expiry = out_time(out_get(snapshot, "expires_at"));
        printf("  %s%s%s\n", out_get(snapshot, "name"), *expiry != '\0' ? " expires " : "", expiry);
    }
    return true;
}

bool
cmd_volume_create(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    g_autoptr(json_t) config = json_object();
    if (!pick(ctl, &volume, error) ||
        !entity_parse_settings(ctl_args_from(ctl, 2), config, error)) {
        return false;
    }
    g_autofree char *list = rest_path("/1.0/storage-pools/%s/volumes/custom", volume.pool);
    const char *about = ctl_option(ctl, "description");
    g_autoptr(json_t) body = json_pack("{ss ss ss ss sO}", "name", volume.name, "type", "custom",
                                       "content_type", ctl_option(ctl, "type"), "description",
                                       about != NULL ? about : "", "config", config);
    return wait_call(ctl, volume.rest, "POST", list, body, "Creating", error) ||
           fail_volume(&volume, error);
}

bool
cmd_volume_delete(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    return pick(ctl, &volume, error) &&
           (wait_call(ctl, volume.rest, "DELETE", volume.path, NULL, "Deleting", error) ||
            fail_volume(&volume, error));
}

bool
cmd_volume_rename(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0}, to = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    parse_name(ctl_arg(ctl, 2), &to);
    const char *name = volume.snapshot != NULL && to.snapshot != NULL ? to.snapshot : to.name;
    g_autoptr(json_t) body = json_pack("{ss}", "name", name);
    return wait_call(ctl, volume.rest, "POST", volume.path, body, "Renaming", error) ||
           fail_volume(&volume, error);
}

bool
cmd_volume_snapshot(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    const char *snapshot = ctl_arg(ctl, 2);
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autofree char *list = g_strconcat(volume.path, "/snapshots", NULL);
    if (snapshot != NULL && ctl_flag(ctl, "reuse")) {
        g_autofree char *below = rest_path("/%s", snapshot);
        g_autofree char *old = g_strconcat(list, below, NULL);
        g_autoptr(json_t) found = rest_get(volume.rest, old, NULL);
        if (found != NULL && !wait_call(ctl, volume.rest, "DELETE", old, NULL, "Deleting", error)) {
            return fail_volume(&volume, error);
        }
    }
    g_autoptr(json_t) body = json_pack("{ss}", "name", snapshot != NULL ? snapshot : "");
    if (ctl_flag(ctl, "no-expiry")) {
        json_object_set_new(body, "expires_at", json_string("0001-01-01T00:00:00Z"));
    }
    return wait_call(ctl, volume.rest, "POST", list, body, "Taking a snapshot", error) ||
           fail_volume(&volume, error);
}

bool
cmd_volume_restore(Ctl *ctl, GError **error)
{
    g_auto(Volume) volume = {0};
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autoptr(json_t) body = json_pack("{ss}", "restore", ctl_arg(ctl, 2));
    return wait_call(ctl, volume.rest, "PUT", volume.path, body, "Restoring", error) ||
           fail_volume(&volume, error);
}

/* "[<remote>:]<pool>/<volume>[/<snapshot>]" */
static bool
pick_joined(Ctl *ctl, const char *arg, char **ret_pool, Volume *ret_volume, GError **error)
{
    const char *text = NULL;
    Volume volume = {.rest = ctl_server(ctl, arg, &text, error)};
    if (volume.rest == NULL) {
        return false;
    }
    const char *slash = strchr(text, '/');
    if (slash == NULL || slash == text || slash[1] == '\0') {
        return haw_fail(error, HAW_INVALID, "'%s' is not of the form pool/volume", arg);
    }
    *ret_pool = g_strndup(text, (gsize) (slash - text));
    volume.pool = *ret_pool;
    parse_name(slash + 1, &volume);
    volume.path = volume_path(&volume);
    *ret_volume = volume;
    return true;
}

static bool
copy_within(Ctl *ctl, const Volume *from, const Volume *to, GError **error)
{
    const char *project = ctl_option(ctl, "target-project");
    g_autofree char *name = from->snapshot != NULL
                                ? g_strconcat(from->name, "/", from->snapshot, NULL)
                                : g_strdup(from->name);
    g_autofree char *list =
        project != NULL
            ? rest_path("/1.0/storage-pools/%s/volumes/custom?project=%s", to->pool, project)
            : rest_path("/1.0/storage-pools/%s/volumes/custom", to->pool);
    g_autoptr(json_t) body =
        json_pack("{ss ss s{ss ss ss sb sb}}", "name", to->name, "type", "custom", "source", "type",
                  "copy", "pool", from->pool, "name", name, "volume_only",
                  (int) ctl_flag(ctl, "volume-only"), "refresh", (int) ctl_flag(ctl, "refresh"));
    if (project != NULL) {
        json_object_set_new(json_object_get(body, "source"), "project",
                            json_string(rest_project(from->rest)));
    }
    return wait_call(ctl, to->rest, "POST", list, body, "Copying", error);
}

static bool
copy_between(Ctl *ctl, const Volume *from, const Volume *to, GError **error)
{
    int volume_only = ctl_flag(ctl, "volume-only");
    g_autoptr(json_t) volume = rest_get(from->rest, from->path, error);
    if (volume == NULL) {
        return false;
    }
    const char *project = ctl_option(ctl, "target-project");
    g_autoptr(json_t) migrate =
        json_pack("{ss sb sb}", "name", to->name, "migration", 1, "volume_only", volume_only);
    g_autoptr(json_t) body = entity_fields(volume, "config description content_type");
    json_object_set_new(body, "name", json_string(to->name));
    json_object_set_new(body, "type", json_string("custom"));
    json_object_set_new(body, "source",
                        json_pack("{ss sb sb}", "type", "migration", "volume_only", volume_only,
                                  "refresh", (int) ctl_flag(ctl, "refresh")));
    g_autofree char *list =
        project != NULL
            ? rest_path("/1.0/storage-pools/%s/volumes/custom?project=%s", to->pool, project)
            : rest_path("/1.0/storage-pools/%s/volumes/custom", to->pool);
    CmdTransfer t = {.from = from->rest,
                     .into = to->rest,
                     .path = from->path,
                     .migrate = migrate,
                     .body = body,
                     .into_path = list};
    return cmd_copy_transfer(ctl, &t, error);
}

static bool
copy(Ctl *ctl, const Volume *from, const Volume *to, GError **error)
{
    if (strcmp(from->type, "custom") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "only custom volumes are copied (for an instance: "
                        "'hawser copy')");
    }
    if (from->rest == to->rest) {
        return copy_within(ctl, from, to, error);
    }
    return copy_between(ctl, from, to, error);
}

bool
cmd_volume_copy(Ctl *ctl, GError **error)
{
    g_auto(Volume) from = {0}, to = {0};
    g_autofree char *from_pool = NULL, *to_pool = NULL;
    return pick_joined(ctl, ctl_arg(ctl, 0), &from_pool, &from, error) &&
           pick_joined(ctl, ctl_arg(ctl, 1), &to_pool, &to, error) &&
           (copy(ctl, &from, &to, error) || fail_volume(&from, error));
}

bool
cmd_volume_move(Ctl *ctl, GError **error)
{
    g_auto(Volume) from = {0}, to = {0};
    g_autofree char *from_pool = NULL, *to_pool = NULL;
    if (!pick_joined(ctl, ctl_arg(ctl, 0), &from_pool, &from, error) ||
        !pick_joined(ctl, ctl_arg(ctl, 1), &to_pool, &to, error)) {
        return false;
    }
    if (from.rest != to.rest) {
        return (copy(ctl, &from, &to, error) &&
                wait_call(ctl, from.rest, "DELETE", from.path, NULL, "Deleting", error)) ||
               fail_volume(&from, error);
    }
    g_autoptr(json_t) body = json_pack("{ss ss}", "name", to.name, "pool", to.pool);
    const char *project = ctl_option(ctl, "target-project");
    if (project != NULL) {
        json_object_set_new(body, "project", json_string(project));
    }
    return wait_call(ctl, from.rest, "POST", from.path, body, "Moving", error) ||
           fail_volume(&from, error);
}

static bool
attach(Ctl *ctl, const char *owner_format, const char *what, GError **error)
{
    g_auto(Volume) volume = {0};
    const char *owner = ctl_arg(ctl, 2), *device = ctl_arg(ctl, 3), *path = ctl_arg(ctl, 4);
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    if (path == NULL && device != NULL && *device == '/') {
        path = device; /* the device's name may be left out */
        device = NULL;
    }
    g_autoptr(json_t) disk =
        json_pack("{ss ss ss}", "type", "disk", "pool", volume.pool, "source", volume.name);
    if (path != NULL) {
        json_object_set_new(disk, "path", json_string(path));
    }
    g_autofree char *escaped = g_uri_escape_string(owner, NULL, FALSE);
    g_autofree char *url = g_strconcat(owner_format, escaped, NULL);
    return cmd_device_put(ctl, volume.rest, url, device != NULL ? device : volume.name, disk,
                          error) ||
           haw_push(error, "%s '%s'", what, owner);
}

bool
cmd_volume_attach(Ctl *ctl, GError **error)
{
    return attach(ctl, "/1.0/instances/", "instance", error);
}

bool
cmd_volume_attach_profile(Ctl *ctl, GError **error)
{
    return attach(ctl, "/1.0/profiles/", "profile", error);
}

/* The device of an owner that is the volume. */
static const char *
find_disk(const json_t *owner, const Volume *volume)
{
    const char *name;
    json_t *device;
    json_object_foreach (json_object_get(owner, "devices"), name, device) {
        if (strcmp(out_get(device, "type"), "disk") == 0 &&
            strcmp(out_get(device, "pool"), volume->pool) == 0 &&
            strcmp(out_get(device, "source"), volume->name) == 0) {
            return name;
        }
    }
    return NULL;
}

static bool
detach(Ctl *ctl, const char *owner_format, const char *what, GError **error)
{
    g_auto(Volume) volume = {0};
    const char *owner = ctl_arg(ctl, 2), *device = ctl_arg(ctl, 3);
    if (!pick(ctl, &volume, error)) {
        return false;
    }
    g_autofree char *escaped = g_uri_escape_string(owner, NULL, FALSE);
    g_autofree char *url = g_strconcat(owner_format, escaped, NULL);
    g_autoptr(json_t) object = rest_get(volume.rest, url, error);
    if (object != NULL && device == NULL) {
        device = find_disk(object, &volume);
        if (device == NULL) {
            haw_fail(error, HAW_NOT_FOUND, "volume '%s/%s' is not attached", volume.pool,
                     volume.name);
        }
    }
    return (object != NULL && device != NULL &&
            cmd_device_put(ctl, volume.rest, url, device, NULL, error)) ||
           haw_push(error, "%s '%s'", what, owner);
}

bool
cmd_volume_detach(Ctl *ctl, GError **error)
{
    return detach(ctl, "/1.0/instances/", "instance", error);
}

bool
cmd_volume_detach_profile(Ctl *ctl, GError **error)
{
    return detach(ctl, "/1.0/profiles/", "profile", error);
}

static const struct {
    char letter;
    const char *header, *spec;
} volume_columns[] = {
    {'t', "TYPE", "type"},
    {'n', "NAME", "name"},
    {'d', "DESCRIPTION", "description"},
    {'c', "CONTENT-TYPE", "content_type"},
    {'u', "USED BY", "used_by#"},
    {'L', "LOCATION", "location"},
    {'e', "PROJECT", "project"},
    {'p', "POOL", "pool"},
};

static bool
volume_matches(const json_t *volume, char *const *filters)
{
    for (; *filters != NULL; filters++) {
        const char *equals = strchr(*filters, '=');
        g_autofree char *key =
            equals != NULL ? g_strndup(*filters, (gsize) (equals - *filters)) : g_strdup("name");
        const char *have = out_get(volume, key);
        bool same =
            equals != NULL ? strcmp(have, equals + 1) == 0 : g_str_has_prefix(have, *filters);
        if (!same) {
            return false;
        }
    }
    return true;
}

bool
cmd_volume_list(Ctl *ctl, GError **error)
{
    const char *pool = NULL, *letters = ctl_option(ctl, "columns");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &pool, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *base = rest_path("/1.0/storage-pools/%s/volumes?recursion=1", pool);
    g_autofree char *path =
        g_strconcat(base, ctl_flag(ctl, "all-projects") ? "&all-projects=true" : "", NULL);
    g_autoptr(json_t) all = rest_get(rest, path, error), selected = json_array();
    if (all == NULL) {
        return haw_push(error, "storage pool '%s'", pool);
    }
    g_autoptr(GPtrArray) headers = g_ptr_array_new(), specs = g_ptr_array_new();
    for (const char *letter = letters; *letter != '\0'; letter++) {
        for (size_t i = 0; i < G_N_ELEMENTS(volume_columns); i++) {
            if (volume_columns[i].letter == *letter) {
                g_ptr_array_add(headers, (void *) volume_columns[i].header);
                g_ptr_array_add(specs, (void *) volume_columns[i].spec);
            }
        }
    }
    g_ptr_array_add(headers, NULL);
    g_autoptr(OutTable) table = out_table_new((const char *const *) headers->pdata);
    size_t index;
    json_t *volume;
    json_array_foreach (all, index, volume) {
        if (!volume_matches(volume, ctl_args_from(ctl, 1))) {
            continue;
        }
        json_array_append(selected, volume);
        for (guint i = 0; i < specs->len; i++) {
            g_autofree char *cell = entity_column(volume, specs->pdata[i]);
            out_table_add(table, cell);
        }
    }
    out_table_sort(table);
    return out_print(table, selected, ctl_option(ctl, "format"), error);
}
