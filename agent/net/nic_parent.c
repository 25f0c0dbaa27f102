/* NICs on a host interface: macvlan above it, physical (the interface itself).
 * H1  What a physical interface was before (name, MAC, MTU) is noted in last_state.* before it is
 *     changed, and put back at the stop.
 * H2  A VLAN interface that we made (last_state.created) is ours to remove.
 * H3  At its stop a physical interface may still be on its way back from the instance's namespace, or
 *     have come back under another name; it is waited for, and found by its old name or MAC.
 * H4  A virtual machine is given the device itself (hw/pcilend.h); its interface is gone meanwhile.
 * Virtual functions are nic_sriov.c's. */
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>

#include "agent/auth/project.h"
#include "agent/net/netjob.h"
#include "agent/net/nicuse.h"
#include "agent/net/parent.h"
#include "hw/link.h"
#include "hw/pcilend.h"
#include "hw/sysfs.h"

enum { BACK_MS = 5000, BACK_STEP_MS = 50 };

struct job {
    const char *parent, *vlan, *mac; /* borrowed; mac NULL: as it is */
    char *ifname;                    /* owned: parent or parent.vlan */
    char *link;                      /* owned: what is handed in */
    char *dev, *driver, *note;       /* owned: of a device that is lent (H4) */
    guint mtu;
    bool gvrp, created, tap; /* tap: a virtual machine's: QEMU reads what its interface gets */
    struct link_info before;
    const char *old_mac, *old_mtu;
};

static void
job_done(struct job *job)
{
    g_free(job->ifname);
    g_free(job->link);
    g_free(job->dev);
    g_free(job->driver);
    g_free(job->note);
}

static struct job
job_of(const NicUse *use)
{
    return (struct job){.parent = use->parent,
                        .vlan = use->vlan,
                        .ifname = parent_ifname(use->parent, use->vlan),
                        .mtu = use->mtu,
                        .gvrp = use->gvrp};
}

static bool
need_parent(NicUse *use, GError **error)
{
    return use->parent != NULL ||
           haw_fail(error, HAW_INVALID, "Missing required option \"parent\"");
}

/* The interface that the NIC builds on: the parent, or its VLAN interface, made when missing. */
static bool
make_base(NlSock *sock, struct job *job, GError **error)
{
    if (link_index(sock, job->parent) == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Parent device \"%s\" doesn't exist", job->parent);
    }
    if (job->vlan != NULL && link_index(sock, job->ifname) == 0) {
        if (!link_add_vlan(sock, job->ifname, job->parent, (guint) atoi(job->vlan), job->gvrp,
                           error)) {
            return false;
        }
        job->created = true;
    }
    return link_get(sock, job->ifname, &job->before, error) &&
           link_set_up(sock, job->ifname, true, error);
}

static bool
drop_base(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    return !job->created || link_del(sock, job->ifname, error);
}

/* ---- macvlan ---- */

static bool
macvlan_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    if (!make_base(sock, job, error)) {
        return false;
    }
    bool made =
        job->tap
            ? link_add_macvtap(sock, job->link, job->ifname, MACVLAN_MODE_BRIDGE, job->mac, error)
            : link_add_macvlan(sock, job->link, job->ifname, MACVLAN_MODE_BRIDGE, job->mac, error);
    if (made && (job->mtu == 0 || link_set_mtu(sock, job->link, job->mtu, error)) &&
        (!job->tap || link_set_up(sock, job->link, true, error))) {
        return true;
    }
    link_del(sock, job->link, NULL);
    drop_base(sock, job, NULL);
    return false;
}

static bool
macvlan_start(NicUse *use, char **ret_link, GError **error)
{
    if (!need_parent(use, error)) {
        return false;
    }
    struct job job = job_of(use);
    job.mac = nicuse_mac(use);
    job.tap = nicuse_is_vm(use);
    job.link = nicuse_new_host_name(use, "mac");
    bool ok = netjob_run(macvlan_job, &job, error);
    if (ok) {
        nicuse_set_volatile(use, "host_name", job.link);
        nicuse_set_volatile(use, "last_state.created", job.created ? "true" : "false");
        *ret_link = g_strdup(job.link);
    }
    job_done(&job);
    return ok;
}

