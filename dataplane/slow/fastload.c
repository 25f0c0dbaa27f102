/* Loading the fast path, and binding ports to it.
 * L1  Maps are pinned before the first program is attached, so that a daemon that dies half way is
 *     followed by one that finds all or starts anew.
 * L2  Maps of another layout are not adopted (fastpins.c): ports are bound anew, and flows learned again.
 * L3  A port's slot is filled before its interface points to it, and emptied after it no longer does; a
 *     zone that a port left or joined is bumped, so no flow outlives the slot that it names.
 * L4  Generations are never reused: each is one more than the highest that is in the config.
 * Called by the daemon's ports (slow/fastport.c) and by tests. Not here: attaching programs (fastattach.c),
 * ageing and export (fastage.c). */
#include "dataplane/slow/fastload.h"

#include "bpf/fastpath.skel.h"
#include "dataplane/slow/fastattach.h"
#include "dataplane/slow/fastpins.h"
#include "dataplane/slow/fastprobe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXPIRE_NS (2 * G_GUINT64_CONSTANT(1000000000))
#define RENEW_NS  (1 * G_GUINT64_CONSTANT(1000000000))
#define RETRY_NS  (200 * G_GUINT64_CONSTANT(1000000))
#define PEND_NS   (200 * G_GUINT64_CONSTANT(1000000))

struct FastLoad {
    struct fastpath *skeleton;
    char *pin_dir;
    volatile struct layout_config *config; /* mapped */
    const struct layout_permit *permits;   /* mapped */
    guint32 permit_count;                  /* a power of two */
    struct layout_nic *nics;               /* owned: haw_nics as we wrote it, its only writer */
};

static int
quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    return 0;
}

/* ---- open ---- */

static size_t
pages(size_t bytes)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) & ~(page - 1);
}

static void *
map_memory(const struct bpf_map *map, size_t bytes, int protection, GError **error)
{
    void *memory = mmap(NULL, pages(bytes), protection, MAP_SHARED, bpf_map__fd(map), 0);
    if (memory == MAP_FAILED) {
        haw_fail_errno(error, errno, "Map '%s' of the fast path", bpf_map__name(map));
        return NULL;
    }
    return memory;
}

static bool
map_all(FastLoad *load, GError **error)
{
    load->config = map_memory(load->skeleton->maps.haw_config, sizeof *load->config,
                              PROT_READ | PROT_WRITE, error);
    if (load->config == NULL) {
        return false;
    }
    load->permits = map_memory(load->skeleton->maps.haw_permit,
                               load->permit_count * sizeof *load->permits, PROT_READ, error);
    return load->permits != NULL;
}

static void
fill_config(FastLoad *load)
{
    if (load->config->version != LAYOUT_VERSION) {
        load->config->off = 0;
        load->config->expire_ns = EXPIRE_NS;
        load->config->renew_ns = RENEW_NS;
        load->config->retry_ns = RETRY_NS;
        load->config->pend_ns = PEND_NS;
        load->config->version = LAYOUT_VERSION; /* last: from now on it is adopted */
    }
}

/* Two slots a flow, so that two of three neighbours seldom have to share. */
static guint32
permits_for(guint flows)
{
    guint32 count = 2;
    while (count < flows * 2) {
        count *= 2;
    }
    return count;
}

static bool
prepare_maps(FastLoad *load, guint flows, GError **error)
{
    bpf_map__set_max_entries(load->skeleton->maps.haw_flow4, flows);
    bpf_map__set_max_entries(load->skeleton->maps.haw_flow6, flows);
    bpf_map__set_max_entries(load->skeleton->maps.haw_permit, permits_for(flows));
    if (!fastpins_adopt(load->pin_dir, load->skeleton->obj, error)) {
        return false;
    }
    struct timespec tick;
    clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
    load->skeleton->rodata->tick_ns = (guint32) tick.tv_nsec;
    load->permit_count = bpf_map__max_entries(load->skeleton->maps.haw_permit);
    load->skeleton->rodata->permit_count = load->permit_count;
    return true;
}

