/* watched.h: what is watched of the northbound database, and whose rows lie there.
 * Threads: main loop. */
#pragma once
#include "proto/ovsdb.h"

/* Ends with a table NULL. */
extern const OvsdbTable watched_tables[];
/* Every scope of which 'owner' has rows, sorted; caller frees with g_strfreev. */
char **watched_scopes(Ovsdb *db, const char *owner);
