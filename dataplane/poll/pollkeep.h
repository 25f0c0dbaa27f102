/* pollkeep.h: the ports that were asked for, in a file, so that a process that starts anew has them again.
 * Threads: main loop only. */
#pragma once
#include "base/error.h"
#include "proto/dpdwire.h"

typedef struct PollKeep PollKeep;

/* Reads 'dir'/poll.ports; without one, or with one that can't be read, there are no ports. */
PollKeep *pollkeep_new(const char *dir);
void pollkeep_free(PollKeep *keep);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollKeep, pollkeep_free)
/* Borrowed: Dpd__PollPort elements. */
GPtrArray *pollkeep_ports(const PollKeep *keep);
/* Replaces a port of the same id. */
void pollkeep_add(PollKeep *keep, const Dpd__PollPort *port);
/* Whether it was there. */
bool pollkeep_remove(PollKeep *keep, const char *id);
/* What was added and removed is on disk when it returns. */
bool pollkeep_save(const PollKeep *keep, GError **error);
