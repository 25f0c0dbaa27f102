/* hawser project: what the shared verbs do not cover. */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"

bool
cmd_project_switch(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/projects/%s", name);
    g_autoptr(json_t) project = rest_get(rest, path, error);
    if (project == NULL) {
        return haw_push(error, "project '%s'", name);
    }
    return remotes_set(ctl_remotes(ctl), rest_remote(rest)->name, "project", name, error) &&
           remotes_save(ctl_remotes(ctl), error);
}

bool
cmd_project_list(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body =
        rest != NULL ? rest_get(rest, "/1.0/projects?recursion=1", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"NAME",     "IMAGES",      "PROFILES", "STORAGE VOLUMES",
                                          "NETWORKS", "DESCRIPTION", "USED BY",  NULL};
    static const char *const features[] = {"features.images", "features.profiles",
                                           "features.storage.volumes", "features.networks", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *project;
    json_array_foreach (body, index, project) {
        const char *name = out_get(project, "name");
        bool current = strcmp(name, rest_project(rest)) == 0;
        out_table_addf(table, "%s%s", name, current ? " (current)" : "");
        for (const char *const *feature = features; *feature != NULL; feature++) {
            bool on = strcmp(out_get(json_object_get(project, "config"), *feature), "true") == 0;
            out_table_add(table, on ? "YES" : "NO");
        }
        out_table_add(table, out_get(project, "description"));
        out_table_addf(table, "%zu", json_array_size(json_object_get(project, "used_by")));
    }
    out_table_sort(table);
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_project_info(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/projects/%s/state", name);
    g_autoptr(json_t) state = rest_get(rest, path, error);
    if (state == NULL) {
        return haw_push(error, "project '%s'", name);
    }
    static const char *const headers[] = {"RESOURCE", "LIMIT", "USAGE", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    const char *key;
    json_t *resource;
    json_object_foreach (json_object_get(state, "resources"), key, resource) {
        gint64 limit = json_integer_value(json_object_get(resource, "Limit"));
        gint64 usage = json_integer_value(json_object_get(resource, "Usage"));
        bool bytes = strcmp(key, "memory") == 0 || strcmp(key, "disk") == 0;
        g_autofree char *upper = g_ascii_strup(key, -1);
        g_autofree char *limit_text =
            bytes ? out_bytes(limit) : g_strdup_printf("%" G_GINT64_FORMAT, limit);
        g_autofree char *usage_text =
            bytes ? out_bytes(usage) : g_strdup_printf("%" G_GINT64_FORMAT, usage);
        out_table_add(table, upper);
        out_table_add(table, limit < 0 ? "UNLIMITED" : limit_text);
        out_table_add(table, usage_text);
    }
    out_table_sort(table);
    return out_print(table, state, ctl_option(ctl, "format"), error);
}
