/* pageframe.h: the frames of a page stream: a header, a table of extents, then their bytes.
 * Little endian, one stream a channel. Threads: any.
 *   0 magic "HWPG" | 4 kind | 5 flags | 6 extents | 8 channel | 10 version | 12 round
 *  16 payload bytes, without the tag | 20 CRC-32C of header (this field 0) and extents | 24 sequence
 *  32 extents: { offset 8, bytes 8 } each
 *  then the payload, and 16 bytes of tag behind it when FRAME_SEALED. */
#pragma once
#include "dataplane/pages/pagescan.h"

enum {
    FRAME_VERSION = 1,
    FRAME_HEADER_BYTES = 32,
    FRAME_EXTENT_BYTES = 16,
    FRAME_EXTENTS_MAX = 256,
    FRAME_PAYLOAD_MAX = 1 << 20,
    FRAME_TAG_BYTES = 16,
    FRAME_CHANNELS_MAX = 64,
    FRAME_TOKEN_BYTES = 32,
    FRAME_REGION_BYTES = 2 << 20, /* one region's pages all travel on one channel, in order */
    FRAME_TABLE_MAX = FRAME_HEADER_BYTES + FRAME_EXTENTS_MAX * FRAME_EXTENT_BYTES,
};

enum frame_kind {
    FRAME_HELLO = 1, /* payload: struct frame_hello; the first of each channel */
    FRAME_DATA,      /* the extents' pages */
    FRAME_PUNCH,     /* the extents hold zeros: no payload */
    FRAME_ROUND_END, /* payload: struct frame_end */
    FRAME_ACK,   /* from the sink: it has all of the round on this channel; payload: frame_end */
    FRAME_ABORT, /* payload: the reason, UTF-8 */
    FRAME_WANT,  /* from the sink: offsets of owed pages that somebody waits for, 8 bytes each */
    FRAME_KIND_COUNT,
};
enum {
    FRAME_SEALED = 1,
    FRAME_FINAL = 2, /* the guest stands still */
    FRAME_OWED =
        4, /* with FINAL. PUNCH: what the sink has of the extents is out of date, they come in one round more;
                        ROUND_END: that round follows */
    FRAME_WANTS_MAX = 32,
};

struct frame {
    guint8 kind, flags;
    guint16 n_extents, channel;
    guint32 round, payload_bytes;
    guint64 sequence;
    struct page_run extents[FRAME_EXTENTS_MAX];
};

struct frame_hello {
    guint32 channels;
    guint64 memory_bytes;
    guint8 token[FRAME_TOKEN_BYTES];
};
enum { FRAME_HELLO_BYTES = 4 + 8 + FRAME_TOKEN_BYTES };

/* What one channel carried in one round. */
struct frame_end {
    guint64 data_bytes, punched_bytes;
    guint32 tables_crc;  /* CRC-32C over the CRCs of the round's DATA and PUNCH frames, in order */
    guint32 content_crc; /* CRC-32C over the payloads of a final round; else 0 */
};
enum { FRAME_END_BYTES = 8 + 8 + 4 + 4 };

/* Header and table of 'frame' into 'out' (FRAME_TABLE_MAX): its length. *ret_crc is the CRC field. */
size_t frame_put(const struct frame *frame, guint8 *out, guint32 *ret_crc);
/* What the fixed header says; the extents are still to come: frame_table_bytes() of them. INVALID for
 * anything that no source of ours sends. */
bool frame_get_header(const guint8 in[FRAME_HEADER_BYTES], struct frame *ret_frame, GError **error);
size_t frame_table_bytes(const struct frame *frame);
/* The table behind a header. Checks the CRC, and that every extent is whole pages inside the memory,
 * in order, inside one region of the frame's channel, and that they add up to the payload. */
bool frame_get_table(const guint8 *header, const guint8 *table, guint64 memory_bytes,
                     guint channels, struct frame *frame, guint32 *ret_crc, GError **error);

/* The offsets of a WANT: whole pages of the memory, of that channel. */
void frame_put_wants(const guint64 *offsets, guint n, guint8 *out);
bool frame_get_wants(const guint8 *in, const struct frame *frame, guint64 memory_bytes,
                     guint channels, guint64 ret_offsets[FRAME_WANTS_MAX], GError **error);

void frame_put_hello(const struct frame_hello *hello, guint8 out[FRAME_HELLO_BYTES]);
void frame_get_hello(const guint8 in[FRAME_HELLO_BYTES], struct frame_hello *ret_hello);
void frame_put_end(const struct frame_end *end, guint8 out[FRAME_END_BYTES]);
void frame_get_end(const guint8 in[FRAME_END_BYTES], struct frame_end *ret_end);

/* CRC-32C (RFC 3720, B.4), continued from 'crc'; starts at 0. */
guint32 frame_crc(guint32 crc, const void *bytes, size_t size);
