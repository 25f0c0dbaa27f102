/* Any bytes as what the kernel tells through every door: never a crash, and an inventory whose indexes are
 * inside their arrays. */
#include "hw/kernel.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/nldoor.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char root[] = "/dev/shm/hw-fuzz-XXXXXX";

static void
sweep(void)
{
    fd_remove_tree(root, NULL);
}

static void
set_up(void)
{
    if (mkdtemp(root) == NULL) {
        abort();
    }
    g_autofree char *doors = g_build_filename(root, "netlink", NULL);
    g_assert_true(fd_mkdir_p(doors, 0700, NULL));
    atexit(sweep);
}

/* The first byte tells which door; the rest comes through it, and through LINKS, which all is joined to. */
static void
put(const char *door, const uint8_t *bytes, size_t size)
{
    g_autofree char *path = g_strdup_printf("%s/netlink/%s.nl", root, door);
    g_assert_true(g_file_set_contents(path, (const char *) bytes, (gssize) size, NULL));
}

static void
check(const HwInventory *inventory)
{
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        g_assert_cmpuint(vf->pf, <, inventory->pfs->len);
        g_assert_cmpint(vf->rep, <, (int) inventory->reps->len);
    }
    json_auto_t *json = hw_inventory_json(inventory);
    g_assert_nonnull(json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const names[] = {
#define X(id, name, family, command, dump) name,
        NLDOOR_DOORS(X)
#undef X
    };
    if (size < 1 || size > 16 * 1024) {
        return 0;
    }
    if (g_str_has_suffix(root, "XXXXXX")) {
        set_up();
    }
    put(names[0], bytes + 1, size - 1);
    put(names[bytes[0] % G_N_ELEMENTS(names)], bytes + 1, size - 1);
    g_autoptr(HwInventory) inventory = kernel_look(root, NULL);
    if (inventory != NULL) {
        check(inventory);
    }
    g_autofree char *path =
        g_strdup_printf("%s/netlink/%s.nl", root, names[bytes[0] % G_N_ELEMENTS(names)]);
    unlink(path);
    return 0;
}
