/* Packets as a core judges them. A full ring loses the newest and counts them: the core never waits.
 * Called by pollcore.c and pollshow.c. */
#include "dataplane/poll/polltrace.h"

#include <string.h>

void
polltrace_see(struct polltrace *trace, uint64_t now_ns, uint16_t nic,
              const struct engine_frame *frames, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct packet packet = {0};
        const uint8_t *data = frames[i].data;
        packet_parse(data, data + frames[i].size, frames[i].size, &packet);
        packet.tuple.nic = nic;
        trace->burst[i] =
            (struct layout_event){.at_ns = now_ns, .tuple = packet.tuple, .size = packet.size};
    }
}

static bool
wanted(const struct polltrace_want *want, const struct layout_tuple *tuple)
{
    if (want->nic != 0 && want->nic != tuple->nic) {
        return false;
    }
    return want->family == 0 || (want->family == tuple->family &&
                                 (memcmp(want->address, tuple->src, sizeof want->address) == 0 ||
                                  memcmp(want->address, tuple->dst, sizeof want->address) == 0));
}

void
polltrace_tell(struct polltrace *trace, uint32_t index, uint8_t reason, bool out)
{
    struct layout_event *seen = &trace->burst[index];
    if (!wanted(&trace->want, &seen->tuple)) {
        return;
    }
    if (trace->head - __atomic_load_n(&trace->tail, __ATOMIC_ACQUIRE) == POLLTRACE_ROOM) {
        trace->lost++;
        return;
    }
    seen->reason = reason;
    seen->out = out;
    trace->ring[trace->head % POLLTRACE_ROOM] = *seen;
    __atomic_store_n(&trace->head, trace->head + 1, __ATOMIC_RELEASE);
}

bool
polltrace_take(struct polltrace *trace, struct layout_event *ret_event)
{
    if (trace->tail == __atomic_load_n(&trace->head, __ATOMIC_ACQUIRE)) {
        return false;
    }
    *ret_event = trace->ring[trace->tail % POLLTRACE_ROOM];
    __atomic_store_n(&trace->tail, trace->tail + 1, __ATOMIC_RELEASE);
    return true;
}
