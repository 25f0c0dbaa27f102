/* liblxc configuration of a container, from tables: fixed lines with the condition under which each
 * is written, then what keys, devices and limits add, raw.lxc last so that it has the last word.
 * F1  No value can smuggle in a line: a newline in one is refused.
 * F2  raw.lxc may not touch what the daemon lives by (log, ephemeral, prlimit, most of the network).
 * Called by start.c; golden files in tests/golden/lxcconf. */
#include "agent/inst/lxcconf.h"
#include "agent/inst/cgroup.h"
#include "base/fd.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <lxc/lxccontainer.h>
#include <errno.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LXCFS_HOOK "/usr/share/lxcfs/lxc.mount.hook"
/* liblxc itself runs with a PATH of few words (K2 of forklxc.c). */
#define WITH_PATH  "/usr/bin/env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
#define LXCFS_ROOT "/var/lib/lxcfs/proc/meminfo"

enum {
    ALWAYS = 0,
    IF_PRIVILEGED = 1 << 0,
    IF_UNPRIVILEGED = 1 << 1,
    IF_NESTING = 1 << 2,
    IF_APPARMOR = 1 << 3,
    IF_CORE = 1 << 4,
    IF_DEVICES_V1 = 1 << 5,
    IF_DEVICES_V2 = 1 << 6,
    IF_CGROUP_MIXED = 1 << 7,
    IF_CGROUP_UNIFIED = 1 << 8,
    IF_LXCFS = 1 << 9,
};

/* A row is written when all of its conditions hold. */
static const struct {
    int when;
    const char *key, *value;
} fixed[] = {
    {ALWAYS, "lxc.log.level", "warn"},
    {ALWAYS, "lxc.console.buffer.size", "auto"},
    {ALWAYS, "lxc.console.size", "auto"},
    {IF_PRIVILEGED, "lxc.mount.auto", "proc:mixed sys:mixed"},
    {IF_UNPRIVILEGED, "lxc.mount.auto", "proc:rw sys:rw"},
    {IF_CGROUP_MIXED, "lxc.mount.auto", "cgroup:mixed"},
    {IF_CGROUP_UNIFIED, "lxc.mount.auto", "cgroup:rw:force"},
    {ALWAYS, "lxc.autodev", "1"},
    {ALWAYS, "lxc.pty.max", "1024"},
    {ALWAYS, "lxc.tty.max", "0"},
    {IF_PRIVILEGED, "lxc.cap.drop", "sys_time sys_module sys_rawio mac_admin mac_override"},
    {ALWAYS, "lxc.mount.entry", "/dev/fuse dev/fuse none bind,create=file,optional 0 0"},
    {ALWAYS, "lxc.mount.entry", "/dev/net/tun dev/net/tun none bind,create=file,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/proc/sys/fs/binfmt_misc proc/sys/fs/binfmt_misc none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/sys/fs/fuse/connections sys/fs/fuse/connections none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry", "/sys/fs/pstore sys/fs/pstore none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/sys/kernel/config sys/kernel/config none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/sys/kernel/debug sys/kernel/debug none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/sys/kernel/security sys/kernel/security none rbind,create=dir,optional 0 0"},
    {ALWAYS, "lxc.mount.entry",
     "/sys/kernel/tracing sys/kernel/tracing none rbind,create=dir,optional 0 0"},
    {IF_UNPRIVILEGED, "lxc.mount.entry",
     "mqueue dev/mqueue mqueue rw,relatime,create=dir,optional 0 0"},
    {IF_PRIVILEGED, "lxc.mount.entry", "/dev/mqueue dev/mqueue none rbind,create=dir,optional 0 0"},
    {IF_NESTING | IF_UNPRIVILEGED, "lxc.mount.entry",
     "proc dev/.lxc/proc proc create=dir,optional 0 0"},
    {IF_NESTING | IF_UNPRIVILEGED, "lxc.mount.entry",
     "sys dev/.lxc/sys sysfs create=dir,optional 0 0"},
    {IF_APPARMOR, "lxc.apparmor.profile", "generated"},
    {IF_APPARMOR | IF_NESTING, "lxc.apparmor.allow_nesting", "1"},
    {IF_CORE, "lxc.sched.core", "1"},
    {IF_LXCFS, "lxc.hook.mount", WITH_PATH LXCFS_HOOK},
    {ALWAYS, "lxc.hook.version", "1"},
};

