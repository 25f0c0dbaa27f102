/* What a virtual machine says of itself, or what the host can see from outside: QEMU's CPU time, the size of
 * its memory, and the counters of its taps the other way round.
 * W1  A guest that does not answer costs its own part of the answer, nothing more.
 * Called through the driver. Main loop. */
#include "agent/vm/vmshow.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/net/network.h"
#include "agent/vm/vmrun.h"
#include "base/fd.h"
#include "proto/keys.h"

/* utime and stime of all threads, from /proc/PID/stat behind the name's bracket. */
static gint64
cpu_ns(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *text = fd_read_file(path, 4096, NULL, NULL);
    const char *at = text != NULL ? strrchr(text, ')') : NULL;
    g_auto(GStrv) fields = g_strsplit(at != NULL ? at + 2 : "", " ", 16);
    if (g_strv_length(fields) < 13) {
        return 0;
    }
    gint64 ticks = g_ascii_strtoll(fields[11], NULL, 10) + g_ascii_strtoll(fields[12], NULL, 10);
    return ticks * (G_GINT64_CONSTANT(1000000000) / sysconf(_SC_CLK_TCK));
}

static void
swap(json_t *counters, const char *a, const char *b)
{
    json_t *first = json_incref(json_object_get(counters, a));
    json_object_set(counters, a, json_object_get(counters, b));
    json_object_set_new(counters, b, first);
}

/* What the tap received, the guest sent. */
static json_t *
as_seen_inside(json_t *link, const char *mac, const char *host_name)
{
    json_t *entry = json_deep_copy(link), *counters = json_object_get(entry, "counters");
    swap(counters, "bytes_received", "bytes_sent");
    swap(counters, "packets_received", "packets_sent");
    swap(counters, "errors_received", "errors_sent");
    swap(counters, "packets_dropped_inbound", "packets_dropped_outbound");
    json_object_set_new(entry, "addresses", json_array());
    json_object_set_new(entry, "host_name", json_string(host_name));
    if (mac != NULL) {
        json_object_set_new(entry, "hwaddr", json_string(mac));
    }
    return entry;
}

/* Addresses by MAC, as the DHCP servers of our networks have given them: {mac: [entry, …]}. */
static void
take_leases(json_t *by_mac, json_t *leases)
{
    size_t i;
    json_t *lease;
    json_array_foreach (leases, i, lease) {
        const char *mac = keys_get(lease, "hwaddr"), *address = keys_get(lease, "address");
        if (mac == NULL || address == NULL) {
            continue;
        }
        bool six = strchr(address, ':') != NULL;
        json_t *list = json_object_get(by_mac, mac);
        if (list == NULL) {
            list = json_array();
            json_object_set_new(by_mac, mac, list);
        }
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:s,s:s}", "address", address, "family",
                            six ? "inet6" : "inet", "netmask",
                            keys_get(lease, "netmask") != NULL ? keys_get(lease, "netmask") : "",
                            "scope", "global"));
    }
}

static void
add_addresses(Inst *inst, json_t *device, json_t *entry)
{
    const char *network = keys_get(device, "network"), *parent = keys_get(device, "parent");
    json_t *leases = net_leases(inst->agent->networks, inst->project,
                                network != NULL  ? network
                                : parent != NULL ? parent
                                                 : "");
    json_t *by_mac = json_object();
    take_leases(by_mac, leases);
    json_t *own =
        json_object_get(by_mac, keys_get(entry, "hwaddr") != NULL ? keys_get(entry, "hwaddr") : "");
    if (own != NULL) {
        json_object_set(entry, "addresses", own);
    }
    json_decref(by_mac);
    json_decref(leases);
}

json_t *
vmshow_network(Inst *inst)
{
    json_t *links = net_state_of_pid(0, NULL), *network = json_object();
    json_t *devices = json_incref(inst->expanded_devices), *device;
    const char *name;
    json_object_foreach (devices, name, device) {
        json_t *own = record_volatile_of(inst->config, name);
        const char *host = keys_get(own, "host_name"), *mac = keys_get(device, "hwaddr");
        json_t *link = host != NULL ? json_object_get(links, host) : NULL;
        if (g_strcmp0(keys_get(device, "type"), "nic") == 0 && link != NULL) {
            mac = mac != NULL ? mac : keys_get(own, "hwaddr");
            json_t *entry = as_seen_inside(link, mac, host);
            add_addresses(inst, device, entry);
            json_object_set_new(network, name, entry);
        }
        json_decref(own);
    }
    json_decref(devices);
    json_decref(links);
    return network;
}

static json_t *
memory_from_outside(Inst *inst)
{
    gint64 total = inst->vm != NULL ? vm_memory_bytes(inst->vm) : 0;
    return json_pack("{s:i,s:i,s:I,s:i,s:i}", "swap_usage", 0, "swap_usage_peak", 0, "total",
                     (json_int_t) total, "usage", 0, "usage_peak", 0);
}

json_t *
vmshow_state(Inst *inst)
{
    g_autoptr(Inst) held = inst_ref(inst);
    const VmGuest *guest = vm_guest();
    bool runs = inst_pid(inst) != 0 && inst->vm != NULL;
    json_t *state =
        json_pack("{s:{s:I},s:I,s:i}", "cpu", "usage", (json_int_t) (runs ? cpu_ns(inst->pid) : 0),
                  "pid", (json_int_t) (runs ? inst->pid : 0), "processes", runs ? -1 : 0);
    json_object_set_new(state, "memory", memory_from_outside(inst));
    json_object_set_new(state, "network", json_null());
    bool asked = runs && guest->state != NULL && inst->state == INST_RUNNING &&
                 inst_get_bool(inst, "security.agent.metrics", true);
    json_t *inside = asked ? guest->state(inst->vm) : NULL; /* W1 */
    if (inside != NULL) {
        json_object_update(state, inside);
        json_decref(inside);
    } else if (runs && inst->vm != NULL) {
        json_object_set_new(state, "network", vmshow_network(inst));
    }
    return state;
}
