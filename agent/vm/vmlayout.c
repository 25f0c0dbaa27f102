/* Where everything of a machine is. A guest's state fits only a machine with the same devices in the same
 * places, so places are chosen once, remembered while the VM runs, and handed on with its state.
 * Y1  A place belongs to a device's name until the device leaves.
 * Y2  The lowest free place is taken: a VM with the same devices in the same order is the same machine.
 * Called by vmboot.c, vmplug.c and vmstate.c. */
#include "agent/vm/vmlayout.h"

#include <string.h>

#include "agent/inst/limits.h"
#include "proto/keys.h"

enum { CPUS_MAX = 255 };

int
vmlayout_cpus(const char *limit)
{
    if (limit == NULL || *limit == '\0') {
        return 1;
    }
    if (strpbrk(limit, "-,") == NULL) {
        return (int) CLAMP(g_ascii_strtoll(limit, NULL, 10), 1, CPUS_MAX);
    }
    int count = 0;
    g_auto(GStrv) parts = g_strsplit(limit, ",", -1);
    for (char **part = parts; *part != NULL; part++) {
        char *end;
        gint64 first = g_ascii_strtoll(*part, &end, 10);
        gint64 last = *end == '-' ? g_ascii_strtoll(end + 1, NULL, 10) : first;
        count += last >= first ? (int) MIN(last - first + 1, CPUS_MAX) : 0;
    }
    return CLAMP(count, 1, CPUS_MAX);
}

static bool
take_memory(json_t *config, const VmlayoutHost *host, json_t *layout, GError **error)
{
    const char *limit = keys_get(config, "limits.memory");
    gint64 bytes = VMLAYOUT_MEMORY, page = 0;
    if (limit != NULL && !limits_memory_bytes(limit, host->host_memory, &bytes, error)) {
        return false;
    }
    if (keys_get_bool(config, "limits.memory.hugepages", false)) {
        page = host->hugepage_bytes;
        if (page == 0) {
            return haw_fail(error, HAW_UNSUPPORTED,
                            "limits.memory.hugepages: this server's kernel has no huge pages");
        }
    }
    gint64 unit = MAX(page, G_GINT64_CONSTANT(1) << 20);
    bytes = (bytes + unit - 1) / unit * unit;
    json_object_set_new(layout, "memory", json_integer(bytes));
    json_object_set_new(layout, "page_bytes", json_integer(page));
    return true;
}

static const char *
firmware_word_of(json_t *config)
{
    return keys_get_bool(config, "security.csm", false)         ? "bios"
           : keys_get_bool(config, "security.secureboot", true) ? "secure"
                                                                : "uefi";
}

json_t *
vmlayout_new(json_t *config, size_t devices, const VmlayoutHost *host, GError **error)
{
    json_t *layout = json_object();
    bool stateful = keys_get_bool(config, "migration.stateful", false);
    int cpus = vmlayout_cpus(keys_get(config, "limits.cpu"));
    if (!take_memory(config, host, layout, error)) {
        json_decref(layout);
        return NULL;
    }
    const char *cpu = strcmp(host->accel, "kvm") != 0 ? "max"
                      : stateful                      ? "host"
                                                      : "host,hv_passthrough";
    json_object_set_new(layout, "machine", json_string("q35"));
    json_object_set_new(layout, "accel", json_string(host->accel));
    json_object_set_new(layout, "cpu", json_string(cpu));
    json_object_set_new(layout, "cpus", json_integer(cpus));
    json_object_set_new(layout, "cpus_max",
                        json_integer(MAX(cpus, MIN(host->host_cpus, CPUS_MAX))));
    json_object_set_new(
        layout, "ports",
        json_integer((json_int_t) MIN(devices + VMLAYOUT_SPARE, VMLAYOUT_PORTS_MAX)));
    json_object_set_new(layout, "firmware", json_string(firmware_word_of(config)));
    json_object_set_new(layout, "vsock", json_boolean(host->vsock));
    json_object_set_new(layout, "devices", json_object());
    return layout;
}

