/* pollwish.h: what the server's configuration says of the poll-mode process, as hawser-dpd is told it, and how it is.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/dpd/dpdsession.h"

/* Yields. */
bool pollwish_send(Agent *agent, DpdSession *session, GError **error);
/* Follows changes of the configuration from now on. */
void pollwish_start(Agent *agent);
/* As it is, with up to 'flows' flows; for dpdclient_answer_free(). UNSUPPORTED by a hawser-dpd of an older release.
 * Yields. */
Dpd__Frame *pollwish_look(Agent *agent, guint flows, GError **error);
