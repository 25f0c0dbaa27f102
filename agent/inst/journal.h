/* journal.h: steps on volume and row together that must not stay half done: rename, restore, refresh.
 * Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/inst/record.h"

/* Notes what is about to be done ('undo' is stolen); the returned id goes to journal_end(). */
char *journal_begin(Inst *inst, const char *kind, json_t *undo, GError **error);
void journal_end(Inst *inst, char *id /* taken */);
/* At start, once the table is loaded: finishes what is noted. */
void journal_repair(InstTable *table);
