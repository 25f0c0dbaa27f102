/* Routes: which handler answers a method and a path.
 * R1  Segments are compared and split before they are decoded: "%2F" never makes a new segment.
 * R2  A literal segment wins over an argument, whatever the order of the tables.
 * R3  What does not decode to clean text (a NUL, a broken escape) matches nothing.
 * R4  Only patterns with the path's number of segments are looked at: a walk over all of them would be most of what a
 *     request reads, and out of the cache by the next one. */
#include "agent/api/request.h"

#include <string.h>

#define SEGMENTS_MAX 16

struct segments {
    const char *at[SEGMENTS_MAX];
    size_t size[SEGMENTS_MAX];
    size_t count;
};

struct known {
    const Route *route; /* borrowed */
    struct segments pattern;
};

struct RouteTable {
    GArray *routes[SEGMENTS_MAX + 1]; /* struct known; by their number of segments, R4 */
};

static bool
split(const char *path, struct segments *ret)
{
    ret->count = 0;
    if (*path != '/') {
        return false;
    }
    const char *at = path + 1;
    while (*at != '\0') {
        size_t size = strcspn(at, "/");
        if (ret->count == SEGMENTS_MAX) {
            return false;
        }
        ret->at[ret->count] = at;
        ret->size[ret->count++] = size;
        at += size;
        if (*at == '/') {
            at++;
        }
    }
    return true;
}

RouteTable *
route_table_new(void)
{
    RouteTable *table = g_new0(RouteTable, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(table->routes); i++) {
        table->routes[i] = g_array_new(FALSE, FALSE, sizeof(struct known));
    }
    return table;
}

void
route_table_free(RouteTable *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(table->routes); i++) {
        g_array_unref(table->routes[i]);
    }
    g_free(table);
}

void
route_table_add(RouteTable *table, const Route *routes)
{
    for (; routes->method != NULL; routes++) {
        struct known known = {.route = routes};
        g_assert(split(routes->pattern, &known.pattern));
        g_array_append_val(table->routes[known.pattern.count], known);
    }
}

char *
route_decode(const char *text, gssize size, bool plus_is_space)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *end = text + (size >= 0 ? (size_t) size : strlen(text));
    for (; text < end; text++) {
        if (*text == '%') {
            if (end - text < 3 || !g_ascii_isxdigit(text[1]) || !g_ascii_isxdigit(text[2])) {
                return NULL; /* R3 */
            }
            char byte = (char) (g_ascii_xdigit_value(text[1]) * 16 + g_ascii_xdigit_value(text[2]));
            if (byte == '\0') {
                return NULL;
            }
            g_string_append_c(out, byte);
            text += 2;
        } else {
            g_string_append_c(out, *text == '+' && plus_is_space ? ' ' : *text);
        }
    }
    if (!g_utf8_validate(out->str, (gssize) out->len, NULL)) {
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

bool
route_parse_query(const char *text, GHashTable *ret_query)
{
    g_auto(GStrv) pairs = g_strsplit(text, "&", -1);
    for (char **pair = pairs; *pair != NULL; pair++) {
        if (**pair == '\0') {
            continue;
        }
        const char *equals = strchr(*pair, '=');
        gssize name_size = equals != NULL ? equals - *pair : (gssize) strlen(*pair);
        g_autofree char *name = route_decode(*pair, name_size, true);
        g_autofree char *value = route_decode(equals != NULL ? equals + 1 : "", -1, true);
        if (name == NULL || value == NULL) {
            return false;
        }
        if (!g_hash_table_contains(ret_query, name)) { /* the first one counts, as in Go */
            g_hash_table_insert(ret_query, g_steal_pointer(&name), g_steal_pointer(&value));
        }
    }
    return true;
}

/* How well a pattern of as many segments fits: -1 not at all, else the number of literal ones. */
static int
fit(const struct segments *parts, const struct segments *path)
{
    int literal = 0;
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->at[i][0] == '{') {
            if (path->size[i] == 0) {
                return -1;
            }
        } else if (parts->size[i] == path->size[i] &&
                   memcmp(parts->at[i], path->at[i], parts->size[i]) == 0) {
            literal++;
        } else {
            return -1;
        }
    }
    return literal;
}

static bool
take_args(const char *pattern, const struct segments *path, GHashTable **args)
{
    struct segments parts;
    split(pattern, &parts);
    for (size_t i = 0; i < parts.count; i++) {
        if (parts.at[i][0] == '{') {
            char *value = route_decode(path->at[i], (gssize) path->size[i], false);
            if (value == NULL) {
                return false;
            }
            if (*args == NULL) {
                *args = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
            }
            g_hash_table_insert(*args, g_strndup(parts.at[i] + 1, parts.size[i] - 2), value);
        }
    }
    return true;
}

const Route *
route_find(RouteTable *table, const char *method, const char *path, GHashTable **ret_args,
           GError **error)
{
    struct segments segments;
    const Route *best = NULL;
    int best_fit = -1;
    bool path_known = false;
    bool is_head = strcmp(method, "HEAD") == 0;

    if (!split(path, &segments)) {
        haw_fail(error, HAW_NOT_FOUND, "not found");
        return NULL;
    }
    const GArray *routes = table->routes[segments.count];
    for (guint i = 0; i < routes->len; i++) {
        const struct known *known = &g_array_index(routes, struct known, i);
        const Route *route = known->route;
        int quality = fit(&known->pattern, &segments);
        if (quality < 0) {
            continue;
        }
        path_known = true;
        /* HEAD has its own route where one is given, else GET's. */
        bool exact = strcmp(route->method, method) == 0;
        if (!exact && !(is_head && strcmp(route->method, "GET") == 0)) {
            continue;
        }
        if (quality * 2 + exact > best_fit) {
            best = route;
            best_fit = quality * 2 + exact;
        }
    }
    if (best == NULL && path_known) {
        haw_fail(error, HAW_UNSUPPORTED, "not implemented");
    } else if (best == NULL || !take_args(best->pattern, &segments, ret_args)) {
        haw_fail(error, HAW_NOT_FOUND, "not found");
        return NULL;
    }
    return best;
}
