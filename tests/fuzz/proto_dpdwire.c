/* Any bytes as messages of dpd's socket: never a crash, a bounded frame, and a port that passes its
 * check keeps what the daemon copies into fixed room. Each input is 16-bit length, message, … */
#include "proto/dpdwire.h"
#include "proto/portspec.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
check_frame(const Dpd__Frame *frame)
{
    if (frame->body_case != DPD__FRAME__BODY_APPLY) {
        return;
    }
    for (size_t i = 0; i < frame->apply->n_ports; i++) {
        const Dpd__Port *port = frame->apply->ports[i];
        if (portspec_check(port, NULL)) {
            g_assert_cmpuint(strlen(port->netdev), <, 16);
            g_assert_cmpuint(strlen(port->bridge), <, 16);
            g_assert_cmpuint(strlen(port->mac), <, 18);
            g_assert_cmpuint(strlen(port->path), <, 108);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
    while (size >= 2) {
        size_t part = MIN((size_t) bytes[0] << 8 | bytes[1], size - 2);
        Dpd__Frame *frame = NULL;
        if (!dpdjoiner_feed(joiner, bytes + 2, part, &frame, NULL)) {
            return 0;
        }
        if (frame != NULL) {
            check_frame(frame);
            dpdwire_frame_free(frame);
        }
        bytes += 2 + part;
        size -= 2 + part;
    }
    return 0;
}
