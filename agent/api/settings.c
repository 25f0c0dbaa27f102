/* Settings: the server's own configuration.
 * S1  Memory holds what the table holds: values as given but for booleans ("true"/"false"), listen
 *     addresses (with a port) and the trust password (its hash); values equal to the default are
 *     not held at all.
 * S2  One change at a time; all its keys pass their checks before the first is stored, and they are
 *     stored in one transaction.
 * S3  When an applier fails, rows and memory get the old values back, and the appliers that had
 *     run are run again with them.
 * Called by everyone (get) and by PUT and PATCH of /1.0 (info.c).  Main loop only. */
#include "agent/api/settings.h"

#include "agent/auth/password.h"
#include "agent/state/config_rows.h"
#include "agent/state/db.h"
#include "base/fiber.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

typedef struct {
    const char *key; /* a literal of the caller */
    SettingsApply apply;
} Applier;

struct Settings {
    Agent *agent;
    GHashTable *values; /* key → value, both owned */
    GArray *appliers;   /* of Applier */
    FiberLock lock;     /* S2 */
    guint64 generation;
};

static bool
load_rows(DbTx *tx, void *data, GError **error)
{
    *(json_t **) data = config_rows_load(tx, error);
    return *(json_t **) data != NULL;
}

Settings *
settings_load(Agent *agent, GError **error)
{
    json_t *rows = NULL, *value;
    const char *key;

    if (!db_read(agent->db, load_rows, &rows, error)) {
        haw_push(error, "load the server's configuration");
        return NULL;
    }
    Settings *settings = g_new0(Settings, 1);
    settings->agent = agent;
    settings->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    settings->appliers = g_array_new(FALSE, FALSE, sizeof(Applier));
    settings->lock = (FiberLock) FIBER_LOCK_INIT;
    json_object_foreach (rows, key, value) {
        g_hash_table_insert(settings->values, g_strdup(key), g_strdup(json_string_value(value)));
    }
    json_decref(rows);
    return settings;
}

void
settings_free(Settings *settings)
{
    if (settings == NULL) {
        return;
    }
    g_hash_table_unref(settings->values);
    g_array_unref(settings->appliers);
    g_free(settings);
}

const char *
settings_get(Settings *settings, const char *key)
{
    const char *value = g_hash_table_lookup(settings->values, key);
    return value != NULL ? value : keys_fallback(keys_server, key);
}

bool
settings_bool(Settings *settings, const char *key)
{
    return grammar_parse_bool(settings_get(settings, key), false);
}

gint64
settings_int(Settings *settings, const char *key)
{
    gint64 number = 0;
    grammar_parse_int64(settings_get(settings, key), &number, NULL);
    return number;
}

void
settings_on_change(Settings *settings, const char *key, SettingsApply apply)
{
    Applier applier = {key, apply};
    g_array_append_val(settings->appliers, applier);
}

guint64
settings_generation(Settings *settings)
{
    return settings->generation;
}

json_t *
settings_json(Settings *settings)
{
    GHashTableIter iter;
    void *name, *value;
    json_t *config = json_object();

    g_hash_table_iter_init(&iter, settings->values);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        const Key *key = keys_find(keys_server, name);
        bool hidden = key != NULL && (key->flags & KEY_HIDDEN);
        json_object_set_new(config, name, hidden ? json_true() : json_string(value));
    }
    return config;
}

/* Go's words for what a JSON value is. */
static const char *
go_kind(json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_INTEGER:
    case JSON_REAL:
        return "float64";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    case JSON_ARRAY:
        return "slice";
    default:
        return "map";
    }
}

/* What is wrong with one value, as LXD's configuration says it. */
static bool
check_value(const char *name, const char *value, GError **error)
{
    const Key *key = keys_find(keys_server, name);
    g_autoptr(GError) why = NULL;
    if (key == NULL) {
        return haw_fail(error, HAW_INVALID, "cannot set '%s' to '%s': unknown key", name, value);
    }
    const char *shown = key->flags & KEY_HIDDEN ? "<hidden>" : value;
    if (key->check == NULL || *value == '\0' || key->check(value, &why)) {
        return true;
    }
    const char *text = strcmp(key->type, "bool") == 0    ? "invalid boolean"
                       : strcmp(key->type, "int64") == 0 ? "invalid integer"
                                                         : why->message;
    return haw_fail(error, HAW_INVALID, "cannot set '%s' to '%s': %s", name, shown, text);
}

/* The changes of 'wanted' as name → text ("" unsets, true keeps); the first error in order of
 * names. */
static json_t *
read_wanted(json_t *wanted, GError **error)
{
    g_autoptr(GError) first = NULL;
    g_autofree char *first_name = NULL;
    guint errors = 0;
    const char *name;
    json_t *value, *changes = json_object();

    json_object_foreach (wanted, name, value) {
        g_autoptr(GError) why = NULL;
        const Key *key = keys_find(keys_server, name);
        if (key != NULL && (key->flags & KEY_HIDDEN) && json_is_true(value)) {
            json_object_set_new(changes, name, json_true()); /* "keep it": what GET showed */
            continue;
        }
        if (!json_is_string(value) && !json_is_null(value)) {
            haw_fail(&why, HAW_INVALID, "cannot set '%s': invalid type %s", name, go_kind(value));
        } else {
            const char *text = json_is_null(value) ? "" : json_string_value(value);
            check_value(name, text, &why);
            json_object_set_new(changes, name, json_string(text));
        }
        if (why != NULL && (errors++ == 0 || strcmp(name, first_name) < 0)) {
            g_clear_error(&first);
            g_free(first_name);
            first = g_steal_pointer(&why);
            first_name = g_strdup(name);
        }
    }
    if (errors == 0) {
        return changes;
    }
    json_decref(changes);
    if (errors > 1) {
        haw_fail(error, HAW_INVALID, "%s (and %u more errors)", first->message, errors - 1);
    } else {
        g_propagate_error(error, g_steal_pointer(&first));
    }
    return NULL;
}

