/* Shared verbs.
 * N1  A change that somebody else made between our reading and writing is not lost: If-Match, and
 *     the change is applied again to what they wrote.
 * N2  Only what PUT takes is sent back: names, states and users of an object are the server's.
 * Called through the rows (rows.h), and by cmd_*.c for nouns of their own kind. */
#include "ctl/entity.h"

#include <stdio.h>
#include <string.h>

#include "ctl/edit.h"
#include "ctl/out.h"
#include "ctl/wait.h"

enum { RETRY_MAX = 5 };

void
entity_pick_done(EntityPick *pick)
{
    g_free(pick->path);
    g_free(pick->name);
}

/* 'format' with one %s a name. */
static char *
fill_path(const char *format, const char *const *names)
{
    GString *path = g_string_new(NULL);
    for (; *format != '\0'; format++) {
        if (format[0] == '%' && format[1] == 's') {
            g_autofree char *part = g_uri_escape_string(*names++, NULL, FALSE);
            g_string_append(path, part);
            format++;
        } else {
            g_string_append_c(path, *format);
        }
    }
    return g_string_free(path, FALSE);
}

bool
entity_pick(Ctl *ctl, const Entity *entity, EntityPick *ret_pick, GError **error)
{
    const char *names[4] = {0};
    bool bare = entity->names == 0 && !ctl_leads_with_remote(ctl);
    EntityPick pick = {.next = bare ? 0 : MAX(entity->names, 1)};
    pick.rest = ctl_server(ctl, bare ? NULL : ctl_arg(ctl, 0), &names[0], error);
    if (pick.rest == NULL) {
        return false;
    }
    for (int i = 1; i < entity->names; i++) {
        names[i] = ctl_arg(ctl, i);
    }
    for (int i = 0; i < entity->names; i++) {
        if (*names[i] == '\0') {
            return haw_fail(error, HAW_INVALID, "a %s needs a name", entity->what);
        }
    }
    pick.path = fill_path(entity->url, names);
    pick.name = g_strdup(entity->names > 0 ? names[entity->names - 1] : "server");
    *ret_pick = pick;
    return true;
}

/* Puts "network 'x': " in front of the error. */
static bool
fail_named(const Entity *entity, const EntityPick *pick, GError **error)
{
    return haw_push(error, "%s '%s'", entity->what, pick->name);
}

json_t *
entity_fields(const json_t *object, const char *keys)
{
    if (keys == NULL) {
        return json_deep_copy(object);
    }
    json_t *picked = json_object();
    g_auto(GStrv) words = g_strsplit(keys, " ", -1);
    for (char **word = words; *word != NULL; word++) {
        json_t *value = json_object_get(object, *word);
        if (value != NULL) {
            json_object_set_new(picked, *word, json_deep_copy(value));
        }
    }
    return picked;
}

static char *
column_value(const json_t *value, char suffix)
{
    g_autofree char *text = NULL;
    const char *slash;
    switch (suffix) {
    case '?':
        return g_strdup(json_is_true(value) ? "YES" : "NO");
    case '#':
        return g_strdup_printf("%zu", json_array_size(value));
    case '@':
        return out_time(json_string_value(value));
    case '*':
        return out_join(value, "\n");
    default:
        break;
    }
    if (json_is_integer(value)) {
        text = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_boolean(value)) {
        text = g_strdup(json_is_true(value) ? "true" : "false");
    } else {
        text = g_strdup(json_string_value(value) != NULL ? json_string_value(value) : "");
    }
    slash = strrchr(text, '/');
    if (suffix == '/' && slash != NULL) {
        return g_strdup(slash + 1);
    }
    return suffix == '^' ? g_ascii_strup(text, -1) : g_steal_pointer(&text);
}

char *
entity_column(const json_t *object, const char *spec)
{
    size_t length = strlen(spec);
    char suffix =
        length > 0 && strchr("?#^@/*", spec[length - 1]) != NULL ? spec[length - 1] : '\0';
    g_autofree char *path = g_strndup(spec, length - (suffix != '\0'));
    char *dot = strchr(path, '.');
    if (dot != NULL) {
        *dot = '\0';
        object = json_object_get(object, path);
    }
    return column_value(json_object_get(object, dot != NULL ? dot + 1 : path), suffix);
}

bool
entity_list(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    const char *names[4] = {0};
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &names[0], error);
    if (rest == NULL) {
        return false;
    }
    for (int i = 1; i + 1 < entity->names; i++) {
        names[i] = ctl_arg(ctl, i);
    }
    g_autofree char *base = fill_path(entity->list_url, names);
    bool all = ctl_flag(ctl, "all-projects");
    g_autofree char *path =
        g_strconcat(base, "?recursion=1", all ? "&all-projects=true" : "", NULL);
    g_autoptr(json_t) body = rest_get(rest, path, error);
    if (body == NULL) {
        return false;
    }

    g_auto(GStrv) columns = g_strsplit(entity->columns, ",", -1);
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
    for (char **column = columns; *column != NULL; column++) {
        g_ptr_array_add(headers, g_strndup(*column, strcspn(*column, "=")));
    }
    g_ptr_array_add(headers, NULL);
    g_autoptr(OutTable) table = out_table_new((const char *const *) headers->pdata);
    size_t index;
    json_t *object;
    json_array_foreach (body, index, object) {
        for (char **column = columns; *column != NULL; column++) {
            g_autofree char *cell = entity_column(object, strchr(*column, '=') + 1);
            out_table_add(table, cell);
        }
    }
    out_table_sort(table);
    return out_print(table, json_is_array(body) ? body : NULL, ctl_option(ctl, "format"), error);
}