static void adopt_links(FastLoad *load);

FastLoad *
fastload_open(const char *bpf_dir, guint flows, GError **error)
{
    g_autoptr(FastLoad) load = g_new0(FastLoad, 1);
    libbpf_set_print(quiet);
    load->pin_dir = fastpins_open(bpf_dir, error);
    if (load->pin_dir == NULL) {
        return NULL;
    }
    load->skeleton = fastpath__open();
    if (load->skeleton == NULL) {
        haw_fail_errno(error, errno, "Open the fast path's programs");
        return NULL;
    }
    if (!prepare_maps(load, flows, error)) {
        return NULL;
    }
    int status = fastpath__load(load->skeleton);
    if (status < 0) {
        g_autofree char *why = fastprobe_why(-status);
        haw_fail(error, HAW_UNSUPPORTED,
                 "The kernel does not take the fast path's programs (%s): %s; ports stay on the "
                 "slow path",
                 g_strerror(-status), why);
        return NULL;
    }
    if (!map_all(load, error)) {
        return NULL;
    }
    fill_config(load);
    if (!fastpins_keep(load->pin_dir, load->skeleton->obj, error)) { /* L1 */
        return NULL;
    }
    load->nics = g_new0(struct layout_nic, LAYOUT_NICS);
    for (guint32 i = 0; i < LAYOUT_NICS; i++) {
        bpf_map_lookup_elem(bpf_map__fd(load->skeleton->maps.haw_nics), &i, &load->nics[i]);
    }
    adopt_links(load);
    return g_steal_pointer(&load);
}

void
fastload_close(FastLoad *load)
{
    if (load == NULL) {
        return;
    }
    if (load->config != NULL) {
        munmap((void *) load->config, pages(sizeof *load->config));
    }
    if (load->permits != NULL) {
        munmap((void *) load->permits, pages(load->permit_count * sizeof *load->permits));
    }
    fastpath__destroy(load->skeleton);
    g_free(load->nics);
    g_free(load->pin_dir);
    g_free(load);
}

bool
fastload_attach(FastLoad *load, const char *program, guint32 ifindex, bool egress, GError **error)
{
    return fastattach_put(load->pin_dir, fastload_program(load, program), ifindex, egress, error);
}

void
fastload_detach(FastLoad *load, guint32 ifindex, bool egress)
{
    fastattach_drop(load->pin_dir, ifindex, egress);
}

int
fastload_program(FastLoad *load, const char *name)
{
    struct bpf_program *program = bpf_object__find_program_by_name(load->skeleton->obj, name);
    return program != NULL ? bpf_program__fd(program) : -1;
}

int
fastload_map(FastLoad *load, const char *name)
{
    struct bpf_map *map = bpf_object__find_map_by_name(load->skeleton->obj, name);
    return map != NULL ? bpf_map__fd(map) : -1;
}

/* ---- ports ---- */

static int
nics_fd(FastLoad *load)
{
    return bpf_map__fd(load->skeleton->maps.haw_nics);
}

static bool
if_set(FastLoad *load, guint32 ifindex, guint16 nic, guint16 role, GError **error)
{
    struct layout_if value = {nic, role};
    return bpf_map_update_elem(bpf_map__fd(load->skeleton->maps.haw_ifs), &ifindex, &value,
                               BPF_ANY) == 0 ||
           haw_fail_errno(error, errno, "Bind interface %u", ifindex);
}

static bool
nic_set(FastLoad *load, guint32 slot, const struct layout_nic *nic, GError **error)
{
    if (bpf_map_update_elem(nics_fd(load), &slot, nic, BPF_ANY) < 0) {
        return haw_fail_errno(error, errno, "Describe interface %u", nic->ifindex);
    }
    load->nics[slot] = *nic;
    return true;
}

