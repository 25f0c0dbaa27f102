/* Restrictions: what a project's limits.* and restricted.* allow (lxd-api cluster-and-server §11).
 * R1  Without restricted=true no restricted.* key means anything.
 * R2  With a sum limited (cpu, memory, processes, disk) every instance must say how much it may
 *     take, in absolute numbers: else the sum means nothing.
 * R3  A source path is compared after it was made canonical: "/home/u/../root" is not below "/home/u".
 * Called by project.c with what the database and the instance table hold. */
#include "agent/auth/restrict.h"

#include "proto/grammar.h"
#include "proto/keys.h"

#include <stdlib.h>
#include <string.h>

static const char *
field(json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "";
}

/* The restriction's value, or its default. */
static const char *
rule(json_t *config, const char *key)
{
    const char *value = keys_get(config, key);
    value = value != NULL ? value : keys_fallback(keys_project, key);
    return value != NULL ? value : "";
}

/* ---- restricted.*: configuration ---- */

static bool
is_low_level(const char *key)
{
    static const char *const names[] = {"boot.host_shutdown_timeout",
                                        "linux.kernel_modules",
                                        "raw.apparmor",
                                        "raw.lxc",
                                        "raw.seccomp",
                                        "security.devlxd.images",
                                        "security.idmap.base",
                                        "security.idmap.size",
                                        "security.syscalls.intercept.mount.allowed",
                                        NULL};
    return g_strv_contains(names, key);
}

static bool
is_low_level_vm(const char *key)
{
    static const char *const names[] = {"boot.host_shutdown_timeout", "limits.memory.hugepages",
                                        "raw.qemu", "raw.qemu.conf", NULL};
    return g_strv_contains(names, key);
}

/* Is [low, high] inside one of the ranges "1000-2000,3000"? */
static bool
covered(const char *ranges, gint64 low, gint64 high)
{
    g_auto(GStrv) list = grammar_list(ranges);
    for (char **range = list; *range != NULL; range++) {
        char *dash = strchr(*range, '-');
        gint64 from = strtoll(*range, NULL, 10);
        gint64 to = dash != NULL ? strtoll(dash + 1, NULL, 10) : from;
        if (low >= from && high <= to) {
            return true;
        }
    }
    return false;
}

static bool
check_raw_idmap(json_t *config, const char *value, const char *what, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(value, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(lines[i]), " \t", -1);
        if (words[0] == NULL || *words[0] == '\0' || words[1] == NULL) {
            continue;
        }
        char *dash = strchr(words[1], '-');
        gint64 low = strtoll(words[1], NULL, 10);
        gint64 high = dash != NULL ? strtoll(dash + 1, NULL, 10) : low;
        bool uid = strcmp(words[0], "gid") != 0, gid = strcmp(words[0], "uid") != 0;
        if ((uid && !covered(keys_get(config, "restricted.idmap.uid"), low, high)) ||
            (gid && !covered(keys_get(config, "restricted.idmap.gid"), low, high))) {
            return haw_fail(error, HAW_INVALID,
                            "Use of low-level \"raw.idmap\" element %u on %s is forbidden", i,
                            what);
        }
    }
    return true;
}

bool
restrict_unprivileged_only(json_t *config, GError **error)
{
    static const char *const raw_keys[] = {"lxc.idmap", "lxc.id_map", "lxc.include", NULL};
    if (!grammar_parse_bool(getenv("LXD_UNPRIVILEGED_ONLY"), false)) {
        return true;
    }
    if (keys_get_bool(config, "security.privileged", false)) {
        return haw_fail(error, HAW_INVALID,
                        "LXD was configured to only allow unprivileged containers");
    }
    const char *raw = keys_get(config, "raw.lxc"), *idmap = keys_get(config, "raw.idmap");
    g_auto(GStrv) lines = g_strsplit(raw != NULL ? raw : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char *equals = strchr(*line, '=');
        g_autofree char *key =
            g_ascii_strdown(*line, equals != NULL ? equals - *line : (gssize) strlen(*line));
        if (g_strv_contains(raw_keys, g_strstrip(key))) {
            return haw_fail(error, HAW_INVALID,
                            "%s can't be set in raw.lxc as LXD was configured to only allow "
                            "unprivileged containers",
                            key);
        }
    }
    g_auto(GStrv) maps = g_strsplit(idmap != NULL ? idmap : "", "\n", -1);
    for (char **map = maps; *map != NULL; map++) {
        g_auto(GStrv) words = g_strsplit_set(g_strstrip(*map), " \t", -1);
        if (g_strv_length(words) >= 2 && g_ascii_strtoll(words[1], NULL, 10) == 0) {
            return haw_fail(error, HAW_INVALID,
                            "Cannot map root user into container as LXD was configured to only "
                            "allow unprivileged containers");
        }
    }
    return true;
}