/* The object that the arguments name; a new reference. */
static json_t *
fetch(Ctl *ctl, const Entity *entity, EntityPick *ret_pick, GError **error)
{
    if (!entity_pick(ctl, entity, ret_pick, error)) {
        return NULL;
    }
    json_t *object = rest_get(ret_pick->rest, ret_pick->path, error);
    if (object == NULL) {
        fail_named(entity, ret_pick, error);
    }
    return object;
}

bool
entity_show(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    g_autoptr(json_t) object = fetch(ctl, entity, &pick, error);
    if (object == NULL) {
        return false;
    }
    g_autoptr(json_t) shown = entity_fields(object, entity->shown);
    out_yaml(shown);
    return true;
}

static const char *
settings_map(Ctl *ctl)
{
    const Entity *entity = ctl_row(ctl)->entity;
    if (ctl_flag(ctl, "property")) {
        return NULL;
    }
    return entity->settings != NULL ? entity->settings : "config";
}

bool
entity_get(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    g_autoptr(json_t) object = fetch(ctl, entity, &pick, error);
    if (object == NULL) {
        return false;
    }
    const char *map = settings_map(ctl);
    const json_t *from = map != NULL ? json_object_get(object, map) : object;
    g_autofree char *text = column_value(json_object_get(from, ctl_arg(ctl, pick.next)), '\0');
    puts(text);
    return true;
}

bool
entity_parse_settings(char *const *words, json_t *into, GError **error)
{
    if (words[0] != NULL && words[1] != NULL && words[2] == NULL && strchr(words[0], '=') == NULL) {
        json_object_set_new(into, words[0], json_string(words[1]));
        return true;
    }
    for (; *words != NULL; words++) {
        const char *equals = strchr(*words, '=');
        if (equals == NULL || equals == *words) {
            return haw_fail(error, HAW_INVALID, "'%s' is not of the form key=value", *words);
        }
        g_autofree char *key = g_strndup(*words, (gsize) (equals - *words));
        g_autofree char *from_stdin = NULL;
        const char *value = equals + 1;
        if (strcmp(value, "-") == 0) { /* "user.user-data=-" takes it from stdin */
            from_stdin = edit_read_stdin(error);
            if (from_stdin == NULL) {
                return false;
            }
            value = from_stdin;
        }
        if (json_object_set_new(into, key, json_string(value)) != 0) {
            return haw_fail(error, HAW_INVALID, "'%s' is not UTF-8 text", *words);
        }
    }
    return true;
}

