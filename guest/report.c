/* What this machine says of itself: "state" in the shape of LXD's REST, and the counters behind metrics.
 * A reply is a u32 of its size and JSON (as fileserve.c). What can't be read is left out.
 * Runs in the session's child (errand.c). */
#include "guest/errand.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <mntent.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "guest/jsonout.h"

#define REPORT_LINKS_MAX  4096
#define REPORT_MOUNTS_MAX 1024

/* ---- memory ---- */

struct memory {
    const char *name; /* in /proc/meminfo */
    const char *key;  /* in metrics */
    int64_t bytes;
};

static struct memory memory_all[] = {
    {"MemTotal", "total_bytes"},
    {"MemFree", "free_bytes"},
    {"MemAvailable", "available_bytes"},
    {"Cached", "cached_bytes"},
    {"SwapTotal", "swap_total_bytes"},
    {"SwapFree", "swap_free_bytes"},
    {"SwapCached", "swap_bytes"},
    {"Dirty", "dirty_bytes"},
    {"Writeback", "writeback_bytes"},
    {"Mapped", "mapped_bytes"},
    {"Shmem", "shmem_bytes"},
    {"Active", "active_bytes"},
    {"Inactive", "inactive_bytes"},
    {"Active(anon)", "active_anon_bytes"},
    {"Active(file)", "active_file_bytes"},
    {"Inactive(anon)", "inactive_anon_bytes"},
    {"Inactive(file)", "inactive_file_bytes"},
    {"Unevictable", "unevictable_bytes"},
    {"HugePages_Free", "hugepages_free_bytes"},
    {"HugePages_Total", "hugepages_total_bytes"},
};
enum { MEMORY_TOTAL, MEMORY_FREE, MEMORY_SWAP_TOTAL = 4, MEMORY_SWAP_FREE };

