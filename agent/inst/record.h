/* record.h: the body of an instance, for the files of this folder: what the rows say, what runs.
 * Threads: main loop only. */
#pragma once
#include "agent/inst/cgroup.h"
#include "agent/inst/inst.h"
#include "agent/state/inst_rows.h"

typedef struct Driver Driver;
typedef struct VmSession VmSession;
typedef struct InstShown InstShown;

struct Inst {
    int refs;
    Agent *agent;
    gint64 id, created_at, last_used_at;
    char *project, *name, *type, *architecture, *description;
    char *object; /* project_object_name(): of the volume, the log directory, the container */
    bool ephemeral, stateful;
    /* JSON is never changed in place: a change makes a new object, so that whoever holds a
     * reference (a reply, the database thread) sees the old one whole. */
    json_t *config, *devices, *profiles;
    json_t *base_config, *base_devices; /* the profiles' part, shared between instances */
    json_t *expanded_config, *expanded_devices;
    InstShown *shown; /* owns; what lists said of it last (show.c) */

    InstState state;
    const char *doing; /* what holds the queue: "start" */
    FiberLock queue;
    FiberSignal changed; /* state, or the end of the monitor */
    bool deleted;
    bool delete_asked; /* an operation deletes it: later ones find it gone */
    bool restarting;   /* a restart stops it: an ephemeral one is kept */
    bool given_away;   /* a live move gave the guest to another server, and has not heard from it */
    bool unfinished;   /* being created: shown, but nothing may be done to it */

    /* While it runs. */
    const Driver *driver;
    pid_t pid, monitor;
    int pidfd, monitor_fd;
    guint monitor_source;
    bool monitor_gone;
    guint64 incarnation; /* grows with each start */
    Cgroup *cgroup;      /* owns; NULL unless running, and for virtual machines */
    VmSession *vm;       /* owns; NULL unless a running virtual machine (vm/vm.h) */
    char *root_pool;     /* of the expanded root disk */
};

struct InstTable {
    Agent *agent;
    GHashTable *by_key; /* "project/name" → Inst, a reference */
    guint minute;       /* schedule and expiry */
    bool stopping;      /* nothing starts any more */
    FiberLock ids;      /* around the choice of an id range */
};

/* ---- rows and memory ---- */
bool record_load_all(InstTable *table, GError **error); /* Yields. */
/* Inserts the row and puts the instance into the table, or neither; takes the row. A reference. */
Inst *record_create(InstTable *table, InstRow **row, GError **error); /* Yields. */
/* The same with its snapshots: SnapRow elements. Yields. */
Inst *record_create_whole(InstTable *table, InstRow **row, GPtrArray *snaps, GError **error);
/* Stores and takes over local config, devices, profiles, description, ephemeral of 'row'. Yields. */
bool record_update(Inst *inst, const InstRow *row, GError **error);
bool record_rename(Inst *inst, const char *name, GError **error); /* Yields. */
bool record_delete(Inst *inst, GError **error);                   /* Yields. */
/* Its rows say what 'row' says, project and name included: memory follows. Yields. */
bool record_moved(Inst *inst, const InstRow *row, GError **error);
/* Config after 'changes' (borrowed; NULL or empty values remove), stored with last_used_at. Yields. */
bool record_set_used(Inst *inst, json_t *changes, gint64 used_at, GError **error);
/* What config, devices and profiles would expand to; new references. Yields. */
bool record_expand(Agent *agent, const char *project, json_t *profiles, json_t *config,
                   json_t *devices, json_t **ret_config, json_t **ret_devices, GError **error);
/* A copy of the row as it is now; caller frees. */
InstRow *record_row(Inst *inst);
/* Reads the profiles again. Yields. */
bool record_refresh(Inst *inst, GError **error);
/* Snapshots in order; caller unrefs. Yields. */
GPtrArray *record_snapshots(Inst *inst, GError **error);
/* NOT_FOUND "Instance snapshot not found". Yields. */
SnapRow *record_snapshot(Inst *inst, const char *name, GError **error);

/* object with 'changes' applied: NULL and "" remove; a new reference. */
json_t *record_merge(json_t *object, json_t *changes);
/* A device's own volatile keys without their prefix; a new reference. */
json_t *record_volatile_of(json_t *config, const char *device);
/* The changes that take the volatile keys of a device from 'config' to 'now'; a new reference. */
json_t *record_volatile_diff(json_t *config, const char *device, json_t *now);

/* ---- states ---- */
/* Whether the move is allowed; and the only writer of inst->state. */
bool inst_may_move(InstState from, InstState to);
void inst_move(Inst *inst, InstState to);
const char *inst_state_name(InstState state); /* "Running" */
int inst_state_code(InstState state);         /* 103 */

/* Takes the queue; CONFLICT once the instance was deleted. 'doing' is a literal. Yields. */
FiberHold inst_hold(Inst *inst, const char *doing, GError **error);
void inst_lifecycle(Inst *inst, const Caller *caller, const char *action);