/* Interception that lets nothing out of the container, and such that reaches the host. */
static bool
check_interception(const char *allowed, const char *key, const char *value)
{
    /* Without a list of file systems, intercept.mount alone mounts nothing. */
    static const char *const reaching[] = {"security.syscalls.intercept.mount.allowed",
                                           "security.syscalls.intercept.mount.shift",
                                           "security.syscalls.intercept.sched_setscheduler",
                                           "security.syscalls.intercept.sysinfo", NULL};
    if (!g_str_has_prefix(key, "security.syscalls.intercept.") ||
        g_ascii_strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0 ||
        g_ascii_strcasecmp(value, "no") == 0 || g_ascii_strcasecmp(value, "off") == 0) {
        return true;
    }
    bool risky = g_strv_contains(reaching, key);
    return strcmp(allowed, "full") == 0 || (strcmp(allowed, "allow") == 0 && !risky);
}

/* What forbids this key's value; NULL: nothing. */
static const char *
forbidden_value(json_t *rules, const char *key, const char *value)
{
    const char *privilege = rule(rules, "restricted.containers.privilege");
    bool on = grammar_parse_bool(value, false);

    if (strcmp(key, "security.nesting") == 0 && on &&
        strcmp(rule(rules, "restricted.containers.nesting"), "allow") != 0) {
        return "Container nesting is forbidden";
    }
    if (strcmp(key, "security.privileged") == 0 && on && strcmp(privilege, "allow") != 0) {
        return "Privileged containers are forbidden";
    }
    if (strcmp(key, "security.idmap.isolated") == 0 && !on && strcmp(privilege, "isolated") == 0) {
        return "Non-isolated containers are forbidden";
    }
    if (!check_interception(rule(rules, "restricted.containers.interception"), key, value)) {
        return "Container syscall interception is forbidden";
    }
    return NULL;
}

static bool
check_config(json_t *rules, json_t *config, const char *type, const char *what, GError **error)
{
    bool container = strcmp(type, "virtual-machine") != 0, vm = strcmp(type, "container") != 0;
    bool low = strcmp(rule(rules, "restricted.containers.lowlevel"), "allow") == 0;
    bool vm_low = strcmp(rule(rules, "restricted.virtual-machines.lowlevel"), "allow") == 0;
    const char *key;
    json_t *node;

    json_object_foreach (config, key, node) {
        const char *value = json_string_value(node);
        if (value == NULL || *value == '\0') {
            continue;
        }
        if (strcmp(key, "raw.idmap") == 0) {
            bool free = (!container || low) && (!vm || vm_low);
            if (!free && !check_raw_idmap(rules, value, what, error)) {
                return false;
            }
            continue;
        }
        if ((container && !low && is_low_level(key)) || (vm && !vm_low && is_low_level_vm(key))) {
            return haw_fail(error, HAW_INVALID, "Use of low-level config \"%s\" on %s is forbidden",
                            key, what);
        }
        const char *why = container ? forbidden_value(rules, key, value) : NULL;
        if (why != NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid value \"%s\" for config \"%s\" on %s: %s",
                            value, key, what, why);
        }
    }
    return true;
}

/* ---- restricted.*: devices ---- */

bool
restrict_network_allowed(json_t *config, const char *network, bool managed)
{
    if (!keys_get_bool(config, "restricted", false)) {
        return true; /* R1 */
    }
    const char *nics = rule(config, "restricted.devices.nic");
    if (strcmp(nics, "block") == 0 || (strcmp(nics, "managed") == 0 && !managed)) {
        return false;
    }
    const char *access = keys_get(config, "restricted.networks.access");
    g_auto(GStrv) list = grammar_list(access);
    return access == NULL || g_strv_contains((const char *const *) list, network);
}

