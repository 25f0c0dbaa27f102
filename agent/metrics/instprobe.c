/* Counters of running containers: control groups, /proc/PID/net/dev and statfs(), no helper process.
 * P1  Everything of a container is read by its init's pid and control groups, which are copied here;
 *     the pidfd tells whether the pid is still that container's.
 * P2  Paths inside a container are its user's: they are opened within its root, following nothing out
 *     of it, and only asked for their size. Its file systems may not answer, so they are not asked for names:
 *     mount points are in the kernel's cache.
 * P3  A controller or file that this host has not leaves its samples out.
 * The sizes, names and sums are LXD's. Called by metrics_api.c, on a worker thread. */
#include "agent/metrics/instprobe.h"

#include "agent/inst/record.h"
#include "base/confine.h"
#include "base/fd.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FILE_MOST = 1024 * 1024 };

/* The sizes of huge pages that the host knows: "hugepages-2048kB" is "hugetlb.2MB.…" in a group. */
static const struct {
    guint64 bytes;
    const char *name;
} huge_sizes[] = {
    {64ull << 10, "64KB"}, {1ull << 20, "1MB"}, {2ull << 20, "2MB"}, {1ull << 30, "1GB"}};
enum { HUGE_SIZES = G_N_ELEMENTS(huge_sizes) };

struct HostProbe {
    guint64 memory;
    gint64 huge_pages[HUGE_SIZES]; /* -1: no such size */
    GHashTable *devices;           /* "8:0" → "sda" */
};

struct disk {
    char *path, *source;
};

struct InstProbe {
    pid_t pid;
    int pidfd; /* owns; -1: unknown */
    Cgroup *cgroup;
    char *project, *labels;
    GArray *disks; /* struct disk, owns its texts */
};

/* ---- what to read ---- */

static gint64
count_huge_pages(guint64 bytes)
{
    g_autofree char *path = g_strdup_printf(
        "/sys/kernel/mm/hugepages/hugepages-%" G_GUINT64_FORMAT "kB/nr_hugepages", bytes / 1024);
    g_autofree char *pages = fd_read_file(path, FILE_MOST, NULL, NULL);
    return pages != NULL ? g_ascii_strtoll(pages, NULL, 10) : -1;
}

HostProbe *
hostprobe_new(void)
{
    struct sysinfo info = {0};
    HostProbe *host = g_new0(HostProbe, 1);
    sysinfo(&info);
    host->memory = (guint64) info.totalram * info.mem_unit;
    host->devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (int i = 0; i < HUGE_SIZES; i++) {
        host->huge_pages[i] = count_huge_pages(huge_sizes[i].bytes);
    }
    return host;
}

void
hostprobe_free(HostProbe *host)
{
    if (host != NULL) {
        g_hash_table_unref(host->devices);
        g_free(host);
    }
}

static void
disk_clear(gpointer data)
{
    struct disk *disk = data;
    g_free(disk->path);
    g_free(disk->source);
}

static bool
has_disk(const GArray *disks, const char *path)
{
    for (guint i = 0; i < disks->len; i++) {
        if (strcmp(g_array_index(disks, struct disk, i).path, path) == 0) {
            return true;
        }
    }
    return false;
}

static void
add_disks(InstProbe *probe, json_t *devices)
{
    const char *name;
    json_t *device;
    json_object_foreach (devices, name, device) {
        const char *path = keys_get(device, "path"), *source = keys_get(device, "source");
        if (g_strcmp0(keys_get(device, "type"), "disk") == 0 && path != NULL &&
            !has_disk(probe->disks, path)) {
            struct disk disk = {g_strdup(path), g_strdup(source != NULL ? source : "")};
            g_array_append_val(probe->disks, disk);
        }
    }
}

char *
instprobe_labels(Inst *inst)
{
    g_autofree char *name = exposition_label("name", inst_name(inst));
    g_autofree char *project = exposition_label("project", inst_project(inst));
    return g_strdup_printf("%s,%s,type=\"%s\"", name, project, inst_type(inst));
}

InstProbe *
instprobe_new(Inst *inst)
{
    pid_t pid = inst_pid(inst);
    if (pid == 0 || inst->cgroup == NULL) {
        return NULL;
    }
    InstProbe *probe = g_new0(InstProbe, 1);
    probe->pid = pid;
    probe->pidfd = inst->pidfd >= 0 ? fcntl(inst->pidfd, F_DUPFD_CLOEXEC, 3) : -1;
    probe->cgroup = cgroup_dup(inst->cgroup);
    probe->project = g_strdup(inst_project(inst));
    probe->labels = instprobe_labels(inst);
    probe->disks = g_array_new(FALSE, FALSE, sizeof(struct disk));
    g_array_set_clear_func(probe->disks, disk_clear);
    add_disks(probe, inst_expanded_devices(inst));
    return probe;
}

