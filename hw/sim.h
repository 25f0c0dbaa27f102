/* sim.h: a switchdev NIC out of veth pairs, so that acceleration runs where there is no such hardware.
 * "sim:/DIRECTORY" names one: DIRECTORY/sim.json is the NIC, and keeps what was done to it, so several
 * processes see the same. Needs CAP_NET_ADMIN in the network namespace that the NIC is in.
 * Threads: any. */
#pragma once
#include "base/error.h"

/* What the simulated PFs look like; PF i is "<prefix><i>" on 0000:f<i>:00.0, its VFs "<pf>v<n>", their
 * representors "<pf>r<n>", the far end of its wire "<pf>w". */
struct sim_plan {
    const char *prefix; /* at most 8 bytes: "sim" */
    guint pfs, vfs, vfs_max;
    bool switchdev, vdpa, iommu;
};
/* Writes a new NIC, EXISTS when there is one. The interfaces are made by the first look at it. */
bool sim_create(const char *directory, const struct sim_plan *plan, GError **error);
/* Removes the interfaces and the directory's NIC. Not there is success. */
bool sim_destroy(const char *directory, GError **error);

/* Faults for tests, set until taken back with NULL: 'call' (a name of backend.h without "hw_", or
 * "*") fails with 'text', from the nth call on (1: the next), once. */
bool sim_fail(const char *directory, const char *call, guint nth, const char *text, GError **error);
/* Hides the representor of a port ("pf0vf3") for that long from now; -1: until 0. */
bool sim_hide_rep(const char *directory, const char *port, gint64 hide_ms, GError **error);
/* Somebody else takes the VF: 'driver' has it now. */
bool sim_seize(const char *directory, const char *vf_dev, const char *driver, GError **error);
