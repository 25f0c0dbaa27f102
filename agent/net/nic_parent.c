/* NICs on a host interface: macvlan above it, physical (the interface itself), sriov (a virtual
 * function of it).
 * H1  What a physical interface or a VF was before (name, MAC, MTU, VLAN, spoof check) is noted in
 *     last_state.* before it is changed, and put back at the stop.
 * H2  A VLAN interface that we made (last_state.created) is ours to remove.
 * H3  At its stop a physical interface may still be on its way back from the instance's namespace, or
 *     have come back under another name; it is waited for, and found by its old name or MAC.
 * The VF that a claim takes is chosen under one lock; the ledger of claims is a later part. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/inst/inst.h"
#include "agent/net/netjob.h"
#include "agent/net/nicuse.h"
#include "agent/net/parent.h"
#include "base/fd.h"
#include "base/ids.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/keys.h"

enum { BACK_MS = 5000, BACK_STEP_MS = 50 };

static FiberLock claim_lock = FIBER_LOCK_INIT;

struct job {
    const char *parent, *vlan, *mac; /* borrowed; mac NULL: as it is */
    char *ifname;                    /* owned: parent or parent.vlan */
    char *link;                      /* owned: what is handed in */
    guint mtu;
    bool gvrp, created;
    struct link_info before;
    const char *old_mac, *old_mtu;
};