/* R3 */
bool
restrict_disk_parent(json_t *config, const char *source, char **ret_parent)
{
    const char *paths = keys_get(config, "restricted.devices.disk.paths");
    g_auto(GStrv) list = grammar_list(paths);
    if (paths == NULL) {
        *ret_parent = NULL;
        return true;
    }
    if (!g_path_is_absolute(source)) {
        return false;
    }
    g_autofree char *clean = g_canonicalize_filename(source, "/");
    for (char **path = list; *path != NULL; path++) {
        g_autofree char *parent = g_canonicalize_filename(*path, "/");
        size_t length = strlen(parent);
        if (strcmp(parent, "/") == 0 || (strncmp(clean, parent, length) == 0 &&
                                         (clean[length] == '/' || clean[length] == '\0'))) {
            *ret_parent = g_steal_pointer(&parent);
            return true;
        }
    }
    return false;
}

static bool
check_disk(json_t *rules, json_t *device, GError **error)
{
    const char *allowed = rule(rules, "restricted.devices.disk");
    bool has_pool = *field(device, "pool") != '\0';

    if ((strcmp(field(device, "path"), "/") == 0 && has_pool) ||
        (*field(device, "path") == '\0' &&
         strcmp(field(device, "source"), "cloud-init:config") == 0)) {
        return true;
    }
    if (strcmp(allowed, "block") == 0) {
        return haw_fail(error, HAW_INVALID, "Disk devices are forbidden");
    }
    if (has_pool) {
        return true;
    }
    if (strcmp(allowed, "managed") == 0) {
        return haw_fail(error, HAW_INVALID, "Attaching disks not backed by a pool is forbidden");
    }
    g_autofree char *parent = NULL;
    return restrict_disk_parent(rules, field(device, "source"), &parent) ||
           haw_fail(error, HAW_INVALID, "Disk source path \"%s\" not allowed",
                    field(device, "source"));
}

static bool
check_nic(json_t *rules, json_t *device, GError **error)
{
    const char *allowed = rule(rules, "restricted.devices.nic");
    const char *network = field(device, "network"), *parent = field(device, "parent");

    if (strcmp(allowed, "block") == 0) {
        return haw_fail(error, HAW_INVALID, "Network devices are forbidden");
    }
    if (strcmp(allowed, "managed") == 0 && *network == '\0') {
        return haw_fail(error, HAW_INVALID, "Only managed network devices are allowed");
    }
    bool fine = *network != '\0'  ? restrict_network_allowed(rules, network, true)
                : *parent != '\0' ? restrict_network_allowed(rules, parent, false)
                                  : true;
    return fine || haw_fail(error, HAW_INVALID, "Network not allowed in project");
}

static bool
check_device(json_t *rules, json_t *device, GError **error)
{
    static const struct {
        const char *type, *key, *words;
    } plain[] = {
        {"unix-char", "restricted.devices.unix-char", "Unix character devices are forbidden"},
        {"unix-block", "restricted.devices.unix-block", "Unix block devices are forbidden"},
        {"unix-hotplug", "restricted.devices.unix-hotplug", "Unix hotplug devices are forbidden"},
        {"infiniband", "restricted.devices.infiniband", "Infiniband devices are forbidden"},
        {"gpu", "restricted.devices.gpu", "GPU devices are forbidden"},
        {"usb", "restricted.devices.usb", "USB devices are forbidden"},
        {"pci", "restricted.devices.pci", "PCI devices are forbidden"},
        {"proxy", "restricted.devices.proxy", "Proxy devices are forbidden"},
    };
    const char *type = field(device, "type");
    for (size_t i = 0; i < G_N_ELEMENTS(plain); i++) {
        if (strcmp(plain[i].type, type) == 0 && strcmp(rule(rules, plain[i].key), "allow") != 0) {
            return haw_fail(error, HAW_INVALID, "%s", plain[i].words);
        }
    }
    if (strcmp(type, "disk") == 0) {
        return check_disk(rules, device, error);
    }
    return strcmp(type, "nic") != 0 || check_nic(rules, device, error);
}

