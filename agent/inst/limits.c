/* Limits of containers: from keys to control group files.
 * L1  One function turns a config into a list of (controller, file, value); the start writes it
 *     through liblxc before init runs, a live change writes the same list directly.
 * L2  A key that is unset has a value too (the kernel's default), so that removing a limit works.
 * L3  A live change that the kernel refuses is rolled back before the error is returned.
 * L4  What the host lacks (a controller, a file) is left out, as LXD does.
 * Called by start.c and change.c; main loop. */
#include "agent/inst/limits.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#define V1_UNLIMITED "-1"
#define SHARES_V1    1024
#define SHARES_V2    100
#define CPU_MAX      1024

struct limit {
    CgController controller;
    const char *file; /* literal or interned */
    char *value;
    bool late; /* only once it runs, and only if the file is there */
};

static void
limit_clear(void *data)
{
    g_free(((struct limit *) data)->value);
}

static void
add(GArray *list, CgController controller, const char *file, bool late, char *value /* taken */)
{
    struct limit limit = {controller, file, value, late};
    g_array_append_val(list, limit);
}

gint64
limits_host_memory(void)
{
    g_autofree char *text = fd_read_file("/proc/meminfo", 65536, NULL, NULL);
    gint64 kib = 0;
    const char *at = text != NULL ? strstr(text, "MemTotal:") : NULL;
    if (at != NULL) {
        kib = g_ascii_strtoll(at + 9, NULL, 10);
    }
    return kib * 1024;
}

bool
limits_memory_bytes(const char *value, gint64 total, gint64 *ret_bytes, GError **error)
{
    if (!g_str_has_suffix(value, "%")) {
        return grammar_parse_size(value, ret_bytes, error);
    }
    char *end;
    gint64 percent = g_ascii_strtoll(value, &end, 10);
    if (strcmp(end, "%") != 0 || percent <= 0) {
        return haw_fail(error, HAW_INVALID, "Invalid percentage \"%s\"", value);
    }
    *ret_bytes = total / 100 * percent;
    return true;
}

/* ---- one group of keys each ---- */

static bool
memory_limits(json_t *config, GArray *list, GError **error)
{
    const char *value = keys_get(config, "limits.memory");
    int version = cgroup_version(CG_MEMORY);
    bool soft = g_strcmp0(keys_get(config, "limits.memory.enforce"), "soft") == 0;
    bool swap = keys_get_bool(config, "limits.memory.swap", true);
    gint64 bytes = -1;
    if (version == 0) {
        return true; /* L4 */
    }
    if (value != NULL && !limits_memory_bytes(value, limits_host_memory(), &bytes, error)) {
        return false;
    }
    const char *none = version == 1 ? V1_UNLIMITED : "max";
    gint64 high = soft ? bytes : bytes / 10 * 9;
    add(list, CG_MEMORY, version == 1 ? "memory.limit_in_bytes" : "memory.max", false,
        bytes >= 0 && !soft ? g_strdup_printf("%" G_GINT64_FORMAT, bytes) : g_strdup(none));
    add(list, CG_MEMORY, version == 1 ? "memory.soft_limit_in_bytes" : "memory.high", false,
        bytes >= 0 ? g_strdup_printf("%" G_GINT64_FORMAT, high) : g_strdup(none));
    if (version == 2) {
        add(list, CG_MEMORY, "memory.swap.max", true, g_strdup(swap ? "max" : "0"));
        return true;
    }
    const char *priority = keys_get(config, "limits.memory.swap.priority");
    gint64 swappiness =
        swap ? 70 - (priority != NULL ? g_ascii_strtoll(priority, NULL, 10) : 10) : 0;
    add(list, CG_MEMORY, "memory.swappiness", true,
        g_strdup_printf("%" G_GINT64_FORMAT, swappiness));
    return true;
}

/* "25ms/100ms" */
static bool
parse_time_allowance(const char *value, gint64 *ret_quota, gint64 *ret_period)
{
    gint64 quota, period;
    char rest[2];
    if (sscanf(value, "%" G_GINT64_FORMAT "ms/%" G_GINT64_FORMAT "ms%1s", &quota, &period, rest) !=
            2 ||
        quota <= 0 || period <= 0) {
        return false;
    }
    *ret_quota = quota * 1000;
    *ret_period = period * 1000;
    return true;
}