static void
memory_read(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    int64_t huge = 0;
    char line[256], name[64];
    long long value;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%63[^:]: %lld", name, &value) != 2) {
            continue;
        }
        huge = strcmp(name, "Hugepagesize") == 0 ? value * 1024 : huge;
        for (size_t i = 0; i < sizeof(memory_all) / sizeof(memory_all[0]); i++) {
            if (strcmp(memory_all[i].name, name) == 0) {
                memory_all[i].bytes = strncmp(name, "HugePages_", 10) == 0 ? value : value * 1024;
            }
        }
    }
    for (size_t i = 0; i < sizeof(memory_all) / sizeof(memory_all[0]); i++) {
        if (strncmp(memory_all[i].name, "HugePages_", 10) == 0) {
            memory_all[i].bytes *= huge; /* its size comes behind the counts */
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static void
state_memory(struct jsonout *out)
{
    memory_read();
    jsonout_open(out, "memory", '{');
    jsonout_number(out, "usage", memory_all[MEMORY_TOTAL].bytes - memory_all[MEMORY_FREE].bytes);
    jsonout_number(out, "usage_peak", 0);
    jsonout_number(out, "total", memory_all[MEMORY_TOTAL].bytes);
    jsonout_number(out, "swap_usage",
                   memory_all[MEMORY_SWAP_TOTAL].bytes - memory_all[MEMORY_SWAP_FREE].bytes);
    jsonout_number(out, "swap_usage_peak", 0);
    jsonout_close(out, '}');
}

/* ---- processes and processors ---- */

/* Kernel threads have no command line. */
static int64_t
processes(void)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    int64_t count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[64], byte;
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/%.20s/cmdline", entry->d_name);
        FILE *file = fopen(path, "re");
        count += file != NULL && fread(&byte, 1, 1, file) == 1;
        if (file != NULL) {
            fclose(file);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

enum { CPU_MODES = 8 };
static const char *const cpu_modes[CPU_MODES] = {"user",   "nice", "system",  "idle",
                                                 "iowait", "irq",  "softirq", "steal"};

/* The next "cpu…" line of /proc/stat; 'name' is "" for all together. */
static bool
cpu_line(FILE *file, char *name, unsigned long long modes[CPU_MODES])
{
    char line[512];

    if (fgets(line, sizeof(line), file) == NULL || strncmp(line, "cpu", 3) != 0) {
        return false;
    }
    name[0] = '\0';
    if (line[3] != ' ') {
        sscanf(line + 3, "%15s", name);
    }
    return sscanf(line + strcspn(line, " "), "%llu %llu %llu %llu %llu %llu %llu %llu", &modes[0],
                  &modes[1], &modes[2], &modes[3], &modes[4], &modes[5], &modes[6],
                  &modes[7]) == CPU_MODES;
}

static int64_t
cpu_usage_ns(void)
{
    FILE *file = fopen("/proc/stat", "re");
    unsigned long long modes[CPU_MODES] = {0};
    char name[16];
    int64_t ticks = 0;

    if (file != NULL && cpu_line(file, name, modes)) {
        for (int i = 0; i < CPU_MODES; i++) {
            ticks += i == 3 || i == 4 ? 0 : (int64_t) modes[i]; /* idle, iowait */
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return ticks * (1000000000LL / sysconf(_SC_CLK_TCK));
}

static void
metrics_cpu(struct jsonout *out)
{
    FILE *file = fopen("/proc/stat", "re");
    unsigned long long modes[CPU_MODES];
    double hz = (double) sysconf(_SC_CLK_TCK);
    char name[16];

    jsonout_open(out, "cpu", '[');
    while (file != NULL && cpu_line(file, name, modes)) {
        if (name[0] == '\0') {
            continue;
        }
        jsonout_open(out, NULL, '{');
        jsonout_text(out, "cpu", name);
        for (int i = 0; i < CPU_MODES; i++) {
            jsonout_real(out, cpu_modes[i], (double) modes[i] / hz);
        }
        jsonout_close(out, '}');
    }
    jsonout_close(out, ']');
    if (file != NULL) {
        fclose(file);
    }
}

/* ---- network ---- */

struct counters {
    char name[IFNAMSIZ];
    unsigned long long rx[4], tx[4]; /* bytes, packets, errors, dropped */
};

/* The line of an interface in /proc/net/dev. */
static bool
counters_of(const char *name, struct counters *counters)
{
    FILE *file = fopen("/proc/net/dev", "re");
    char line[512], *colon;
    bool found = false;

    *counters = (struct counters){0};
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        char *start = line + strspn(line, " ");
        if ((colon = strchr(start, ':')) == NULL) {
            continue;
        }
        *colon = '\0';
        found = strcmp(start, name) == 0 &&
                sscanf(colon + 1, "%llu %llu %llu %llu %*u %*u %*u %*u %llu %llu %llu %llu",
                       &counters->rx[0], &counters->rx[1], &counters->rx[2], &counters->rx[3],
                       &counters->tx[0], &counters->tx[1], &counters->tx[2], &counters->tx[3]) == 8;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

static int
prefix_of(const struct sockaddr *mask)
{
    const uint8_t *bytes;
    int prefix = 0, size;

    if (mask == NULL) {
        return 0;
    }
    bool four = mask->sa_family == AF_INET;
    bytes = four
                ? (const uint8_t *) &((const struct sockaddr_in *) (const void *) mask)->sin_addr
                : (const uint8_t *) &((const struct sockaddr_in6 *) (const void *) mask)->sin6_addr;
    size = four ? 4 : 16;
    for (int i = 0; i < size; i++) {
        prefix += __builtin_popcount(bytes[i]);
    }
    return prefix;
}

static void
put_address(struct jsonout *out, const struct ifaddrs *at)
{
    const struct sockaddr_in *four = (const void *) at->ifa_addr;
    const struct sockaddr_in6 *six = (const void *) at->ifa_addr;
    bool is_four = at->ifa_addr->sa_family == AF_INET;
    char text[INET6_ADDRSTRLEN], prefix[12];
    const char *scope = "global";

    inet_ntop(at->ifa_addr->sa_family,
              is_four ? (const void *) &four->sin_addr : (const void *) &six->sin6_addr, text,
              sizeof(text));
    snprintf(prefix, sizeof(prefix), "%d", prefix_of(at->ifa_netmask));
    if (is_four ? strncmp(text, "127.", 4) == 0 : strcmp(text, "::1") == 0) {
        scope = "local";
    } else if (is_four ? strncmp(text, "169.254.", 8) == 0
                       : IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) {
        scope = "link";
    }
    jsonout_open(out, NULL, '{');
    jsonout_text(out, "family", is_four ? "inet" : "inet6");
    jsonout_text(out, "address", text);
    jsonout_text(out, "netmask", prefix);
    jsonout_text(out, "scope", scope);
    jsonout_close(out, '}');
}

static int64_t
number_of(const char *name, const char *what)
{
    char path[128];
    long long value = 0;

    snprintf(path, sizeof(path), "/sys/class/net/%s/%s", name, what);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%lld", &value) != 1) {
            value = 0;
        }
        fclose(file);
    }
    return value;
}

static void
put_counters(struct jsonout *out, const char *name)
{
    static const char *const in[] = {"bytes_received", "packets_received", "errors_received",
                                     "packets_dropped_inbound"};
    static const char *const to[] = {"bytes_sent", "packets_sent", "errors_sent",
                                     "packets_dropped_outbound"};
    struct counters counters;

    counters_of(name, &counters);
    jsonout_open(out, "counters", '{');
    for (int i = 0; i < 4; i++) {
        jsonout_number(out, in[i], (int64_t) counters.rx[i]);
        jsonout_number(out, to[i], (int64_t) counters.tx[i]);
    }
    jsonout_close(out, '}');
}

static void
put_link(struct jsonout *out, const struct ifaddrs *all, const struct ifaddrs *link)
{
    const struct sockaddr_ll *hard = (const void *) link->ifa_addr;
    unsigned flags = link->ifa_flags;
    char mac[24] = "";

    if (hard->sll_halen == 6 && (flags & IFF_LOOPBACK) == 0) {
        const uint8_t *m = hard->sll_addr;
        snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                 m[5]);
    }
    jsonout_open(out, link->ifa_name, '{');
    jsonout_open(out, "addresses", '[');
    for (const struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
        int family = at->ifa_addr != NULL ? at->ifa_addr->sa_family : 0;
        if ((family == AF_INET || family == AF_INET6) &&
            strcmp(at->ifa_name, link->ifa_name) == 0) {
            put_address(out, at);
        }
    }
    jsonout_close(out, ']');
    put_counters(out, link->ifa_name);
    jsonout_text(out, "hwaddr", mac);
    jsonout_text(out, "host_name", "");
    jsonout_number(out, "mtu", number_of(link->ifa_name, "mtu"));
    jsonout_text(out, "state", (flags & IFF_UP) != 0 ? "up" : "down");
    jsonout_text(out, "type",
                 (flags & IFF_LOOPBACK) != 0      ? "loopback"
                 : (flags & IFF_POINTOPOINT) != 0 ? "point-to-point"
                 : (flags & IFF_BROADCAST) != 0   ? "broadcast"
                                                  : "unknown");
    jsonout_close(out, '}');
}

static void
state_network(struct jsonout *out)
{
    struct ifaddrs *all = NULL;
    int count = 0;

    jsonout_open(out, "network", '{');
    if (getifaddrs(&all) == 0) {
        for (const struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
            if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_PACKET &&
                count++ < REPORT_LINKS_MAX) {
                put_link(out, all, at);
            }
        }
        freeifaddrs(all);
    }
    jsonout_close(out, '}');
}

static void
metrics_network(struct jsonout *out)
{
    struct if_nameindex *names = if_nameindex();

    jsonout_open(out, "network", '[');
    for (size_t i = 0; names != NULL && names[i].if_index != 0; i++) {
        jsonout_open(out, NULL, '{');
        jsonout_text(out, "device", names[i].if_name);
        put_counters(out, names[i].if_name);
        jsonout_close(out, '}');
    }
    if (names != NULL) {
        if_freenameindex(names);
    }
    jsonout_close(out, ']');
}

/* ---- disks ---- */

static void
metrics_disks(struct jsonout *out)
{
    FILE *file = fopen("/proc/diskstats", "re");
    unsigned long long reads, read_sectors, writes, written_sectors;
    char line[512], name[64];

    jsonout_open(out, "disk", '[');
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%*u %*u %63s %llu %*u %llu %*u %llu %*u %llu", name, &reads,
                   &read_sectors, &writes, &written_sectors) != 5 ||
            strncmp(name, "loop", 4) == 0 || strncmp(name, "ram", 3) == 0) {
            continue;
        }
        jsonout_open(out, NULL, '{');
        jsonout_text(out, "device", name);
        jsonout_number(out, "reads_completed", (int64_t) reads);
        jsonout_number(out, "read_bytes", (int64_t) read_sectors * 512);
        jsonout_number(out, "writes_completed", (int64_t) writes);
        jsonout_number(out, "written_bytes", (int64_t) written_sectors * 512);
        jsonout_close(out, '}');
    }
    jsonout_close(out, ']');
    if (file != NULL) {
        fclose(file);
    }
}

