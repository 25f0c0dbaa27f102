/* The file of a simulated NIC: read and written under a lock, made, taken down, and told to misbehave.
 * What the NIC does is in simnic.c.
 *
 * {"iommu", "pfs": [{"dev", "netdev", "mac", "number", "numa", "switch_id", "eswitch", "vfs_max", "vdpa",
 *  "tc_offload", "vfs": [{"dev", "driver", "permanent", "mac", "vlan", …}]}],
 *  "vdpas": [{"name", "mgmt", "mac", …}], "fail": {"call", "nth", "text"}, "hidden": {"pf0vf3": until}} */
#include "hw/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/link.h"
#include "hw/simstate.h"

enum { SIM_FILE_MAX = 4 * 1024 * 1024 };

void
simstate_close(Sim *sim)
{
    if (sim != NULL) {
        json_decref(sim->state);
        g_free(sim->path);
        fd_close(&sim->lock);
        g_free(sim);
    }
}

/* S1 */
Sim *
simstate_open(const char *directory, GError **error)
{
    g_autoptr(Sim) sim = g_new0(Sim, 1);
    g_autofree char *lock_path = g_build_filename(directory, "lock", NULL);
    sim->path = g_build_filename(directory, "sim.json", NULL);
    sim->lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sim->lock < 0 || TEMP_FAILURE_RETRY(flock(sim->lock, LOCK_EX)) < 0) {
        haw_fail_errno(error, errno, "lock the simulated NIC '%s'", lock_path);
        return NULL;
    }
    g_autofree char *text = fd_read_file(sim->path, SIM_FILE_MAX, NULL, error);
    if (text == NULL) {
        haw_push(error, "simulated NIC '%s'", directory);
        return NULL;
    }
    json_error_t why;
    sim->state = json_loads(text, 0, &why);
    if (!json_is_object(sim->state)) {
        haw_fail(error, HAW_CORRUPT, "simulated NIC '%s': line %d: %s", sim->path, why.line,
                 why.text);
        return NULL;
    }
    return g_steal_pointer(&sim);
}

/* Not fsynced: a simulated NIC need not survive the host. */
bool
simstate_save(Sim *sim, GError **error)
{
    g_autofree char *fresh = g_strconcat(sim->path, ".new", NULL);
    if (json_dump_file(sim->state, fresh, JSON_COMPACT) != 0 || rename(fresh, sim->path) != 0) {
        return haw_fail_errno(error, errno, "write the simulated NIC '%s'", sim->path);
    }
    return true;
}

const char *
simstate_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

json_int_t
simstate_int(const json_t *object, const char *key, json_int_t missing)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : missing;
}

json_t *
simstate_find(const json_t *list, const char *key, const char *value)
{
    size_t i;
    json_t *entry;
    json_array_foreach (list, i, entry) {
        if (strcmp(simstate_text(entry, key), value) == 0) {
            return entry;
        }
    }
    return NULL;
}

json_t *
simstate_pf(Sim *sim, const char *dev, GError **error)
{
    json_t *pf = simstate_find(json_object_get(sim->state, "pfs"), "dev", dev);
    if (pf == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "the simulated NIC has no PF '%s'", dev);
    }
    return pf;
}

json_t *
simstate_vf(Sim *sim, const char *dev, GError **error)
{
    size_t i;
    json_t *pf;
    json_array_foreach (json_object_get(sim->state, "pfs"), i, pf) {
        json_t *vf = simstate_find(json_object_get(pf, "vfs"), "dev", dev);
        if (vf != NULL) {
            return vf;
        }
    }
    haw_fail(error, HAW_NOT_FOUND, "the simulated NIC has no VF '%s'", dev);
    return NULL;
}

/* The fault that a test asked for, once its turn has come. */
bool
simstate_fault(Sim *sim, const char *call, GError **error)
{
    json_t *fault = json_object_get(sim->state, "fail");
    const char *which = simstate_text(fault, "call");
    if (fault == NULL || (strcmp(which, "*") != 0 && strcmp(which, call) != 0)) {
        return true;
    }
    json_int_t left = simstate_int(fault, "nth", 1) - 1;
    g_autofree char *text = g_strdup(simstate_text(fault, "text"));
    if (left > 0) {
        json_object_set_new(fault, "nth", json_integer(left));
    } else {
        json_object_del(sim->state, "fail");
    }
    if (!simstate_save(sim, error)) {
        return false;
    }
    return left > 0 || haw_fail(error, HAW_IO, "%s: %s", call, text);
}

bool
simstate_is_switchdev(const json_t *pf)
{
    return strcmp(simstate_text(pf, "eswitch"), "switchdev") == 0;
}

void
simstate_near_end(const json_t *pf, size_t vf, char ret_name[IFNAMSIZ])
{
    g_snprintf(ret_name, IFNAMSIZ, "%sv%zu", simstate_text(pf, "netdev"), vf);
}

void
simstate_far_end(const json_t *pf, size_t vf, char ret_name[IFNAMSIZ])
{
    g_snprintf(ret_name, IFNAMSIZ, "%s%c%zu", simstate_text(pf, "netdev"),
               simstate_is_switchdev(pf) ? 'r' : 'x', vf);
}