static bool
del_link_job(NlSock *sock, void *data, GError **error)
{
    struct link_info info;
    struct job *job = data;
    return !link_get(sock, job->link, &info, NULL) || !g_str_has_prefix(info.kind, "macv") ||
           link_del(sock, job->link, error);
}

static bool
macvlan_stop(NicUse *use, GError **error)
{
    const char *host = nicuse_volatile(use, "host_name");
    if (host == NULL || use->parent == NULL) {
        return true;
    }
    struct job job = job_of(use);
    job.link = g_strdup(host);
    job.created = g_strcmp0(nicuse_volatile(use, "last_state.created"), "true") == 0;
    bool ok = netjob_run(del_link_job, &job, error) && netjob_run(drop_base, &job, error);
    nicuse_set_volatile(use, "last_state.created", NULL);
    job_done(&job);
    return ok;
}

static void
macvlan_vm(NicUse *use, json_t *item)
{
    json_object_set_new(item, "kind", json_string("macvtap"));
}

const struct nic_driver nic_macvlan = {
    .nictype = "macvlan",
    .fixed_by_network = "nictype parent mtu vlan maas.subnet.ipv4 maas.subnet.ipv6 gvrp",
    .start = macvlan_start,
    .stop = macvlan_stop,
    .check = need_parent,
    .vm = macvlan_vm,
    .gives_back = true,
};

/* ---- physical ---- */

static bool
configure(NlSock *sock, const struct job *job, GError **error)
{
    return (job->mac == NULL || link_set_mac(sock, job->link, job->mac, error)) &&
           (job->mtu == 0 || link_set_mtu(sock, job->link, job->mtu, error));
}

static bool
look_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    if (job->link == NULL) {
        job->link = g_strdup(job->ifname);
    }
    return make_base(sock, job, error);
}

static bool
configure_job(NlSock *sock, void *data, GError **error)
{
    return configure(sock, data, error);
}

/* H1 */
static void
note_before(NicUse *use, const struct job *job)
{
    nicuse_set_volatile(use, "last_state.created", job->created ? "true" : "false");
    nicuse_set_volatile(use, "last_state.hwaddr", job->before.mac);
    nicuse_set_number(use, "last_state.mtu", job->before.mtu);
    nicuse_set_volatile(use, "host_name", job->link);
}

static void
forget_before(NicUse *use)
{
    static const char *const keys[] = {"last_state.created",    "last_state.hwaddr",
                                       "last_state.mtu",        "last_state.pci.slot.name",
                                       "last_state.pci.driver", "host_name"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        nicuse_set_volatile(use, keys[i], NULL);
    }
}

/* H4 */
static bool
lend_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    return pcilend_give(job->dev, job->note, error);
}

static bool
find_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    if (link_index(sock, job->parent) == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Parent device \"%s\" doesn't exist", job->parent);
    }
    job->link = g_strdup(job->parent);
    job->dev = pcilend_of_netdev(job->parent, error);
    job->driver = sysfs_link("/sys/class/net/%s/device/driver", job->parent);
    return job->dev != NULL && link_get(sock, job->parent, &job->before, error);
}

static char *
note_path(const NicUse *use)
{
    g_autofree char *object = project_object_name(use->nic->project, use->nic->inst);
    return agent_path(netobj_agent(use->table), "run/%s/pci.%s", object, use->nic->device);
}

static bool
lend(NicUse *use, GError **error)
{
    struct job job = job_of(use);
    job.note = note_path(use);
    bool ok = netjob_run(find_job, &job, error);
    if (ok) {
        note_before(use, &job); /* H1 */
        nicuse_set_volatile(use, "last_state.pci.slot.name", job.dev);
        nicuse_set_volatile(use, "last_state.pci.driver", job.driver);
        ok = netjob_run(lend_job, &job, error);
    }
    job_done(&job);
    return ok;
}

static bool
back_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    return pcilend_back(job->note, error);
}

static void
physical_vm(NicUse *use, json_t *item)
{
    json_object_set_new(item, "kind", json_string("vfio"));
    json_object_set_new(item, "pci", json_string(nicuse_volatile(use, "last_state.pci.slot.name")));
}

