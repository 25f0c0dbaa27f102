/* hawser recover: volumes that lie on the pools and are in no database become instances and volumes again. */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/out.h"

/* "name:driver:source" as the server wants it. */
static json_t *
pool_from(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 3);
    if (g_strv_length(parts) != 3 || *parts[0] == '\0' || *parts[1] == '\0' || *parts[2] == '\0') {
        haw_fail(error, HAW_INVALID, "--pool takes <name>:<driver>:<source>, not '%s'", text);
        return NULL;
    }
    return json_pack("{s:s,s:s,s:{s:s}}", "name", parts[0], "driver", parts[1], "config", "source",
                     parts[2]);
}

/* The pools that the server has, and one that it has not. */
static json_t *
pools_to_scan(Ctl *ctl, Rest *rest, GError **error)
{
    g_autoptr(json_t) known = rest_get(rest, "/1.0/storage-pools?recursion=1", error);
    const char *other = ctl_option(ctl, "pool");
    json_t *list = json_array(), *each;
    size_t i;
    json_array_foreach (known, i, each) {
        json_array_append_new(list, json_pack("{s:s}", "name", out_get(each, "name")));
    }
    json_t *pool = known != NULL && other != NULL ? pool_from(other, error) : NULL;
    if (pool != NULL) {
        json_array_append_new(list, pool);
    }
    if (known == NULL || (other != NULL && pool == NULL)) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:o}", "pools", list);
}

static bool
show_found(Ctl *ctl, json_t *found, GError **error)
{
    static const char *const headers[] = {"POOL", "PROJECT", "TYPE", "NAME", "SNAPSHOTS", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    json_t *list = json_object_get(found, "UnknownVolumes"), *each;
    size_t i;
    json_array_foreach (list, i, each) {
        out_table_add(table, out_get(each, "pool"));
        out_table_add(table, out_get(each, "project"));
        out_table_add(table, out_get(each, "type"));
        out_table_add(table, out_get(each, "name"));
        out_table_addf(table, "%d",
                       (int) json_integer_value(json_object_get(each, "snapshotCount")));
    }
    return out_print(table, list, ctl_option(ctl, "format"), error);
}

static bool
check_lacking(json_t *found, GError **error)
{
    json_t *lacking = json_object_get(found, "DependencyErrors"), *each;
    g_autoptr(GString) text = g_string_new(NULL);
    size_t i;
    json_array_foreach (lacking, i, each) {
        g_string_append_printf(text, "%s%s", i > 0 ? "; " : "", json_string_value(each));
    }
    return text->len == 0 ||
           haw_fail(error, HAW_CONFLICT, "make these first, then try again: %s", text->str);
}

bool
cmd_recover(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, NULL, NULL, error);
    g_autoptr(json_t) wanted = rest != NULL ? pools_to_scan(ctl, rest, error) : NULL;
    g_autoptr(json_t) found =
        wanted != NULL ? rest_call(rest, "POST", "/internal/recover/validate", wanted, NULL, error)
                       : NULL;
    if (found == NULL || !show_found(ctl, found, error) || !check_lacking(found, error)) {
        return false;
    }
    if (json_array_size(json_object_get(found, "UnknownVolumes")) == 0) {
        fprintf(stderr, "No unknown volumes found. Nothing to do.\n");
        return true;
    }
    if (!ctl_flag(ctl, "yes")) {
        fprintf(stderr, "Nothing was changed: 'hawser recover --yes' takes them in.\n");
        return true;
    }
    return rest_do(rest, "POST", "/internal/recover/import", wanted, error) ||
           haw_push(error, "recover");
}
