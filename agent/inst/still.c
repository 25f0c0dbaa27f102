/* Freezing for the time of a copy.
 * Called by copy.c (drivers that copy file by file) and moveinst.c (the last pass of a transfer). */
#include "agent/inst/still.h"
#include "agent/inst/instdriver.h"

bool
still_begin(Inst *inst)
{
    if (inst->state != INST_RUNNING) {
        return false;
    }
    inst_move(inst, INST_FREEZING);
    bool ok = inst->driver->freeze(inst, true, NULL);
    if (inst->state == INST_FREEZING) {
        inst_move(inst, ok ? INST_FROZEN : INST_RUNNING);
    }
    return ok;
}

void
still_end(Inst *inst, bool frozen)
{
    if (frozen && inst->state == INST_FROZEN) {
        inst_move(inst, INST_THAWING);
        inst->driver->freeze(inst, false, NULL);
        if (inst->state == INST_THAWING) {
            inst_move(inst, INST_RUNNING);
        }
    }
}
