/* Frames of a page stream, as a hostile source could send them. */
#include "dataplane/pages/pageframe.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const guint8 *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const guint8 *bytes, size_t size)
{
    enum { MEMORY = 8 << 20, CHANNELS = 2 };
    struct frame frame = {0};
    guint32 crc;
    guint8 packed[FRAME_TABLE_MAX], fixed[FRAME_TABLE_MAX];
    if (size < FRAME_HEADER_BYTES || !frame_get_header(bytes, &frame, NULL)) {
        return 0;
    }
    size_t table = frame_table_bytes(&frame);
    if (size < FRAME_HEADER_BYTES + table) {
        return 0;
    }
    memcpy(fixed, bytes, FRAME_HEADER_BYTES + table);
    memset(fixed + 20, 0, 4); /* mutants seldom have the right sum: it is given to them */
    crc = GUINT32_TO_LE(frame_crc(0, fixed, FRAME_HEADER_BYTES + table));
    memcpy(fixed + 20, &crc, sizeof(crc));
    if (!frame_get_table(fixed, fixed + FRAME_HEADER_BYTES, MEMORY, CHANNELS, &frame, &crc, NULL)) {
        return 0;
    }
    for (guint i = 0; i < frame.n_extents; i++) {
        const struct page_run *extent = &frame.extents[i];
        g_assert_true(extent->offset < MEMORY && extent->bytes <= MEMORY - extent->offset);
        g_assert_cmpuint(extent->offset / FRAME_REGION_BYTES % CHANNELS, ==, frame.channel);
    }
    size_t length = frame_put(&frame, packed, &crc); /* what was taken is what is put */
    g_assert_cmpmem(packed, length, fixed, FRAME_HEADER_BYTES + table);
    guint64 wants[FRAME_WANTS_MAX];
    if (frame.kind == FRAME_WANT && size - length >= frame.payload_bytes &&
        frame_get_wants(bytes + length, &frame, MEMORY, CHANNELS, wants, NULL)) {
        for (guint i = 0; i < frame.payload_bytes / 8; i++) {
            g_assert_true(wants[i] < MEMORY && wants[i] % PAGE_BYTES == 0);
        }
    }
    return 0;
}