static const char *const allowed_devices[] = {
    "b *:* m",   "c *:* m",      "c 136:* rwm",  "c 1:3 rwm", "c 1:5 rwm",
    "c 1:7 rwm", "c 1:8 rwm",    "c 1:9 rwm",    "c 5:0 rwm", "c 5:1 rwm",
    "c 5:2 rwm", "c 10:229 rwm", "c 10:200 rwm",
};

/* Keys under raw.lxc that are refused; a final dot stands for all below it. */
static const char *const forbidden_raw[] = {
    "lxc.log.file", "lxc.logfile", "lxc.log.syslog", "lxc.syslog", "lxc.ephemeral", "lxc.prlimit.",
};

static const struct {
    const char *lxd, *lxc;
} architectures[] = {
    {"x86_64", "linux64"},  {"i686", "linux32"}, {"aarch64", "aarch64"}, {"armv7l", "armv7l"},
    {"ppc64le", "ppc64le"}, {"s390x", "s390x"},  {"riscv64", "riscv64"},
};

static bool
host_has(const char *path)
{
    return access(path, F_OK) == 0;
}

LxcConfHost
lxcconf_host(void)
{
    static LxcConfHost host;
    static gsize once;
    if (g_once_init_enter(&once)) {
        g_autofree char *apparmor =
            fd_read_file("/sys/module/apparmor/parameters/enabled", 16, NULL, NULL);
        g_autofree char *uid_map = fd_read_file("/proc/self/uid_map", 4096, NULL, NULL);
        unsigned long cookie = 0;
        host.has = host_has;
        host.unified = cgroup_unified();
        host.apparmor = apparmor != NULL && apparmor[0] == 'Y' &&
                        access("/sys/kernel/security/apparmor", F_OK) == 0;
        host.core_sched =
            prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, &cookie) == 0;
        host.cgroup_ns = access("/proc/self/ns/cgroup", F_OK) == 0;
        host.in_userns = uid_map != NULL && strstr(uid_map, "4294967295") == NULL;
        host.devices_v1 = !host.in_userns && cgroup_version(CG_DEVICES) == 1;
        host.devices_v2 = !host.in_userns && cgroup_version(CG_DEVICES) == 2;
        host.lxcfs = access(LXCFS_HOOK, X_OK) == 0 && access(LXCFS_ROOT, F_OK) == 0;
        g_once_init_leave(&once, 1);
    }
    return host;
}

static bool
add(GString *out, const char *key, const char *value, GError **error)
{
    if (strpbrk(key, "\n\r=") != NULL || strpbrk(value, "\n\r") != NULL) { /* F1 */
        return haw_fail(error, HAW_INVALID, "The value of '%s' has a line break", key);
    }
    g_string_append_printf(out, "%s = %s\n", key, value);
    return true;
}

static int
conditions(const LxcConf *conf)
{
    int have = conf->map->len == 0 ? IF_PRIVILEGED : IF_UNPRIVILEGED;
    have |= keys_get_bool(conf->config, "security.nesting", false) ? IF_NESTING : 0;
    have |= conf->host.apparmor ? IF_APPARMOR : 0;
    have |= conf->host.core_sched ? IF_CORE : 0;
    have |= conf->host.devices_v1 ? IF_DEVICES_V1 : 0;
    have |= conf->host.devices_v2 ? IF_DEVICES_V2 : 0;
    have |= !conf->host.cgroup_ns ? 0 : conf->host.unified ? IF_CGROUP_UNIFIED : IF_CGROUP_MIXED;
    have |= conf->host.lxcfs ? IF_LXCFS : 0;
    return have;
}

static bool
add_fixed(GString *out, int have, bool (*has)(const char *path), GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        const char *value = fixed[i].value;
        g_autofree char *source = g_strndup(value, strcspn(value, " "));
        bool host_path = strcmp(fixed[i].key, "lxc.mount.entry") == 0 && *source == '/';
        if ((fixed[i].when & have) == fixed[i].when && (!host_path || has(source)) &&
            !add(out, fixed[i].key, fixed[i].value, error)) {
            return false;
        }
    }
    for (int version = 1; version <= 2; version++) {
        const char *prefix = version == 1 ? "lxc.cgroup.devices" : "lxc.cgroup2.devices";
        if ((have & (version == 1 ? IF_DEVICES_V1 : IF_DEVICES_V2)) == 0) {
            continue;
        }
        g_string_append_printf(out, "%s.deny = a\n", prefix);
        for (size_t i = 0; i < G_N_ELEMENTS(allowed_devices); i++) {
            g_string_append_printf(out, "%s.allow = %s\n", prefix, allowed_devices[i]);
        }
    }
    return true;
}