bool
entity_update(Ctl *ctl, Rest *rest, const char *path, const char *writable, EntityChange change,
              void *data, GError **error)
{
    for (int round = 0;; round++) {
        g_autofree char *etag = NULL;
        g_autoptr(GError) why = NULL;
        g_autoptr(json_t) object = rest_get_etag(rest, path, &etag, error);
        if (object == NULL) {
            return false;
        }
        g_autoptr(json_t) body = entity_fields(object, writable); /* N2 */
        if (!change(body, data, error)) {
            return false;
        }
        g_autoptr(json_t) result = rest_call(rest, "PUT", path, body, etag, &why);
        if (result != NULL && json_object_get(result, "status_code") != NULL) {
            g_autoptr(json_t) end = wait_operation(ctl, rest, result, NULL, error);
            return end != NULL;
        }
        if (result != NULL) {
            return true;
        }
        if (haw_code(why) != HAW_STALE || round == RETRY_MAX) { /* N1 */
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
    }
}

typedef struct {
    const char *map;    /* NULL: the object itself */
    json_t *settings;   /* what to set, may be NULL; "" deletes */
    char *const *unset; /* ends with NULL, may be NULL */
} Change;

static void
set_one(json_t *map, const char *key, json_t *value, bool empty_deletes)
{
    const char *text = json_string_value(value);
    if (empty_deletes && *text == '\0') {
        json_object_del(map, key);
    } else if (json_is_boolean(json_object_get(map, key))) {
        json_object_set_new(map, key, json_boolean(strcmp(text, "true") == 0));
    } else {
        json_object_set(map, key, value);
    }
}

static bool
apply_change(json_t *object, void *data, GError **error)
{
    const Change *change = data;
    json_t *map = change->map != NULL ? json_object_get(object, change->map) : object;
    if (!json_is_object(map)) {
        map = json_object();
        json_object_set_new(object, change->map, map);
    }
    const char *key;
    json_t *value;
    json_object_foreach (change->settings, key, value) {
        set_one(map, key, value, change->map != NULL);
    }
    for (char *const *word = change->unset; word != NULL && *word != NULL; word++) {
        if (change->map == NULL) {
            json_object_set_new(map, *word, json_string(""));
        } else if (json_object_del(map, *word) != 0) {
            return haw_fail(error, HAW_NOT_FOUND, "key '%s' is not set", *word);
        }
    }
    return true;
}

bool
entity_change(Ctl *ctl, Rest *rest, const char *path, const char *writable, const char *map,
              json_t *settings, char *const *unset, GError **error)
{
    Change change = {.map = map, .settings = settings, .unset = unset};
    return entity_update(ctl, rest, path, writable, apply_change, &change, error);
}

bool
entity_set(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    g_autoptr(json_t) settings = json_object();
    if (!entity_pick(ctl, entity, &pick, error) ||
        !entity_parse_settings(ctl_args_from(ctl, pick.next), settings, error)) {
        return false;
    }
    return entity_change(ctl, pick.rest, pick.path, entity->writable, settings_map(ctl), settings,
                         NULL, error) ||
           fail_named(entity, &pick, error);
}

bool
entity_unset(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    if (!entity_pick(ctl, entity, &pick, error)) {
        return false;
    }
    return entity_change(ctl, pick.rest, pick.path, entity->writable, settings_map(ctl), NULL,
                         ctl_args_from(ctl, pick.next), error) ||
           fail_named(entity, &pick, error);
}

typedef struct {
    Ctl *ctl;
    Rest *rest;
    const char *path, *writable, *etag;
} EditTarget;

static bool
put_edited(json_t *object, void *data, GError **error)
{
    const EditTarget *target = data;
    if (!json_is_object(object)) {
        return haw_fail(error, HAW_INVALID, "a map of keys and values is expected");
    }
    g_autoptr(json_t) body = entity_fields(object, target->writable); /* N2 */
    g_autoptr(json_t) result =
        rest_call(target->rest, "PUT", target->path, body, target->etag, error);
    if (result != NULL && json_object_get(result, "status_code") != NULL) {
        g_autoptr(json_t) end = wait_operation(target->ctl, target->rest, result, NULL, error);
        return end != NULL;
    }
    return result != NULL;
}

bool
entity_edit_at(Ctl *ctl, Rest *rest, const char *path, const char *what, const char *writable,
               GError **error)
{
    EditTarget target = {.ctl = ctl, .rest = rest, .path = path, .writable = writable};
    if (edit_is_piped()) {
        return edit_apply_stdin(put_edited, &target, error);
    }
    g_autofree char *etag = NULL;
    g_autoptr(json_t) object = rest_get_etag(rest, path, &etag, error);
    if (object == NULL) {
        return false;
    }
    target.etag = etag;
    g_autofree char *keys = g_strdup(writable);
    g_strdelimit(keys, " ", ',');
    g_autofree char *help =
        g_strdup_printf("### This is the %s as YAML. Lines that begin with # are not read.\n"
                        "### What can be changed: %s. An empty file changes nothing.\n",
                        what, keys);
    return edit_apply_editor(object, help, put_edited, &target, error);
}

bool
entity_edit(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    if (!entity_pick(ctl, entity, &pick, error)) {
        return false;
    }
    return entity_edit_at(ctl, pick.rest, pick.path, entity->what, entity->writable, error) ||
           fail_named(entity, &pick, error);
}

bool
entity_rename(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    if (!entity_pick(ctl, entity, &pick, error)) {
        return false;
    }
    g_autoptr(json_t) body = json_pack("{ss}", "name", ctl_arg(ctl, pick.next));
    return wait_call(ctl, pick.rest, "POST", pick.path, body, NULL, error) ||
           fail_named(entity, &pick, error);
}

bool
entity_delete(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    if (!entity_pick(ctl, entity, &pick, error)) {
        return false;
    }
    return wait_call(ctl, pick.rest, "DELETE", pick.path, NULL, NULL, error) ||
           fail_named(entity, &pick, error);
}

bool
entity_create(Ctl *ctl, GError **error)
{
    const Entity *entity = ctl_row(ctl)->entity;
    g_auto(EntityPick) pick = {0};
    g_autoptr(json_t) config = json_object();
    if (!entity_pick(ctl, entity, &pick, error) ||
        !entity_parse_settings(ctl_args_from(ctl, pick.next), config, error) ||
        !entity_parse_settings(ctl_option_all(ctl, "config"), config, error)) {
        return false;
    }
    g_autofree char *list = g_path_get_dirname(pick.path);
    g_autoptr(json_t) body = json_pack("{ss sO}", entity->key, pick.name, "config", config);
    static const char *const fields[] = {"description", "type", NULL};
    for (const char *const *field = fields; *field != NULL; field++) {
        if (ctl_option(ctl, *field) != NULL) {
            json_object_set_new(body, *field, json_string(ctl_option(ctl, *field)));
        }
    }
    return wait_call(ctl, pick.rest, "POST", list, body, NULL, error) ||
           fail_named(entity, &pick, error);
}
