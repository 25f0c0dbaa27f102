/* ownvol.h: custom volumes that the server itself uses, for its backups and images
 * (storage.backups_volume, storage.images_volume).
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/store/pool.h"

/* At start, once the pools are there: directories follow the settings, now and with each change. */
bool ownvol_start(Agent *agent, GError **error);
/* Whether the server itself uses the volume. */
bool ownvol_is(Agent *agent, const Vol *vol);
