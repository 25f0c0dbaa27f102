/* The checks of `hawser hw doctor`: a pure function of an inventory and of facts about the host.
 * O1  Whatever is not ok has a next step that a person can take.
 * O2  What can't be seen is "unknown", never "ok". */
#include "hw/doctor.h"

#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* Options of the kernel, any of which in a row will do. */
static const struct option {
    const char *name, *what;
    bool must; /* else only for some uses */
} options[] = {
    {"CONFIG_PCI_IOV", "virtual functions", true},
    {"CONFIG_NET_SWITCHDEV", "representors", true},
    {"CONFIG_NET_DEVLINK", "eswitch modes", true},
    {"CONFIG_OPENVSWITCH", "the kernel datapath of Open vSwitch", true},
    {"CONFIG_NET_CLS_FLOWER", "flows in hardware", true},
    {"CONFIG_NET_ACT_MIRRED", "flows in hardware", true},
    {"CONFIG_NET_ACT_CT", "connection tracking in hardware", true},
    {"CONFIG_NET_ACT_TUNNEL_KEY", "Geneve in hardware", true},
    {"CONFIG_NET_ACT_PEDIT", "routing and NAT in hardware", true},
    {"CONFIG_NET_ACT_VLAN", "VLANs in hardware", false},
    {"CONFIG_VFIO_PCI", "virtual functions for VMs", false},
    {"CONFIG_VHOST_VDPA", "vDPA for VMs", false},
};

static char *
read_gz(const char *path)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) raw = g_file_read(file, NULL, NULL);
    if (raw == NULL) {
        return NULL;
    }
    g_autoptr(GConverter) unzip =
        G_CONVERTER(g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP));
    g_autoptr(GInputStream) plain = g_converter_input_stream_new(G_INPUT_STREAM(raw), unzip);
    g_autoptr(GString) text = g_string_new(NULL);
    char bytes[8192];
    gssize got;
    while ((got = g_input_stream_read(plain, bytes, sizeof bytes, NULL, NULL)) > 0 &&
           text->len < 4 * 1024 * 1024) {
        g_string_append_len(text, bytes, got);
    }
    return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

void
doctor_facts_read(struct doctor_facts *facts)
{
    struct utsname kernel;
    uname(&kernel);
    facts->kernel_release = g_strdup(kernel.release);
    facts->kernel_config = read_gz("/proc/config.gz");
    if (facts->kernel_config == NULL) {
        g_autofree char *path = g_strdup_printf("/boot/config-%s", kernel.release);
        g_file_get_contents(path, &facts->kernel_config, NULL, NULL);
    }
}

void
doctor_facts_clear(struct doctor_facts *facts)
{
    g_clear_pointer(&facts->kernel_config, g_free);
    g_clear_pointer(&facts->kernel_release, g_free);
}

/* next NULL: none is needed (O1). */
static void say(json_t *list, const char *subject, const char *check, const char *status,
                const char *next, const char *format, ...) G_GNUC_PRINTF(6, 7);
static void
say(json_t *list, const char *subject, const char *check, const char *status, const char *next,
    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    json_t *entry = json_pack("{s:s,s:s,s:s,s:s}", "subject", subject, "check", check, "status",
                              status, "message", message);
    if (next != NULL) {
        json_object_set_new(entry, "next", json_string(next));
    }
    json_array_append_new(list, entry);
}

static bool
has_option(const char *config, const char *name)
{
    g_autofree char *in = g_strdup_printf("\n%s=y", name);
    g_autofree char *module = g_strdup_printf("\n%s=m", name);
    return strstr(config, in) != NULL || strstr(config, module) != NULL;
}