void
instprobe_free(InstProbe *probe)
{
    if (probe == NULL) {
        return;
    }
    fd_close(&probe->pidfd);
    cgroup_free(probe->cgroup);
    g_free(probe->project);
    g_free(probe->labels);
    g_array_unref(probe->disks);
    g_free(probe);
}

const char *
instprobe_project(const InstProbe *probe)
{
    return probe->project;
}

/* ---- lines ---- */

/* Cuts the next line off *text; NULL at its end. */
static char *
next_line(char **text)
{
    char *line = *text;
    if (line == NULL || *line == '\0') {
        return NULL;
    }
    char *end = strchr(line, '\n');
    if (end != NULL) {
        *end++ = '\0';
    }
    *text = end;
    return line;
}

static double
value_of(const char *text)
{
    return (double) g_ascii_strtoull(text, NULL, 10);
}

/* ---- memory ---- */

static const struct {
    const char *v1, *v2;
    MetricId id;
} memory_keys[] = {
    {"active_anon", "active_anon", METRIC_MEM_ACTIVE_ANON},
    {"active_file", "active_file", METRIC_MEM_ACTIVE_FILE},
    {"inactive_anon", "inactive_anon", METRIC_MEM_INACTIVE_ANON},
    {"inactive_file", "inactive_file", METRIC_MEM_INACTIVE_FILE},
    {"cache", "file", METRIC_MEM_CACHED},
    {"dirty", "file_dirty", METRIC_MEM_DIRTY},
    {"mapped_file", "file_mapped", METRIC_MEM_MAPPED},
    {"rss", "anon", METRIC_MEM_RSS},
    {"shmem", "shmem", METRIC_MEM_SHMEM},
    {"swap", NULL, METRIC_MEM_SWAP},
    {"unevictable", "unevictable", METRIC_MEM_UNEVICTABLE},
    {"writeback", "file_writeback", METRIC_MEM_WRITEBACK},
};
enum { MEMORY_KEYS = G_N_ELEMENTS(memory_keys) };

/* On v1 a group's own numbers leave out the groups below it, where systemd puts everything: those that
 * begin with "total_" do not. */
static void
read_memory_keys(const char *memory_stat, bool v1, double *ret_values)
{
    g_autofree char *copy = g_strdup(memory_stat);
    char *rest = copy, *line;
    while ((line = next_line(&rest)) != NULL) {
        char *space = strchr(line, ' ');
        const char *key = v1 && g_str_has_prefix(line, "total_") ? line + 6 : line;
        if (space == NULL || (v1 && key == line)) {
            continue;
        }
        *space = '\0';
        for (int i = 0; i < MEMORY_KEYS; i++) {
            if (g_strcmp0(v1 ? memory_keys[i].v1 : memory_keys[i].v2, key) == 0) {
                ret_values[i] = value_of(space + 1);
            }
        }
    }
}

void
instprobe_take_memory(const char *memory_stat, bool v1, const char *labels, guint64 total,
                      guint64 used, Exposition *samples)
{
    double values[MEMORY_KEYS], cached = 0, active = 0, inactive = 0;
    for (int i = 0; i < MEMORY_KEYS; i++) {
        values[i] = -1;
    }
    read_memory_keys(memory_stat, v1, values);
    for (int i = 0; i < MEMORY_KEYS; i++) {
        double value = MAX(values[i], 0);
        MetricId id = memory_keys[i].id;
        if (values[i] >= 0) {
            exposition_add(samples, id, labels, value);
        }
        cached += id == METRIC_MEM_CACHED ? value : 0;
        active += id == METRIC_MEM_ACTIVE_ANON || id == METRIC_MEM_ACTIVE_FILE ? value : 0;
        inactive += id == METRIC_MEM_INACTIVE_ANON || id == METRIC_MEM_INACTIVE_FILE ? value : 0;
    }
    double left = total > used ? (double) (total - used) : 0;
    exposition_add(samples, METRIC_MEM_ACTIVE, labels, active);
    exposition_add(samples, METRIC_MEM_INACTIVE, labels, inactive);
    exposition_add(samples, METRIC_MEM_TOTAL, labels, (double) total);
    exposition_add(samples, METRIC_MEM_FREE, labels, left);
    exposition_add(samples, METRIC_MEM_AVAILABLE, labels, MIN(left + cached, (double) total));
}

