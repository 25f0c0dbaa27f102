/* schedule.h: names of automatic snapshots. Threads: main loop. */
#pragma once
#include "agent/store/pool.h"

/* The next free name by a pattern ("snap%d", "auto-{{ creation_date }}") among 'names'; caller frees. */
char *schedule_name(const char *pattern, GPtrArray *names, gint64 now_us);
/* The same for a volume's snapshots; 'pattern' NULL is "snap%d". Yields. */
char *schedule_next_name(PoolTable *table, const Vol *vol, const char *pattern, GError **error);