static bool
in_bounds(json_t *layout, const char *key, gint64 low, gint64 high, GError **error)
{
    json_t *value = json_object_get(layout, key);
    return (json_is_integer(value) && json_integer_value(value) >= low &&
            json_integer_value(value) <= high) ||
           haw_fail(error, HAW_CORRUPT, "The machine's layout has no valid \"%s\"", key);
}

bool
vmlayout_check(json_t *layout, GError **error)
{
    static const char *const words[] = {"machine", "accel", "cpu", "firmware"};
    const char *name;
    json_t *device;
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        const char *word = json_string_value(json_object_get(layout, words[i]));
        if (word == NULL || *word == '\0' ||
            strspn(word, "abcdefghijklmnopqrstuvwxyz"
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789.-_,=+") != strlen(word)) {
            return haw_fail(error, HAW_CORRUPT, "The machine's layout has no valid \"%s\"",
                            words[i]);
        }
    }
    json_object_foreach (json_object_get(layout, "devices"), name, device) {
        int port = vmlayout_get(layout, name, "port"), scsi = vmlayout_get(layout, name, "scsi");
        if (!json_is_object(device) || port >= VMLAYOUT_PORTS_MAX || scsi >= VMLAYOUT_SCSI_MAX) {
            return haw_fail(error, HAW_CORRUPT, "The machine's layout has no valid place of \"%s\"",
                            name);
        }
    }
    return in_bounds(layout, "memory", 1 << 20, G_GINT64_CONSTANT(1) << 46, error) &&
           in_bounds(layout, "page_bytes", 0, G_GINT64_CONSTANT(1) << 34, error) &&
           in_bounds(layout, "cpus", 1, CPUS_MAX, error) &&
           in_bounds(layout, "cpus_max", json_integer_value(json_object_get(layout, "cpus")),
                     CPUS_MAX, error) &&
           in_bounds(layout, "ports", 1, VMLAYOUT_PORTS_MAX, error);
}

/* ---- places ---- */

int
vmlayout_get(json_t *layout, const char *device, const char *key)
{
    json_t *value =
        json_object_get(json_object_get(json_object_get(layout, "devices"), device), key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    return number >= 0 && number <= G_MAXINT ? (int) number : -1;
}

void
vmlayout_set(json_t *layout, const char *device, const char *key, int value)
{
    json_t *devices = json_object_get(layout, "devices");
    json_t *place = json_object_get(devices, device);
    if (place == NULL) {
        place = json_object();
        json_object_set_new(devices, device, place);
    }
    json_object_set_new(place, key, json_integer(value));
}

/* Y1, Y2 */
static int
place(json_t *layout, const char *device, const char *key, int count, GError **error)
{
    int known = vmlayout_get(layout, device, key);
    const char *other;
    json_t *value;
    g_autofree bool *taken = g_new0(bool, (gsize) count);
    if (known >= 0) {
        return known;
    }
    json_object_foreach (json_object_get(layout, "devices"), other, value) {
        int number = vmlayout_get(layout, other, key);
        if (number >= 0 && number < count) {
            taken[number] = true;
        }
    }
    for (int i = 0; i < count; i++) {
        if (!taken[i]) {
            vmlayout_set(layout, device, key, i);
            return i;
        }
    }
    haw_fail(error, HAW_LIMIT, "No free place for device \"%s\" is left in the machine", device);
    return -1;
}

int
vmlayout_port(json_t *layout, const char *device, GError **error)
{
    return place(layout, device, "port", (int) json_integer_value(json_object_get(layout, "ports")),
                 error);
}

int
vmlayout_scsi(json_t *layout, const char *device, GError **error)
{
    return place(layout, device, "scsi", VMLAYOUT_SCSI_MAX, error);
}

void
vmlayout_forget(json_t *layout, const char *device)
{
    json_object_del(json_object_get(layout, "devices"), device);
}
