/* Each VM's QEMU is a user of its own: whoever breaks out of the guest into it reaches neither the host's
 * files nor another guest's.
 * U1  The number comes from the instance's, in a range that Linux distributions leave unused
 *     (https://systemd.io/UIDS-GIDS). Two agents on one host may give out the same; what one QEMU can
 *     reach of another's is then what the kernel allows between processes of a user.
 * U2  What QEMU needs is handed over as open descriptors, whoever owns the files. It owns its memory file,
 *     which it opens itself, a directory for sockets that it makes, where it is, and the config share.
 * U3  Groups are those of the devices that every VM may open: /dev/kvm and /dev/sev.
 * U4  In a container, whose ids may end earlier, all share one that is nobody's.
 * Called by vmboot.c, vmplug.c, configshare.c; forkuser.c is the other end of the arguments. */
#include "agent/vm/vmuser.h"

#include "agent/vm/vmrun.h"
#include "base/fd.h"

#include <errno.h>
#include <fts.h>
#include <string.h>
#include <unistd.h>

enum { USER_FIRST = 0x7e000000, USER_COUNT = 1 << 24, NOBODY = 65534, MAP_MAX = 1 << 16 };

/* "first outside count" lines. */
static bool
is_mapped(guint64 user, const char *uid_map)
{
    for (const char *at = uid_map; *at != '\0';) {
        char *end = NULL;
        guint64 first = g_ascii_strtoull(at, &end, 10);
        g_ascii_strtoull(end, &end, 10);
        guint64 count = g_ascii_strtoull(end, &end, 10);
        if (user >= first && user - first < count) {
            return true;
        }
        at = end + strcspn(end, "\n");
        at += strspn(at, "\n");
    }
    return false;
}

/* U1, U4 */
uid_t
vmuser_number(gint64 id, const char *uid_map)
{
    uid_t user = USER_FIRST + (uid_t) (id % USER_COUNT);
    return is_mapped(user, uid_map) ? user : NOBODY;
}

uid_t
vmuser_of(Inst *inst)
{
    g_autofree char *map = fd_read_file("/proc/self/uid_map", MAP_MAX, NULL, NULL);
    return vmuser_number(inst_id(inst), map != NULL ? map : "");
}

/* U3 */
static bool
is_by_group(const struct stat *node)
{
    const mode_t wanted = S_IRGRP | S_IWGRP;
    return node->st_gid != 0 && (node->st_mode & wanted) == wanted;
}

bool
vmuser_may_open(const struct stat *node)
{
    const mode_t wanted = S_IROTH | S_IWOTH;
    return is_by_group(node) || (node->st_mode & wanted) == wanted;
}

static char *
groups(void)
{
    static const char *const nodes[] = {"/dev/kvm", "/dev/sev"};
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++) {
        struct stat st;
        if (stat(nodes[i], &st) == 0 && is_by_group(&st)) {
            g_string_append_printf(text, "%s%u", text->len > 0 ? "," : "", (unsigned) st.st_gid);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

void
vmuser_argv(Inst *inst, GPtrArray *argv)
{
    g_ptr_array_add(argv, g_strdup(inst->agent->exe));
    g_ptr_array_add(argv, g_strdup("forkuser"));
    g_ptr_array_add(argv, g_strdup_printf("%u", (unsigned) vmuser_of(inst)));
    g_ptr_array_add(argv, groups());
    g_ptr_array_add(argv, g_strdup_printf("%d", VM_OWN_DIR_FD));
}

bool
vmuser_give(Inst *inst, int fd, const char *what, GError **error)
{
    uid_t user = vmuser_of(inst);
    return fchown(fd, user, user) == 0 ||
           haw_fail_errno(error, errno, "Give '%s' to user %u", what, (unsigned) user);
}

bool
vmuser_give_tree(uid_t user, const char *path, GError **error)
{
    char *roots[] = {(char *) path, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    bool ok = tree != NULL;
    for (FTSENT *entry = ok ? fts_read(tree) : NULL; ok && entry != NULL; entry = fts_read(tree)) {
        ok = entry->fts_info == FTS_DP || lchown(entry->fts_path, user, user) == 0;
    }
    int failed = errno;
    if (tree != NULL) {
        fts_close(tree);
    }
    return ok || haw_fail_errno(error, failed, "Give '%s' to user %u", path, (unsigned) user);
}

bool
vmuser_give_group(Inst *inst, const char *pci_address, GError **error)
{
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/iommu_group", pci_address);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *number = target != NULL ? g_path_get_basename(target) : NULL;
    if (number == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "PCI device %s is in no IOMMU group: turn the IOMMU on in the firmware and "
                        "in the kernel's command line",
                        pci_address);
    }
    uid_t user = vmuser_of(inst);
    g_autofree char *node = g_strdup_printf("/dev/vfio/%s", number);
    return chown(node, user, user) == 0 ||
           haw_fail_errno(error, errno, "Give '%s' to user %u", node, (unsigned) user);
}
