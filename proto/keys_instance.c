/* Configuration of instances and profiles (lxd-api instance-options §2, §3), and the rules between
 * keys (§2.4). */
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

static bool
stall_kind(const char *v, GError **error)
{
    static const char *const known[] = {"pause", "throttle", "abort", "postcopy", NULL};
    return g_strv_contains(known, v) ||
           haw_fail(error, HAW_INVALID,
                    "Invalid value \"%s\" (not one of [pause throttle abort postcopy])", v);
}

static bool
evacuate_mode(const char *v, GError **error)
{
    static const char *const known[] = {"auto", "migrate", "live-migrate", "stop", NULL};
    return g_strv_contains(known, v) ||
           haw_fail(error, HAW_INVALID,
                    "Invalid value \"%s\" (not one of [auto migrate live-migrate stop])", v);
}

static bool
enforce_mode(const char *v, GError **error)
{
    return strcmp(v, "soft") == 0 || strcmp(v, "hard") == 0 ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [soft hard])", v);
}

/* "both|uid|gid <host[-range]> <inst[-range]>" a line. */
static bool
idmap_line(char *line, GError **error)
{
    gchar **words = g_strsplit_set(g_strstrip(line), " \t", -1);
    g_auto(GStrv) owned = words;
    bool good =
        g_strv_length(words) == 3 && (strcmp(words[0], "both") == 0 ||
                                      strcmp(words[0], "uid") == 0 || strcmp(words[0], "gid") == 0);
    gint64 sizes[2] = {0, 0};
    for (size_t i = 0; good && i < 2; i++) {
        gint64 low, high;
        g_auto(GStrv) ends = g_strsplit(words[1 + i], "-", 2);
        good = ends[0] != NULL && *ends[0] != '\0' && grammar_uint32(ends[0], NULL) &&
               grammar_parse_int64(ends[0], &low, NULL);
        high = good ? low : 0;
        if (good && ends[1] != NULL) {
            good = *ends[1] != '\0' && grammar_uint32(ends[1], NULL) &&
                   grammar_parse_int64(ends[1], &high, NULL) && high >= low;
        }
        sizes[i] = good ? high - low + 1 : 0;
    }
    return (good && sizes[0] == sizes[1]) ||
           haw_fail(error, HAW_INVALID, "Invalid raw.idmap line \"%s\"", line);
}

static bool
raw_idmap(const char *v, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(v, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_autofree char *copy = g_strdup(*line);
        if (*g_strstrip(copy) != '\0' && !idmap_line(copy, error)) {
            return false;
        }
    }
    return true;
}

/* Keys that would take what we own from us: the log, prlimits, and all of the network but the
 * addresses and gateways of an interface. */
static bool
raw_lxc_key(const char *key, GError **error)
{
    static const char *const owned[] = {"lxc.logfile", "lxc.log.file",  "lxc.log.syslog",
                                        "lxc.syslog",  "lxc.ephemeral", NULL};
    if (g_strv_contains(owned, key)) {
        return haw_fail(error, HAW_INVALID, "Setting %s is not allowed", key);
    }
    if (g_str_has_prefix(key, "lxc.prlimit.")) {
        return haw_fail(error, HAW_INVALID,
                        "Process limits should be set via \"limits.kernel.[limit name]\" and not "
                        "directly via \"lxc.prlimit.[limit name]\"");
    }
    if (!g_str_has_prefix(key, "lxc.net.") && !g_str_has_prefix(key, "lxc.network.")) {
        return true;
    }
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    guint count = g_strv_length(parts);
    bool allowed = false;
    if (strcmp(parts[1], "net") == 0 && count == 5) {
        bool family = strcmp(parts[3], "ipv4") == 0 || strcmp(parts[3], "ipv6") == 0;
        allowed = family && (strcmp(parts[4], "gateway") == 0 || strcmp(parts[4], "address") == 0);
    }
    return allowed || haw_fail(error, HAW_INVALID,
                               "Only interface-specific ipv4/ipv6 %s keys are allowed", "lxc.net.");
}

static bool
raw_lxc(const char *v, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(v, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char *text = g_strstrip(*line);
        if (*text == '\0' || *text == '#') {
            continue;
        }
        g_auto(GStrv) parts = g_strsplit(text, "=", 2);
        if (parts[1] == NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid raw.lxc line: %s", text);
        }
        g_autofree char *key = g_ascii_strdown(g_strstrip(parts[0]), -1);
        if (!raw_lxc_key(key, error)) {
            return false;
        }
    }
    return true;
}

static bool
snapshot_pattern(const char *v, GError **error)
{
    const char *first = strstr(v, "%d");
    return first == NULL || strstr(first + 2, "%d") == NULL ||
           haw_fail(error, HAW_INVALID, "Snapshot pattern may contain '%%d' only once");
}