bool
restrict_entity(const RestrictScope *scope, json_t *entity, GError **error)
{
    if (!keys_get_bool(scope->config, "restricted", false)) {
        return true; /* R1 */
    }
    g_autofree char *what = g_strdup_printf("%s \"%s\" of project \"%s\"", field(entity, "type"),
                                            field(entity, "name"), scope->project);
    const char *name;
    json_t *device;

    if (!check_config(scope->config, json_object_get(entity, "config"), field(entity, "type"), what,
                      error)) {
        return false;
    }
    json_object_foreach (json_object_get(entity, "devices"), name, device) {
        if (!check_device(scope->config, device, error)) {
            return haw_push(error, "Invalid device \"%s\" on %s", name, what);
        }
    }
    return true;
}

/* ---- limits.* ---- */

static json_t *
root_device(json_t *entity)
{
    const char *name;
    json_t *device;

    json_object_foreach (json_object_get(entity, "devices"), name, device) {
        if (strcmp(field(device, "type"), "disk") == 0 && strcmp(field(device, "path"), "/") == 0) {
            return device;
        }
    }
    return NULL;
}

/* What one instance counts for a sum; false when it does not say (R2). */
static bool
share(json_t *entity, const char *key, gint64 *ret, const char **ret_why)
{
    json_t *config = json_object_get(entity, "config");
    const char *value = keys_get(config, key);

    *ret_why = NULL;
    if (strcmp(key, "limits.disk") == 0) {
        value = keys_get(root_device(entity), "size");
        return value != NULL && grammar_parse_size(value, ret, NULL);
    }
    if (value == NULL) {
        return false;
    }
    if (strcmp(key, "limits.memory") == 0) {
        if (g_str_has_suffix(value, "%")) {
            *ret_why = "Value can't be a percentage";
            return false;
        }
        return grammar_parse_size(value, ret, NULL);
    }
    if (strcmp(key, "limits.cpu") == 0 && strpbrk(value, ",-") != NULL) {
        *ret_why = "CPUs can't be pinned if project limits are used";
        return false;
    }
    return grammar_parse_int64(value, ret, NULL);
}

static bool
fail_share(const RestrictScope *scope, json_t *entity, const char *key, const char *why,
           GError **error)
{
    const char *name = field(entity, "name");
    if (why != NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Failed parsing \"%s\" for instance \"%s\" in project \"%s\": %s", key,
                        name, scope->project, why);
    }
    if (strcmp(key, "limits.disk") == 0) {
        return haw_fail(error, HAW_INVALID,
                        "Instance \"%s\" in project \"%s\" has no \"size\" config set on the root "
                        "device either directly or via a profile",
                        name, scope->project);
    }
    return haw_fail(error, HAW_INVALID,
                    "Instance \"%s\" in project \"%s\" has no \"%s\" config, either directly or "
                    "via a profile",
                    name, scope->project, key);
}

/* The sum over everything; with 'lenient' what says nothing counts nothing. */
static bool
sum(const RestrictScope *scope, const char *key, bool lenient, gint64 *ret, GError **error)
{
    json_t *entity, *size;
    size_t i;
    gint64 total = 0;

    json_array_foreach (scope->instances, i, entity) {
        gint64 number = 0;
        const char *why;
        if (share(entity, key, &number, &why)) {
            total += number;
        } else if (!lenient) {
            return fail_share(scope, entity, key, why, error);
        }
    }
    if (strcmp(key, "limits.disk") == 0) {
        total += scope->image_bytes;
        const char *volume;
        json_object_foreach (scope->volumes, volume, size) {
            gint64 bytes = 0;
            if (*json_string_value(size) == '\0' && !lenient) {
                const char *slash = strrchr(volume, '/');
                if (*volume == '\0') { /* the candidate */
                    return haw_fail(error, HAW_INVALID,
                                    "Custom volume has no \"size\" config set, which project "
                                    "\"%s\" wants",
                                    scope->project);
                }
                return haw_fail(error, HAW_INVALID,
                                "Custom volume \"%s\" in project \"%s\" has no \"size\" config set",
                                slash != NULL ? slash + 1 : volume, scope->project);
            }
            grammar_parse_size(json_string_value(size), &bytes, NULL);
            total += bytes;
        }
    }
    *ret = total;
    return true;
}

static gint64
count(const RestrictScope *scope, const char *type)
{
    json_t *entity;
    size_t i;
    gint64 n = 0;

    json_array_foreach (scope->instances, i, entity) {
        n += type == NULL || strcmp(field(entity, "type"), type) == 0;
    }
    return n;
}