static void
check_kernel(json_t *list, const struct doctor_facts *facts)
{
    g_autoptr(GString) missing = g_string_new(NULL), lesser = g_string_new(NULL);
    const char *config = facts->kernel_config, *release = facts->kernel_release;
    int major = 0, minor = 0;
    if (release != NULL && sscanf(release, "%d.%d", &major, &minor) == 2) {
        bool young = major > 5 || (major == 5 && minor >= 14);
        say(list, "kernel", "version", young ? "ok" : "error",
            young ? NULL : "install a newer kernel: Debian 12's own will do", "Linux %s%s", release,
            young ? "" : ": 5.14 or later tells which device an interface is of");
    }
    for (size_t i = 0; config != NULL && i < G_N_ELEMENTS(options); i++) {
        if (!has_option(config, options[i].name)) {
            g_string_append_printf(options[i].must ? missing : lesser, "%s (%s) ", options[i].name,
                                   options[i].what);
        }
    }
    if (config == NULL) {
        say(list, "kernel", "configuration", "unknown",
            "install the kernel's own package (it has /boot/config-*), or look at its build",
            "the running kernel's configuration is neither in /proc/config.gz nor in /boot");
    } else if (missing->len > 0 || lesser->len > 0) {
        say(list, "kernel", "configuration", missing->len > 0 ? "error" : "warning",
            "boot a kernel that has them: Debian's linux-image-amd64 does",
            "this kernel was built without %s%s", missing->str, lesser->str);
    } else {
        say(list, "kernel", "configuration", "ok", NULL, "all that offload needs is built");
    }
}

static void
check_host(json_t *list, const HwInventory *inventory, const struct doctor_facts *facts)
{
    if (inventory->iommu == 1) {
        say(list, "host", "iommu", "ok", NULL, "the IOMMU is on: VFs can be given to VMs");
    } else {
        say(list, "host", "iommu", "warning",
            "boot with intel_iommu=on or amd_iommu=on, and enable VT-d or AMD-Vi in the BIOS",
            "no IOMMU: containers can have VFs, VMs can't");
    }
    if (facts->ovs_hw_offload < 0) {
        say(list, "host", "openvswitch", "unknown",
            "install openvswitch-switch and start it, or set network.ovn.northbound_connection",
            "the local Open vSwitch database doesn't answer");
    } else if (facts->ovs_hw_offload == 0 && facts->ovs_embedded) {
        say(list, "host", "openvswitch", "warning",
            "for flows in hardware install openvswitch-switch and ovn-host, and set "
            "network.ovn.northbound_connection",
            "the agent's own Open vSwitch is used, which keeps all flows in software");
    } else if (facts->ovs_hw_offload == 0) {
        say(list, "host", "openvswitch", "error",
            "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true, then restart "
            "openvswitch-switch",
            "other_config:hw-offload is off: all flows stay in software");
    } else if (facts->ovs_userspace) {
        say(list, "host", "openvswitch", "warning",
            "use a kernel with CONFIG_OPENVSWITCH for hardware offload",
            "the integration bridge is on the userspace datapath, which gives nothing to NICs");
    } else {
        say(list, "host", "openvswitch", "ok", NULL, "other_config:hw-offload is on");
    }
    if (inventory->pfs->len == 0) {
        say(list, "host", "nics", "error",
            "plug in a NIC with SR-IOV and an embedded switch (docs/hardware.md), and enable "
            "SR-IOV in BIOS and firmware",
            "no NIC of this host has virtual functions");
    }
}

static void
check_eswitch(json_t *list, const struct hw_pf *pf, const char *name)
{
    g_autofree char *prepare = g_strdup_printf("hawser hw prepare %s --vfs %u --mode switchdev",
                                               name, pf->vfs > 0 ? pf->vfs : MIN(8, pf->vfs_max));
    if (pf->eswitch == HW_ESWITCH_SWITCHDEV) {
        say(list, name, "eswitch", "ok", NULL, "switchdev mode, switch id %s", pf->switch_id);
    } else if (pf->eswitch == HW_ESWITCH_LEGACY) {
        say(list, name, "eswitch", "error", prepare,
            "legacy mode: only plain SR-IOV works, nothing on OVN");
    } else {
        say(list, name, "eswitch", "warning", "use it for NICs of type sriov, or name another PF",
            "its driver ('%s') has no embedded switch that Linux can steer", pf->driver);
    }
    if (pf->vfs == 0 && pf->vfs_max > 0) {
        say(list, name, "vfs", "error", prepare, "none of up to %u virtual functions is made",
            pf->vfs_max);
    }
}

