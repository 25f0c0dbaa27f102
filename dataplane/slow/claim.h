/* claim.h: which virtual function a port gets, of those that the host has.
 * Threads: any; a pure function of what it is given. */
#pragma once
#include "hw/inventory.h"

struct claim_wish {
    HwUse use;
    const char *const *parents; /* PFs by interface or address, NULL-terminated; NULL: any */
    int numa;                   /* -1: no wish */
};
/* Whether somebody has the function already, by its hw_vf.dev. */
typedef bool (*ClaimHeld)(const char *dev, void *data);

/* The function: on a PF of the wished NUMA node if any can be had there, of these on the PF with the
 * fewest held, of these the first. NULL: NOT_FOUND for a parent that is not there, LIMIT when all
 * that could serve are held, UNSUPPORTED when none could, with the reason of the first. */
const struct hw_vf *claim_choose(const HwInventory *inventory, const struct claim_wish *wish,
                                 ClaimHeld held, void *data, GError **error);
