/* Resources: processors, by socket, core and thread, with their caches. */
#include "agent/api/resources.h"

#include "hw/sysfs.h"

#include <string.h>
#include <sys/utsname.h>

#define CPU_DIR "/sys/devices/system/cpu"

/* The value of the first "name : value" of /proc/cpuinfo; caller frees. */
static char *
cpuinfo(const char *text, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char *colon = strchr(*line, ':');
        if (colon == NULL) {
            continue;
        }
        *colon = '\0';
        if (strcmp(g_strstrip(*line), name) == 0) {
            return g_strdup(g_strstrip(colon + 1));
        }
    }
    return g_strdup("");
}

/* "32K" of a cache's size file, in bytes. */
static gint64
cache_bytes(const char *text)
{
    char *unit;
    gint64 value = g_ascii_strtoll(text, &unit, 10);
    return *unit == 'K' ? value * 1024 : *unit == 'M' ? value * 1024 * 1024 : value;
}

static json_t *
caches(gint64 cpu)
{
    g_auto(GStrv) names = sysfs_list(CPU_DIR "/cpu%" G_GINT64_FORMAT "/cache", cpu);
    json_t *list = json_array();
    for (char **name = names; *name != NULL; name++) {
        if (!g_str_has_prefix(*name, "index")) {
            continue;
        }
        g_autofree char *base =
            g_strdup_printf(CPU_DIR "/cpu%" G_GINT64_FORMAT "/cache/%s", cpu, *name);
        g_autofree char *type = sysfs_text("%s/type", base), *size = sysfs_text("%s/size", base);
        json_array_append_new(list, json_pack("{s:I,s:s,s:I}", "level",
                                              (json_int_t) sysfs_int(0, "%s/level", base), "type",
                                              type, "size", (json_int_t) cache_bytes(size)));
    }
    return list;
}

/* Is 'cpu' in a list such as "0-3,8"? */
static bool
listed(const char *list, gint64 cpu)
{
    g_auto(GStrv) chunks = g_strsplit(list, ",", -1);
    for (char **chunk = chunks; *chunk != NULL; chunk++) {
        char *dash = strchr(*chunk, '-');
        gint64 low = g_ascii_strtoll(*chunk, NULL, 10);
        gint64 high = dash != NULL ? g_ascii_strtoll(dash + 1, NULL, 10) : low;
        if (**chunk != '\0' && cpu >= low && cpu <= high) {
            return true;
        }
    }
    return false;
}

static gint64
numa_node(gint64 cpu)
{
    g_auto(GStrv) names = sysfs_list(CPU_DIR "/cpu%" G_GINT64_FORMAT, cpu);
    for (char **name = names; *name != NULL; name++) {
        if (g_str_has_prefix(*name, "node") && g_ascii_isdigit((*name)[4])) {
            return g_ascii_strtoll(*name + 4, NULL, 10);
        }
    }
    return 0;
}

/* The element of an array whose 'field' is 'number' (and, with 'field2', that one too), or NULL. */
static json_t *
with_number(json_t *list, const char *field, gint64 number, const char *field2, gint64 number2)
{
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        if (json_integer_value(json_object_get(item, field)) == number &&
            (field2 == NULL || json_integer_value(json_object_get(item, field2)) == number2)) {
            return item;
        }
    }
    return NULL;
}

/* cpufreq's kHz as MHz. */
static void
put_frequency(json_t *object, const char *field, gint64 cpu, const char *file)
{
    gint64 khz = sysfs_int(0, CPU_DIR "/cpu%" G_GINT64_FORMAT "/cpufreq/%s", cpu, file);
    if (khz > 0) {
        json_object_set_new(object, field, json_integer(khz / 1000));
    }
}

static json_t *
socket_of(json_t *sockets, gint64 cpu, const char *info)
{
    gint64 id =
        MAX(sysfs_int(0, CPU_DIR "/cpu%" G_GINT64_FORMAT "/topology/physical_package_id", cpu), 0);
    json_t *socket = with_number(sockets, "socket", id, NULL, 0);
    if (socket != NULL) {
        return socket;
    }
    g_autofree char *name = cpuinfo(info, "model name"), *vendor = cpuinfo(info, "vendor_id");
    socket = json_pack("{s:s,s:s,s:I,s:o,s:[]}", "name", name, "vendor", vendor, "socket",
                       (json_int_t) id, "cache", caches(cpu), "cores");
    put_frequency(socket, "frequency", cpu, "scaling_cur_freq");
    put_frequency(socket, "frequency_minimum", cpu, "cpuinfo_min_freq");
    put_frequency(socket, "frequency_turbo", cpu, "cpuinfo_max_freq");
    json_array_append_new(sockets, socket);
    return socket;
}

static void
add_thread(json_t *sockets, gint64 cpu, const char *isolated, const char *info)
{
    json_t *cores = json_object_get(socket_of(sockets, cpu, info), "cores");
    gint64 id = sysfs_int(0, CPU_DIR "/cpu%" G_GINT64_FORMAT "/topology/core_id", cpu);
    gint64 die = MAX(sysfs_int(0, CPU_DIR "/cpu%" G_GINT64_FORMAT "/topology/die_id", cpu), 0);
    json_t *core = with_number(cores, "core", id, "die", die);

    if (core == NULL) {
        core = json_pack("{s:I,s:I,s:[]}", "core", (json_int_t) id, "die", (json_int_t) die,
                         "threads");
        put_frequency(core, "frequency", cpu, "scaling_cur_freq");
        json_array_append_new(cores, core);
    }
    json_t *threads = json_object_get(core, "threads");
    bool online = sysfs_int(1, CPU_DIR "/cpu%" G_GINT64_FORMAT "/online", cpu) != 0;
    json_array_append_new(threads, json_pack("{s:I,s:I,s:I,s:b,s:b}", "id", (json_int_t) cpu,
                                             "numa_node", (json_int_t) numa_node(cpu), "thread",
                                             (json_int_t) json_array_size(threads), "online",
                                             online, "isolated", listed(isolated, cpu)));
}

json_t *
resources_cpu(void)
{
    struct utsname host;
    g_auto(GStrv) names = sysfs_list(CPU_DIR);
    g_autofree char *isolated = sysfs_text(CPU_DIR "/isolated");
    g_autofree char *info = sysfs_text("/proc/cpuinfo");
    json_t *sockets = json_array();
    gint64 total = 0;

    for (char **name = names; *name != NULL; name++) {
        if (g_str_has_prefix(*name, "cpu") && g_ascii_isdigit((*name)[3])) {
            add_thread(sockets, g_ascii_strtoll(*name + 3, NULL, 10), isolated, info);
            total++;
        }
    }
    uname(&host);
    return json_pack("{s:s,s:o,s:I}", "architecture", host.machine, "sockets", sockets, "total",
                     (json_int_t) total);
}
