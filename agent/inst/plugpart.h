/* plugpart.h: one device of an instance, for plug.c (all of them at once), plugchange.c (from one set to
 * another) and move/liveswap.c. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/plug.h"
#include "agent/net/network.h"

struct plugpart {
    const char *name; /* borrowed from the map */
    json_t *config;
};

bool plugpart_is_type(json_t *device, const char *type);
/* struct plugpart, in the order of their start (D1); the caller unrefs. */
GArray *plugpart_in_order(json_t *devices);
/* act() for each device that is wanted, in that order, until one fails. Yields. */
bool plugpart_each(Inst *inst, bool (*wants)(json_t *device),
                   bool (*act)(Inst *inst, const struct plugpart *entry, GError **error),
                   GError **error);
/* Of a profile that is for both kinds of instances: not for this one. */
bool plugpart_misfit(const struct plugpart *entry, const char *inst_type);
/* Borrows all that it is given. */
Nic plugpart_nic_of(Inst *inst, const char *name, json_t *config, json_t *volatiles);
/* The device's volatile keys, as they are now, into what is to be stored. */
void plugpart_merge_changes(json_t *changes, Inst *inst, const char *name, json_t *volatiles);
/* As stored, with what is about to be; a new reference. */
json_t *plugpart_volatiles_of(Inst *inst, json_t *changes, const char *name);
/* Its host side; what QEMU gets goes into 'items'. Yields. */
bool plugpart_start_vm_device(Inst *inst, const struct plugpart *entry, json_t *changes,
                              json_t *items, GError **error);
/* Repeats safely; failures are logged. Yields. */
void plugpart_stop_one(Inst *inst, const struct plugpart *entry, json_t *changes);
/* Its network reserves what it asks for. Yields. */
bool plugpart_settle_nic(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error);
/* … and no more. Yields. */
void plugpart_forget_nic(Inst *inst, const struct plugpart *entry);
/* Into a virtual machine that runs: its host side, then QEMU. Yields. */
bool plugpart_hot_add_vm(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error);
/* Out of QEMU, if the guest lets go; then its host side. Yields. */
bool plugpart_hot_remove_vm(Inst *inst, const struct plugpart *entry, json_t *changes,
                            GError **error);
