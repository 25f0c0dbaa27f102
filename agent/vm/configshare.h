/* configshare.h: what a virtual machine finds in its share "config": LXD's layout, with our agent in it.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* Writes '<mount>/config' anew; *ret_path is the caller's. Yields. */
bool configshare_write(Inst *inst, const char *mount, json_t *mounts, char **ret_path,
                       GError **error);
/* The same as an ISO image at 'path', for guests without 9p and virtiofs: "agent:config" with everything,
 * "cloud-init:config" (label cidata) with cloud-init's files alone. Yields. */
bool configshare_iso(Inst *inst, bool cloud_only, const char *path, GError **error);
/* cloud-init's files as texts: {"meta-data","user-data","vendor-data"} and "network-config" when there is
 * one; a new reference. */
json_t *configshare_cloud_init(Inst *inst);
