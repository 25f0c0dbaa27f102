/* backuppack.h: writes an instance as the archive of a backup. Threads: main loop, inside fibers. */
#pragma once
#include "agent/image/meter.h"
#include "agent/inst/inst.h"

typedef struct {
    Inst *inst;
    const char *dir; /* for what is made on the way */
    const char *compression;
    bool instance_only, optimized;
    int fd; /* of the archive */
    Meter *meter;
} BackupPack;
bool backuppack_write(const BackupPack *pack, GError **error); /* Yields. */
