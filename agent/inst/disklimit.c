/* limits.read, limits.write and limits.max of disks: they go to the block device beneath, as the
 * kernel counts it, by liblxc's configuration for a start and by the cgroup's files while it runs.
 * D1  The kernel limits whole disks; a partition's number it refuses.
 * D2  On cgroup v1, Linux 6.10 and later count nothing on a disk that never had a limit. The disks of
 *     containers get one that limits nothing, or their metrics would have no disks.
 * Called by disk.c. Main loop. */
#include "agent/inst/disklimit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/inst/disksource.h"
#include "agent/inst/inject.h"
#include "base/fd.h"
#include "proto/grammar.h"

/* "30MB" (a second) or "200iops". */
static bool
parse_limit(const char *value, bool *ret_iops, gint64 *ret_number, GError **error)
{
    *ret_iops = g_str_has_suffix(value, "iops");
    if (*ret_iops) {
        g_autofree char *number = g_strndup(value, strlen(value) - strlen("iops"));
        char *end = NULL;
        *ret_number = g_ascii_strtoll(g_strstrip(number), &end, 10);
        return (number[0] != '\0' && *end == '\0' && *ret_number >= 0) ||
               haw_fail(error, HAW_INVALID, "Invalid value \"%s\" for a number of operations",
                        value);
    }
    return grammar_parse_size(value, ret_number, error);
}

bool
disklimit_check(const char *value, GError **error)
{
    bool iops;
    gint64 number;

    return parse_limit(value, &iops, &number, error);
}

/* D1 */
static void
whole_disk(dev_t device, unsigned *ret_major, unsigned *ret_minor)
{
    g_autofree char *partition =
        g_strdup_printf("/sys/dev/block/%u:%u/partition", major(device), minor(device));
    g_autofree char *disk =
        g_strdup_printf("/sys/dev/block/%u:%u/../dev", major(device), minor(device));
    g_autofree char *numbers = NULL;

    *ret_major = major(device);
    *ret_minor = minor(device);
    if (access(partition, F_OK) == 0) {
        numbers = fd_read_file(disk, 64, NULL, NULL);
        (void) !(numbers != NULL && sscanf(numbers, "%u:%u", ret_major, ret_minor) == 2);
    }
}

/* The disk that holds 'path': of btrfs and overlay, whose numbers are made up, the one that
 * /proc/self/mountinfo names. False when there is none (tmpfs). */
static bool
block_device_of(const char *path, unsigned *ret_major, unsigned *ret_minor)
{
    struct stat st;
    g_autofree char *text = NULL;
    g_autofree char *best = NULL;
    size_t best_size = 0;

    if (stat(path, &st) < 0) {
        return false;
    }
    if (major(st.st_dev) != 0) {
        whole_disk(st.st_dev, ret_major, ret_minor);
        return true;
    }
    text = fd_read_file("/proc/self/mountinfo", 16 * 1024 * 1024, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) f = g_strsplit(*line, " ", -1);
        char *tail = strstr(*line, " - ");
        if (g_strv_length(f) < 7 || tail == NULL) {
            continue;
        }
        size_t size = strlen(f[4]);
        bool below = strncmp(path, f[4], size) == 0 &&
                     (path[size] == '/' || path[size] == '\0' || size == 1);
        if (below && size >= best_size) {
            g_auto(GStrv) t = g_strsplit(tail + 3, " ", 3);
            g_free(best);
            best = g_strdup(t[0] != NULL && t[1] != NULL ? t[1] : "");
            best_size = size;
        }
    }
    if (best == NULL || stat(best, &st) < 0 || !S_ISBLK(st.st_mode)) {
        return false;
    }
    whole_disk(st.st_rdev, ret_major, ret_minor);
    return true;
}

/* D2; in the agent's own group, where a limit that somebody has set stays as it is. */
static void
count_accesses(const char *path)
{
    static const char file[] = "blkio.throttle.read_bps_device";
    unsigned major_no, minor_no;

    if (cgroup_version(CG_BLKIO) != 1 || !block_device_of(path, &major_no, &minor_no)) {
        return;
    }
    g_autoptr(Cgroup) own = cgroup_of_pid(getpid(), NULL);
    g_autofree char *limits = own != NULL ? cgroup_text(own, CG_BLKIO, file) : NULL;
    g_autofree char *known = g_strdup_printf("\n%u:%u ", major_no, minor_no);
    g_autofree char *lines = g_strconcat("\n", limits, NULL);
    if (limits != NULL && strstr(lines, known) == NULL) {
        g_autofree char *none = g_strdup_printf("%u:%u 0", major_no, minor_no);
        (void) cgroup_write(own, CG_BLKIO, file, none, NULL);
    }
}