/* What is set on an interface can't be on a device that has none. */
static bool
physical_check(NicUse *use, GError **error)
{
    static const char *const keys[] = {"vlan", "mtu", "hwaddr", "gvrp"};
    for (size_t i = 0; nicuse_is_vm(use) && i < G_N_ELEMENTS(keys); i++) {
        if (nicuse_get(use, keys[i]) != NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid device option \"%s\"", keys[i]);
        }
    }
    return need_parent(use, error);
}

static bool
physical_start(NicUse *use, char **ret_link, GError **error)
{
    if (!need_parent(use, error)) {
        return false;
    }
    if (nicuse_is_vm(use)) {
        return lend(use, error);
    }
    struct job job = job_of(use);
    job.mac = nicuse_get(use, "hwaddr");
    bool ok = netjob_run(look_job, &job, error);
    if (ok) {
        note_before(use, &job);
        ok = netjob_run(configure_job, &job, error);
    }
    if (ok) {
        *ret_link = g_strdup(job.link);
    }
    job_done(&job);
    return ok;
}

/* H3: under its own name; else one with its MAC that has a name of the kernel's or of the instance. */
static bool
come_back(NlSock *sock, const struct job *job, GError **error)
{
    for (int waited = 0; link_index(sock, job->link) == 0; waited += BACK_STEP_MS) {
        g_autoptr(GArray) list = link_list(sock, NULL);
        for (guint i = 0; list != NULL && job->old_mac != NULL && i < list->len; i++) {
            const struct link_info *info = &g_array_index(list, struct link_info, i);
            bool ours = strcmp(info->mac, job->old_mac) == 0 ||
                        (job->mac != NULL && strcmp(info->mac, job->mac) == 0);
            if (ours && info->master == 0 && info->index != link_index(sock, job->parent) &&
                (g_str_has_prefix(info->name, "dev") || g_str_has_prefix(info->name, "eth"))) {
                return link_set_up(sock, info->name, false, error) &&
                       link_set_name(sock, info->name, job->link, error);
            }
        }
        if (waited >= BACK_MS) {
            return haw_fail(error, HAW_TIMEOUT, "Interface \"%s\" did not come back", job->link);
        }
        g_usleep(BACK_STEP_MS * 1000);
    }
    return true;
}

static bool
restore_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    guint mtu = job->old_mtu != NULL ? (guint) atoi(job->old_mtu) : 0;
    if (job->created && link_index(sock, job->link) == 0) {
        return true;
    }
    if (!come_back(sock, job, error)) {
        return false;
    }
    if (job->created) {
        return drop_base(sock, job, error);
    }
    return link_set_up(sock, job->link, false, error) &&
           (job->old_mac == NULL || link_set_mac(sock, job->link, job->old_mac, error)) &&
           (mtu == 0 || link_set_mtu(sock, job->link, mtu, error));
}

static bool
physical_stop(NicUse *use, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    struct job job = job_of(use);
    job.note = note_path(use);
    if (nicuse_is_vm(use) && !netjob_run(back_job, &job, error)) {
        job_done(&job);
        return false;
    }
    if (host == NULL || use->parent == NULL) {
        job_done(&job);
        return true;
    }
    job.link = g_strdup(host);
    job.mac = nicuse_get(use, "hwaddr");
    job.created = g_strcmp0(nicuse_volatile(use, "last_state.created"), "true") == 0;
    job.old_mac = nicuse_volatile(use, "last_state.hwaddr");
    job.old_mtu = nicuse_volatile(use, "last_state.mtu");
    bool ok = netjob_run(restore_job, &job, error);
    job_done(&job);
    if (ok) {
        forget_before(use);
    }
    return ok;
}

const struct nic_driver nic_physical = {
    .nictype = "physical",
    .fixed_by_network = "nictype parent mtu vlan maas.subnet.ipv4 maas.subnet.ipv6 gvrp",
    .start = physical_start,
    .stop = physical_stop,
    .check = physical_check,
    .vm = physical_vm,
    .gives_back = true,
};
