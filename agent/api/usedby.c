/* "used_by" of what a restricted caller is shown: pools, networks, profiles and volumes are used from projects that are
 * none of its business, whose names and instances the URLs would tell (LXD's FilterUsedBy).
 * Called by reply.c for each answer. What is shown may be shared: it is copied where it changes. */
#include "agent/api/usedby.h"

#include "agent/api/request.h"

#include <string.h>

static bool
is_seen(const Caller *caller, const char *url)
{
    const char *mark = url != NULL ? strchr(url, '?') : NULL;
    g_autoptr(GHashTable) query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (mark != NULL && !route_parse_query(mark + 1, query)) {
        return false;
    }
    const char *project = g_hash_table_lookup(query, "project");
    return caller_may_project(caller, project != NULL ? project : "default");
}

static json_t *
seen_object(const Caller *caller, json_t *object)
{
    json_t *list = json_object_get(object, "used_by"), *url;
    size_t i;
    if (!json_is_array(list)) {
        return json_incref(object);
    }
    json_t *kept = json_array(), *copy = json_copy(object);
    json_array_foreach (list, i, url) {
        if (is_seen(caller, json_string_value(url))) {
            json_array_append(kept, url);
        }
    }
    json_object_set_new(copy, "used_by", kept);
    return copy;
}

json_t *
usedby_seen_by(const Caller *caller, json_t *metadata)
{
    json_auto_t *all = metadata;
    if (!caller->restricted || !json_is_array(all)) {
        return caller->restricted ? seen_object(caller, all) : json_incref(all);
    }
    json_t *list = json_array(), *each;
    size_t i;
    json_array_foreach (all, i, each) {
        json_array_append_new(list, seen_object(caller, each));
    }
    return list;
}
