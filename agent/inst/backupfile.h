/* backupfile.h: backup.yaml beside an instance's root filesystem: what is needed to import it again.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"

/* Writes it where the volume is mounted; a failure is logged. Yields. */
void backupfile_store(Inst *inst);
