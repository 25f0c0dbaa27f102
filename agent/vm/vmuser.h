/* vmuser.h: the user that a VM's QEMU runs as, which owns nothing but what that VM needs.
 * Threads: any. */
#pragma once
#include "agent/inst/inst.h"
#include <sys/stat.h>

uid_t vmuser_of(Inst *inst);
/* The user of the instance with that number, where ids are mapped as the text of /proc/self/uid_map says. */
uid_t vmuser_number(gint64 id, const char *uid_map);
/* Whether that user may open a device of all VMs (/dev/kvm) for reading and writing. */
bool vmuser_may_open(const struct stat *node);
/* The first arguments of a command that is to run as that user: appended to 'argv' (of owned strings). */
void vmuser_argv(Inst *inst, GPtrArray *argv);
/* The open file becomes that user's; 'what' is for the error. */
bool vmuser_give(Inst *inst, int fd, const char *what, GError **error);
/* The same for a tree that nobody else changes meanwhile; links are not followed. Blocks. */
bool vmuser_give_tree(uid_t user, const char *path, GError **error);
/* The same for the node of a PCI device's IOMMU group, which vfio-pci opens by its name. */
bool vmuser_give_group(Inst *inst, const char *pci_address, GError **error);
