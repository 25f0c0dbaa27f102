/* diffstep.h: one step of a diff. Threads: main loop. */
#pragma once
#include "agent/ovn/plan.h"
#include "proto/ovsdb.h"

typedef enum { STEP_CREATE, STEP_CHANGE, STEP_REMOVE, STEP_JOIN, STEP_LEAVE } DiffStepKind;

struct diffstep {
    DiffStepKind kind;
    const char *scope, *table, *key; /* borrowed */
    const char *uuid;                /* of the found row; NULL for CREATE */
    char ref[16];                    /* of CREATE */
    const char *column;              /* of JOIN and LEAVE */
    json_t *wanted;                  /* columns, or the elements; owned */
    json_t *found;                   /* columns of the same names; owned */
};
/* Appends; borrowed. */
struct diffstep *diffstep_add(GPtrArray *steps, DiffStepKind kind, const char *scope,
                              const char *table, const char *key);
void diffstep_free(gpointer step); /* as a GPtrArray's free function */
/* As diff_emit() and diff_json(). */
void diffstep_emit(const GPtrArray *steps, const OvnPlan *plan, const char *owner, OvsdbTxn *txn);
json_t *diffstep_json(const GPtrArray *steps);
