/* backupfile.h: backup.yaml beside an instance's root filesystem: what is needed to import it again.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"

/* {"container","snapshots","pool","volume","volume_snapshots"}, a new reference. Yields. */
json_t *backupfile_document(Inst *inst, const Vol *vol, bool with_snapshots);
/* Writes it where the volume is mounted; a failure is logged. Yields. */
void backupfile_store(Inst *inst);