/* S1: how a value is kept; *ret NULL when it is the default. Yields for the password. */
static bool
normalise(const char *name, const char *value, char **ret, GError **error)
{
    const Key *key = keys_find(keys_server, name);
    *ret = NULL;
    if (*value == '\0') {
        return true;
    }
    if (strcmp(name, "core.trust_password") == 0) {
        *ret = password_hash(value, error);
        return *ret != NULL;
    }
    if (strcmp(key->type, "bool") == 0) {
        value = grammar_parse_bool(value, false) ? "true" : "false";
    }
    if (strcmp(key->type, "listen") == 0) {
        g_autofree char *host = NULL;
        guint16 port;
        if (!grammar_parse_listen(value, 8443, &host, &port, error)) {
            return false;
        }
        *ret = g_strdup_printf(strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
        return true;
    }
    if (g_strcmp0(value, key->fallback) != 0) {
        *ret = g_strdup(value);
    }
    return true;
}

typedef struct {
    char *key, *value, *old; /* owned; NULL: not set */
    bool applied;
} Change;

static void
change_free(void *data)
{
    Change *change = data;
    g_free(change->key);
    g_free(change->value);
    g_free(change->old);
    g_free(change);
}

/* What differs between memory and the changes; takes nothing. Yields. */
static GPtrArray *
diff(Settings *settings, json_t *changes, bool replace, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(change_free);
    json_t *value;
    const char *name;
    void *held;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, settings->values);
    while (replace && g_hash_table_iter_next(&iter, &held, NULL)) {
        const Key *key = keys_find(keys_server, held);
        bool kept = key != NULL && (key->flags & KEY_PREFIX);
        if (!kept && json_object_get(changes, held) == NULL) {
            json_object_set_new(changes, held, json_string(""));
        }
    }
    json_object_foreach (changes, name, value) {
        g_autofree char *text = NULL;
        if (json_is_true(value)) {
            continue;
        }
        if (!normalise(name, json_string_value(value), &text, error)) {
            return NULL;
        }
        const char *old = g_hash_table_lookup(settings->values, name);
        if (g_strcmp0(old, text) != 0) {
            Change *change = g_new0(Change, 1);
            change->key = g_strdup(name);
            change->old = g_strdup(old);
            change->value = g_steal_pointer(&text);
            g_ptr_array_add(list, change);
        }
    }
    return g_steal_pointer(&list);
}

struct store {
    GPtrArray *changes; /* borrowed */
    bool back;          /* store what was before */
};

static bool
store_rows(DbTx *tx, void *data, GError **error)
{
    struct store *store = data;
    for (guint i = 0; i < store->changes->len; i++) {
        Change *change = store->changes->pdata[i];
        if (!config_rows_set(tx, change->key, store->back ? change->old : change->value, error)) {
            return false;
        }
    }
    return true;
}

/* Rows, then memory. */
static bool
store_changes(Settings *settings, GPtrArray *changes, bool back, GError **error)
{
    struct store store = {changes, back};
    if (!db_write(settings->agent->db, store_rows, &store, error)) {
        return false;
    }
    settings->generation++;
    for (guint i = 0; i < changes->len; i++) {
        Change *change = changes->pdata[i];
        const char *value = back ? change->old : change->value;
        if (value != NULL) {
            g_hash_table_insert(settings->values, g_strdup(change->key), g_strdup(value));
        } else {
            g_hash_table_remove(settings->values, change->key);
        }
    }
    return true;
}

static bool
apply_change(Settings *settings, Change *change, GError **error)
{
    for (guint i = 0; i < settings->appliers->len; i++) {
        Applier *applier = &g_array_index(settings->appliers, Applier, i);
        if (strcmp(applier->key, change->key) != 0) {
            continue;
        }
        g_autofree char *value = g_strdup(settings_get(settings, change->key));
        if (!applier->apply(settings->agent, change->key, value, error)) {
            return false;
        }
    }
    return true;
}

static bool
apply_changes(Settings *settings, GPtrArray *changes, GError **error)
{
    for (guint i = 0; i < changes->len; i++) {
        Change *change = changes->pdata[i];
        change->applied = true;
        if (!apply_change(settings, change, error)) {
            return false;
        }
    }
    return true;
}

bool
settings_change(Settings *settings, json_t *wanted, bool replace, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&settings->lock); /* S2 */
    json_t *texts = read_wanted(wanted, error);
    if (texts == NULL) {
        return false;
    }
    g_autoptr(GPtrArray) changes = diff(settings, texts, replace, error);
    json_decref(texts);
    if (changes == NULL || !store_changes(settings, changes, false, error)) {
        return false;
    }
    if (apply_changes(settings, changes, error)) {
        return true;
    }
    if (store_changes(settings, changes, true, NULL)) { /* S3 */
        for (guint i = 0; i < changes->len; i++) {
            Change *change = changes->pdata[i];
            if (change->applied) {
                apply_change(settings, change, NULL);
            }
        }
    }
    return false;
}
