/* snapshot.h: snapshots of instances: taking, restoring, names, expiry, schedule.
 * Threads: main loop, inside fibers; all yield but for snapshot_minute(), a timer. */
#pragma once
#include "agent/api/operation.h"
#include "agent/inst/record.h"

/* 'name' NULL: from snapshots.pattern; expires_at -1: from snapshots.expiry. 'stateful': with what runs
 * (CONFLICT when nothing does). *ret_name: caller frees. */
bool snapshot_take(Inst *inst, const char *name, gint64 expires_at, bool stateful,
                   const Caller *caller, char **ret_name, GError **error);
/* With the queue held: the one that "@startup" in snapshots.schedule asks for. */
bool snapshot_at_start(Inst *inst, GError **error);
/* 'stateful': the guest goes on where it was when the snapshot was taken. */
bool snapshot_restore(Inst *inst, const char *name, bool stateful, const Caller *caller,
                      GError **error);
bool snapshot_delete(Inst *inst, const char *name, const Caller *caller, GError **error);
bool snapshot_rename(Inst *inst, const char *name, const char *new_name, const Caller *caller,
                     GError **error);
bool snapshot_set_expiry(Inst *inst, const char *name, gint64 expires_at, GError **error);
/* The name that the pattern gives; 'names' are those that are taken. Caller frees. */
char *snapshot_name(const char *pattern, const char *const *names, gint64 now, GError **error);
/* At start: removes what a crash left half taken or half deleted (and what has expired). */
void snapshot_clear_unfinished(InstTable *table);
/* Once a minute: expiry and schedules, in a fiber of its own. GSourceFunc; data is the InstTable. */
gboolean snapshot_minute(gpointer data);
