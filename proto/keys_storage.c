/* Configuration of storage pools and volumes (lxd-api storage-options §1.2, §2.2).
 * A pool takes each volume key below "volume.", too: the default for new volumes. */
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

static bool
snapshot_pattern(const char *v, GError **error)
{
    const char *first = strstr(v, "%d");
    return first == NULL || strstr(first + 2, "%d") == NULL ||
           haw_fail(error, HAW_INVALID, "Snapshot pattern may contain '%%d' only once");
}

#define VOLUME_KEYS(below)                                                                         \
    {below "size", "size", grammar_size, NULL, KEY_LIVE, "Quota of a volume."},                    \
        {below "security.shifted",                                                                 \
         "bool",                                                                                   \
         grammar_bool,                                                                             \
         "false",                                                                                  \
         0,                                                                                        \
         "Mounted with the ids of each instance."},                                                \
        {below "security.unmapped", "bool", grammar_bool, "false", 0, "Ids are not mapped."},      \
        {below "snapshots.expiry", "expiry", grammar_expiry, NULL, KEY_LIVE,                       \
         "Life of new snapshots."},                                                                \
        {below "snapshots.pattern", "pattern", snapshot_pattern, "snap%d", KEY_LIVE,               \
         "Name of new snapshots."},                                                                \
    {                                                                                              \
        below "snapshots.schedule", "cron", grammar_cron_plain, NULL, KEY_LIVE,                    \
            "When snapshots are made."                                                             \
    }

#define POOL_KEYS                                                                                  \
    {"source", "string", NULL, NULL, KEY_FIXED | KEY_LOCAL, "Where the pool is."},                 \
        {"rsync.bwlimit", "string", NULL, "0", KEY_LIVE, "Limit for transfers."},                  \
        {"rsync.compression", "bool", grammar_bool, "true", KEY_LIVE, "Compresses transfers."},    \
        {"user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."},                         \
        {"volatile.initial_source",   "string", NULL, NULL, KEY_INTERNAL | KEY_LOCAL,              \
         "The source as first given."},                                                            \
        VOLUME_KEYS("volume.")

const Key keys_volume[] = {
    VOLUME_KEYS(""),
    {"volatile.idmap.last", "json", NULL, NULL, KEY_INTERNAL, "The id map on disk."},
    {"volatile.idmap.next", "json", NULL, NULL, KEY_INTERNAL, "The id map of the next use."},
    {"volatile.uuid", "uuid", NULL, NULL, KEY_INTERNAL, "The volume's own id."},
    {"user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."},
    {NULL},
};

const Key keys_pool[] = {POOL_KEYS, {NULL}};

const Key keys_pool_dir[] = {POOL_KEYS, {NULL}};

const Key keys_pool_btrfs[] = {
    {"size", "size", grammar_size, NULL, KEY_LIVE | KEY_LOCAL,
     "Size of the loop file; grows only."},
    {"source.wipe", "bool", grammar_bool, "false", KEY_FIXED | KEY_LOCAL,
     "Wipes the device before its use."},
    {"btrfs.mount_options", "string", NULL, "user_subvol_rm_allowed", KEY_LIVE,
     "Options of the mount."},
    POOL_KEYS,
    {NULL},
};

const Key keys_pool_overlay[] = {POOL_KEYS, {NULL}};

const Key *
keys_of_pool(const char *driver)
{
    static const struct {
        const char *driver;
        const Key *table;
    } known[] = {
        {"dir", keys_pool_dir}, {"btrfs", keys_pool_btrfs}, {"overlay", keys_pool_overlay}};
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(known[i].driver, driver) == 0) {
            return known[i].table;
        }
    }
    return NULL;
}
