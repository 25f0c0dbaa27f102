/* pollhost.h: the poll-mode process (`hawser-dpd --dpdk`) that the daemon keeps beside itself: started, adopted,
 * told its ports, ended. Without processors for it there is none.
 * Threads: main loop, inside fibers where marked "Yields". */
#pragma once
#include "base/error.h"
#include "proto/dpdwire.h"

typedef struct PollHost PollHost;
/* Whether the daemon has a port of this id: of ports that were asked for in a former life it will say so soon. */
typedef bool (*PollHostKnows)(const char *id, void *data);
/* The process's directory is 'dir'/poll. Begins to look for one that runs, or starts it, in the background. */
PollHost *pollhost_new(const char *dir, PollHostKnows knows, void *data);
/* The process goes on without us; with 'end' it is asked to end. */
void pollhost_free(PollHost *host, bool end);
/* Remembers what is wished, and makes it so: another wish than before is another process. BUSY while ports need the
 * one that would go for good. Yields. */
bool pollhost_configure(PollHost *host, const Dpd__FastPoll *wish, GError **error);
/* Polls the port, or revises it. On failure it is not polled. UNAVAILABLE when there is no such process. Yields. */
bool pollhost_put(PollHost *host, const Dpd__PollPort *port, GError **error);
/* None of that id is success. Yields. */
bool pollhost_drop(PollHost *host, const char *id, GError **error);
/* Forgets the flows of these zones; of all, when 'count' is 0. No process is success. Yields. */
bool pollhost_bump(PollHost *host, const guint32 *zones, size_t count, GError **error);
/* All ports are slow, which they are at first, or may be fast. Yields. */
bool pollhost_hold(PollHost *host, bool off, GError **error);
/* Where the process listens; NULL: there is none. */
const char *pollhost_socket(const PollHost *host);
bool pollhost_has(const PollHost *host, const char *id);
/* The answer to a FastPoll, with up to 'flows' flows; for dpdwire_frame_free(). Yields. */
Dpd__Frame *pollhost_look(PollHost *host, guint flows);