static void
job_done(struct job *job)
{
    g_free(job->ifname);
    g_free(job->link);
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
    if (link_add_macvlan(sock, job->link, job->ifname, MACVLAN_MODE_BRIDGE, job->mac, error) &&
        (job->mtu == 0 || link_set_mtu(sock, job->link, job->mtu, error))) {
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
    return !link_get(sock, job->link, &info, NULL) || strcmp(info.kind, "macvlan") != 0 ||
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

const struct nic_driver nic_macvlan = {
    .nictype = "macvlan",
    .fixed_by_network = "nictype parent mtu vlan maas.subnet.ipv4 maas.subnet.ipv6 gvrp",
    .start = macvlan_start,
    .stop = macvlan_stop,
    .check = need_parent,
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
    g_autofree char *mtu = g_strdup_printf("%u", job->before.mtu);
    nicuse_set_volatile(use, "last_state.created", job->created ? "true" : "false");
    nicuse_set_volatile(use, "last_state.hwaddr", job->before.mac);
    nicuse_set_volatile(use, "last_state.mtu", mtu);
    nicuse_set_volatile(use, "host_name", job->link);
}

static void
forget_before(NicUse *use)
{
    static const char *const keys[] = {
        "last_state.created", "last_state.hwaddr",        "last_state.mtu",
        "last_state.vf.id",   "last_state.vf.parent",     "last_state.vf.hwaddr",
        "last_state.vf.vlan", "last_state.vf.spoofcheck", "host_name"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        nicuse_set_volatile(use, keys[i], NULL);
    }
}

static bool
physical_start(NicUse *use, char **ret_link, GError **error)
{
    if (!need_parent(use, error)) {
        return false;
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
    if (host == NULL || use->parent == NULL) {
        return true;
    }
    struct job job = job_of(use);
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
    .check = need_parent,
    .gives_back = true,
};

/* ---- sriov ---- */

static int sysfs_number(const char *format, ...) G_GNUC_PRINTF(1, 2);
static int
sysfs_number(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    return text != NULL ? atoi(text) : -1;
}

/* The netdev of a VF that is in our namespace; NULL for none. */
static char *
vf_ifname(const char *pf, int vf)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/device/virtfn%d/net", pf, vf);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name = dir != NULL ? g_dir_read_name(dir) : NULL;
    return g_strdup(name);
}

struct vf_job {
    const char *pf;
    char *ifname; /* owned: the chosen VF's netdev */
    int vf;
    char **reserved; /* host names that other NICs hold */
    struct link_info before;
    const char *mac;
    int vlan, spoofcheck;
    guint mtu;
};

static bool
is_free(NlSock *sock, const struct vf_job *job, const char *ifname, struct link_info *ret_info)
{
    g_autoptr(GArray) addresses = inet_addresses(sock, NULL);
    if (g_strv_contains((const char *const *) job->reserved, ifname) ||
        !link_get(sock, ifname, ret_info, NULL) || (ret_info->flags & IFF_UP) != 0 ||
        sysfs_number("/sys/class/net/%s/dev_port", ifname) !=
            sysfs_number("/sys/class/net/%s/dev_port", job->pf)) {
        return false;
    }
    for (guint i = 0; addresses != NULL && i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        if (one->ifindex == ret_info->index && one->scope == 0) {
            return false;
        }
    }
    return true;
}

static bool
claim_job(NlSock *sock, void *data, GError **error)
{
    struct vf_job *job = data;
    int total = sysfs_number("/sys/class/net/%s/device/sriov_numvfs", job->pf);
    if (total < 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "Parent device \"%s\" doesn't support SR-IOV",
                        job->pf);
    }
    for (int vf = 0; vf < total; vf++) {
        g_autofree char *ifname = vf_ifname(job->pf, vf);
        if (ifname != NULL && is_free(sock, job, ifname, &job->before)) {
            job->vf = vf;
            job->ifname = g_steal_pointer(&ifname);
            return true;
        }
    }
    return haw_fail(error, HAW_LIMIT,
                    "All virtual functions of sriov device \"%s\" are already in use", job->pf);
}

static bool
vf_job(NlSock *sock, void *data, GError **error)
{
    const struct vf_job *job = data;
    return link_set_vf(sock, job->pf, (guint) job->vf, job->mac, job->vlan, job->spoofcheck,
                       error) &&
           (job->ifname == NULL ||
            (link_set_mac(sock, job->ifname, job->mac, error) &&
             (job->mtu == 0 || link_set_mtu(sock, job->ifname, job->mtu, error))));
}

/* Host names that NICs of any instance hold. */
static char **
held_names(NetTable *table)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    InstTable *instances = netobj_agent(table)->instances;
    g_autoptr(GPtrArray) list = instances != NULL ? inst_list(instances, NULL) : NULL;
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const char *key;
        json_t *value;
        json_object_foreach (inst_config(g_ptr_array_index(list, i)), key, value) {
            if (g_str_has_prefix(key, "volatile.") && g_str_has_suffix(key, ".host_name") &&
                json_is_string(value)) {
                g_ptr_array_add(names, g_strdup(json_string_value(value)));
            }
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

static void
note_vf(NicUse *use, const struct vf_job *job)
{
    g_autofree char *mtu = g_strdup_printf("%u", job->before.mtu);
    g_autofree char *id = g_strdup_printf("%d", job->vf);
    nicuse_set_volatile(use, "last_state.created", "false");
    nicuse_set_volatile(use, "last_state.hwaddr", job->before.mac);
    nicuse_set_volatile(use, "last_state.mtu", mtu);
    nicuse_set_volatile(use, "last_state.vf.id", id);
    nicuse_set_volatile(use, "last_state.vf.parent", job->pf);
    nicuse_set_volatile(use, "last_state.vf.hwaddr", job->before.mac);
    nicuse_set_volatile(use, "last_state.vf.vlan", "0");
    nicuse_set_volatile(use, "last_state.vf.spoofcheck", "false");
    nicuse_set_volatile(use, "host_name", job->ifname);
}

static bool
sriov_start(NicUse *use, char **ret_link, GError **error)
{
    if (!need_parent(use, error)) {
        return false;
    }
    g_auto(GStrv) reserved = held_names(use->table);
    struct vf_job job = {.pf = use->parent,
                         .reserved = reserved,
                         .mac = nicuse_mac(use),
                         .vlan = use->vlan != NULL ? atoi(use->vlan) : 0,
                         .spoofcheck = nicuse_bool(use, "security.mac_filtering") ? 1 : 0,
                         .mtu = use->mtu};
    g_auto(FiberHold) hold = fiber_hold(&claim_lock);
    bool ok = netjob_run(claim_job, &job, error);
    if (ok) {
        note_vf(use, &job);
        ok = netjob_run(vf_job, &job, error);
    }
    if (ok) {
        *ret_link = g_strdup(job.ifname);
    }
    g_free(job.ifname);
    return ok;
}

static bool
sriov_stop(NicUse *use, GError **error)
{
    const char *id = nicuse_volatile(use, "last_state.vf.id");
    struct vf_job job = {.pf = nicuse_volatile(use, "last_state.vf.parent"),
                         .vf = id != NULL ? atoi(id) : -1,
                         .mac = nicuse_volatile(use, "last_state.vf.hwaddr")};
    if (id != NULL && job.pf != NULL && job.mac != NULL && !netjob_run(vf_job, &job, error)) {
        return false;
    }
    return physical_stop(use, error);
}

const struct nic_driver nic_sriov = {
    .nictype = "sriov",
    .fixed_by_network = "nictype parent mtu vlan maas.subnet.ipv4 maas.subnet.ipv6",
    .start = sriov_start,
    .stop = sriov_stop,
    .check = need_parent,
    .gives_back = true,
};
