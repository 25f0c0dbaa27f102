/* livedecide.h: which of two servers runs a virtual machine that was being moved, whatever died meanwhile.
 * Threads: main loop, inside fibers; all but livedecide_holds() yield. */
#pragma once
#include "agent/inst/record.h"
#include "agent/state/live_moves.h"

/* ---- source ---- */
/* What stands still here from now on is to go on. */
bool livedecide_begin(Inst *inst, const char *uuid, const char *secret, GError **error);
/* The guest is the target's from now on: it does not go on here unless the target says that it won't. */
bool livedecide_give(Inst *inst, const char *uuid, const char *secret, GError **error);
/* After livedecide_give(), when the target can't be heard: waits for it to call. True: it runs there;
 * false: it refused, and the guest is ours. TIMEOUT. */
bool livedecide_await(Inst *inst, const char *uuid, gint64 wait_ms, bool *ret_owned,
                      GError **error);
/* It is settled. */
void livedecide_end(Inst *inst, const char *uuid);
/* In the background: waits for the queue and the target, and does what it says. */
void livedecide_settle(Inst *inst, const char *uuid);

/* ---- target ---- */
/* 'peer': where the source can be asked: {"urls":[…],"certificate"}; borrowed. */
bool livedecide_prepare(Inst *inst, const char *uuid, const char *secret, json_t *peer,
                        GError **error);
/* With the queue held: asks the source until it answers, for ever. True: the guest is ours; false: it is the
 * source's. */
bool livedecide_ask(Inst *inst, const char *uuid);
/* The source knows: the row goes. */
void livedecide_forget(Inst *inst, const char *uuid);
/* Tells the source "owned" or "refused", until it has heard, and drops the row. In the background. */
void livedecide_tell(Agent *agent, const char *uuid, bool owned);

/* ---- at start ---- */
/* Whether it is part of a move that is not settled: nothing may be undone for it. */
bool livedecide_holds(Inst *inst);
/* Reads the rows; before instances are adopted. */
bool livedecide_load(Agent *agent, GError **error);
/* Settles what is not; after they are. */
void livedecide_start(InstTable *table);

extern const Route livedecide_routes[];
