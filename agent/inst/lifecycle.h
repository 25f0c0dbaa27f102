/* lifecycle.h: start, stop, restart, freeze; what happens when a container ends by itself; finding
 * running ones again. Threads: main loop, inside fibers; all but lifecycle_forget() yield. */
#pragma once
#include "agent/inst/record.h"

/* wait_s: -1 waits for ever for a clean stop. CONFLICT with LXD's texts for a wrong state. */
bool lifecycle_start(Inst *inst, const Caller *caller, GError **error);
bool lifecycle_stop(Inst *inst, bool force, gint64 wait_s, GCancellable *cancel,
                    const Caller *caller, GError **error);
/* Saves the running state first: the next start resumes from it. */
bool lifecycle_stop_stateful(Inst *inst, const Caller *caller, GError **error);
/* With the queue held: whether a saved state belongs to the instance ("stateful"); false removes it. */
bool lifecycle_set_stateful(Inst *inst, bool stateful, GError **error);
/* Before a start that is to be a fresh one. */
bool lifecycle_forget_state(Inst *inst, GError **error);
bool lifecycle_restart(Inst *inst, bool force, gint64 wait_s, GCancellable *cancel,
                       const Caller *caller, GError **error);
bool lifecycle_freeze(Inst *inst, bool frozen, const Caller *caller, GError **error);

/* Runs with the queue held (inst_hold). lifecycle_kill() returns once all is cleaned up; it leaves
 * an ephemeral instance alone. */
bool lifecycle_run(Inst *inst, GError **error);
bool lifecycle_kill(Inst *inst, GError **error);

/* Takes over one that was found, running or not, and clears what a crash left of it. */
void lifecycle_adopt(Inst *inst);
/* At start: takes over what runs, clears what a crash left; then starts what should run. */
void lifecycle_adopt_all(InstTable *table);
void lifecycle_autostart(InstTable *table);
/* Lets go of descriptors and sources; the container runs on. */
void lifecycle_forget(Inst *inst);
/* The container with this init is ours now. */
bool lifecycle_attach(Inst *inst, pid_t pid, GError **error);