static bool
counts(const struct mntent *mount)
{
    static const char *const kinds[] = {"ext2", "ext3", "ext4", "xfs",   "btrfs",
                                        "f2fs", "zfs",  "vfat", "exfat", "ntfs3"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i], mount->mnt_type) == 0) {
            return true;
        }
    }
    return strcmp(mount->mnt_dir, "/") == 0;
}

/* File systems on disks only: asking a network's or a share's could hang. */
static void
metrics_filesystems(struct jsonout *out)
{
    FILE *file = setmntent("/proc/self/mounts", "re");
    const struct mntent *mount;
    int count = 0;

    jsonout_open(out, "filesystem", '[');
    while (file != NULL && (mount = getmntent(file)) != NULL && count < REPORT_MOUNTS_MAX) {
        struct statvfs fs;
        if (!counts(mount) || statvfs(mount->mnt_dir, &fs) < 0) {
            continue;
        }
        count++;
        jsonout_open(out, NULL, '{');
        jsonout_text(out, "device", mount->mnt_fsname);
        jsonout_text(out, "mountpoint", mount->mnt_dir);
        jsonout_text(out, "fstype", mount->mnt_type);
        jsonout_number(out, "size_bytes", (int64_t) (fs.f_blocks * fs.f_frsize));
        jsonout_number(out, "free_bytes", (int64_t) (fs.f_bfree * fs.f_frsize));
        jsonout_number(out, "avail_bytes", (int64_t) (fs.f_bavail * fs.f_frsize));
        jsonout_close(out, '}');
    }
    jsonout_close(out, ']');
    if (file != NULL) {
        endmntent(file);
    }
}