static gint64
limit_of(const RestrictScope *scope, const char *key)
{
    gint64 limit = -1;
    const char *value = keys_get(scope->config, key);
    if (value != NULL) {
        grammar_parse_size(value, &limit, NULL); /* plain numbers are sizes, too */
    }
    return limit;
}

static const struct {
    const char *key, *type, *name;
} counted[] = {
    {"limits.containers", "container", "containers"},
    {"limits.virtual-machines", "virtual-machine", "virtual-machines"},
    {"limits.instances", NULL, "instances"},
};
static const struct {
    const char *key, *name;
} summed[] = {
    {"limits.cpu", "cpu"},
    {"limits.memory", "memory"},
    {"limits.processes", "processes"},
    {"limits.disk", "disk"},
};

/* "512.0MiB" of what is bytes; caller frees. */
static char *
show_amount(const char *key, gint64 total)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double amount = (double) total;
    size_t unit = 0;
    if (strcmp(key, "limits.memory") != 0 && strcmp(key, "limits.disk") != 0) {
        return g_strdup_printf("%" G_GINT64_FORMAT, total);
    }
    while (amount >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        amount /= 1024;
        unit++;
    }
    return g_strdup_printf(unit == 0 ? "%.0f%s" : "%.1f%s", amount, units[unit]);
}

static bool
check_counts(const RestrictScope *scope, bool is_update, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(counted); i++) {
        gint64 limit = limit_of(scope, counted[i].key), n = count(scope, counted[i].type);
        const char *type = counted[i].type;
        if (limit < 0 || n <= limit) {
            continue;
        }
        if (is_update) {
            return haw_fail(
                error, HAW_INVALID,
                "Can't change \"%s\" in project \"%s\": \"%s\" is too low: there currently are "
                "%" G_GINT64_FORMAT " %s%s in project %s",
                counted[i].key, scope->project, counted[i].key, n,
                type != NULL ? "instances of type " : "total instances", type != NULL ? type : "",
                scope->project);
        }
        return type != NULL ? haw_fail(error, HAW_INVALID,
                                       "Reached maximum number of instances of type \"%s\" in "
                                       "project \"%s\"",
                                       type, scope->project)
                            : haw_fail(error, HAW_INVALID,
                                       "Reached maximum number of instances in project \"%s\"",
                                       scope->project);
    }
    return true;
}

bool
restrict_totals(const RestrictScope *scope, bool is_update, GError **error)
{
    if (!check_counts(scope, is_update, error)) {
        return false;
    }
    gint64 most_networks = limit_of(scope, "limits.networks");
    if (is_update && most_networks >= 0 && scope->networks > most_networks) {
        return haw_fail(error, HAW_INVALID,
                        "\"limits.networks\" is too low: there currently are %" G_GINT64_FORMAT
                        " networks in project %s",
                        scope->networks, scope->project);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(summed); i++) {
        gint64 limit = limit_of(scope, summed[i].key), total;
        if (limit < 0) {
            continue;
        }
        if (!sum(scope, summed[i].key, false, &total, error)) {
            return false;
        }
        if (total <= limit) {
            continue;
        }
        g_autofree char *shown = show_amount(summed[i].key, total);
        return is_update
                   ? haw_fail(error, HAW_INVALID, "\"%s\" is too low: current total is \"%s\"",
                              summed[i].key, shown)
                   : haw_fail(error, HAW_INVALID,
                              "Reached maximum aggregate value \"%s\" for \"%s\" in project \"%s\"",
                              keys_get(scope->config, summed[i].key), summed[i].key,
                              scope->project);
    }
    return true;
}

static void
put_state(json_t *state, const char *name, gint64 limit, gint64 usage)
{
    json_object_set_new(
        state, name,
        json_pack("{s:I,s:I}", "Limit", (json_int_t) limit, "Usage", (json_int_t) usage));
}

json_t *
restrict_state(const RestrictScope *scope)
{
    json_t *state = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(counted); i++) {
        put_state(state, counted[i].name, limit_of(scope, counted[i].key),
                  count(scope, counted[i].type));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(summed); i++) {
        gint64 total = 0;
        sum(scope, summed[i].key, true, &total, NULL);
        put_state(state, summed[i].name, limit_of(scope, summed[i].key), total);
    }
    put_state(state, "networks", limit_of(scope, "limits.networks"), scope->networks);
    return state;
}
