/* hawser init: an instance when an image is named; without one the server is set up.
 * N1  Setting up twice changes nothing: what exists is brought to what was said, never made anew.
 * N2  A preseed is applied in the order in which its parts need each other. */
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/wait.h"
#include "proto/yaml.h"

/* One list of a preseed: how its objects are found, made and changed. */
typedef struct {
    const char *section, *url;
    const char *fields;   /* what POST takes besides name and config */
    bool default_project; /* only those whose project is default (or not said) */
    bool other_projects;  /* only the others */
} Section;

static const Section sections[] = {
    /* N2 */
    {"storage_pools", "/1.0/storage-pools", "driver description", false, false},
    {"networks", "/1.0/networks", "type description", true, false},
    {"projects", "/1.0/projects", "description", false, false},
    {"networks", "/1.0/networks", "type description", false, true},
    {"profiles", "/1.0/profiles", "description devices", false, false},
};
static const char *const known_sections[] = {"config",   "storage_pools", "networks", "projects",
                                             "profiles", "cluster",       NULL};

static bool
merge(json_t *object, void *data, GError **error)
{
    const json_t *wanted = data;
    static const char *const maps[] = {"config", "devices", NULL};
    for (const char *const *map = maps; *map != NULL; map++) {
        json_t *into = json_object_get(object, *map), *from = json_object_get(wanted, *map);
        if (json_is_object(into) && json_is_object(from)) {
            json_object_update(into, from);
        } else if (json_is_object(from)) {
            json_object_set(object, *map, from);
        }
    }
    json_t *about = json_object_get(wanted, "description");
    if (json_is_string(about)) {
        json_object_set(object, "description", about);
    }
    return true;
}

/* N1 */
static bool
apply_object(Ctl *ctl, Rest *rest, const Section *section, const json_t *wanted, GError **error)
{
    const char *name = out_get(wanted, "name"), *project = out_get(wanted, "project");
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "%s: one has no name", section->section);
    }
    g_autofree char *query = *project != '\0' ? rest_path("?project=%s", project) : g_strdup("");
    g_autofree char *below = rest_path("/%s", name);
    g_autofree char *path = g_strconcat(section->url, below, query, NULL);
    g_autofree char *list = g_strconcat(section->url, query, NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) found = rest_get(rest, path, &why);
    if (found == NULL && haw_code(why) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&why));
        return haw_push(error, "%s '%s'", section->section, name);
    }
    const char *driver = out_get(wanted, "driver");
    if (found != NULL && *driver != '\0' && strcmp(driver, out_get(found, "driver")) != 0) {
        return haw_fail(error, HAW_CONFLICT, "storage pool '%s' exists with driver '%s'", name,
                        out_get(found, "driver"));
    }
    if (found != NULL) {
        return entity_update(ctl, rest, path, "config description devices", merge, (void *) wanted,
                             error) ||
               haw_push(error, "%s '%s'", section->section, name);
    }
    g_autoptr(json_t) body = entity_fields(wanted, section->fields);
    json_t *config = json_object_get(wanted, "config");
    json_object_set_new(body, "name", json_string(name));
    json_object_set_new(body, "config",
                        json_is_object(config) ? json_deep_copy(config) : json_object());
    return rest_do(rest, "POST", list, body, error) ||
           haw_push(error, "%s '%s'", section->section, name);
}

static bool
check_sections(const json_t *preseed, GError **error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(preseed)) {
        return haw_fail(error, HAW_INVALID, "the preseed is no map of sections");
    }
    json_object_foreach ((json_t *) preseed, key, value) {
        if (!g_strv_contains(known_sections, key)) {
            return haw_fail(error, HAW_INVALID, "the preseed has an unknown section '%s'", key);
        }
    }
    if (json_is_true(json_object_get(json_object_get(preseed, "cluster"), "enabled"))) {
        return haw_fail(error, HAW_UNSUPPORTED, "clusters are not supported yet");
    }
    return true;
}

static bool
apply_preseed(Ctl *ctl, Rest *rest, const json_t *preseed, GError **error)
{
    json_t *config = json_object_get(preseed, "config");
    if (!check_sections(preseed, error)) {
        return false;
    }
    if (json_object_size(config) > 0) {
        g_autoptr(json_t) body = json_pack("{sO}", "config", config);
        if (!rest_do(rest, "PATCH", "/1.0", body, error)) {
            return haw_push(error, "config");
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sections); i++) {
        size_t index;
        json_t *object;
        json_array_foreach (json_object_get(preseed, sections[i].section), index, object) {
            const char *project = out_get(object, "project");
            bool standard = *project == '\0' || strcmp(project, "default") == 0;
            if ((sections[i].default_project && !standard) ||
                (sections[i].other_projects && standard)) {
                continue;
            }
            if (!apply_object(ctl, rest, &sections[i], object, error)) {
                return false;
            }
        }
    }
    return true;
}

static bool
run_preseed(Ctl *ctl, Rest *rest, GError **error)
{
    static const char *const text_keys[] = {"config", "devices", "description", "name", NULL};
    g_autofree char *text = edit_read_stdin(error);
    g_autoptr(json_t) preseed =
        text != NULL ? yaml_to_json(text, strlen(text), text_keys, error) : NULL;
    return preseed != NULL ? apply_preseed(ctl, rest, preseed, error) : haw_push(error, "preseed");
}

