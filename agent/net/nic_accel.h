/* nic_accel.h: NICs of ovn networks whose packets go past the host: a virtual function, or a vDPA device
 * on one, in place of the veth pair; its representor is on br-int.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/nicuse.h"

/* Whether the device asks for it (acceleration=sriov, vdpa), and no move has put software in its place. */
bool nic_accel_wanted(const NicUse *use);
/* Whether the NIC that runs, or ran, has a function: by its volatile keys. */
bool nic_accel_running(const NicUse *use);
/* Claims, binds to the logical port, and notes in volatile.*; *ret_link is the interface to hand in, the
 * caller's. With hawser.acceleration.fallback=true and nothing to be had: true, and *ret_link NULL; a
 * veth pair takes its place. Yields. */
bool nic_accel_start(NicUse *use, const char *lsp, const char *mac, char **ret_link,
                     GError **error);
/* What QEMU is given of a function: vfio, or vdpa (vm/vmitem.h); nothing when it has none. */
void nic_accel_vm(NicUse *use, json_t *item);
/* Off the bridge and back to the host as it was. Repeats safely. Yields. */
bool nic_accel_stop(const Nic *nic, Agent *agent, GError **error);
/* The instance was found running. */
void nic_accel_adopt(NicUse *use, const char *lsp, const char *mac);