static void
read_memory(const InstProbe *probe, HostProbe *host, Exposition *samples)
{
    const Cgroup *group = probe->cgroup;
    bool v1 = cgroup_version(CG_MEMORY) == 1;
    g_autofree char *stat = cgroup_text(group, CG_MEMORY, "memory.stat");
    if (stat == NULL) {
        return; /* P3 */
    }
    gint64 limit = cgroup_number(group, CG_MEMORY, v1 ? "memory.limit_in_bytes" : "memory.max");
    gint64 used = cgroup_number(group, CG_MEMORY, v1 ? "memory.usage_in_bytes" : "memory.current");
    guint64 total = limit > 0 && (guint64) limit < host->memory ? (guint64) limit : host->memory;
    instprobe_take_memory(stat, v1, probe->labels, total, (guint64) MAX(used, 0), samples);
    if (!v1) {
        gint64 swap = cgroup_number(group, CG_MEMORY, "memory.swap.current");
        exposition_add(samples, METRIC_MEM_SWAP, probe->labels, (double) MAX(swap, 0));
    }
    gint64 kills =
        cgroup_keyed(group, CG_MEMORY, v1 ? "memory.oom_control" : "memory.events", "oom_kill");
    if (kills >= 0) {
        exposition_add(samples, METRIC_MEM_OOM_KILLS, probe->labels, (double) kills);
    }
}

/* Of a size that the host has no page of, a group can have none: nothing is read. */
static void
read_hugepages(const InstProbe *probe, const HostProbe *host, Exposition *samples)
{
    bool v1 = cgroup_version(CG_HUGETLB) == 1, any = false;
    double total = 0, left = 0;
    for (int i = 0; i < HUGE_SIZES && cgroup_dir(probe->cgroup, CG_HUGETLB) != NULL; i++) {
        g_autofree char *used_file =
            g_strdup_printf("hugetlb.%s.%s", huge_sizes[i].name, v1 ? "usage_in_bytes" : "current");
        g_autofree char *limit_file =
            g_strdup_printf("hugetlb.%s.%s", huge_sizes[i].name, v1 ? "limit_in_bytes" : "max");
        any = any || host->huge_pages[i] >= 0;
        if (host->huge_pages[i] <= 0) {
            continue;
        }
        gint64 used = cgroup_number(probe->cgroup, CG_HUGETLB, used_file);
        gint64 limit = cgroup_number(probe->cgroup, CG_HUGETLB, limit_file);
        double most = (double) host->huge_pages[i] * (double) huge_sizes[i].bytes;
        most = limit >= 0 ? MIN(most, (double) limit) : most;
        total += most;
        left += MAX(most - (double) MAX(used, 0), 0);
    }
    if (any) {
        exposition_add(samples, METRIC_MEM_HUGE_TOTAL, probe->labels, total);
        exposition_add(samples, METRIC_MEM_HUGE_FREE, probe->labels, left);
    }
}

/* ---- processors ---- */

static void
add_cpu(Exposition *samples, const char *cpu, const char *mode, const char *labels, double seconds)
{
    char own[64];
    g_snprintf(own, sizeof own, "cpu=\"%s\",mode=\"%s\"", cpu, mode);
    exposition_add_with(samples, METRIC_CPU_SECONDS, own, labels, seconds);
}

/* v1 has a line a processor, "0 USER SYSTEM" in nanoseconds; v2 the sums only, which LXD gives to
 * processor 0. */
