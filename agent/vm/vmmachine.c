/* The machine: q35 with everything that a guest can't do without and that can't be plugged; disks, NICs and
 * further CPUs come over QMP.
 * C1  Fixed devices have fixed PCI addresses on pcie.0, whatever else there is: 1 VGA, 2 SCSI, 3 serial
 *     bus, 4 balloon, 5 random numbers, 6 vsock, 7 USB; 8 to 15 are the guest agent's shares; 16 and up
 *     the ports that NICs are plugged into, eight a slot.
 * C2  Memory is a shared file, always: it can be streamed without QEMU.
 * C3  No network, no display, no default device that is not written here; QEMU is under seccomp.
 * C4  QEMU opens nothing by a path of the host's: files come as descriptors (vmuser.c U2).
 * Called by vmboot.c. */
#include "agent/vm/vmmachine.h"
#include "proto/guestwire.h"

#include <stdio.h>
#include <string.h>

static gint64
number(const VmMachine *spec, const char *key)
{
    return json_integer_value(json_object_get(spec->layout, key));
}

static const char *
word(const VmMachine *spec, const char *key)
{
    return json_string_value(json_object_get(spec->layout, key));
}

static void
add_options(const VmMachine *spec, VmArgs *args)
{
    g_autofree char *name = g_strdup_printf("guest=%s,debug-threads=on", spec->name);
    vmargs_plain(args, "-S", NULL);
    vmargs_plain(args, "-nodefaults", NULL);
    vmargs_plain(args, "-no-user-config", NULL);
    vmargs_plain(args, "-display", "none");
    vmargs_plain(args, "-name", name);
    vmargs_plain(args, "-uuid", spec->uuid);
    vmargs_plain(args, "-cpu", word(spec, "cpu"));
    vmargs_plain(
        args, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"); /* C3 */
    vmargs_plain(args, "-rtc", "base=utc");
    if (spec->incoming) {
        vmargs_plain(args, "-incoming", "defer");
    }
}

/* One node of the block layer, as the JSON that QMP would take. */
static void
add_flash(VmArgs *args, const char *node, int fd, bool read_only)
{
    g_autofree char *given = g_strdup_printf("fd=%d,set=%d", fd, fd);
    g_autofree char *path = g_strdup_printf("/dev/fdset/%d", fd);
    vmargs_plain(args, "-add-fd", given);
    json_t *flash =
        json_pack("{s:s,s:s,s:b,s:{s:s,s:s,s:s}}", "driver", "raw", "node-name", node, "read-only",
                  (int) read_only, "file", "driver", "file", "filename", path, "locking", "off");
    char *text = json_dumps(flash, JSON_COMPACT);
    vmargs_plain(args, "-blockdev", text);
    free(text);
    json_decref(flash);
}

static void
add_board(const VmMachine *spec, VmArgs *args)
{
    bool secure = g_strcmp0(word(spec, "firmware"), "secure") == 0;
    vmargs_add(args, "machine", NULL, "type", word(spec, "machine"), "accel", word(spec, "accel"),
               "memory-backend", "mem0", "usb", "off", "vmport", "off", "dump-guest-core", "off",
               "mem-merge", "off", "smm", secure ? "on" : NULL, NULL);
    if (spec->code_fd >= 0) {
        add_flash(args, "pflash0", spec->code_fd, true);
        add_flash(args, "pflash1", spec->nvram_fd, false);
        vmargs_set(args, "pflash0", "pflash0");
        vmargs_set(args, "pflash1", "pflash1");
    }
    if (spec->sev != NULL) {
        vmargs_set(args, "confidential-guest-support", "sev0");
    }
    if (secure) {
        vmargs_add(args, "global", NULL, "driver", "cfi.pflash01", "property", "secure", "value",
                   "on", NULL);
    }
}

/* C2 */
static void
add_memory(const VmMachine *spec, VmArgs *args)
{
    g_autofree char *size = g_strdup_printf("%" G_GINT64_FORMAT "M", number(spec, "memory") >> 20);
    g_autofree char *most = g_strdup_printf("%" G_GINT64_FORMAT, number(spec, "cpus_max"));
    vmargs_add(args, "memory", NULL, "size", size, NULL);
    vmargs_add(args, "smp-opts", NULL, "cpus", "1", "sockets", "1", "cores", most, "threads", "1",
               "maxcpus", most, NULL);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", spec->memory_fd);
    vmargs_add(args, "object", "mem0", "qom-type", "memory-backend-file", "mem-path", path, "size",
               size, "share", "on", "dump", "off", NULL);
    if (number(spec, "page_bytes") == 0) {
        vmargs_set(args, "align", "2M"); /* else no huge page of the tmpfs fits the mapping */
    }
}

static void
add_sev(const VmMachine *spec, VmArgs *args)
{
    if (spec->sev == NULL) {
        return;
    }
    vmargs_add(args, "object", "sev0", "qom-type", "sev-guest", NULL);
    const char *key;
    json_t *value;
    json_object_foreach (spec->sev, key, value) {
        if (json_is_integer(value)) {
            vmargs_set(args, key, "%" G_GINT64_FORMAT, (gint64) json_integer_value(value));
        } else {
            vmargs_set(args, key, "%s", json_string_value(value));
        }
    }
}

static void
add_socket(VmArgs *args, const char *id, int fd, bool server)
{
    g_autofree char *text = g_strdup_printf("%d", fd);
    vmargs_add(args, "chardev", id, "backend", "socket", "fd", text, "server", server ? "on" : NULL,
               "wait", server ? "off" : NULL, NULL);
}

static void
add_channels(const VmMachine *spec, VmArgs *args)
{
    add_socket(args, "qmp", spec->qmp_fd, true);
    vmargs_add(args, "mon", NULL, "chardev", "qmp", "mode", "control", NULL);
    vmargs_add(args, "chardev", "console", "backend", "ringbuf", "size", "1048576", NULL);
    vmargs_plain(args, "-serial", "chardev:console");
    add_socket(args, "guest", spec->guest_fd, true);
    vmargs_add(args, "device", "serial", "driver", "virtio-serial-pci", "bus", "pcie.0", "addr",
               "3", NULL);
    vmargs_add(args, "device", "guest-port", "driver", "virtserialport", "bus", "serial.0", "nr",
               "1", "chardev", "guest", "name", GUESTWIRE_PORT, NULL);
}

static void
add_display(const VmMachine *spec, VmArgs *args)
{
    vmargs_add(args, "device", "vga", "driver", "virtio-vga", "bus", "pcie.0", "addr", "1", NULL);
    vmargs_add(args, "device", "usb", "driver", "qemu-xhci", "bus", "pcie.0", "addr", "7", NULL);
    vmargs_add(args, "device", "tablet", "driver", "usb-tablet", "bus", "usb.0", NULL);
    if (spec->spice) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/spice", spec->own_dir_fd);
        vmargs_add(args, "spice", NULL, "unix", "on", "addr", path, "disable-ticketing", "on",
                   "seamless-migration", "on", NULL);
    }
}