static bool
cpu_limits(json_t *config, GArray *list, GError **error)
{
    const char *allowance = keys_get(config, "limits.cpu.allowance");
    const char *priority = keys_get(config, "limits.cpu.priority");
    int version = cgroup_version(CG_CPU);
    gint64 quota = -1, period = 100000, percent = 100;
    if (version == 0) {
        return true;
    }
    if (allowance != NULL && g_str_has_suffix(allowance, "%")) {
        percent = g_ascii_strtoll(allowance, NULL, 10);
    } else if (allowance != NULL && !parse_time_allowance(allowance, &quota, &period)) {
        return haw_fail(error, HAW_INVALID, "Invalid limits.cpu.allowance \"%s\"", allowance);
    }
    gint64 base = version == 1 ? SHARES_V1 : SHARES_V2;
    gint64 shares = percent * base / 100;
    if (priority != NULL) {
        shares -= 10 - g_ascii_strtoll(priority, NULL, 10);
    }
    shares = CLAMP(shares, version == 1 ? 2 : 1, version == 1 ? 262144 : 10000);
    add(list, CG_CPU, version == 1 ? "cpu.shares" : "cpu.weight", false,
        g_strdup_printf("%" G_GINT64_FORMAT, shares));
    if (version == 2) {
        add(list, CG_CPU, "cpu.max", false,
            quota > 0 ? g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, quota, period)
                      : g_strdup("max 100000"));
        return true;
    }
    add(list, CG_CPU, "cpu.cfs_period_us", false, g_strdup_printf("%" G_GINT64_FORMAT, period));
    add(list, CG_CPU, "cpu.cfs_quota_us", false, g_strdup_printf("%" G_GINT64_FORMAT, quota));
    return true;
}

static bool
hugepage_limits(json_t *config, GArray *list, GError **error)
{
    static const struct {
        const char *key, *v1, *v2;
    } sizes[] = {
        {"limits.hugepages.64KB", "hugetlb.64KB.limit_in_bytes", "hugetlb.64KB.max"},
        {"limits.hugepages.1MB", "hugetlb.1MB.limit_in_bytes", "hugetlb.1MB.max"},
        {"limits.hugepages.2MB", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"},
        {"limits.hugepages.1GB", "hugetlb.1GB.limit_in_bytes", "hugetlb.1GB.max"},
    };
    int version = cgroup_version(CG_HUGETLB);
    for (size_t i = 0; version != 0 && i < G_N_ELEMENTS(sizes); i++) {
        const char *value = keys_get(config, sizes[i].key);
        gint64 bytes = -1;
        if (value != NULL && !grammar_parse_size(value, &bytes, error)) {
            return false;
        }
        add(list, CG_HUGETLB, version == 1 ? sizes[i].v1 : sizes[i].v2, value == NULL,
            value != NULL ? g_strdup_printf("%" G_GINT64_FORMAT, bytes)
                          : g_strdup(version == 1 ? V1_UNLIMITED : "max"));
    }
    return true;
}

static void
other_limits(json_t *config, GArray *list)
{
    const char *processes = keys_get(config, "limits.processes");
    const char *disk = keys_get(config, "limits.disk.priority");
    if (cgroup_version(CG_PIDS) != 0) {
        add(list, CG_PIDS, "pids.max", false, g_strdup(processes != NULL ? processes : "max"));
    }
    if (cgroup_version(CG_BLKIO) != 0) {
        gint64 priority = disk != NULL ? g_ascii_strtoll(disk, NULL, 10) : 5;
        gint64 weight = priority == 0 ? 10 : priority * 100;
        bool v1 = cgroup_version(CG_BLKIO) == 1;
        add(list, CG_BLKIO, v1 ? "blkio.weight" : "io.weight", true,
            g_strdup_printf("%" G_GINT64_FORMAT, weight));
        add(list, CG_BLKIO, v1 ? "blkio.bfq.weight" : "io.bfq.weight", true,
            g_strdup_printf("%" G_GINT64_FORMAT, weight));
    }
}

/* L1 */
static GArray *
limits_of(json_t *config, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, TRUE, sizeof(struct limit));
    g_array_set_clear_func(list, limit_clear);
    if (!memory_limits(config, list, error) || !cpu_limits(config, list, error) ||
        !hugepage_limits(config, list, error)) {
        return NULL;
    }
    other_limits(config, list);
    return g_steal_pointer(&list);
}

/* ---- at the start ---- */

static void
add_item(json_t *items, CgController controller, const char *file, const char *value)
{
    g_autofree char *key =
        g_strdup_printf("lxc.cgroup%s.%s", cgroup_version(controller) == 2 ? "2" : "", file);
    json_array_append_new(items, json_pack("[s,s]", key, value));
}

