/* How long does a look at a host with 2 PFs and 256 VFs take? In two parts, as no such host is at hand:
 *
 *   recorded   sysfs and netlink messages of such a host, written to a temporary directory: reading sysfs,
 *              parsing and joining are ours, the kernel's own time to answer is not in it
 *   live       the same questions to this kernel, with 512 more interfaces (veth pairs) in a namespace: what the
 *              kernel needs for the dumps themselves
 *
 * hw_inventory [LIMIT_MS]: prints median and worst of 30 looks, by the clock and in CPU time (ours and the kernel's
 * for us: nothing here sleeps, so on a quiet machine they are the same). With a limit, exits 1 when the CPU
 * medians together are above it. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fd.h"
#include "hw/kernel.h"
#include "hw/link.h"
#include "tests/fakes/recorded.h"

enum { PFS = 2, VFS = 128, ROUNDS = 30, FIRST_REP = 1000, FIRST_VF = 2000 };

static void
pf_text(GString *all, int pf)
{
    g_string_append_printf(all,
                           "S bus/pci/devices/0000:3b:00.%d/class 0x020000\n"
                           "S bus/pci/devices/0000:3b:00.%d/sriov_totalvfs %d\n"
                           "S bus/pci/devices/0000:3b:00.%d/sriov_numvfs %d\n"
                           "S bus/pci/devices/0000:3b:00.%d/numa_node 0\n"
                           "L bus/pci/devices/0000:3b:00.%d/driver mlx5_core\n",
                           pf, pf, VFS, pf, VFS, pf, pf);
    for (int vf = 0; vf < VFS; vf++) {
        int at = 16 + pf * VFS + vf;
        g_autofree char *dev = g_strdup_printf("0000:3b:%02x.%d", at / 8, at % 8);
        g_string_append_printf(all,
                               "L bus/pci/devices/0000:3b:00.%d/virtfn%d %s\n"
                               "S bus/pci/devices/%s/class 0x020000\n"
                               "L bus/pci/devices/%s/driver mlx5_core\n"
                               "L bus/pci/devices/%s/iommu_group %d\n",
                               pf, vf, dev, dev, dev, dev, at);
    }
}

static void
links_text(GString *all, int pf)
{
    g_string_append_printf(all,
                           "D links\nM 16 index=%d flags=0x1043\n  3 s ens1f%dnp%d\n"
                           "  1 x 98039bd6b4a%d\n  36 x 9%d03fa0300d6b4a8\n  38 s p%d\n"
                           "  56 s 0000:3b:00.%d\n  22 n\n",
                           pf + 2, pf, pf, pf, pf, pf, pf);
    for (int vf = 0; vf < VFS; vf++) {
        g_string_append_printf(all,
                               "    1 n\n      1 x %02x0000000200000000%02x%052d\n"
                               "      2 x %02x0000000000000000000000\n"
                               "      4 x %02x00000001000000\n",
                               vf, vf, 0, vf, vf);
    }
    for (int vf = 0; vf < VFS; vf++) {
        int at = 16 + pf * VFS + vf, rep = FIRST_REP + pf * VFS + vf;
        g_string_append_printf(all,
                               "M 16 index=%d flags=0x1043\n  3 s ens1f%dr%d\n"
                               "  36 x 9%d03fa0300d6b4a8\n  38 s pf%dvf%d\n  56 s 0000:3b:00.%d\n"
                               "M 16 index=%d flags=0x1002\n  3 s ens1f%dv%d\n"
                               "  1 x 02000000%02x%02x\n  56 s 0000:3b:%02x.%d\n",
                               rep, pf, vf, pf, pf, vf, pf, FIRST_VF + pf * VFS + vf, pf, vf, pf,
                               vf, at / 8, at % 8);
    }
}

static void
ports_text(GString *all, int pf)
{
    g_string_append_printf(
        all, "D ports\nG 7\n  1 s pci\n  2 s 0000:3b:00.%d\n  77 u16 0\n  6 u32 %d\n", pf, pf + 2);
    for (int vf = 0; vf < VFS; vf++) {
        g_string_append_printf(all,
                               "G 7\n  1 s pci\n  2 s 0000:3b:00.%d\n  77 u16 4\n  6 u32 %d\n"
                               "  127 u16 %d\n  128 u16 %d\n  149 u8 0\n  150 u32 0\n",
                               pf, FIRST_REP + pf * VFS + vf, pf, vf);
    }
    g_string_append_printf(all, "D eswitch\nG 29\n  1 s pci\n  2 s 0000:3b:00.%d\n  25 u16 1\n",
                           pf);
}

static int
compare(const void *a, const void *b)
{
    gint64 left = *(const gint64 *) a, right = *(const gint64 *) b;
    return left < right ? -1 : left > right;
}

static gint64
cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (gint64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Median CPU time in microseconds. */
static gint64
measure(const char *name, const char *root)
{
    gint64 times[ROUNDS], cpu[ROUNDS];
    guint vfs = 0, reps = 0;
    for (int i = 0; i < ROUNDS; i++) {
        g_autoptr(GError) error = NULL;
        gint64 start = g_get_monotonic_time(), cpu_start = cpu_us();
        g_autoptr(HwInventory) inventory = kernel_look(root, &error);
        times[i] = g_get_monotonic_time() - start;
        cpu[i] = cpu_us() - cpu_start;
        if (inventory == NULL) {
            g_error("%s: %s", name, error->message);
        }
        vfs = inventory->vfs->len;
        reps = inventory->reps->len;
    }
    qsort(times, ROUNDS, sizeof times[0], compare);
    qsort(cpu, ROUNDS, sizeof cpu[0], compare);
    printf("%-9s median %6.2f ms, worst %6.2f ms; CPU median %6.2f ms (%u VFs, %u representors)\n",
           name, times[ROUNDS / 2] / 1000.0, times[ROUNDS - 1] / 1000.0, cpu[ROUNDS / 2] / 1000.0,
           vfs, reps);
    return cpu[ROUNDS / 2];
}

static gint64
recorded(void)
{
    g_autofree char *root = g_dir_make_tmp("hw-bench-XXXXXX", NULL);
    g_autoptr(GString) all = g_string_new(NULL);
    for (int pf = 0; pf < PFS; pf++) {
        pf_text(all, pf);
        links_text(all, pf);
        ports_text(all, pf);
    }
    recorded_write(root, all->str);
    gint64 median = measure("recorded", root);
    fd_remove_tree(root, NULL);
    return median;
}

static gint64
live(void)
{
    g_autoptr(GError) error = NULL;
    if (unshare(CLONE_NEWNET) < 0) {
        printf("live      not measured: needs root\n");
        return 0;
    }
    g_autoptr(NlSock) sock = nlsock_open(&error);
    for (int i = 0; i < PFS * VFS; i++) {
        char near[IFNAMSIZ], far[IFNAMSIZ];
        g_snprintf(near, sizeof near, "n%d", i);
        g_snprintf(far, sizeof far, "f%d", i);
        if (!link_add_veth(sock, near, far, 0, 0, NULL, &error)) {
            g_error("%s", error->message);
        }
    }
    return measure("live", "");
}

int
main(int argc, char **argv)
{
    gint64 limit_us = argc > 1 ? (gint64) (atof(argv[1]) * 1000) : G_MAXINT64;
    gint64 parsed = recorded(), dumped = live();
    printf("both      CPU median %6.2f ms\n", (double) (parsed + dumped) / 1000.0);
    return parsed + dumped > limit_us;
}
