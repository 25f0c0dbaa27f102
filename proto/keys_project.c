/* Configuration of projects (lxd-api cluster-and-server §11). */
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

static bool
one_of(const char *v, const char *list, GError **error)
{
    g_auto(GStrv) words = g_strsplit(list, " ", -1);
    return g_strv_contains((const char *const *) words, v) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [%s])", v, list);
}

static bool
allow_block(const char *v, GError **error)
{
    return one_of(v, "block allow", error);
}

static bool
allow_managed(const char *v, GError **error)
{
    return one_of(v, "block allow managed", error);
}

static bool
interception(const char *v, GError **error)
{
    return one_of(v, "allow block full", error);
}

static bool
privilege(const char *v, GError **error)
{
    return one_of(v, "allow unprivileged isolated", error);
}

static bool
path_list(const char *v, GError **error)
{
    g_auto(GStrv) paths = grammar_list(v);
    for (char **path = paths; *path != NULL; path++) {
        if (!g_path_is_absolute(*path)) {
            return haw_fail(error, HAW_INVALID, "Must be an absolute path: \"%s\"", *path);
        }
    }
    return true;
}

static bool
id_range(const char *v, GError **error)
{
    g_auto(GStrv) ends = g_strsplit(v, "-", 2);
    gint64 low, high;
    if (ends[0] == NULL || *ends[0] == '\0' || !grammar_uint32(ends[0], NULL) ||
        (ends[1] != NULL && (*ends[1] == '\0' || !grammar_uint32(ends[1], NULL)))) {
        return haw_fail(error, HAW_INVALID, "Invalid value for a range of ids \"%s\"", v);
    }
    return (ends[1] == NULL || (grammar_parse_int64(ends[0], &low, NULL) &&
                                grammar_parse_int64(ends[1], &high, NULL) && low <= high)) ||
           haw_fail(error, HAW_INVALID, "Invalid value for a range of ids \"%s\"", v);
}

static bool
id_ranges(const char *v, GError **error)
{
    return grammar_each(v, id_range, error);
}

/* "uplink:cidr" */
static bool
uplink_subnet(const char *v, GError **error)
{
    const char *colon = strchr(v, ':');
    if (colon == NULL || colon == v) {
        return haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (must be <uplink>:<subnet>)", v);
    }
    return grammar_net4(colon + 1, NULL) || grammar_net6(colon + 1, error);
}

static bool
uplink_subnets(const char *v, GError **error)
{
    return strcmp(v, "block") == 0 || grammar_each(v, uplink_subnet, error);
}

#define P(name, type, check, fallback, help)                                                       \
    {                                                                                              \
        name, type, check, fallback, KEY_LIVE, help                                                \
    }
#define DEVICE(kind)                                                                               \
    P("restricted.devices." kind, "block|allow", allow_block, "block",                             \
      "Whether " kind " devices may be used.")
const Key keys_project[] = {
    P("backups.compression_algorithm", "compression", grammar_compression, NULL,
      "How backups are compressed."),
    P("features.images", "bool", grammar_bool, "false", "Images and aliases of its own."),
    P("features.networks", "bool", grammar_bool, "false", "Networks of its own."),
    P("features.networks.zones", "bool", grammar_bool, "false", "Network zones of its own."),
    P("features.profiles", "bool", grammar_bool, "false", "Profiles of its own."),
    P("features.storage.buckets", "bool", grammar_bool, "false", "Storage buckets of its own."),
    P("features.storage.volumes", "bool", grammar_bool, "false", "Custom volumes of its own."),
    P("images.auto_update_cached", "bool", grammar_bool, NULL,
      "Whether cached images are kept up to date."),
    P("images.auto_update_interval", "int64", grammar_int64, NULL,
      "Hours between looks for newer images."),
    P("images.compression_algorithm", "compression", grammar_compression, NULL,
      "How new images are compressed."),
    P("images.default_architecture", "architecture", NULL, NULL,
      "Architecture that is taken from a mixed image server."),
    P("images.remote_cache_expiry", "int64", grammar_int64, NULL,
      "Days after which an unused cached image goes."),
    P("limits.containers", "count", grammar_uint32, NULL, "Most containers."),
    P("limits.cpu", "count", grammar_uint32, NULL, "Most CPUs, summed over instances."),
    P("limits.disk", "size", grammar_size, NULL, "Most disk space, summed."),
    P("limits.instances", "count", grammar_uint32, NULL, "Most instances."),
    P("limits.memory", "size", grammar_size, NULL, "Most memory, summed over instances."),
    P("limits.networks", "count", grammar_uint32, NULL, "Most networks."),
    P("limits.processes", "count", grammar_uint32, NULL, "Most processes, summed over instances."),
    P("limits.virtual-machines", "count", grammar_uint32, NULL, "Most virtual machines."),
    P("restricted", "bool", grammar_bool, "false", "Whether restricted.* are obeyed."),
    P("restricted.backups", "block|allow", allow_block, "block", "Backups of instances."),
    P("restricted.cluster.groups", "list", NULL, NULL, "Cluster groups to place on."),
    P("restricted.cluster.target", "block|allow", allow_block, "block",
      "Choosing the member to place on."),
    P("restricted.containers.interception", "allow|block|full", interception, "block",
      "System call interception."),
    P("restricted.containers.lowlevel", "block|allow", allow_block, "block",
      "Low-level keys such as raw.lxc."),
    P("restricted.containers.nesting", "block|allow", allow_block, "block", "security.nesting."),
    P("restricted.containers.privilege", "unprivileged|isolated|allow", privilege, "unprivileged",
      "How privileged a container may be."),
    P("restricted.devices.disk", "managed|block|allow", allow_managed, "managed",
      "Disk devices other than the root disk."),
    P("restricted.devices.disk.paths", "paths", path_list, NULL,
      "Host paths below which sources may lie."),
    DEVICE("gpu"),
    DEVICE("infiniband"),
    P("restricted.devices.nic", "managed|block|allow", allow_managed, "managed",
      "Network devices."),
    DEVICE("pci"),
    DEVICE("proxy"),
    DEVICE("unix-block"),
    DEVICE("unix-char"),
    DEVICE("unix-hotplug"),
    DEVICE("usb"),
    P("restricted.idmap.gid", "id ranges", id_ranges, NULL, "Host gids for raw.idmap."),
    P("restricted.idmap.uid", "id ranges", id_ranges, NULL, "Host uids for raw.idmap."),
    P("restricted.networks.access", "list", NULL, NULL, "Networks that may be used."),
    P("restricted.networks.subnets", "list", uplink_subnets, "block",
      "External subnets for its networks."),
    P("restricted.networks.uplinks", "list", NULL, "block", "Uplinks for its networks."),
    P("restricted.networks.zones", "list", NULL, "block", "DNS zones that may be made."),
    P("restricted.snapshots", "block|allow", allow_block, "block", "Snapshots."),
    P("restricted.virtual-machines.lowlevel", "block|allow", allow_block, "block",
      "Low-level keys such as raw.qemu."),
    {"user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."},
    {NULL},
};