json_t *
simstate_new_vf(const json_t *pf, guint number)
{
    /* As real ones: VF n sits behind its PF's functions, 8 to a device. */
    json_int_t at = 0x10 + simstate_int(pf, "number", 0) * 128 + number;
    g_autofree char *dev = g_strdup_printf("%.8s%02x.%x", simstate_text(pf, "dev"),
                                           (guint) (at / 8), (guint) (at % 8));
    g_autofree char *mac =
        g_strdup_printf("02:f0:00:%02x:%02x:%02x", (guint) simstate_int(pf, "number", 0),
                        number >> 8, number & 0xff);
    return json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "dev", dev, "driver",
                     "hawser-sim-vf", "permanent", mac, "mac", "00:00:00:00:00:00", "vlan", 0,
                     "qos", 0, "spoofchk", 1, "trust", 0, "min_mbps", 0, "max_mbps", 0,
                     "link_state", HW_VF_LINK_AUTO);
}

bool
sim_create(const char *directory, const struct sim_plan *plan, GError **error)
{
    g_autofree char *path = g_build_filename(directory, "sim.json", NULL);
    json_auto_t *pfs = json_array();
    if (strlen(plan->prefix) > 8 || plan->pfs > 8 || plan->vfs > 128) {
        return haw_fail(error, HAW_INVALID, "a simulated NIC has at most 8 PFs of 128 VFs");
    }
    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        return haw_fail(error, HAW_EXISTS, "there is a simulated NIC in '%s' already", directory);
    }
    for (guint i = 0; i < plan->pfs; i++) {
        g_autofree char *dev = g_strdup_printf("0000:f%u:00.%u", i / 2, i % 2);
        g_autofree char *netdev = g_strdup_printf("%s%u", plan->prefix, i);
        g_autofree char *mac = g_strdup_printf("02:f1:00:00:00:%02x", i);
        g_autofree char *switch_id = g_strdup_printf("5e%06x", i);
        json_t *pf =
            json_pack("{s:s,s:s,s:s,s:i,s:i,s:s,s:s,s:i,s:b,s:b,s:[]}", "dev", dev, "netdev",
                      netdev, "mac", mac, "number", (int) (i % 2), "numa", (int) (i / 2),
                      "switch_id", switch_id, "eswitch", plan->switchdev ? "switchdev" : "legacy",
                      "vfs_max", (int) plan->vfs_max, "vdpa", plan->vdpa, "tc_offload", 1, "vfs");
        for (guint vf = 0; vf < plan->vfs; vf++) {
            json_array_append_new(json_object_get(pf, "vfs"), simstate_new_vf(pf, vf));
        }
        json_array_append_new(pfs, pf);
    }
    json_auto_t *state = json_pack("{s:b,s:O,s:[]}", "iommu", plan->iommu, "pfs", pfs, "vdpas");
    g_autofree char *text = json_dumps(state, JSON_INDENT(1));
    return fd_mkdir_p(directory, 0700, error) &&
           fd_write_atomic(path, text, strlen(text), 0600, error);
}

static bool
remove_links(const json_t *pf, NlSock *sock, GError **error)
{
    g_autofree char *bridge = g_strconcat(simstate_text(pf, "netdev"), "b", NULL);
    for (size_t vf = 0; vf < json_array_size(json_object_get(pf, "vfs")); vf++) {
        char far[IFNAMSIZ];
        simstate_far_end(pf, vf, far);
        if (!link_del(sock, far, error)) {
            return false;
        }
    }
    return link_del(sock, simstate_text(pf, "netdev"), error) && link_del(sock, bridge, error);
}

bool
sim_destroy(const char *directory, GError **error)
{
    g_autofree char *path = g_build_filename(directory, "sim.json", NULL);
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        return true;
    }
    g_autoptr(Sim) sim = simstate_open(directory, error);
    g_autoptr(NlSock) sock = sim != NULL ? nlsock_open(error) : NULL;
    size_t i;
    json_t *pf;
    if (sock == NULL) {
        return false;
    }
    json_array_foreach (json_object_get(sim->state, "pfs"), i, pf) {
        if (!remove_links(pf, sock, error)) {
            return false;
        }
    }
    return unlink(path) == 0 || haw_fail_errno(error, errno, "remove '%s'", path);
}

bool
sim_fail(const char *directory, const char *call, guint nth, const char *text, GError **error)
{
    g_autoptr(Sim) sim = simstate_open(directory, error);
    if (sim == NULL) {
        return false;
    }
    if (text == NULL) {
        json_object_del(sim->state, "fail");
    } else {
        json_object_set_new(
            sim->state, "fail",
            json_pack("{s:s,s:i,s:s}", "call", call, "nth", (int) MAX(nth, 1), "text", text));
    }
    return simstate_save(sim, error);
}

bool
sim_hide_rep(const char *directory, const char *port, gint64 hide_ms, GError **error)
{
    g_autoptr(Sim) sim = simstate_open(directory, error);
    if (sim == NULL) {
        return false;
    }
    json_t *hidden = json_object_get(sim->state, "hidden");
    if (hidden == NULL) {
        hidden = json_object();
        json_object_set_new(sim->state, "hidden", hidden);
    }
    json_int_t until_us = hide_ms < 0 ? -1 : g_get_monotonic_time() + hide_ms * 1000;
    json_object_set_new(hidden, port, json_integer(until_us));
    return simstate_save(sim, error);
}

bool
sim_seize(const char *directory, const char *vf_dev, const char *driver, GError **error)
{
    g_autoptr(Sim) sim = simstate_open(directory, error);
    json_t *vf = sim != NULL ? simstate_vf(sim, vf_dev, error) : NULL;
    if (vf == NULL) {
        return false;
    }
    json_object_set_new(vf, "driver", json_string(driver));
    return simstate_save(sim, error);
}
