/* The stream's frames, packed and taken apart.
 * P1  Bytes of a peer are believed only after every bound was checked: no offset reaches the memory
 *     file that was not inside it.
 * P2  One region, one channel: the versions of a page cannot overtake each other. A frame that breaks
 *     this is refused, as it could undo a newer page.
 * Not here: reading from sockets, and the order of frames (pagesource.c, pagesink.c). */
#include "dataplane/pages/pageframe.h"

#include <string.h>

#define MAGIC 0x47505748u /* "HWPG" */

static void
put16(guint8 *out, guint16 value)
{
    value = GUINT16_TO_LE(value);
    memcpy(out, &value, sizeof(value));
}

static void
put32(guint8 *out, guint32 value)
{
    value = GUINT32_TO_LE(value);
    memcpy(out, &value, sizeof(value));
}

static void
put64(guint8 *out, guint64 value)
{
    value = GUINT64_TO_LE(value);
    memcpy(out, &value, sizeof(value));
}

static guint16
get16(const guint8 *in)
{
    guint16 value;
    memcpy(&value, in, sizeof(value));
    return GUINT16_FROM_LE(value);
}

static guint32
get32(const guint8 *in)
{
    guint32 value;
    memcpy(&value, in, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static guint64
get64(const guint8 *in)
{
    guint64 value;
    memcpy(&value, in, sizeof(value));
    return GUINT64_FROM_LE(value);
}

/* ---- CRC-32C ---- */

static guint32
crc_table(guint32 crc, const guint8 *bytes, size_t size)
{
    static guint32 table[256];
    static gsize made;
    if (g_once_init_enter(&made)) {
        for (guint32 i = 0; i < 256; i++) {
            guint32 value = i;
            for (int bit = 0; bit < 8; bit++) {
                value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78u : 0);
            }
            table[i] = value;
        }
        g_once_init_leave(&made, 1);
    }
    for (; size > 0; size--, bytes++) {
        crc = table[(crc ^ *bytes) & 0xff] ^ (crc >> 8);
    }
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static guint32
crc_hardware(guint32 crc, const guint8 *bytes, size_t size)
{
    guint64 wide = crc;
    for (; size >= 8; size -= 8, bytes += 8) {
        guint64 word;
        memcpy(&word, bytes, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (guint32) wide;
    for (; size > 0; size--, bytes++) {
        crc = __builtin_ia32_crc32qi(crc, *bytes);
    }
    return crc;
}
#endif

guint32
frame_crc(guint32 crc, const void *bytes, size_t size)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc_hardware(~crc, bytes, size);
    }
#endif
    return ~crc_table(~crc, bytes, size);
}

/* ---- frames ---- */

size_t
frame_table_bytes(const struct frame *frame)
{
    return (size_t) frame->n_extents * FRAME_EXTENT_BYTES;
}

size_t
frame_put(const struct frame *frame, guint8 *out, guint32 *ret_crc)
{
    size_t size = FRAME_HEADER_BYTES + frame_table_bytes(frame);
    put32(out, MAGIC);
    out[4] = frame->kind;
    out[5] = frame->flags;
    put16(out + 6, frame->n_extents);
    put16(out + 8, frame->channel);
    put16(out + 10, FRAME_VERSION);
    put32(out + 12, frame->round);
    put32(out + 16, frame->payload_bytes);
    put32(out + 20, 0);
    put64(out + 24, frame->sequence);
    guint8 *at = out + FRAME_HEADER_BYTES;
    for (guint i = 0; i < frame->n_extents; i++, at += FRAME_EXTENT_BYTES) {
        put64(at, frame->extents[i].offset);
        put64(at + 8, frame->extents[i].bytes);
    }
    *ret_crc = frame_crc(0, out, size);
    put32(out + 20, *ret_crc);
    return size;
}

static bool
refuse(GError **error, const char *what, guint64 value)
{
    return haw_fail(error, HAW_INVALID, "page stream: %s (%" G_GUINT64_FORMAT ")", what, value);
}

bool
frame_get_header(const guint8 in[FRAME_HEADER_BYTES], struct frame *ret_frame, GError **error)
{
    if (get32(in) != MAGIC) {
        return refuse(error, "this is no page stream", get32(in));
    }
    if (get16(in + 10) != FRAME_VERSION) {
        return refuse(error, "unknown version", get16(in + 10));
    }
    guint8 kind = in[4], flags = in[5];
    guint16 n_extents = get16(in + 6);
    guint32 payload_bytes = get32(in + 16);
    if (kind < FRAME_HELLO || kind >= FRAME_KIND_COUNT) {
        return refuse(error, "unknown kind of frame", kind);
    }
    bool owing = kind == FRAME_PUNCH || kind == FRAME_ROUND_END;
    if ((flags & ~(FRAME_SEALED | FRAME_FINAL | FRAME_OWED)) != 0 ||
        ((flags & FRAME_OWED) != 0 && (!owing || (flags & FRAME_FINAL) == 0))) {
        return refuse(error, "unknown flags", flags);
    }
    bool has_extents = kind == FRAME_DATA || kind == FRAME_PUNCH;
    if (n_extents > FRAME_EXTENTS_MAX || (n_extents > 0) != has_extents) {
        return refuse(error, "wrong number of extents", n_extents);
    }
    if (payload_bytes > FRAME_PAYLOAD_MAX ||
        (kind == FRAME_HELLO && payload_bytes != FRAME_HELLO_BYTES) ||
        ((kind == FRAME_ROUND_END || kind == FRAME_ACK) && payload_bytes != FRAME_END_BYTES) ||
        (kind == FRAME_WANT &&
         (payload_bytes == 0 || payload_bytes % 8 != 0 || payload_bytes > FRAME_WANTS_MAX * 8)) ||
        (kind == FRAME_PUNCH && payload_bytes != 0)) {
        return refuse(error, "wrong size of payload", payload_bytes);
    }
    ret_frame->kind = kind;
    ret_frame->flags = flags;
    ret_frame->n_extents = n_extents;
    ret_frame->channel = get16(in + 8);
    ret_frame->round = get32(in + 12);
    ret_frame->payload_bytes = payload_bytes;
    ret_frame->sequence = get64(in + 24);
    return true;
}

/* P1, P2 */
static bool
check_extent(const struct page_run *extent, guint64 least, guint64 memory_bytes, guint channels,
             guint channel, GError **error)
{
    if (extent->bytes == 0 || extent->bytes % PAGE_BYTES != 0 || extent->offset % PAGE_BYTES != 0) {
        return refuse(error, "an extent is not whole pages", extent->offset);
    }
    if (extent->offset >= memory_bytes || extent->bytes > memory_bytes - extent->offset) {
        return refuse(error, "an extent reaches outside the guest's memory", extent->offset);
    }
    if (extent->offset < least) {
        return refuse(error, "extents overlap or are out of order", extent->offset);
    }
    guint64 region = extent->offset / FRAME_REGION_BYTES;
    if ((extent->offset + extent->bytes - 1) / FRAME_REGION_BYTES != region ||
        region % channels != channel) {
        return refuse(error, "an extent belongs to another channel", extent->offset);
    }
    return true;
}

bool
frame_get_table(const guint8 *header, const guint8 *table, guint64 memory_bytes, guint channels,
                struct frame *frame, guint32 *ret_crc, GError **error)
{
    guint8 plain[FRAME_HEADER_BYTES];
    memcpy(plain, header, sizeof(plain));
    put32(plain + 20, 0);
    guint32 crc = frame_crc(frame_crc(0, plain, sizeof(plain)), table, frame_table_bytes(frame));
    if (crc != get32(header + 20)) {
        return refuse(error, "a header's checksum is wrong", frame->sequence);
    }
    guint64 total = 0, least = 0;
    for (guint i = 0; i < frame->n_extents; i++, table += FRAME_EXTENT_BYTES) {
        struct page_run extent = {get64(table), get64(table + 8)};
        if (!check_extent(&extent, least, memory_bytes, channels, frame->channel, error)) {
            return false;
        }
        frame->extents[i] = extent;
        least = extent.offset + extent.bytes;
        total += extent.bytes;
    }
    if (frame->kind == FRAME_DATA && total != frame->payload_bytes) {
        return refuse(error, "extents do not add up to the payload", total);
    }
    *ret_crc = crc;
    return true;
}

void
frame_put_wants(const guint64 *offsets, guint n, guint8 *out)
{
    for (guint i = 0; i < n; i++) {
        put64(out + (size_t) i * 8, offsets[i]);
    }
}

bool
frame_get_wants(const guint8 *in, const struct frame *frame, guint64 memory_bytes, guint channels,
                guint64 ret_offsets[FRAME_WANTS_MAX], GError **error)
{
    for (guint i = 0; i < frame->payload_bytes / 8; i++) {
        struct page_run page = {get64(in + (size_t) i * 8), PAGE_BYTES};
        if (!check_extent(&page, 0, memory_bytes, channels, frame->channel, error)) {
            return false;
        }
        ret_offsets[i] = page.offset;
    }
    return true;
}

void
frame_put_hello(const struct frame_hello *hello, guint8 out[FRAME_HELLO_BYTES])
{
    put32(out, hello->channels);
    put64(out + 4, hello->memory_bytes);
    memcpy(out + 12, hello->token, FRAME_TOKEN_BYTES);
}

void
frame_get_hello(const guint8 in[FRAME_HELLO_BYTES], struct frame_hello *ret_hello)
{
    ret_hello->channels = get32(in);
    ret_hello->memory_bytes = get64(in + 4);
    memcpy(ret_hello->token, in + 12, FRAME_TOKEN_BYTES);
}

void
frame_put_end(const struct frame_end *end, guint8 out[FRAME_END_BYTES])
{
    put64(out, end->data_bytes);
    put64(out + 8, end->punched_bytes);
    put32(out + 16, end->tables_crc);
    put32(out + 20, end->content_crc);
}

void
frame_get_end(const guint8 in[FRAME_END_BYTES], struct frame_end *ret_end)
{
    ret_end->data_bytes = get64(in);
    ret_end->punched_bytes = get64(in + 8);
    ret_end->tables_crc = get32(in + 16);
    ret_end->content_crc = get32(in + 20);
}