static void
add_fixed(const VmMachine *spec, VmArgs *args)
{
    vmargs_add(args, "device", "scsi", "driver", "virtio-scsi-pci", "bus", "pcie.0", "addr", "2",
               NULL);
    vmargs_add(args, "device", "balloon", "driver", "virtio-balloon-pci", "bus", "pcie.0", "addr",
               "4", NULL);
    vmargs_add(args, "object", "random", "qom-type", "rng-builtin", NULL);
    vmargs_add(args, "device", "rng", "driver", "virtio-rng-pci", "bus", "pcie.0", "addr", "5",
               "rng", "random", NULL);
    vmargs_add(args, "device", "generation", "driver", "vmgenid", "guid", spec->generation, NULL);
    if (json_is_true(json_object_get(spec->layout, "vsock"))) {
        vmargs_add(args, "device", "vsock", "driver", "vhost-vsock-pci", "bus", "pcie.0", "addr",
                   "6", NULL);
        vmargs_set(args, "guest-cid", "%" G_GINT64_FORMAT, spec->vsock_cid);
        vmargs_set(args, "vhostfd", "%d", spec->vsock_fd);
    }
    if (spec->tpm_fd >= 0) {
        add_socket(args, "tpm-socket", spec->tpm_fd, false);
        vmargs_add(args, "tpmdev", "tpm0", "type", "emulator", "chardev", "tpm-socket", NULL);
        vmargs_add(args, "device", "tpm", "driver", "tpm-crb", "tpmdev", "tpm0", NULL);
    }
}

/* C1: where devices are plugged. */
static void
add_ports(const VmMachine *spec, VmArgs *args)
{
    for (int i = 0; i < (int) number(spec, "ports"); i++) {
        g_autofree char *id = g_strdup_printf("port%d", i);
        g_autofree char *addr = g_strdup_printf("%x.%d", 16 + i / 8, i % 8);
        g_autofree char *chassis = g_strdup_printf("%d", i + 1);
        vmargs_add(args, "device", id, "driver", "pcie-root-port", "bus", "pcie.0", "addr", addr,
                   "chassis", chassis, "multifunction", i % 8 == 0 ? "on" : NULL, NULL);
    }
}

VmArgs *
vmmachine_args(const VmMachine *spec, GError **error)
{
    g_autoptr(VmArgs) args = vmargs_new();
    add_options(spec, args);
    add_board(spec, args);
    add_memory(spec, args);
    add_sev(spec, args);
    add_channels(spec, args);
    add_fixed(spec, args);
    add_display(spec, args);
    add_ports(spec, args);
    if (spec->overrides != NULL && !vmargs_override(args, spec->overrides, error)) {
        return NULL;
    }
    return g_steal_pointer(&args);
}
