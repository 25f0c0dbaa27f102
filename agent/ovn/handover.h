/* handover.h: a logical port that goes from one server to another without a gap, on a northbound database that
 * both share. Threads: main loop, inside fibers. All yield. */
#pragma once
#include "agent/agent.h"
#include "base/error.h"

/* Whether the port's row is there and another server's. */
bool handover_is_theirs(Agent *agent, const char *lsp);
/* The port may be bound here as well: until a RARP of the guest comes out of it here, nothing goes in or out.
 * What is not another server's stays as it is. */
bool handover_begin(Agent *agent, const char *lsp, GError **error);
/* Waits until this host's chassis has it, and its flows; a late one is only slow. */
void handover_await(Agent *agent, const char *lsp, gint64 wait_ms);
/* Not here after all. */
void handover_cancel(Agent *agent, const char *lsp);
/* The guest runs here: the row is ours from now on, as one of 'scope', and the port is bound here only. Ours
 * already, or not there: success. */
bool handover_take(Agent *agent, const char *lsp, const char *scope, GError **error);