void
instprobe_take_cpu(const char *text, bool v1, const char *labels, Exposition *samples)
{
    g_autofree char *copy = g_strdup(text);
    char *rest = copy, *line;
    while ((line = next_line(&rest)) != NULL) {
        char name[32];
        guint64 first, second;
        int fields =
            sscanf(line, "%31s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, name, &first, &second);
        if (v1 && fields == 3 && g_ascii_isdigit(name[0])) {
            add_cpu(samples, name, "user", labels, (double) first / 1e9);
            add_cpu(samples, name, "system", labels, (double) second / 1e9);
        } else if (!v1 && fields == 2 && strcmp(name, "user_usec") == 0) {
            add_cpu(samples, "0", "user", labels, (double) first / 1e6);
        } else if (!v1 && fields == 2 && strcmp(name, "system_usec") == 0) {
            add_cpu(samples, "0", "system", labels, (double) first / 1e6);
        }
    }
}

guint
instprobe_count_cpus(const char *list)
{
    guint count = 0;
    const char *at = list;
    while (g_ascii_isdigit(*at)) {
        char *end;
        guint64 first = g_ascii_strtoull(at, &end, 10), last = first;
        if (*end == '-') {
            last = g_ascii_strtoull(end + 1, &end, 10);
        }
        count += last >= first ? (guint) (last - first + 1) : 0;
        at = *end == ',' ? end + 1 : end;
    }
    return count;
}

static void
read_cpu(const InstProbe *probe, Exposition *samples)
{
    bool v1 = cgroup_version(CG_CPUACCT) == 1, set_v1 = cgroup_version(CG_CPUSET) == 1;
    g_autofree char *used =
        cgroup_text(probe->cgroup, CG_CPUACCT, v1 ? "cpuacct.usage_all" : "cpu.stat");
    g_autofree char *may = cgroup_text(probe->cgroup, CG_CPUSET,
                                       set_v1 ? "cpuset.effective_cpus" : "cpuset.cpus.effective");
    if (used != NULL) {
        instprobe_take_cpu(used, v1, probe->labels, samples);
    }
    if (may != NULL) {
        exposition_add(samples, METRIC_CPU_EFFECTIVE, probe->labels, instprobe_count_cpus(may));
    }
}

/* ---- disks ---- */

/* "254:0" → "vda", borrowed; the numbers themselves when the host has no such device any more. */
static const char *
device_name(HostProbe *host, const char *numbers)
{
    char *name = g_hash_table_lookup(host->devices, numbers);
    if (name == NULL) {
        g_autofree char *link = g_strdup_printf("/sys/dev/block/%s", numbers);
        g_autofree char *target = g_file_read_link(link, NULL);
        name = target != NULL ? g_path_get_basename(target) : g_strdup(numbers);
        g_hash_table_insert(host->devices, g_strdup(numbers), name);
    }
    return name;
}

static void
add_disk(Exposition *samples, MetricId id, const char *device, const char *labels, double value)
{
    g_autofree char *own = exposition_label("device", device);
    exposition_add_with(samples, id, own, labels, value);
}

/* "254:0 Read 4096" */
static void
read_blkio_v1(const InstProbe *probe, HostProbe *host, const char *file, MetricId reads,
              MetricId writes, Exposition *samples)
{
    g_autofree char *text = cgroup_text(probe->cgroup, CG_BLKIO, file);
    char *rest = text, *line;
    while ((line = next_line(&rest)) != NULL) {
        char numbers[32], what[16];
        guint64 value;
        if (sscanf(line, "%31s %15s %" G_GUINT64_FORMAT, numbers, what, &value) != 3) {
            continue;
        }
        if (strcmp(what, "Read") == 0 || strcmp(what, "Write") == 0) {
            add_disk(samples, *what == 'R' ? reads : writes, device_name(host, numbers),
                     probe->labels, (double) value);
        }
    }
}

/* "254:0 rbytes=4096 wbytes=0 rios=1 …" */
static void
read_io_v2(const InstProbe *probe, HostProbe *host, Exposition *samples)
{
    static const struct {
        const char *key;
        MetricId id;
    } keys[] = {{"rbytes=", METRIC_DISK_READ_BYTES},
                {"wbytes=", METRIC_DISK_WRITTEN_BYTES},
                {"rios=", METRIC_DISK_READS},
                {"wios=", METRIC_DISK_WRITES}};
    g_autofree char *text = cgroup_text(probe->cgroup, CG_BLKIO, "io.stat");
    char *rest = text, *line;
    while ((line = next_line(&rest)) != NULL) {
        g_auto(GStrv) words = g_strsplit(line, " ", -1);
        for (char **word = words; *word != NULL; word++) {
            for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                if (g_str_has_prefix(*word, keys[i].key)) {
                    add_disk(samples, keys[i].id, device_name(host, words[0]), probe->labels,
                             value_of(*word + strlen(keys[i].key)));
                }
            }
        }
    }
}

static void
read_disks(const InstProbe *probe, HostProbe *host, Exposition *samples)
{
    if (cgroup_version(CG_BLKIO) == 1) {
        read_blkio_v1(probe, host, "blkio.throttle.io_service_bytes_recursive",
                      METRIC_DISK_READ_BYTES, METRIC_DISK_WRITTEN_BYTES, samples);
        read_blkio_v1(probe, host, "blkio.throttle.io_serviced_recursive", METRIC_DISK_READS,
                      METRIC_DISK_WRITES, samples);
    } else {
        read_io_v2(probe, host, samples);
    }
}