static void
check_pf(json_t *list, const HwInventory *inventory, const struct hw_pf *pf)
{
    const char *name = pf->netdev[0] != '\0' ? pf->netdev : pf->dev;
    g_autofree char *offload = g_strdup_printf("ethtool -K %s hw-tc-offload on", name);
    g_autofree char *up = g_strdup_printf("ip link set %s up, and look at the cable", name);
    check_eswitch(list, pf, name);
    if (pf->eswitch == HW_ESWITCH_SWITCHDEV) {
        say(list, name, "hw-tc-offload",
            pf->hw_tc_offload == 1 ? "ok" : (pf->hw_tc_offload == 0 ? "error" : "unknown"),
            pf->hw_tc_offload == 1 ? NULL : offload, "hw-tc-offload is %s",
            pf->hw_tc_offload == 1 ? "on" : (pf->hw_tc_offload == 0 ? "off" : "not told"));
    }
    if (pf->firmware[0] != '\0') {
        say(list, name, "firmware", "ok", NULL, "%s, driver %s", pf->firmware, pf->driver);
    } else {
        say(list, name, "firmware", "unknown", "devlink dev info, ethtool -i, or the vendor's tool",
            "its driver ('%s') does not tell the firmware's version", pf->driver);
    }
    if (pf->carrier != 1) {
        say(list, name, "link", "warning", up, "no carrier");
    }
    if (pf->bond[0] != '\0') {
        for (guint i = 0; i < inventory->bonds->len; i++) {
            const struct hw_bond *bond = &g_array_index(inventory->bonds, struct hw_bond, i);
            if (strcmp(bond->netdev, pf->bond) == 0) {
                say(list, name, "bond", bond->vf_lag ? "ok" : "warning",
                    bond->vf_lag ? NULL
                                 : "bond PFs of one card only, all of them in switchdev mode",
                    "member of '%s'%s", pf->bond,
                    bond->vf_lag ? ", VF-LAG" : ", which is no VF-LAG");
            }
        }
    }
}

/* The VFs that can't serve, those with the same reason but for the device told once each. */
static void
check_vfs(json_t *list, const HwInventory *inventory, guint at)
{
    const struct hw_pf *pf = hw_pf_at(inventory, at);
    const char *name = pf->netdev[0] != '\0' ? pf->netdev : pf->dev;
    HwUse use = pf->eswitch == HW_ESWITCH_SWITCHDEV ? HW_USE_REP_NETDEV : HW_USE_NETDEV;
    g_autofree char *whole = hw_pf_unfit(inventory, pf, use);
    guint fit = 0;
    for (guint i = 0; whole == NULL && i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        g_autofree char *why = vf->pf == at ? hw_vf_unfit(inventory, vf, use) : NULL;
        fit += vf->pf == at && why == NULL;
        if (why != NULL) {
            g_auto(GStrv) parts = g_strsplit(why, ": ", 2);
            say(list, name, "vf", "warning",
                parts[1] != NULL ? parts[1] : "nothing, while an instance has it", "%s", parts[0]);
        }
    }
    if (pf->vfs > 0 && whole == NULL) {
        say(list, name, "vfs", fit > 0 ? "ok" : "warning",
            fit > 0 ? NULL : "stop what uses them, or make more",
            "%u of %u virtual functions can "
            "be used now",
            fit, pf->vfs);
    }
}

json_t *
doctor_checks(const HwInventory *inventory, const struct doctor_facts *facts)
{
    json_t *list = json_array();
    check_kernel(list, facts);
    check_host(list, inventory, facts);
    for (guint i = 0; i < inventory->pfs->len; i++) {
        check_pf(list, inventory, hw_pf_at(inventory, i));
        check_vfs(list, inventory, i);
    }
    return list;
}