/* The first pool, bridge or what a list of names has; NULL for an empty list; caller frees. */
static char *
first_name(Rest *rest, const char *url, bool managed_only)
{
    g_autofree char *path = g_strconcat(url, "?recursion=1", NULL);
    g_autoptr(json_t) list = rest_get(rest, path, NULL);
    size_t index;
    json_t *object;
    json_array_foreach (list, index, object) {
        if (!managed_only || json_is_true(json_object_get(object, "managed"))) {
            return g_strdup(out_get(object, "name"));
        }
    }
    return NULL;
}

/* A bridge name that no interface of the server has. */
static char *
free_bridge_name(Rest *rest)
{
    for (int i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("hawserbr%d", i);
        g_autofree char *path = rest_path("/1.0/networks/%s", name);
        g_autoptr(json_t) found = rest_get(rest, path, NULL);
        if (found == NULL) {
            return g_steal_pointer(&name);
        }
    }
}

/* --auto: a pool, a bridge and a default profile that uses both, where they are missing. */
static bool
run_auto(Ctl *ctl, Rest *rest, GError **error)
{
    g_autofree char *pool = first_name(rest, "/1.0/storage-pools", false);
    g_autofree char *bridge = first_name(rest, "/1.0/networks", true);
    g_autoptr(json_t) preseed = json_pack("{s{}}", "config");
    if (pool == NULL) {
        pool = g_strdup("default");
        json_object_set_new(
            preseed, "storage_pools",
            json_pack("[{ss ss}]", "name", pool, "driver", ctl_option(ctl, "storage-backend")));
    }
    if (bridge == NULL) {
        bridge = free_bridge_name(rest);
        json_object_set_new(preseed, "networks",
                            json_pack("[{ss ss s{ss ss}}]", "name", bridge, "type", "bridge",
                                      "config", "ipv4.address", "auto", "ipv6.address", "auto"));
    }
    if (ctl_option(ctl, "network-address") != NULL) {
        const char *address = ctl_option(ctl, "network-address");
        bool six = strchr(address, ':') != NULL && *address != '[';
        g_autofree char *listen = g_strdup_printf("%s%s%s:%s", six ? "[" : "", address,
                                                  six ? "]" : "", ctl_option(ctl, "network-port"));
        json_object_set_new(json_object_get(preseed, "config"), "core.https_address",
                            json_string(listen));
    }
    g_autoptr(json_t) profile = rest_get(rest, "/1.0/profiles/default", error);
    if (profile == NULL) {
        return haw_push(error, "profile 'default'");
    }
    const json_t *have = json_object_get(profile, "devices");
    json_t *devices = json_object();
    if (json_object_get(have, "root") == NULL) {
        json_object_set_new(devices, "root",
                            json_pack("{ss ss ss}", "type", "disk", "path", "/", "pool", pool));
    }
    if (json_object_get(have, "eth0") == NULL) {
        json_object_set_new(
            devices, "eth0",
            json_pack("{ss ss ss}", "type", "nic", "name", "eth0", "network", bridge));
    }
    json_object_set_new(preseed, "profiles",
                        json_pack("[{ss so}]", "name", "default", "devices", devices));
    return apply_preseed(ctl, rest, preseed, error);
}

/* --dump: what --preseed would make the same again. */
static bool
run_dump(Rest *rest, GError **error)
{
    static const struct {
        const char *section, *path, *fields;
        bool managed_only;
    } parts[] = {
        {"networks", "/1.0/networks?recursion=1", "config description name type", true},
        {"storage_pools", "/1.0/storage-pools?recursion=1", "config description name driver",
         false},
        {"profiles", "/1.0/profiles?recursion=1", "config description devices name", false},
        {"projects", "/1.0/projects?recursion=1", "config description name", false},
    };
    g_autoptr(json_t) server = rest_get(rest, "/1.0", error), dump = json_object();
    if (server == NULL) {
        return false;
    }
    json_object_set(dump, "config", json_object_get(server, "config"));
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autoptr(json_t) list = rest_get(rest, parts[i].path, error);
        json_t *kept = json_array(), *object;
        size_t index;
        json_array_foreach (list, index, object) {
            if (!parts[i].managed_only || json_is_true(json_object_get(object, "managed"))) {
                json_array_append_new(kept, entity_fields(object, parts[i].fields));
            }
        }
        json_object_set_new(dump, parts[i].section, kept);
        if (list == NULL) {
            return haw_push(error, "%s", parts[i].section);
        }
    }
    out_yaml(dump);
    return true;
}

bool
cmd_init_run(Ctl *ctl, GError **error)
{
    bool automatic = ctl_flag(ctl, "auto"), preseed = ctl_flag(ctl, "preseed");
    bool dump = ctl_flag(ctl, "dump");
    if (automatic + preseed + dump == 0) {
        if (ctl_arg_count(ctl) == 0 && !ctl_flag(ctl, "empty")) {
            return haw_fail(error, HAW_INVALID,
                            "name an image, or say how to set up the server: --auto, --preseed or "
                            "--dump (see 'hawser init --help')");
        }
        return cmd_instance_init(ctl, error);
    }
    if (automatic + preseed + dump > 1 || ctl_arg_count(ctl) > 0) {
        return haw_fail(error, HAW_INVALID,
                        "--auto, --preseed and --dump exclude each other and take no names");
    }
    Rest *rest = ctl_server(ctl, NULL, NULL, error);
    if (rest == NULL) {
        return false;
    }
    return automatic ? run_auto(ctl, rest, error)
                     : (preseed ? run_preseed(ctl, rest, error) : run_dump(rest, error));
}
