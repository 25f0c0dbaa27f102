/* hawser storage: pools, where the shared verbs do not do. Not here: volumes (cmd_volume.c). */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"

bool
cmd_storage_create(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autoptr(json_t) config = json_object();
    if (rest == NULL || !entity_parse_settings(ctl_args_from(ctl, 2), config, error)) {
        return false;
    }
    const char *about = ctl_option(ctl, "description");
    g_autoptr(json_t) body = json_pack("{ss ss ss sO}", "name", name, "driver", ctl_arg(ctl, 1),
                                       "description", about != NULL ? about : "", "config", config);
    return rest_do(rest, "POST", "/1.0/storage-pools", body, error) ||
           haw_push(error, "storage pool '%s'", name);
}

static json_t *
load_resources(Rest *rest, const char *name, GError **error)
{
    g_autofree char *path = rest_path("/1.0/storage-pools/%s/resources", name);
    json_t *resources = rest_get(rest, path, error);
    if (resources == NULL) {
        haw_push(error, "storage pool '%s'", name);
    }
    return resources;
}

bool
cmd_storage_show(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    if (ctl_flag(ctl, "resources")) {
        g_autoptr(json_t) resources = load_resources(rest, name, error);
        if (resources != NULL) {
            out_yaml(resources);
        }
        return resources != NULL;
    }
    return entity_show(ctl, error);
}

static void
print_amount(const char *label, const json_t *space, const char *key, bool exact)
{
    gint64 bytes = json_integer_value(json_object_get(space, key));
    g_autofree char *text = exact ? g_strdup_printf("%" G_GINT64_FORMAT, bytes) : out_bytes(bytes);
    printf("  %s: %s\n", label, text);
}

/* Users by kind: "/1.0/instances/c1" counts for instances. */
static void
print_users(const json_t *pool)
{
    size_t index;
    json_t *url;
    printf("used by:\n");
    json_array_foreach (json_object_get(pool, "used_by"), index, url) {
        g_auto(GStrv) parts = g_strsplit(json_string_value(url), "/", -1);
        if (g_strv_length(parts) >= 4) {
            g_autofree char *name = g_uri_unescape_string(parts[3], NULL);
            printf("  %s: %s\n", parts[2], name != NULL ? name : parts[3]);
        }
    }
}

bool
cmd_storage_info(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/storage-pools/%s", name);
    g_autoptr(json_t) pool = rest_get(rest, path, error);
    g_autoptr(json_t) resources = pool != NULL ? load_resources(rest, name, error) : NULL;
    if (resources == NULL) {
        return false;
    }
    bool exact = ctl_flag(ctl, "bytes");
    const json_t *space = json_object_get(resources, "space");
    printf("info:\n  name: %s\n  driver: %s\n  description: %s\n", name, out_get(pool, "driver"),
           out_get(pool, "description"));
    print_amount("total space", space, "total", exact);
    print_amount("space used", space, "used", exact);
    print_users(pool);
    return true;
}