static void
add_idmap(GString *out, const GArray *map)
{
    for (guint i = 0; i < map->len; i++) {
        const IdmapEntry *e = &g_array_index(map, IdmapEntry, i);
        for (int kind = 0; kind < 2; kind++) {
            if (kind == 0 ? e->uid : e->gid) {
                g_string_append_printf(out,
                                       "lxc.idmap = %c %" G_GINT64_FORMAT " %" G_GINT64_FORMAT
                                       " %" G_GINT64_FORMAT "\n",
                                       kind == 0 ? 'u' : 'g', e->inside, e->host, e->count);
            }
        }
    }
}

static int
by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* linux.sysctl.X, limits.kernel.X, environment.X; sorted, so that the text is stable. */
static bool
add_config_keys(GString *out, json_t *config, GError **error)
{
    static const struct {
        const char *prefix, *lxc;
    } prefixes[] = {
        {"linux.sysctl.", "lxc.sysctl."},
        {"limits.kernel.", "lxc.prlimit."},
    };
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        g_ptr_array_add(names, (gpointer) key);
    }
    g_ptr_array_sort(names, by_text);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i], *text = keys_get(config, name);
        for (size_t p = 0; text != NULL && p < G_N_ELEMENTS(prefixes); p++) {
            if (g_str_has_prefix(name, prefixes[p].prefix)) {
                g_autofree char *full =
                    g_strconcat(prefixes[p].lxc, name + strlen(prefixes[p].prefix), NULL);
                if (!add(out, full, text, error)) {
                    return false;
                }
            }
        }
        if (text != NULL && g_str_has_prefix(name, "environment.")) {
            g_autofree char *pair = g_strdup_printf("%s=%s", name + strlen("environment."), text);
            if (!add(out, "lxc.environment", pair, error)) {
                return false;
            }
        }
    }
    return true;
}

static bool
add_apparmor(GString *out, const LxcConf *conf, GError **error)
{
    const char *raw = keys_get(conf->config, "raw.apparmor");
    if (!conf->host.apparmor || raw == NULL) {
        return true;
    }
    g_auto(GStrv) lines = g_strsplit(raw, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_strstrip(*line);
        if (**line != '\0' && !add(out, "lxc.apparmor.raw", *line, error)) {
            return false;
        }
    }
    return true;
}

static const char *
arch_of(const char *architecture)
{
    for (size_t i = 0; i < G_N_ELEMENTS(architectures); i++) {
        if (g_strcmp0(architectures[i].lxd, architecture) == 0) {
            return architectures[i].lxc;
        }
    }
    return architecture;
}

static bool
add_own(GString *out, const LxcConf *conf, GError **error)
{
    g_autofree char *log = g_strdup_printf("%s/lxc.log", conf->log_dir);
    g_autofree char *console = g_strdup_printf("%s/console.log", conf->log_dir);
    g_autofree char *rootfs = g_strdup_printf("dir:%s", conf->rootfs);
    /* A reboot from inside is ours to do (devices must be made anew): the failing hook stops
     * liblxc from doing it, and the file tells us what was wanted. */
    g_autofree char *quoted = g_shell_quote(conf->run_dir);
    g_autofree char *hook = g_strdup_printf(
        "/bin/sh -c '[ \"$LXC_TARGET\" != reboot ] || { : > \"$0\"/reboot; exit 1; }' %s", quoted);
    g_autofree char *devlxd =
        conf->devlxd_dir != NULL
            ? g_strdup_printf("%s dev/lxd none bind,create=dir 0 0", conf->devlxd_dir)
            : NULL;
    bool ok =
        add(out, "lxc.log.file", log, error) && add(out, "lxc.console.logfile", console, error) &&
        add(out, "lxc.arch", arch_of(conf->architecture), error) &&
        add(out, "lxc.uts.name", conf->hostname, error) &&
        add(out, "lxc.hook.post-stop", hook, error) && add(out, "lxc.rootfs.path", rootfs, error);
    if (ok && conf->rootfs_idmapped) {
        ok = add(out, "lxc.rootfs.options", "idmap=container", error);
    }
    if (ok && conf->seccomp_path != NULL) {
        ok = add(out, "lxc.seccomp.profile", conf->seccomp_path, error);
    }
    if (ok && conf->notify_path != NULL) {
        g_autofree char *proxy = g_strconcat("unix:", conf->notify_path, NULL);
        g_autofree char *cookie = g_strdup_printf("%" G_GINT64_FORMAT, conf->id);
        ok = add(out, "lxc.seccomp.notify.proxy", proxy, error) &&
             add(out, "lxc.seccomp.notify.cookie", cookie, error);
    }
    return ok && (devlxd == NULL || add(out, "lxc.mount.entry", devlxd, error));
}

