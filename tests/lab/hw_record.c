/* hw_record: this machine's NICs as a fixture, in the format of tests/fakes/recorded.h:
 *
 *   hw_record >tests/fixtures/hw/NAME.txt     records: as root, for a driver tells others less
 *   hw_record look FILE                       what the inventory makes of a recording, as hw_call list prints it
 *
 * Netlink messages are written attribute for attribute as they came, sysfs as far as the inventory reads it.
 * MAC addresses, switch ids and serial numbers are in it: look through it before you publish it. */
#include <stdio.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "hw/inventory.h"
#include "hw/kernel.h"
#include "hw/nldoor.h"
#include "hw/sysfs.h"
#include "tests/fakes/recorded.h"

/* ---- sysfs ---- */

static void
put_file(const char *path)
{
    g_autofree char *text = sysfs_text("/sys/%s", path);
    if (*text != '\0' && strchr(text, '\n') == NULL) {
        printf("S %s %s\n", path, text);
    }
}

static void
put_link(const char *path)
{
    g_autofree char *target = sysfs_link("/sys/%s", path);
    if (*target != '\0') {
        printf("L %s %s\n", path, target);
    }
}

static void
put_below(const char *base, const char *const *names, void (*put)(const char *path))
{
    for (size_t i = 0; names[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", base, names[i]);
        put(path);
    }
}

static void
put_nic(const char *base)
{
    static const char *const files[] = {"class",          "vendor",       "device", "numa_node",
                                        "sriov_totalvfs", "sriov_numvfs", NULL};
    static const char *const links[] = {"driver", "iommu_group", "physfn", NULL};
    put_below(base, files, put_file);
    put_below(base, links, put_link);
    g_auto(GStrv) entries = sysfs_list("/sys/%s", base);
    for (char **entry = entries; *entry != NULL; entry++) {
        if (g_str_has_prefix(*entry, "virtfn")) {
            g_autofree char *path = g_strdup_printf("%s/%s", base, *entry);
            put_link(path);
        }
    }
}

static void
put_nics(void)
{
    g_auto(GStrv) pci = sysfs_list("/sys/bus/pci/devices");
    for (char **name = pci; *name != NULL; name++) {
        if (sysfs_int(0, "/sys/bus/pci/devices/%s/class", *name) >> 16 == 0x02) {
            g_autofree char *base = g_strdup_printf("bus/pci/devices/%s", *name);
            put_nic(base);
        }
    }
    g_auto(GStrv) simulated = sysfs_list("/sys/bus/netdevsim/devices");
    for (char **name = simulated; *name != NULL; name++) {
        g_autofree char *base = g_strdup_printf("bus/netdevsim/devices/%s", *name);
        g_autofree char *limit = g_strdup_printf("kernel/debug/netdevsim/%s/max_vfs", *name);
        put_nic(base);
        put_file(limit);
    }
}

static void
put_rdma(void)
{
    static const char *const files[] = {
        "node_guid",     "fw_ver", "parent", "ports/1/state", "ports/1/gid_attrs/ndevs/0",
        "ports/2/state", NULL};
    static const char *const links[] = {"device", NULL};
    g_auto(GStrv) names = sysfs_list("/sys/class/infiniband");
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *base = g_strdup_printf("class/infiniband/%s", *name);
        put_below(base, files, put_file);
        put_below(base, links, put_link);
    }
}

static void
put_vdpa(void)
{
    static const char *const links[] = {"driver", NULL};
    g_auto(GStrv) names = sysfs_list("/sys/bus/vdpa/devices");
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *base = g_strdup_printf("bus/vdpa/devices/%s", *name);
        g_auto(GStrv) entries = sysfs_list("/sys/%s", base);
        put_below(base, links, put_link);
        for (char **entry = entries; *entry != NULL; entry++) {
            if (g_str_has_prefix(*entry, "vhost-vdpa")) {
                g_autofree char *path = g_strdup_printf("%s/%s/dev", base, *entry);
                put_file(path);
            }
        }
    }
}

static void
put_iommus(void)
{
    g_auto(GStrv) names = sysfs_list("/sys/class/iommu");
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *path = g_strdup_printf("class/iommu/%s", *name);
        put_link(path);
    }
}

/* ---- netlink ---- */

static bool
is_text(const char *bytes, int size)
{
    for (int i = 0; i < size - 1; i++) {
        if (!g_ascii_isgraph(bytes[i]) && (bytes[i] != ' ' || i == 0)) {
            return false;
        }
    }
    return size > 1 && bytes[size - 1] == '\0';
}

/* Old attributes of rtnetlink don't say that they are nests: those that the inventory opens are known. */
static bool
is_nest(const struct nlattr *attr, NlDoorId door, int depth, int above)
{
    bool known = door == NLDOOR_LINKS &&
                 (depth == 0 ? nla_type(attr) == IFLA_LINKINFO || nla_type(attr) == IFLA_VFINFO_LIST
                             : depth == 1 && above == IFLA_VFINFO_LIST);
    return (known || (attr->nla_type & NLA_F_NESTED) != 0) && depth < 7 && nla_len(attr) > 0;
}

