/* keys.h: the tables of configuration keys: name, type, validator, default, live-updatable.
 * One table a resource; validation, documentation and completion read the same rows.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef enum {
    KEY_LIVE = 1 << 0,      /* takes effect on a running instance, or without a restart */
    KEY_CONTAINER = 1 << 1, /* containers only */
    KEY_VM = 1 << 2,        /* virtual machines only */
    KEY_PREFIX = 1 << 3,    /* 'name' ends with "." and stands for all keys below it */
    KEY_HIDDEN = 1 << 4,    /* secrets: shown as "true" */
    KEY_LOCAL = 1 << 5,     /* cluster member specific */
    KEY_FIXED = 1 << 6,     /* never changes after creation */
    KEY_INTERNAL = 1 << 7,  /* volatile: kept by us, users may not set it */
} KeyFlags;

/* False with what is wrong with the value ("Invalid value for a boolean \"x\""). */
typedef bool (*KeyCheck)(const char *value, GError **error);

typedef struct {
    const char *name;
    const char *type;     /* "bool", "size": a word of the grammar, for documentation */
    KeyCheck check;       /* NULL: anything */
    const char *fallback; /* default; NULL: none */
    KeyFlags flags;
    const char *help;     /* one sentence */
} Key;

/* Tables end with a row whose name is NULL. */
extern const Key keys_server[], keys_instance[], keys_project[], keys_pool[], keys_volume[],
    keys_network_bridge[], keys_network_physical[], keys_network_macvlan[], keys_network_sriov[];
const Key *keys_find(const Key *table, const char *name);
/* "web1": any; NULL when a key's value is missing or empty. */
const char *keys_get(json_t *config, const char *name);
bool keys_get_bool(json_t *config, const char *name, bool fallback);
