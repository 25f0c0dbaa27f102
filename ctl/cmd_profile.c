/* hawser profile: what the shared verbs do not cover: profiles of instances, copies, creation. */
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/out.h"

static const char writable[] =
    "architecture config devices ephemeral profiles stateful description";

typedef struct {
    const char *name; /* of a profile */
    bool add;
    json_t *all; /* replaces the list when not NULL */
} Change;

static bool
apply(json_t *instance, void *data, GError **error)
{
    const Change *change = data;
    if (change->all != NULL) {
        json_object_set(instance, "profiles", change->all);
        return true;
    }
    json_t *kept = json_array(), *profile;
    size_t index;
    bool found = false;
    json_array_foreach (json_object_get(instance, "profiles"), index, profile) {
        bool same = g_strcmp0(json_string_value(profile), change->name) == 0;
        found = found || same;
        if (!same || change->add) {
            json_array_append(kept, profile);
        }
    }
    if (change->add && !found) {
        json_array_append_new(kept, json_string(change->name));
    }
    json_object_set_new(instance, "profiles", kept);
    if (found == change->add) {
        return haw_fail(error, found ? HAW_EXISTS : HAW_NOT_FOUND,
                        found ? "it already has profile '%s'" : "it does not have profile '%s'",
                        change->name);
    }
    return true;
}

static bool
change_profiles(Ctl *ctl, Change *change, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s", name);
    return entity_update(ctl, rest, path, writable, apply, change, error) ||
           haw_push(error, "instance '%s'", name);
}

bool
cmd_profile_add(Ctl *ctl, GError **error)
{
    return change_profiles(ctl, &(Change){.name = ctl_arg(ctl, 1), .add = true}, error);
}

bool
cmd_profile_remove(Ctl *ctl, GError **error)
{
    return change_profiles(ctl, &(Change){.name = ctl_arg(ctl, 1)}, error);
}

bool
cmd_profile_assign(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) all = json_array();
    g_auto(GStrv) words = g_strsplit(ctl_arg(ctl, 1), ",", -1);
    for (char **word = words; *word != NULL; word++) {
        if (**word != '\0') {
            json_array_append_new(all, json_string(*word));
        }
    }
    return change_profiles(ctl, &(Change){.all = all}, error);
}

bool
cmd_profile_copy(Ctl *ctl, GError **error)
{
    const char *name = NULL, *to = NULL;
    Rest *from = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    Rest *into = from != NULL ? ctl_server(ctl, ctl_arg(ctl, 1), &to, error) : NULL;
    if (into == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/profiles/%s", name);
    g_autoptr(json_t) profile = rest_get(from, path, error);
    if (profile == NULL) {
        return haw_push(error, "profile '%s'", name);
    }
    const char *project = ctl_option(ctl, "target-project");
    g_autofree char *list = project != NULL ? rest_path("/1.0/profiles?project=%s", project)
                                            : g_strdup("/1.0/profiles");
    g_autoptr(json_t) body = entity_fields(profile, "config description devices");
    json_object_set_new(body, "name", json_string(*to != '\0' ? to : name));
    return rest_do(into, "POST", list, body, error) || haw_push(error, "profile '%s'", to);
}

bool
cmd_profile_create(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autoptr(json_t) given = rest != NULL ? edit_maybe_stdin(error) : NULL;
    if (given == NULL) {
        return false;
    }
    g_autoptr(json_t) body = entity_fields(given, "config description devices");
    json_object_set_new(body, "name", json_string(name));
    if (ctl_option(ctl, "description") != NULL) {
        json_object_set_new(body, "description", json_string(ctl_option(ctl, "description")));
    }
    return rest_do(rest, "POST", "/1.0/profiles", body, error) ||
           haw_push(error, "profile '%s'", name);
}