static void
put_attr(const struct nlattr *attr)
{
    int size = nla_len(attr);
    guint64 number = 0;
    if (size == 0) {
        printf(" f\n");
    } else if (is_text(nla_data(attr), size)) {
        printf(" s %s\n", (const char *) nla_data(attr));
    } else if (size == 1 || size == 2 || size == 4 || size == 8) {
        memcpy(&number, nla_data(attr), (size_t) size);
        printf(" u%d %" G_GUINT64_FORMAT "\n", size * 8, number);
    } else {
        printf(" x ");
        for (int i = 0; i < size; i++) {
            printf("%02x", ((const guint8 *) nla_data(attr))[i]);
        }
        printf("\n");
    }
}

/* What changes from moment to moment, and nobody reads. */
static bool
is_noise(const struct nlattr *attr, NlDoorId door, int depth)
{
    int type = nla_type(attr);
    return door == NLDOOR_LINKS && depth == 0 &&
           (type == IFLA_AF_SPEC || type == IFLA_STATS || type == IFLA_STATS64);
}

static void
put_attrs(const struct nlattr *first, int size, NlDoorId door, int depth, int above)
{
    const struct nlattr *attr;
    int left;
    nla_for_each_attr(attr, first, size, left)
    {
        if (is_noise(attr, door, depth)) {
            continue;
        }
        printf("%*s%d", 2 * depth + 2, "", nla_type(attr));
        if (is_nest(attr, door, depth, above)) {
            printf(" n\n");
            put_attrs(nla_data(attr), nla_len(attr), door, depth + 1, nla_type(attr));
        } else {
            put_attr(attr);
        }
    }
}

static void
put_message(const struct nlmsghdr *row, NlDoorId door)
{
    int header = door == NLDOOR_LINKS ? (int) sizeof(struct ifinfomsg) : GENL_HDRLEN;
    if (row->nlmsg_len < NLMSG_LENGTH((guint) header)) {
        return;
    }
    if (door == NLDOOR_LINKS) {
        const struct ifinfomsg *link = NLMSG_DATA(row);
        printf("M %d index=%d flags=0x%x\n", row->nlmsg_type, link->ifi_index, link->ifi_flags);
    } else {
        printf("G %d\n", ((const struct genlmsghdr *) NLMSG_DATA(row))->cmd);
    }
    put_attrs(nlmsg_attrdata(row, header), nlmsg_attrlen(row, header), door, 0, 0);
}

static bool
put_doors(const char *directory, GError **error)
{
    static const char *const names[] = {
#define X(id, name, family, command, dump) name,
        NLDOOR_DOORS(X)
#undef X
    };
    for (NlDoorId door = 0; door < NLDOOR_COUNT; door++) {
        g_autofree char *path = g_strdup_printf("%s/netlink/%s.nl", directory, names[door]);
        gsize size = 0;
        g_autofree char *bytes = NULL;
        if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
            continue;
        }
        if (!g_file_get_contents(path, &bytes, &size, error)) {
            return false;
        }
        int left = (int) size;
        if (left > 0) {
            printf("D %s\n", names[door]);
        }
        for (struct nlmsghdr *row = (struct nlmsghdr *) bytes; nlmsg_ok(row, left);
             row = nlmsg_next(row, &left)) {
            put_message(row, door);
        }
    }
    return true;
}

/* ---- */

static bool
record(const char *directory, GError **error)
{
    struct utsname host;
    g_autoptr(HwInventory) inventory = kernel_record(directory, error);
    if (inventory == NULL) {
        return false;
    }
    uname(&host);
    printf("# Recorded by hw_record on Linux %s.\n", host.release);
    put_nics();
    put_rdma();
    put_vdpa();
    put_iommus();
    return put_doors(directory, error);
}

static bool
look(const char *directory, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error)) {
        return false;
    }
    recorded_write(directory, text);
    g_autoptr(HwInventory) inventory = kernel_look(directory, error);
    if (inventory == NULL) {
        return false;
    }
    json_auto_t *json = hw_inventory_json(inventory);
    json_dumpf(json, stdout, JSON_INDENT(1));
    puts("");
    return true;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    bool looks = argc == 3 && strcmp(argv[1], "look") == 0;
    g_autofree char *directory = g_dir_make_tmp("hw-record-XXXXXX", &error);
    if (argc != 1 && !looks) {
        fprintf(stderr, "usage: hw_record [look FILE]\n");
        return 2;
    }
    bool ok =
        directory != NULL && (looks ? look(directory, argv[2], &error) : record(directory, &error));
    if (directory != NULL) {
        fd_remove_tree(directory, NULL);
    }
    if (!ok) {
        fprintf(stderr, "hw_record: %s\n", error->message);
        return 1;
    }
    return 0;
}