/* The slot that the port has (true), or a free one. -1 without either. */
static int
slot_of(FastLoad *load, guint32 ifindex, bool *ret_known, struct layout_nic *ret_nic)
{
    int free_slot = -1;
    for (guint32 i = 0; i < LAYOUT_NICS; i++) {
        const struct layout_nic *nic = &load->nics[i];
        if (nic->ifindex == ifindex) {
            *ret_known = true;
            *ret_nic = *nic;
            return (int) i;
        }
        if (nic->ifindex == 0 && free_slot < 0) {
            free_slot = (int) i;
        }
    }
    *ret_known = false;
    return free_slot;
}

static struct layout_nic
nic_of(const FastPort *port)
{
    struct layout_nic nic = {
        .ifindex = port->ifindex,
        .slow_ifindex = port->slow,
        .flags = (port->on ? LAYOUT_NIC_ON : 0) | (port->peer ? LAYOUT_NIC_PEER : 0) |
                 (port->slow != 0 ? LAYOUT_NIC_PAIR : 0),
        .zone = port->zone,
        .mtu = port->mtu,
        .addr4_count = port->addr4_count,
        .addr6_count = port->addr6_count,
    };
    memcpy(nic.mac, port->mac, sizeof nic.mac);
    memcpy(nic.addr4, port->addr4, sizeof nic.addr4);
    memcpy(nic.addr6, port->addr6, sizeof nic.addr6);
    return nic;
}

static bool
check_port(const FastPort *port, GError **error)
{
    if (port->zone >= LAYOUT_ZONES || port->addr4_count > LAYOUT_ADDRS ||
        port->addr6_count > LAYOUT_ADDRS) {
        return haw_fail(error, HAW_INVALID, "Interface %u: zone or addresses out of range",
                        port->ifindex);
    }
    if (port->ifindex == 0 || port->ifindex >= LAYOUT_IFINDEXES || port->slow >= LAYOUT_IFINDEXES) {
        return haw_fail(error, HAW_LIMIT,
                        "Interface %u stays on the slow path: its index is above %u", port->ifindex,
                        LAYOUT_IFINDEXES - 1);
    }
    return true;
}

static bool
attach_port(FastLoad *load, const FastPort *port, GError **error)
{
    guint32 out = port->slow != 0 ? port->slow : port->ifindex;
    return fastattach_put(load->pin_dir, fastload_program(load, "haw_out"), out, port->slow == 0,
                          error) &&
           fastattach_put(load->pin_dir, fastload_program(load, "haw_in"), port->ifindex, false,
                          error);
}

bool
fastload_port_set(FastLoad *load, const FastPort *port, GError **error)
{
    bool known;
    struct layout_nic before = {0}, nic = nic_of(port);
    if (!check_port(port, error)) {
        return false;
    }
    int slot = slot_of(load, port->ifindex, &known, &before);
    if (slot < 0) {
        return haw_fail(error, HAW_LIMIT, "More than %d fast ports", LAYOUT_NICS);
    }
    if (known && memcmp(&before, &nic, sizeof nic) == 0) {
        return attach_port(load, port, error);
    }
    if (!nic_set(load, (guint32) slot, &nic, error)) { /* L3 */
        return false;
    }
    fastload_bump(load, port->zone);
    if (known) {
        fastload_bump(load, before.zone);
    }
    bool ok =
        if_set(load, port->ifindex, (guint16) slot, LAYOUT_ROLE_NIC, error) &&
        (port->slow == 0 || if_set(load, port->slow, (guint16) slot, LAYOUT_ROLE_SLOW, error)) &&
        attach_port(load, port, error);
    if (!ok) {
        fastload_port_unset(load, port->ifindex, NULL);
    }
    return ok;
}

