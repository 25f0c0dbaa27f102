/* simstate.h: the file that is a simulated NIC, open and locked. For sim.c and simnic.c.
 * Threads: any, one a Sim. */
#pragma once
#include "base/error.h"
#include "hw/inventory.h"

typedef struct {
    int lock;      /* owned; flock'ed while open */
    char *path;    /* owned */
    json_t *state; /* owned */
} Sim;

/* Waits for whoever has it open. NOT_FOUND, CORRUPT. */
Sim *simstate_open(const char *directory, GError **error);
void simstate_close(Sim *sim);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sim, simstate_close)
bool simstate_save(Sim *sim, GError **error);
/* Fails a call that a test wants to fail. */
bool simstate_fault(Sim *sim, const char *call, GError **error);

/* Borrowed; NOT_FOUND. */
json_t *simstate_pf(Sim *sim, const char *dev, GError **error);
json_t *simstate_vf(Sim *sim, const char *dev, GError **error);
/* A VF entry as it is after the PF made it. */
json_t *simstate_new_vf(const json_t *pf, guint number);

/* "" and 'missing' where the object has none. */
const char *simstate_text(const json_t *object, const char *key);
json_int_t simstate_int(const json_t *object, const char *key, json_int_t missing);
json_t *simstate_find(const json_t *list, const char *key, const char *value);

/* Names of the pair behind a VF: the VF's own and the far end, which is the representor in switchdev
 * mode and a port of the inner bridge in legacy mode. */
bool simstate_is_switchdev(const json_t *pf);
void simstate_near_end(const json_t *pf, size_t vf, char ret_name[IFNAMSIZ]);
void simstate_far_end(const json_t *pf, size_t vf, char ret_name[IFNAMSIZ]);