/* Hooks of the host's side; "start" is a program of the container's. */
static bool
add_raw(GString *out, const char *raw, GError **error)
{
    g_autoptr(GRegex) hook = g_regex_new("^(\\s*lxc\\.hook\\.(?!start\\s*=)[a-z-]+\\s*=\\s*)(?=/)",
                                         G_REGEX_MULTILINE | G_REGEX_CASELESS, 0, NULL);
    g_autofree char *text = g_regex_replace(hook, raw, -1, 0, "\\1" WITH_PATH, 0, NULL);
    if (!lxcconf_check_raw(raw, error)) {
        return false;
    }
    g_string_append_printf(out, "%s\n", text);
    return true;
}

char *
lxcconf_text(const LxcConf *conf, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (!add_own(out, conf, error) || !add_fixed(out, conditions(conf), conf->host.has, error) ||
        !add_config_keys(out, conf->config, error) || !add_apparmor(out, conf, error)) {
        return NULL;
    }
    add_idmap(out, conf->map);
    size_t i;
    json_t *item;
    bool net = false;
    json_array_foreach (conf->items, i, item) {
        const char *key = json_string_value(json_array_get(item, 0));
        const char *value = json_string_value(json_array_get(item, 1));
        net = net || g_str_has_prefix(key, "lxc.net.");
        if (!add(out, key, value, error)) {
            return NULL;
        }
    }
    if (!net) {
        g_string_append(out, "lxc.net.0.type = empty\n");
    }
    const char *raw = keys_get(conf->config, "raw.lxc");
    if (raw != NULL && !add_raw(out, raw, error)) {
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* ---- raw.lxc ---- */

/* lxc.net.N.ipv4.address and the like are the network keys that are left to users. */
static bool
net_key_allowed(const char *key)
{
    static const char *const suffixes[] = {"ipv4.gateway", "ipv4.address", "ipv6.gateway",
                                           "ipv6.address"};
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        if (g_str_has_suffix(key, suffixes[i])) {
            return true;
        }
    }
    return false;
}

/* liblxc tells of whole keys only, not of those that end with a name of the kernel's. */
static bool
known_to_liblxc(const char *key)
{
    static const char *const open_ended[] = {"lxc.cgroup.", "lxc.cgroup2.", "lxc.net.",
                                             "lxc.proc.",   "lxc.sysctl.",  "lxc.namespace."};
    for (size_t i = 0; i < G_N_ELEMENTS(open_ended); i++) {
        if (g_str_has_prefix(key, open_ended[i]) && key[strlen(open_ended[i])] != '\0') {
            return true;
        }
    }
    return lxc_config_item_is_supported(key);
}

bool
lxcconf_check_raw(const char *raw, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(raw, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_strstrip(*line);
        if (**line == '\0' || **line == '#') {
            continue;
        }
        char *equals = strchr(*line, '=');
        if (equals == NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid raw.lxc line: %s", *line);
        }
        g_autofree char *key = g_ascii_strdown(*line, equals - *line);
        g_strstrip(key);
        for (size_t i = 0; i < G_N_ELEMENTS(forbidden_raw); i++) {
            bool prefix = g_str_has_suffix(forbidden_raw[i], ".");
            if (prefix ? g_str_has_prefix(key, forbidden_raw[i])
                       : strcmp(key, forbidden_raw[i]) == 0) {
                return haw_fail(error, HAW_INVALID, "Setting %s is not allowed", key);
            }
        }
        if ((g_str_has_prefix(key, "lxc.net.") || g_str_has_prefix(key, "lxc.network.")) &&
            !net_key_allowed(key)) {
            return haw_fail(error, HAW_INVALID,
                            "Only interface-specific ipv4/ipv6 lxc.net.* keys are allowed");
        }
        if (!known_to_liblxc(key)) {
            return haw_fail(error, HAW_INVALID, "Failed to set raw.lxc: liblxc knows no key '%s'",
                            key);
        }
    }
    return true;
}
