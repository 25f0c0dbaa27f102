/* discard.h: deleting an instance: its volume, files and rows.
 * Threads: main loop, inside fibers; yields. */
#pragma once
#include "agent/inst/record.h"

/* With the queue held, stopped. Finishes what it can't finish now at the next start. */
bool discard_instance(Inst *inst, GError **error);
/* Files outside the volume: logs, run directory, seccomp profile, devices. Repeats safely. */
void discard_files(Agent *agent, const char *object);
/* At start, after journal_repair(): ends deletions that a crash cut short. Yields. */
void discard_unfinished(InstTable *table);