static const char *
filesystem_name(guint64 magic, char *buffer, gsize size)
{
    static const struct {
        guint64 magic;
        const char *name;
    } known[] = {{EXT4_SUPER_MAGIC, "ext4"},
                 {BTRFS_SUPER_MAGIC, "btrfs"},
                 {XFS_SUPER_MAGIC, "xfs"},
                 {TMPFS_MAGIC, "tmpfs"},
                 {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
                 {FUSE_SUPER_MAGIC, "fuse"},
                 {NFS_SUPER_MAGIC, "nfs"},
                 {V9FS_MAGIC, "9p"},
                 {0x2fc12fc1, "zfs"},
                 {F2FS_SUPER_MAGIC, "f2fs"}};
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (known[i].magic == magic) {
            return known[i].name;
        }
    }
    g_snprintf(buffer, size, "0x%" G_GINT64_MODIFIER "x", magic);
    return buffer;
}

/* P2 */
static bool
size_of(int root, const char *path, struct statfs *ret)
{
    haw_autofd int fd = confine_cached(root, path, O_PATH);
    return fd >= 0 && fstatfs(fd, ret) == 0;
}

static void
read_filesystems(const InstProbe *probe, Exposition *samples)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/root", (int) probe->pid);
    haw_autofd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (guint i = 0; root >= 0 && i < probe->disks->len; i++) {
        const struct disk *disk = &g_array_index(probe->disks, struct disk, i);
        struct statfs fs;
        char number[24];
        if (!size_of(root, disk->path, &fs)) {
            continue;
        }
        g_autofree char *device = exposition_label("device", disk->source);
        g_autofree char *mountpoint = exposition_label("mountpoint", disk->path);
        g_autofree char *own = g_strdup_printf(
            "%s,fstype=\"%s\",%s", device,
            filesystem_name((guint32) fs.f_type, number, sizeof number), mountpoint);
        double block = (double) fs.f_bsize;
        exposition_add_with(samples, METRIC_FS_AVAIL, own, probe->labels,
                            (double) fs.f_bavail * block);
        exposition_add_with(samples, METRIC_FS_FREE, own, probe->labels,
                            (double) fs.f_bfree * block);
        exposition_add_with(samples, METRIC_FS_SIZE, own, probe->labels,
                            (double) fs.f_blocks * block);
    }
}

/* ---- network and processes ---- */

void
instprobe_take_network(const char *proc_net_dev, const char *labels, Exposition *samples)
{
    static const MetricId columns[16] = {
        [0] = METRIC_NET_RX_BYTES, [1] = METRIC_NET_RX_PACKETS, [2] = METRIC_NET_RX_ERRS,
        [3] = METRIC_NET_RX_DROP,  [8] = METRIC_NET_TX_BYTES,   [9] = METRIC_NET_TX_PACKETS,
        [10] = METRIC_NET_TX_ERRS, [11] = METRIC_NET_TX_DROP,
    };
    g_autofree char *copy = g_strdup(proc_net_dev);
    char *rest = copy, *line;
    while ((line = next_line(&rest)) != NULL) {
        char *colon = strrchr(line, ':'); /* a name may have colons itself, numbers have none */
        if (colon == NULL) {
            continue; /* the two lines of headings have none */
        }
        *colon = '\0';
        g_autofree char *own = exposition_label("device", g_strstrip(line));
        const char *at = colon + 1;
        for (int i = 0; i < 16; i++) {
            char *end;
            guint64 value = g_ascii_strtoull(at, &end, 10);
            if (end == at) {
                break;
            }
            at = end;
            if (i < 4 || (i >= 8 && i < 12)) {
                exposition_add_with(samples, columns[i], own, labels, (double) value);
            }
        }
    }
}

static void
read_rest(const InstProbe *probe, Exposition *samples)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/net/dev", (int) probe->pid);
    g_autofree char *network = fd_read_file(path, FILE_MOST, NULL, NULL);
    gint64 processes = cgroup_processes(probe->cgroup);
    if (network != NULL) {
        instprobe_take_network(network, probe->labels, samples);
    }
    if (processes >= 0) {
        exposition_add(samples, METRIC_PROCS, probe->labels, (double) processes);
    }
}

void
instprobe_read(const InstProbe *probe, HostProbe *host, Exposition *samples)
{
    if (probe->pidfd >= 0 && syscall(SYS_pidfd_send_signal, probe->pidfd, 0, NULL, 0) < 0) {
        return; /* P1 */
    }
    read_cpu(probe, samples);
    read_memory(probe, host, samples);
    read_hugepages(probe, host, samples);
    read_disks(probe, host, samples);
    read_filesystems(probe, samples);
    read_rest(probe, samples);
}