static bool
module_list(const char *v, GError **error)
{
    g_auto(GStrv) names = grammar_list(v);
    for (char **name = names; *name != NULL; name++) {
        for (const char *at = *name; *at != '\0'; at++) {
            if (!g_ascii_isalnum(*at) && *at != '_' && *at != '-') {
                return haw_fail(error, HAW_INVALID, "Invalid kernel module name \"%s\"", *name);
            }
        }
    }
    return true;
}

#define B(name, type, check, fallback, flags, help)                                                \
    {                                                                                              \
        name, type, check, fallback, flags, help                                                   \
    }
#define C(name, type, check, fallback, flags, help)                                                \
    {                                                                                              \
        name, type, check, fallback, (flags) | KEY_CONTAINER, help                                 \
    }
#define V(name, type, check, fallback, flags, help)                                                \
    {                                                                                              \
        name, type, check, fallback, (flags) | KEY_VM, help                                        \
    }
const Key keys_instance[] = {
    B("boot.autostart", "bool", grammar_bool, NULL, KEY_LIVE,
      "Start with the agent; unset restores the last state."),
    B("boot.autostart.delay", "int64", grammar_int64, "0", KEY_LIVE,
      "Seconds to wait after this one before the next autostart."),
    B("boot.autostart.priority", "int64", grammar_int64, "0", KEY_LIVE, "Higher starts first."),
    B("boot.host_shutdown_timeout", "int64", grammar_int64, "30", KEY_LIVE,
      "Seconds for a clean stop at host shutdown."),
    B("boot.stop.priority", "int64", grammar_int64, "0", KEY_LIVE, "Higher stops first."),
    B("cloud-init.network-config", "yaml", NULL, NULL, KEY_LIVE, "Network seed of cloud-init."),
    B("cloud-init.user-data", "text", NULL, NULL, KEY_LIVE, "User data of cloud-init."),
    B("cloud-init.vendor-data", "text", NULL, NULL, KEY_LIVE, "Vendor data of cloud-init."),
    B("cluster.evacuate", "mode", evacuate_mode, "auto", KEY_LIVE,
      "What an evacuation of its host does with it."),
    B("environment.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX,
      "Environment of init and of each exec."),
    B("limits.cpu", "cpuset", grammar_cpuset, NULL, KEY_LIVE,
      "Number of CPUs, or the set of them to use."),
    B("limits.disk.priority", "priority", grammar_priority, "5", KEY_LIVE, "Weight of disk I/O."),
    B("limits.memory", "memory", grammar_memory, NULL, KEY_LIVE,
      "Memory limit, absolute or in percent of the host's."),
    B("limits.network.priority", "priority", grammar_priority, "0", KEY_LIVE,
      "Priority of outgoing packets."),
    B("raw.apparmor", "blob", NULL, NULL, KEY_LIVE, "Lines for the AppArmor profile."),
    B("raw.idmap", "idmap", raw_idmap, NULL, 0, "Extra id maps, one a line."),
    B("security.devlxd", "bool", grammar_bool, "true", KEY_LIVE, "Whether /dev/lxd exists."),
    B("security.protection.delete", "bool", grammar_bool, "false", KEY_LIVE,
      "Refuses to delete it."),
    B("snapshots.expiry", "expiry", grammar_expiry, NULL, KEY_LIVE, "Life of new snapshots."),
    B("snapshots.pattern", "pattern", snapshot_pattern, "snap%d", KEY_LIVE,
      "Name of new snapshots."),
    B("snapshots.schedule", "cron", grammar_cron, NULL, KEY_LIVE, "When snapshots are made."),
    B("snapshots.schedule.stopped", "bool", grammar_bool, "false", KEY_LIVE,
      "Whether the schedule applies while it is stopped."),
    B("user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."),
    B("image.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Properties of its image."),
    B("volatile.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX | KEY_INTERNAL, "The agent's notes."),

    C("limits.cpu.allowance", "allowance", grammar_allowance, "100%", KEY_LIVE,
      "Share (percent) or quota (10ms/100ms) of CPU time."),
    C("limits.cpu.priority", "priority", grammar_priority, "10", KEY_LIVE,
      "Share of CPU time against the others'."),
    C("limits.hugepages.64KB", "size", grammar_size, NULL, KEY_LIVE, "Limit of 64 KiB pages."),
    C("limits.hugepages.1MB", "size", grammar_size, NULL, KEY_LIVE, "Limit of 1 MiB pages."),
    C("limits.hugepages.2MB", "size", grammar_size, NULL, KEY_LIVE, "Limit of 2 MiB pages."),
    C("limits.hugepages.1GB", "size", grammar_size, NULL, KEY_LIVE, "Limit of 1 GiB pages."),
    C("limits.kernel.", "kernel limit", grammar_kernel_limit, NULL, KEY_PREFIX,
      "Resource limits, by their lower-case name."),
    C("limits.memory.enforce", "hard|soft", enforce_mode, "hard", KEY_LIVE,
      "Whether the limit holds always or under pressure."),
    C("limits.memory.swap", "bool", grammar_bool, "true", KEY_LIVE, "Whether it may be swapped."),
    C("limits.memory.swap.priority", "priority", grammar_priority, "10", KEY_LIVE,
      "Higher is swapped later."),
    C("limits.processes", "int64", grammar_int64, NULL, KEY_LIVE, "Number of processes."),
    C("linux.kernel_modules", "list", module_list, NULL, KEY_LIVE,
      "Modules to load before the start."),
    C("linux.sysctl.", "any", NULL, NULL, KEY_PREFIX, "Sysctls of its namespaces."),
    C("migration.incremental.memory", "bool", grammar_bool, "false", KEY_LIVE,
      "Copies memory in rounds."),
    C("migration.incremental.memory.goal", "uint32", grammar_uint32, "70", KEY_LIVE,
      "Percent of memory in sync before it is stopped."),
    C("migration.incremental.memory.iterations", "uint32", grammar_uint32, "10", KEY_LIVE,
      "Most rounds."),
    C("nvidia.runtime", "bool", grammar_bool, "false", 0, "Passes NVIDIA's runtime in."),
    C("nvidia.driver.capabilities", "string", NULL, "compute,utility", 0, "NVIDIA's capabilities."),
    C("nvidia.require.cuda", "string", NULL, NULL, 0, "CUDA version to require."),
    C("nvidia.require.driver", "string", NULL, NULL, 0, "Driver version to require."),
    C("raw.lxc", "blob", raw_lxc, NULL, 0, "Lines for the container's LXC configuration."),
    C("raw.seccomp", "blob", NULL, NULL, 0, "The seccomp policy."),
    C("security.devlxd.images", "bool", grammar_bool, "false", KEY_LIVE,
      "Whether images may be fetched by /dev/lxd."),
    C("security.idmap.base", "uint32", grammar_uint32, NULL, 0, "First host id of its map."),
    C("security.idmap.isolated", "bool", grammar_bool, "false", 0, "A map of its own."),
    C("security.idmap.size", "uint32", grammar_uint32, NULL, 0, "Size of its map."),
    C("security.nesting", "bool", grammar_bool, "false", KEY_LIVE, "Containers inside."),
    C("security.privileged", "bool", grammar_bool, "false", 0, "No user namespace."),
    C("security.protection.shift", "bool", grammar_bool, "false", KEY_LIVE,
      "Refuses to shift ids on disk."),
    C("security.syscalls.allow", "list", NULL, NULL, 0, "System calls to allow."),
    C("security.syscalls.deny", "list", NULL, NULL, 0, "System calls to deny."),
    C("security.syscalls.deny_default", "bool", grammar_bool, "true", 0, "The usual deny list."),
    C("security.syscalls.deny_compat", "bool", grammar_bool, "false", 0,
      "Denies 32 bit system calls."),
    C("security.syscalls.blacklist", "list", NULL, NULL, 0, "Old name of security.syscalls.deny."),
    C("security.syscalls.blacklist_default", "bool", grammar_bool, "true", 0,
      "Old name of security.syscalls.deny_default."),
    C("security.syscalls.blacklist_compat", "bool", grammar_bool, "false", 0,
      "Old name of security.syscalls.deny_compat."),
    C("security.syscalls.whitelist", "list", NULL, NULL, 0, "Old name of security.syscalls.allow."),
    C("security.syscalls.intercept.bpf", "bool", grammar_bool, "false", 0, "Handles bpf()."),
    C("security.syscalls.intercept.bpf.devices", "bool", grammar_bool, "false", 0,
      "Handles device cgroup programs."),
    C("security.syscalls.intercept.mknod", "bool", grammar_bool, "false", 0, "Handles mknod()."),
    C("security.syscalls.intercept.mount", "bool", grammar_bool, "false", 0, "Handles mount()."),
    C("security.syscalls.intercept.mount.allowed", "list", NULL, NULL, KEY_LIVE,
      "File systems that may be mounted."),
    C("security.syscalls.intercept.mount.fuse", "list", NULL, NULL, KEY_LIVE,
      "File systems to mount by FUSE."),
    C("security.syscalls.intercept.mount.shift", "bool", grammar_bool, "false", KEY_LIVE,
      "Whether such mounts are shifted."),
    C("security.syscalls.intercept.sched_setscheduler", "bool", grammar_bool, "false", 0,
      "Handles sched_setscheduler()."),
    C("security.syscalls.intercept.setxattr", "bool", grammar_bool, "false", 0,
      "Handles setxattr()."),
    C("security.syscalls.intercept.sysinfo", "bool", grammar_bool, "false", 0,
      "Handles sysinfo()."),

    V("agent.nic_config", "bool", grammar_bool, "false", 0, "The guest agent names its NICs."),
    V("limits.memory.hugepages", "bool", grammar_bool, "false", 0, "Memory of huge pages."),
    V("migration.stateful", "bool", grammar_bool, "false", 0, "Stateful stop and live migration."),
    V("migration.vm.downtime", "milliseconds", grammar_uint32, "50", KEY_LIVE,
      "The pause that a live move may cost the guest."),
    V("migration.vm.stall", "pause|throttle|abort|postcopy", stall_kind, "pause", KEY_LIVE,
      "What a live move does when the guest writes faster than its pages can be sent: pauses it "
      "for longer, slows it down, gives up, or lets it run there before all is sent."),
    V("raw.qemu", "blob", NULL, NULL, 0, "Further arguments for QEMU."),
    V("raw.qemu.conf", "blob", NULL, NULL, 0, "Changes to QEMU's configuration."),
    V("security.agent.metrics", "bool", grammar_bool, "true", KEY_LIVE,
      "Whether the guest agent is asked for state."),
    V("security.csm", "bool", grammar_bool, "false", 0,
      "Boots with a BIOS in place of UEFI; security.secureboot=false goes with it."),
    V("security.secureboot", "bool", grammar_bool, "true", KEY_LIVE, "UEFI secure boot."),
    V("security.sev", "bool", grammar_bool, "false", 0, "AMD SEV."),
    V("security.sev.policy.es", "bool", grammar_bool, "false", 0, "AMD SEV-ES."),
    V("security.sev.session.dh", "base64", NULL, NULL, 0, "The guest owner's key."),
    V("security.sev.session.data", "base64", NULL, NULL, 0, "The guest owner's session."),
    {NULL},
};

bool
keys_check_instance_type(json_t *config, const char *type, GError **error)
{
    KeyFlags other = strcmp(type, "virtual-machine") == 0 ? KEY_CONTAINER : KEY_VM;
    const char *name;
    json_t *value;

    json_object_foreach (config, name, value) {
        const Key *key = keys_find(keys_instance, name);
        if (key != NULL && (key->flags & other)) {
            return haw_fail(error, HAW_INVALID, "Unknown configuration key: %s", name);
        }
    }
    return true;
}

static bool
has_any(json_t *config, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (keys_get(config, *names) != NULL) {
            return true;
        }
    }
    return false;
}

