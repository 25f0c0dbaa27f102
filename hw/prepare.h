/* prepare.h: an operator's word on how many VFs a PF has and how its eswitch works, carried out and kept.
 * Threads: any. Calls block for seconds: drivers come and go. */
#pragma once
#include "hw/backend.h"

struct prepare_want {
    const char *pf; /* interface or address */
    guint vfs;
    HwEswitch mode; /* UNKNOWN: as it is */
};
/* Makes the PF so; what is so already is left alone. CONFLICT, and nothing is changed, when VFs would
 * have to go that somebody uses: 'claimed' (may be NULL) are devices that the caller knows to be in
 * use. *ret_steps: what was done, as texts; a new reference. */
bool prepare_pf(HwBackend *hw, const struct prepare_want *want, const char *const *claimed,
                json_t **ret_steps, GError **error);

/* Keeps it in a file for prepare_boot(), by the PF's address. vfs 0 in mode legacy forgets the PF. */
bool prepare_keep(HwBackend *hw, const char *path, const struct prepare_want *want, GError **error);
/* Carries out all that the file says: every PF is tried, the first failure is the error. A file that
 * isn't there is no failure. */
bool prepare_boot(HwBackend *hw, const char *path, GError **error);
