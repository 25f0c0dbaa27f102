/* Any text as a configuration: first line a table's name, then key=value lines. Every check of every
 * table sees every value as well. Claims: no crash; a refusal says why and is INVALID; what a check
 * accepts, its parser takes. */
#include "proto/grammar.h"
#include "proto/keys.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const Key *const tables[] = {
    keys_server,          keys_instance,     keys_project,        keys_pool_dir,
    keys_pool_btrfs,      keys_volume,       keys_network_bridge, keys_network_physical,
    keys_network_macvlan, keys_network_sriov};

static void
check_value(KeyCheck check, const char *value)
{
    g_autoptr(GError) error = NULL;
    if (!check(value, &error)) {
        g_assert_nonnull(error);
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
}

static void
check_parsers(const char *value)
{
    gint64 number;
    guint16 port;
    g_autofree char *host = NULL;
    g_assert_cmpint(grammar_size(value, NULL), ==, grammar_parse_size(value, &number, NULL));
    if (grammar_listen(value, NULL)) {
        g_assert_true(grammar_parse_listen(value, 1, &host, &port, NULL));
    }
    if (grammar_expiry(value, NULL)) {
        g_assert_cmpint(grammar_expiry_after(value, 0), >=, 0);
    } else {
        g_assert_cmpint(grammar_expiry_after(value, 0), ==, 0);
    }
    grammar_cron_due(value, G_GINT64_CONSTANT(1790000000000000));
    g_auto(GStrv) list = grammar_list(value);
    g_autofree char *quoted = grammar_quote(value);
    g_assert_true(*quoted == '"');
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) {
        return 0;
    }
    g_autofree char *text = g_strndup((const char *) bytes, size);
    g_auto(GStrv) lines = g_strsplit(text, "\n", 50);
    json_t *config = json_object();

    for (char **line = lines; *line != NULL; line++) {
        char *equal = strchr(*line, '=');
        if (equal == NULL) {
            continue;
        }
        *equal = '\0';
        json_object_set_new(config, *line, json_string(equal + 1)); /* drops what is no UTF-8 */
        check_parsers(equal + 1);
        for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
            g_autoptr(GError) error = NULL;
            if (!keys_check(tables[i], *line, equal + 1, &error)) {
                g_assert_nonnull(error);
            }
        }
    }
    /* One table a run takes the values through all of its checks: else this is quadratic. */
    const Key *table = tables[size % G_N_ELEMENTS(tables)];
    const char *value = strchr(text, '=');
    for (const Key *key = table; value == NULL && key->name != NULL; key++) {
        if (key->check != NULL) {
            check_value(key->check, text);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(keys_check_all(tables[i], config, &error) == (error == NULL));
    }
    keys_check_instance_rules(config, NULL);
    json_decref(config);
    return 0;
}
