/* doctor.h: what stands between this host and accelerated NICs, check by check, with the next step.
 * Threads: any. */
#pragma once
#include "hw/inventory.h"

struct doctor_facts {
    char *
        kernel_config; /* text of the running kernel's configuration, NULL when it isn't found; owned */
    char *kernel_release;
    int ovs_hw_offload; /* other_config:hw-offload of the local Open vSwitch; -1: no answer */
    bool ovs_embedded;  /* it is the agent's own */
    bool ovs_userspace; /* br-int is on the userspace datapath, which offloads nothing */
};
/* Reads kernel_config and kernel_release; the rest is the caller's. */
void doctor_facts_read(struct doctor_facts *facts);
void doctor_facts_clear(struct doctor_facts *facts);

/* [{"subject": "kernel" or a PF, "check", "status": "ok", "warning", "error" or "unknown", "message",
 * "next": text or absent}]; a new reference. */
json_t *doctor_checks(const HwInventory *inventory, const struct doctor_facts *facts);