bool
fastload_port_unset(FastLoad *load, guint32 ifindex, GError **error)
{
    bool known;
    struct layout_nic nic = {0}, empty = {0};
    int slot = slot_of(load, ifindex, &known, &nic);
    guint32 out = nic.slow_ifindex != 0 ? nic.slow_ifindex : ifindex;
    fastattach_drop(load->pin_dir, ifindex, false);
    fastattach_drop(load->pin_dir, out, nic.slow_ifindex == 0);
    if (!known) { /* what was attached is of a layout before ours */
        return true;
    }
    bool ok = if_set(load, ifindex, 0, LAYOUT_ROLE_NONE, error) &&
              (nic.slow_ifindex == 0 || if_set(load, nic.slow_ifindex, 0, LAYOUT_ROLE_NONE, error));
    fastload_bump(load, nic.zone); /* L3 */
    return ok && nic_set(load, (guint32) slot, &empty, error);
}

GArray *
fastload_ports(FastLoad *load)
{
    GArray *ports = g_array_new(FALSE, FALSE, sizeof(guint32));
    for (guint32 i = 0; i < LAYOUT_NICS; i++) {
        if (load->nics[i].ifindex != 0) {
            g_array_append_val(ports, load->nics[i].ifindex);
        }
    }
    return ports;
}

bool
fastload_port_at(FastLoad *load, guint slot, struct layout_nic *ret)
{
    if (slot >= LAYOUT_NICS || load->nics[slot].ifindex == 0) {
        return false;
    }
    *ret = load->nics[slot];
    return true;
}

bool
fastload_port_find(FastLoad *load, guint32 ifindex, bool slow, struct layout_nic *ret,
                   guint *ret_slot)
{
    struct layout_if at;
    guint16 role = slow ? LAYOUT_ROLE_SLOW : LAYOUT_ROLE_NIC;
    if (bpf_map_lookup_elem(bpf_map__fd(load->skeleton->maps.haw_ifs), &ifindex, &at) < 0 ||
        at.role != role || !fastload_port_at(load, at.nic, ret)) {
        return false;
    }
    if (ret_slot != NULL) {
        *ret_slot = at.nic;
    }
    return true;
}

void
fastload_sweep(FastLoad *load)
{
    g_autoptr(GArray) bound = fastload_ports(load);
    for (guint i = 0; i < bound->len; i++) {
        char name[IF_NAMESIZE];
        guint32 ifindex = g_array_index(bound, guint32, i);
        if (if_indextoname(ifindex, name) == NULL && errno == ENXIO) {
            fastload_port_unset(load, ifindex, NULL);
        }
    }
}

/* What a former daemon attached runs our programs from now on. */
static void
adopt_links(FastLoad *load)
{
    for (guint32 i = 0; i < LAYOUT_NICS; i++) {
        struct layout_nic nic;
        if (fastload_port_at(load, i, &nic)) {
            FastPort port = {.ifindex = nic.ifindex, .slow = nic.slow_ifindex};
            attach_port(load, &port, NULL);
        }
    }
}

/* ---- the programs' configuration ---- */

volatile struct layout_config *
fastload_config(FastLoad *load)
{
    return load->config;
}

const struct layout_permit *
fastload_permits(FastLoad *load, guint32 *ret_count)
{
    *ret_count = load->permit_count;
    return load->permits;
}

guint64
fastload_now_ns(FastLoad *load)
{
    DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts);
    bpf_prog_test_run_opts(fastload_program(load, "haw_now"), &opts);
    return load->config->clock_ns;
}

/* L4 */
static guint32
next_generation(FastLoad *load)
{
    guint32 highest = 0;
    for (guint i = 0; i < LAYOUT_ZONES; i++) {
        highest = MAX(highest, load->config->generation[i]);
    }
    return highest + 1;
}

void
fastload_bump(FastLoad *load, guint zone)
{
    load->config->generation[zone % LAYOUT_ZONES] = next_generation(load);
}

void
fastload_bump_all(FastLoad *load)
{
    guint32 next = next_generation(load);
    for (guint i = 0; i < LAYOUT_ZONES; i++) {
        load->config->generation[i] = next++;
    }
}

void
fastload_hold(FastLoad *load, guint why, bool hold)
{
    load->config->off = hold ? load->config->off | why : load->config->off & ~why;
}