bool
limits_conf_items(json_t *config, const char *cpus, json_t *items, GError **error)
{
    json_t *nothing = json_object();
    g_autoptr(GArray) list = limits_of(config, error), plain = limits_of(nothing, NULL);
    json_decref(nothing);
    if (list == NULL) {
        return false;
    }
    for (guint i = 0; i < list->len; i++) {
        const struct limit *limit = &g_array_index(list, struct limit, i);
        const struct limit *usual = &g_array_index(plain, struct limit, i);
        /* A new group has the kernel's defaults already. */
        if (!limit->late && strcmp(limit->value, usual->value) != 0) {
            add_item(items, limit->controller, limit->file, limit->value);
        }
    }
    if (cpus != NULL && cgroup_version(CG_CPUSET) != 0) {
        add_item(items, CG_CPUSET, "cpuset.cpus", cpus);
    }
    return true;
}

static void
network_priority(Inst *inst, json_t *config)
{
    const char *priority = keys_get(config, "limits.network.priority");
    g_autofree char *map = cgroup_text(inst->cgroup, CG_NET_PRIO, "net_prio.ifpriomap");
    g_auto(GStrv) lines = g_strsplit(map != NULL ? map : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char *space = strchr(*line, ' ');
        if (space != NULL) {
            *space = '\0';
            g_autofree char *text =
                g_strdup_printf("%s %s", *line, priority != NULL ? priority : "0");
            cgroup_write(inst->cgroup, CG_NET_PRIO, "net_prio.ifpriomap", text, NULL);
        }
    }
}

void
limits_post_start(Inst *inst)
{
    static const char *const late_keys[] = {"limits.disk.priority", "limits.memory.swap",
                                            "limits.memory.swap.priority"};
    bool any = false;
    for (size_t i = 0; i < G_N_ELEMENTS(late_keys); i++) {
        any = any || inst_get(inst, late_keys[i]) != NULL;
    }
    if (inst_get(inst, "limits.network.priority") != NULL) {
        network_priority(inst, inst->expanded_config);
    }
    g_autoptr(GArray) list = any ? limits_of(inst->expanded_config, NULL) : NULL;
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const struct limit *limit = &g_array_index(list, struct limit, i);
        if (limit->late && cgroup_has(inst->cgroup, limit->controller, limit->file)) {
            cgroup_write(inst->cgroup, limit->controller, limit->file, limit->value, NULL);
        }
    }
}

/* ---- live ---- */

static bool
write_limit(Inst *inst, const struct limit *limit, GError **error)
{
    if (limit->late && !cgroup_has(inst->cgroup, limit->controller, limit->file)) {
        return true; /* L4 */
    }
    return cgroup_write(inst->cgroup, limit->controller, limit->file, limit->value, error) ||
           limit->late;
}

static size_t host_cpus(int *ret_cpus);
static char *set_text(const bool *flags);

/* All CPUs again. */
static void
free_cpus(Inst *inst)
{
    int cpus[CPU_MAX];
    g_autofree bool *flags = g_new0(bool, CPU_MAX);
    size_t count = host_cpus(cpus);
    for (size_t i = 0; i < count; i++) {
        flags[cpus[i]] = true;
    }
    g_autofree char *text = set_text(flags);
    cgroup_write(inst->cgroup, CG_CPUSET, "cpuset.cpus", text, NULL);
}

bool
limits_change(Inst *inst, json_t *from, json_t *to, GError **error)
{
    g_autoptr(GArray) old = limits_of(from, NULL), new = limits_of(to, error);
    if (new == NULL) {
        return false;
    }
    for (guint i = 0; i < new->len; i++) {
        const struct limit *limit = &g_array_index(new, struct limit, i);
        const struct limit *before =
            old != NULL && i < old->len ? &g_array_index(old, struct limit, i) : NULL;
        if (before != NULL && strcmp(before->value, limit->value) == 0) {
            continue;
        }
        g_autoptr(GError) local = NULL;
        if (write_limit(inst, limit, limit->late ? NULL : &local)) {
            continue;
        }
        for (guint back = i; old != NULL && back > 0; back--) { /* L3 */
            write_limit(inst, &g_array_index(old, struct limit, back - 1), NULL);
        }
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "Failed to set %s: ", limit->file);
        return false;
    }
    if (g_strcmp0(keys_get(from, "limits.network.priority"),
                  keys_get(to, "limits.network.priority")) != 0) {
        network_priority(inst, to);
    }
    if (keys_get(from, "limits.cpu") != NULL && keys_get(to, "limits.cpu") == NULL) {
        free_cpus(inst);
    }
    return true;
}