static void
state_disk(struct jsonout *out)
{
    struct statvfs fs;

    jsonout_open(out, "disk", '{');
    if (statvfs("/", &fs) == 0) {
        jsonout_open(out, "root", '{');
        jsonout_number(out, "usage", (int64_t) ((fs.f_blocks - fs.f_bfree) * fs.f_frsize));
        jsonout_number(out, "total", (int64_t) (fs.f_blocks * fs.f_frsize));
        jsonout_close(out, '}');
    }
    jsonout_close(out, '}');
}

/* ---- replies ---- */

static int
send_reply(FILE *memory, char **text, size_t *size)
{
    uint8_t head[4];

    fclose(memory);
    guestwire_put_u32(head, (uint32_t) *size);
    bool ok = fwrite(head, 1, sizeof(head), stdout) == sizeof(head) &&
              fwrite(*text, 1, *size, stdout) == *size && fflush(stdout) == 0;
    free(*text);
    return ok ? 0 : 1;
}

int
report_state(const struct asked *asked)
{
    char *text = NULL;
    size_t size = 0;
    struct jsonout out = {.to = open_memstream(&text, &size)};

    if (out.to == NULL) {
        return 1;
    }
    jsonout_open(&out, NULL, '{');
    jsonout_open(&out, "cpu", '{');
    jsonout_number(&out, "usage", cpu_usage_ns());
    jsonout_close(&out, '}');
    state_disk(&out);
    state_memory(&out);
    state_network(&out);
    jsonout_number(&out, "processes", processes());
    jsonout_close(&out, '}');
    return send_reply(out.to, &text, &size);
}

int
report_metrics(const struct asked *asked)
{
    char *text = NULL;
    size_t size = 0;
    struct jsonout out = {.to = open_memstream(&text, &size)};

    if (out.to == NULL) {
        return 1;
    }
    jsonout_open(&out, NULL, '{');
    metrics_cpu(&out);
    metrics_disks(&out);
    metrics_filesystems(&out);
    memory_read();
    jsonout_open(&out, "memory", '{');
    for (size_t i = 0; i < sizeof(memory_all) / sizeof(memory_all[0]); i++) {
        jsonout_number(&out, memory_all[i].key, memory_all[i].bytes);
    }
    jsonout_close(&out, '}');
    metrics_network(&out);
    jsonout_number(&out, "procs_total", processes());
    jsonout_close(&out, '}');
    return send_reply(out.to, &text, &size);
}
