/* vmsev.h: AMD's encrypted memory for VMs. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* What QEMU's sev-guest object is to be given (vmmachine.h), a new reference; NULL when security.sev is
 * unset. UNSUPPORTED with what is missing when this host can't, INVALID for keys that don't fit. Yields. */
bool vmsev_prepare(Inst *inst, json_t **ret_sev, GError **error);

/* ---- its parts, pure ---- */
struct vmsev_host {
    bool sev, es; /* what the kernel can */
};
/* Whether a machine of this architecture with these keys may start on such a host. */
bool vmsev_check(json_t *config, const char *architecture, const struct vmsev_host *host,
                 GError **error);
/* The object's properties, by what query-sev-capabilities said; the guest owner's key and session are in
 * VMSEV_DH and VMSEV_SESSION of 'dir'. A new reference. */
#define VMSEV_DH      "sev-dh.base64"
#define VMSEV_SESSION "sev-session.base64"
json_t *vmsev_properties(json_t *config, json_t *found, const char *dir);
