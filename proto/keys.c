/* Keys: looking rows up in the tables, and holding a configuration against one.
 * K1  A key is in a table when a row names it, when a row's "*" can be filled in, or when it lies
 *     below a KEY_PREFIX row; an exact row wins.
 * The tables are in keys_<resource>.c, data and their checks only. */
#include "proto/keys.h"

#include <string.h>

/* "tunnel.*.protocol": the name in the middle is not empty. */
static bool
pattern_matches(const char *pattern, const char *name)
{
    const char *star = strchr(pattern, '*');
    if (star == NULL) {
        return strcmp(pattern, name) == 0;
    }
    size_t before = (size_t) (star - pattern), after = strlen(star + 1), length = strlen(name);
    return length > before + after && memcmp(pattern, name, before) == 0 &&
           strcmp(name + length - after, star + 1) == 0;
}

const Key *
keys_find(const Key *table, const char *name)
{
    const Key *loose = NULL;
    for (const Key *key = table; key->name != NULL; key++) {
        if (strcmp(key->name, name) == 0 && !(key->flags & KEY_PREFIX)) {
            return key;
        }
        bool below = (key->flags & KEY_PREFIX) && g_str_has_prefix(name, key->name) &&
                     name[strlen(key->name)] != '\0';
        if (loose == NULL && (below || pattern_matches(key->name, name)) &&
            !((key->flags & KEY_PREFIX) && !below)) {
            loose = key;
        }
    }
    return loose;
}

bool
keys_check(const Key *table, const char *name, const char *value, GError **error)
{
    const Key *key = keys_find(table, name);
    if (key == NULL) {
        return haw_fail(error, HAW_INVALID, "Unknown configuration key: %s", name);
    }
    g_autoptr(GError) why = NULL;
    if (key->check == NULL || value == NULL || *value == '\0' || key->check(value, &why)) {
        return true;
    }
    if (strstr(why->message, name) == NULL) {
        haw_push(&why, "%s", name);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
keys_check_all(const Key *table, json_t *config, GError **error)
{
    const char *name;
    json_t *value;

    json_object_foreach (config, name, value) {
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid value for configuration key: %s", name);
        }
        if (!keys_check(table, name, json_string_value(value), error)) {
            return false;
        }
    }
    return true;
}

const char *
keys_get(json_t *config, const char *name)
{
    const char *value = json_string_value(json_object_get(config, name));
    return value != NULL && *value != '\0' ? value : NULL;
}

bool
keys_get_bool(json_t *config, const char *name, bool fallback)
{
    const char *value = keys_get(config, name);
    if (value == NULL) {
        return fallback;
    }
    static const char *const yes[] = {"true", "1", "yes", "on"};
    for (size_t i = 0; i < G_N_ELEMENTS(yes); i++) {
        if (g_ascii_strcasecmp(value, yes[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *
keys_fallback(const Key *table, const char *name)
{
    const Key *key = keys_find(table, name);
    return key != NULL ? key->fallback : NULL;
}