typedef struct {
    const char *option, *v1_bytes, *v1_iops, *v2_bytes, *v2_iops;
} LimitRow;

static const LimitRow limit_rows[] = {
    {"limits.read", "blkio.throttle.read_bps_device", "blkio.throttle.read_iops_device", "rbps",
     "riops"},
    {"limits.write", "blkio.throttle.write_bps_device", "blkio.throttle.write_iops_device", "wbps",
     "wiops"},
};

typedef bool (*LimitFn)(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
                        GError **error);

/* Calls fn for each limit that is set; 'all' also for those that are not, with 0 ("max"). */
static bool
limits_each(const Device *device, const char *path, bool all, LimitFn fn, void *data,
            GError **error)
{
    const char *max = devtype_get(device, "limits.max");
    unsigned major_no = 0, minor_no = 0;
    bool known = false;

    for (size_t i = 0; i < G_N_ELEMENTS(limit_rows); i++) {
        const LimitRow *row = &limit_rows[i];
        const char *value = max != NULL ? max : devtype_get(device, row->option);
        bool iops = false;
        gint64 number = 0;
        if (value == NULL && !all) {
            continue;
        }
        if (value != NULL && !parse_limit(value, &iops, &number, error)) {
            return haw_push(error, "%s", row->option);
        }
        if (!known && !block_device_of(path, &major_no, &minor_no)) {
            return all && max == NULL && value == NULL
                       ? true
                       : haw_fail(error, HAW_UNSUPPORTED,
                                  "Block device doesn't support quotas: none lies under \"%s\"",
                                  path);
        }
        known = true;
        for (int kind = 0; kind < 2; kind++) {
            bool mine = value != NULL && (kind == 1) == iops;
            if (!mine && !all) {
                continue;
            }
            g_autofree char *v1 =
                g_strdup_printf("%u:%u %" G_GINT64_FORMAT, major_no, minor_no, mine ? number : 0);
            g_autofree char *amount =
                mine ? g_strdup_printf("%" G_GINT64_FORMAT, number) : g_strdup("max");
            g_autofree char *v2 = g_strdup_printf("%u:%u %s=%s", major_no, minor_no,
                                                  kind == 1 ? row->v2_iops : row->v2_bytes, amount);
            if (!fn(kind == 1 ? row->v1_iops : row->v1_bytes, v1, v2, data, error)) {
                return false;
            }
        }
    }
    return true;
}

static bool
one_to_lxc(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
           GError **error)
{
    if (cgroup_version(CG_BLKIO) == 1) {
        g_autofree char *key = g_strdup_printf("lxc.cgroup.%s", v1_file);
        devtype_lxc(data, key, "%s", v1_value);
    } else {
        devtype_lxc(data, "lxc.cgroup2.io.max", "%s", v2_value);
    }
    return true;
}

static bool
one_live(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
         GError **error)
{
    Inst *inst = data;

    return inject_cgroup(inst, CG_BLKIO, v1_file, "io.max",
                         cgroup_version(CG_BLKIO) == 1 ? v1_value : v2_value, error);
}

/* Where the device's bytes are: for limits. Caller frees. */
static char *
limits_path(Agent *agent, const Device *device)
{
    Vol vol;

    if (device_is_root(device)) {
        return inst_volume(device->inst, &vol, NULL) ? vol_path(agent->pools, &vol) : g_strdup("/");
    }
    if (disksource_is_custom(device)) {
        vol = disksource_volume(agent, inst_project(device->inst), device);
        return vol_path(agent->pools, &vol);
    }
    return g_strdup(devtype_get(device, "source"));
}

bool
disklimit_to_lxc(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    g_autofree char *path = limits_path(agent, device);

    count_accesses(path);
    return limits_each(device, path, false, one_to_lxc, lxc, error);
}

bool
disklimit_live(Agent *agent, const Device *device, bool all, GError **error)
{
    g_autofree char *path = limits_path(agent, device);

    count_accesses(path);
    return limits_each(device, path, all, one_live, device->inst, error);
}