/* ---- CPUs ---- */

/* "0-2,5" into flags; false when it is a plain count. */
static bool
parse_pinned(const char *want, bool *flags)
{
    if (strchr(want, '-') == NULL && strchr(want, ',') == NULL) {
        return false;
    }
    g_auto(GStrv) parts = g_strsplit(want, ",", -1);
    for (char **part = parts; *part != NULL; part++) {
        char *end;
        gint64 first = g_ascii_strtoll(*part, &end, 10);
        gint64 last = *end == '-' ? g_ascii_strtoll(end + 1, NULL, 10) : first;
        for (gint64 cpu = first; cpu >= 0 && cpu <= last && cpu < CPU_MAX; cpu++) {
            flags[cpu] = true;
        }
    }
    return true;
}

static char *
set_text(const bool *flags)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (int cpu = 0; cpu < CPU_MAX; cpu++) {
        if (flags[cpu]) {
            g_string_append_printf(text, "%s%d", text->len > 0 ? "," : "", cpu);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void
take_least_used(int wanted, const int *cpus, size_t cpu_count, int *load, bool *flags)
{
    for (int n = 0; n < wanted && n < (int) cpu_count; n++) {
        int best = -1;
        for (size_t i = 0; i < cpu_count; i++) {
            if (!flags[cpus[i]] && (best < 0 || load[cpus[i]] < load[best])) {
                best = cpus[i];
            }
        }
        flags[best] = true;
        load[best]++;
    }
}

GPtrArray *
limits_spread(const char *const *wants, size_t count, const int *cpus, size_t cpu_count)
{
    GPtrArray *sets = g_ptr_array_new_with_free_func(g_free);
    g_autofree int *load = g_new0(int, CPU_MAX);
    g_ptr_array_set_size(sets, (gint) count);
    for (int pass = 0; pass < 2; pass++) { /* pinned ones first: they have no choice */
        for (size_t i = 0; i < count; i++) {
            g_autofree bool *flags = g_new0(bool, CPU_MAX);
            bool pinned = wants[i] != NULL && parse_pinned(wants[i], flags);
            if (wants[i] == NULL || pinned != (pass == 0)) {
                continue;
            }
            bool any = false;
            for (size_t c = 0; pinned && c < cpu_count; c++) {
                any = any || flags[cpus[c]];
                load[cpus[c]] += flags[cpus[c]];
            }
            if (!pinned || !any) {
                memset(flags, 0, CPU_MAX * sizeof *flags);
                gint64 wanted = pinned ? (gint64) cpu_count : g_ascii_strtoll(wants[i], NULL, 10);
                take_least_used((int) MIN(wanted, CPU_MAX), cpus, cpu_count, load, flags);
            }
            for (int cpu = 0; pinned && any && cpu < CPU_MAX; cpu++) {
                bool online = false;
                for (size_t c = 0; c < cpu_count; c++) {
                    online = online || cpus[c] == cpu;
                }
                flags[cpu] = flags[cpu] && online;
            }
            sets->pdata[i] = set_text(flags);
        }
    }
    return sets;
}

static size_t
host_cpus(int *ret_cpus)
{
    cpu_set_t set;
    size_t count = 0;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu < CPU_MAX; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            ret_cpus[count++] = cpu;
        }
    }
    return count;
}

char *
limits_balance(InstTable *table, Inst *starting)
{
    g_autoptr(GPtrArray) who = g_ptr_array_new(), wants = g_ptr_array_new();
    GHashTableIter iter;
    Inst *inst;
    g_hash_table_iter_init(&iter, table->by_key);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &inst)) {
        const char *want = inst_get(inst, "limits.cpu");
        if (want != NULL && (inst == starting || inst->cgroup != NULL)) {
            g_ptr_array_add(who, inst);
            g_ptr_array_add(wants, (gpointer) want);
        }
    }
    if (who->len == 0 || cgroup_version(CG_CPUSET) == 0) {
        return NULL;
    }
    int cpus[CPU_MAX];
    size_t cpu_count = host_cpus(cpus);
    g_autoptr(GPtrArray) sets =
        limits_spread((const char *const *) wants->pdata, wants->len, cpus, cpu_count);
    char *own = NULL;
    for (guint i = 0; i < who->len; i++) {
        inst = who->pdata[i];
        if (inst == starting) {
            own = g_strdup(sets->pdata[i]);
        }
        if (inst->cgroup != NULL) {
            cgroup_write(inst->cgroup, CG_CPUSET, "cpuset.cpus", sets->pdata[i], NULL);
        }
    }
    return own;
}