static bool
has_below(json_t *config, const char *prefix)
{
    const char *name;
    json_t *value;

    json_object_foreach (config, name, value) {
        if (g_str_has_prefix(name, prefix) && *json_string_value(value) != '\0') {
            return true;
        }
    }
    return false;
}

bool
keys_check_instance_rules(json_t *config, GError **error)
{
    static const char *const allow[] = {"security.syscalls.allow", "security.syscalls.whitelist",
                                        NULL};
    static const char *const deny[] = {"security.syscalls.deny",
                                       "security.syscalls.blacklist",
                                       "security.syscalls.deny_compat",
                                       "security.syscalls.blacklist_compat",
                                       "security.syscalls.deny_default",
                                       "security.syscalls.blacklist_default",
                                       NULL};
    static const char *const twins[][2] = {
        {"security.syscalls.allow", "security.syscalls.whitelist"},
        {"security.syscalls.deny", "security.syscalls.blacklist"},
        {"security.syscalls.deny_compat", "security.syscalls.blacklist_compat"},
        {"security.syscalls.deny_default", "security.syscalls.blacklist_default"},
    };
    if (keys_get(config, "raw.seccomp") != NULL && has_below(config, "security.syscalls.")) {
        return haw_fail(error, HAW_INVALID,
                        "raw.seccomp is mutually exclusive with security.syscalls*");
    }
    if (has_any(config, allow) && has_any(config, deny)) {
        return haw_fail(error, HAW_INVALID,
                        "security.syscalls.allow is mutually exclusive with "
                        "security.syscalls.deny*");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(twins); i++) {
        if (keys_get(config, twins[i][0]) != NULL && keys_get(config, twins[i][1]) != NULL) {
            return haw_fail(error, HAW_INVALID, "%s is mutually exclusive with %s", twins[i][0],
                            twins[i][1]);
        }
    }
    if (keys_get_bool(config, "security.privileged", false) &&
        keys_get_bool(config, "nvidia.runtime", false)) {
        return haw_fail(error, HAW_INVALID,
                        "nvidia.runtime is incompatible with privileged containers");
    }
    return true;
}
