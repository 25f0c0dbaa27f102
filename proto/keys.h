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
    const char *name;     /* a "*" in it stands for a name: "tunnel.*.protocol" */
    const char *type;     /* "bool", "size": a word of the grammar, for documentation */
    KeyCheck check;       /* NULL: anything */
    const char *fallback; /* default; NULL: none */
    KeyFlags flags;
    const char *help; /* one sentence */
} Key;

/* Tables end with a row whose name is NULL. keys_pool has what every driver takes. */
extern const Key keys_server[], keys_instance[], keys_project[], keys_pool[], keys_pool_dir[],
    keys_pool_btrfs[], keys_pool_overlay[], keys_volume[], keys_network_bridge[],
    keys_network_physical[], keys_network_macvlan[], keys_network_sriov[], keys_network_ovn[];
/* The table of a storage driver or of a network type; NULL when there is none of that name. */
const Key *keys_of_pool(const char *driver);
const Key *keys_of_network(const char *type);

const Key *keys_find(const Key *table, const char *name);
/* Is this key known ("Unknown configuration key: k") and its value right? INVALID. */
bool keys_check(const Key *table, const char *name, const char *value, GError **error);
/* Every key of a config object; values that are no strings are INVALID, too. */
bool keys_check_all(const Key *table, json_t *config, GError **error);
/* "web1": any; NULL when a key's value is missing or empty. */
const char *keys_get(json_t *config, const char *name);
bool keys_get_bool(json_t *config, const char *name, bool fallback);
/* A key's default in a table; NULL when it has none. */
const char *keys_fallback(const Key *table, const char *name);

/* Keys that are for the other type of instance are unknown to this one ("container"); profiles, which
 * may serve both, and what they add are not asked. */
bool keys_check_instance_type(json_t *config, const char *type, GError **error);
/* Rules between keys of an instance or profile: raw.seccomp against security.syscalls.* and so on. */
bool keys_check_instance_rules(json_t *config, GError **error);
