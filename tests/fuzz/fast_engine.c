/* Any frames, from instances and from the slow path, through the state machine over memory: never outside
 * the frame, and only what may be fast is. Each input is: steps of a byte (bit 0: entering, bits 1-2: port,
 * bit 3: half a second passes, bit 4: the zone is bumped, bit 5: as a burst), a 16-bit size, and the frame. */
#include "dataplane/fast/engine.h"
#include "tests/bpf/frames.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { FLOWS = 200 };

static struct engine engine;
static guint8 copy[65536];

static void *
copy_room(void *user, __u32 index, __u32 size)
{
    return size <= sizeof copy ? copy : NULL;
}

static struct engine_seat seat = {.copy_room = copy_room};
static guint64 now_ns = G_GUINT64_CONSTANT(1000000000000);
static guint32 generation = 1;

static void
set_up(void)
{
    static struct layout_nic nics[LAYOUT_NICS];
    static struct layout_pend pend[2 * LAYOUT_PENDING];
    void *flows = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    engine.nics = nics;
    engine.pend = pend;
    memset(flows, 0, flowtable_bytes(FLOWS));
    flowtable_init(&engine.table, flows, FLOWS, flowtable_test_seed);
    engine.config.expire_ns = 2000000000, engine.config.renew_ns = 1000000000;
    engine.config.retry_ns = engine.config.pend_ns = 200000000;
    for (guint i = 1; i < 4; i++) {
        const guint8 addr[4] = {10, (guint8) i, 0, 2}, mac[6] = {2, 0, 0, 0, 0, (guint8) (9 + i)};
        nics[i] = (struct layout_nic){.ifindex = i,
                                      .flags = LAYOUT_NIC_ON,
                                      .zone = i == 3 ? 2 : 1,
                                      .mtu = 1500,
                                      .addr4_count = 1};
        memcpy(nics[i].mac, mac, sizeof mac);
        memcpy(&nics[i].addr4[0], addr, sizeof addr);
    }
}

static void
enter(guint16 nic, const uint8_t *bytes, size_t size, gboolean by_burst)
{
    g_autofree uint8_t *frame = g_memdup2(bytes, size);
    struct engine_frame one = {frame, (guint32) size};
    struct engine_verdict verdict;
    if (by_burst) {
        engine_enter_burst(&engine, &seat, now_ns, nic, &one, 1, &verdict);
    } else {
        verdict = engine_enter(&engine, now_ns, nic, frame, (guint32) size, 0, NULL);
    }
    if (verdict.way != ENGINE_FAST) {
        g_assert_true(size == 0 || memcmp(frame, bytes, size) == 0);
        return;
    }
    /* M1, M5, M10 */
    g_assert_cmpmem(bytes + 6, 6, engine.nics[nic].mac, 6);
    g_assert_cmpmem(bytes + 26, 4, &engine.nics[nic].addr4[0], 4);
    g_assert_cmpint(bytes[14], ==, 0x45);
    g_assert_cmpint(engine.nics[verdict.nic].zone, ==, engine.nics[nic].zone);
    g_assert_cmpmem(frame, 6, engine.nics[verdict.nic].mac, 6);
    g_assert_cmpint(frame[14 + 8], >, 0);
    g_assert_cmpint(frame[14 + 8], <=, bytes[14 + 8]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (engine.nics == NULL) {
        set_up();
    }
    engine.config.generation[1] = ++generation;
    engine.config.generation[2] = ++generation;
    while (size >= 3) {
        guint8 step = bytes[0];
        guint16 nic = (step >> 1 & 3) % 3 + 1;
        size_t part = MIN((size_t) bytes[1] << 8 | bytes[2], size - 3);
        now_ns += step & 8 ? 500000000 : 1000000;
        if (step & 16) {
            engine.config.generation[1] = ++generation;
        }
        if (step & 1) {
            enter(nic, bytes + 3, part, step & 32);
        } else {
            g_autofree uint8_t *frame = g_memdup2(bytes + 3, part);
            engine_leave(&engine, NULL, now_ns, nic, frame, (guint32) part);
        }
        bytes += 3 + part;
        size -= 3 + part;
    }
    engine_age(&engine, now_ns, 1000000000, 1000000000);
    g_assert_cmpuint(engine.table.count, <=, FLOWS);
    return 0;
}
