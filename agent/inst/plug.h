/* plug.h: all devices of an instance at once: NICs of net/network.h and the others of device.h behind
 * one door, in LXD's order. Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/inst/record.h"

/* What is right for the maps of an instance (or, with 'inst_type' NULL, a profile). 'inst' may be NULL
 * for one that is not there yet. 'local' (may be NULL): the instance's own devices; those of a profile
 * that its type can't have are passed over, as at its start. */
bool plug_validate(Agent *agent, const char *project, const char *name, const char *inst_type,
                   Inst *inst, json_t *config, json_t *devices, json_t *local, GError **error);
/* Whether all NICs of a container can be made in its network namespace before liblxc is there. */
bool plug_nics_inside(Inst *inst);
/* Prepares every device. *ret_lxc: [[key, value], …] for the container's configuration. 'netns' is its
 * network namespace if plug_nics_inside(), else 0. 'changes' gains the volatile keys to store. On failure
 * what was started is stopped again. */
bool plug_start_all(Inst *inst, int netns, json_t *changes, json_t **ret_lxc, GError **error);
bool plug_post_start_all(Inst *inst, GError **error);
/* After a restart of the agent: the devices of one that was found running. */
void plug_adopt_all(Inst *inst);
/* Repeats safely; failures are logged. */
void plug_stop_all(Inst *inst, json_t *changes);
/* Networks reserve what the NICs of a stopped instance ask for; or forget it, as the instance goes or
 * gets another name. */
bool plug_settle_all(Inst *inst, GError **error);
void plug_forget_all(Inst *inst);
/* From one set of devices to another, on a running or stopped instance: unplugs, plugs, updates. */
bool plug_change(Inst *inst, json_t *from, json_t *to, json_t *changes, GError **error);
/* Whether it is the root disk. */
bool plug_is_root(json_t *device);
/* The root disk among 'devices', borrowed, NULL when there is none or more than one. */
json_t *plug_root(json_t *devices, const char **ret_name, GError **error);
/* 'devices' with the root disk of 'expanded' on the pool, as an own device; a new reference. */
json_t *plug_root_on_pool(json_t *devices, json_t *expanded, const char *pool, GError **error);
