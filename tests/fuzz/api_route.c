/* Any bytes as a request's first line, "METHOD TARGET": never a crash, and what reaches a handler is clean:
 * every argument of its pattern is there, of valid text, and a "/" in one came from an escape (R1, R3). */
#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/api/request.h"
#include "agent/auth/project.h"
#include "agent/auth/trust.h"
#include "agent/image/image.h"
#include "agent/inst/inst.h"
#include "agent/net/network.h"
#include "agent/store/pool.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static RouteTable *
all_routes(void)
{
    static const Route *const tables[] = {
        certificate_routes, event_routes, image_routes,   instance_routes, network_routes,
        operation_routes,   pool_routes,  profile_routes, project_routes,  volume_routes,
    };
    static RouteTable *table;
    if (table == NULL) {
        table = route_table_new();
        for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
            route_table_add(table, tables[i]);
        }
    }
    return table;
}

static void
check_values(GHashTable *values)
{
    GHashTableIter iter;
    gpointer name, value;
    g_hash_table_iter_init(&iter, values);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        g_assert_true(g_utf8_validate(name, -1, NULL));
        g_assert_true(g_utf8_validate(value, -1, NULL));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autofree char *line = g_strndup(size > 0 ? (const char *) bytes : "", size);
    char *target = strchr(line, ' ');
    if (target == NULL) {
        return 0;
    }
    *target++ = '\0';
    g_autoptr(GHashTable) args = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    char *mark = strchr(target, '?');
    if (mark != NULL) {
        *mark++ = '\0';
        route_parse_query(mark, query);
        check_values(query);
    }

    g_autoptr(GError) error = NULL;
    const Route *route = route_find(all_routes(), line, target, &args, &error);
    if (route == NULL) {
        g_assert_nonnull(error);
        return 0;
    }
    check_values(args);
    guint wanted = 0;
    for (const char *at = strchr(route->pattern, '{'); at != NULL; at = strchr(at + 1, '{')) {
        wanted++;
    }
    g_assert_cmpuint(g_hash_table_size(args), ==, wanted);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, args);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_assert_true(strchr(value, '/') == NULL || strstr(target, "%2") != NULL); /* R1 */
    }
    return 0;
}
