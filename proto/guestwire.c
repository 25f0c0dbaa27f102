/* Frames between the agent and hawser-guest.
 * A frame is a head of 16 bytes (type, stream, u16 zero, epoch, session, size; little-endian) and a
 * payload, stuffed so that no zero byte is in it (COBS), between zero bytes.
 * F1  A reader that starts anywhere, or loses bytes, is right again at the next zero: a guest may
 *     die, reboot or be restored in the middle of a frame, and so may the agent.
 * F2  A cut or a joined frame disagrees with its own size, and is passed over.
 * F3  A reader's memory is one frame, whatever comes.
 * The epoch is drawn by the agent for each greeting: what is left of an earlier talk is known by it.
 * Callers: agent/vm/guestlink.c and guest/mux.c. */
#include "proto/guestwire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t
guestwire_u32(const uint8_t *at)
{
    return at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
}

uint16_t
guestwire_u16(const uint8_t *at)
{
    return (uint16_t) (at[0] | at[1] << 8);
}

void
guestwire_put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t) (value >> (8 * i));
    }
}

void
guestwire_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t) value;
    at[1] = (uint8_t) (value >> 8);
}

/* ---- writing ---- */

/* A run: a byte that says how far the next zero is, then what is before it. */
struct stuffer {
    uint8_t *out, *code;
};

static void
stuff(struct stuffer *to, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        size_t run = (size_t) (to->out - to->code) - 1, room = 254 - run;
        size_t most = size < room ? size : room;
        const uint8_t *zero = memchr(bytes, 0, most);
        size_t part = zero != NULL ? (size_t) (zero - bytes) : most;

        memcpy(to->out, bytes, part);
        to->out += part;
        bytes += part;
        size -= part;
        run += part;
        if (zero != NULL || run == 254) {
            *to->code = (uint8_t) (run + 1);
            to->code = to->out++;
        }
        if (zero != NULL) {
            bytes++;
            size--;
        }
    }
}

size_t
guestwire_encode(const struct guestwire_head *head, const void *payload, uint8_t *out)
{
    uint8_t raw[GUESTWIRE_HEAD] = {head->type, head->stream};
    struct stuffer to = {.code = out + 1, .out = out + 2};

    guestwire_put_u32(raw + 4, head->epoch);
    guestwire_put_u32(raw + 8, head->session);
    guestwire_put_u32(raw + 12, head->size);
    out[0] = 0;
    stuff(&to, raw, sizeof(raw));
    stuff(&to, payload, head->size);
    *to.code = (uint8_t) (to.out - to.code);
    *to.out++ = 0;
    return (size_t) (to.out - out);
}

/* ---- reading ---- */

/* At a delimiter: whether what was gathered is a frame. */
static bool
complete(struct guestwire_reader *reader, struct guestwire_head *head)
{
    bool whole = !reader->deaf && reader->left == 0 && reader->have >= GUESTWIRE_HEAD;
    bool empty = reader->have == 0 && !reader->deaf && reader->left == 0;

    if (whole) {
        *head = (struct guestwire_head){.type = reader->raw[0],
                                        .stream = reader->raw[1],
                                        .epoch = guestwire_u32(reader->raw + 4),
                                        .session = guestwire_u32(reader->raw + 8),
                                        .size = guestwire_u32(reader->raw + 12)};
        whole = head->size == reader->have - GUESTWIRE_HEAD && /* F2 */
                head->type > 0 && head->type < GUESTWIRE_TYPE_COUNT &&
                head->stream < GUESTWIRE_STREAMS && guestwire_u16(reader->raw + 2) == 0;
    }
    reader->bad += !whole && !empty;
    reader->have = 0;
    reader->left = 0;
    reader->zero = reader->deaf = false;
    return whole;
}

/* The start of a run: its length, and the zero that the one before it stood for. */
static void
begin_run(struct guestwire_reader *reader, uint8_t code)
{
    if (reader->zero && reader->have < GUESTWIRE_RAW_MAX) {
        reader->raw[reader->have++] = 0;
    } else if (reader->zero) {
        reader->deaf = true; /* F3 */
    }
    reader->left = (uint8_t) (code - 1);
    reader->zero = code < 255;
}

size_t
guestwire_take(struct guestwire_reader *reader, const uint8_t *bytes, size_t size, bool *ret_frame,
               struct guestwire_head *head, const uint8_t **ret_payload)
{
    size_t at = 0;

    *ret_frame = false;
    while (at < size) {
        if (bytes[at] == 0) {
            at++;
            *ret_frame = complete(reader, head);
            *ret_payload = reader->raw + GUESTWIRE_HEAD;
            if (*ret_frame) {
                return at;
            }
            continue;
        }
        if (reader->deaf || reader->left == 0) {
            if (!reader->deaf) {
                begin_run(reader, bytes[at]);
            }
            at++;
            continue;
        }
        size_t most = size - at < reader->left ? size - at : reader->left;
        const uint8_t *zero = memchr(bytes + at, 0, most);
        size_t part = zero != NULL ? (size_t) (zero - bytes) - at : most;
        if (part > GUESTWIRE_RAW_MAX - reader->have) {
            reader->deaf = true; /* F3 */
            continue;
        }
        memcpy(reader->raw + reader->have, bytes + at, part);
        reader->have += (uint32_t) part;
        reader->left = (uint8_t) (reader->left - part);
        at += part;
    }
    return at;
}

/* ---- what is asked for ---- */

static void
ask_bytes(struct guestwire_ask *ask, const void *bytes, size_t size)
{
    if (ask->full || ask->size + size > GUESTWIRE_ASK_MAX) {
        ask->full = true;
        return;
    }
    if (ask->size + size > ask->room) {
        size_t room = (ask->size + size) * 2;
        uint8_t *grown = realloc(ask->bytes, room);
        if (grown == NULL) {
            abort();
        }
        ask->bytes = grown;
        ask->room = room;
    }
    memcpy(ask->bytes + ask->size, bytes, size);
    ask->size += size;
}

void
guestwire_ask_begin(struct guestwire_ask *ask, enum guestwire_kind kind)
{
    uint8_t byte = (uint8_t) kind;

    *ask = (struct guestwire_ask){0};
    ask_bytes(ask, &byte, 1);
}

void
guestwire_ask_add(struct guestwire_ask *ask, enum guestwire_tag tag, const char *text)
{
    size_t size = text != NULL ? strlen(text) : 0;
    uint8_t head[5] = {(uint8_t) tag};

    if (text == NULL) {
        return;
    }
    if (size > GUESTWIRE_ASK_MAX) {
        ask->full = true;
        return;
    }
    guestwire_put_u32(head + 1, (uint32_t) size);
    ask_bytes(ask, head, sizeof(head));
    ask_bytes(ask, text, size);
}

void
guestwire_ask_number(struct guestwire_ask *ask, enum guestwire_tag tag, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    guestwire_ask_add(ask, tag, text);
}

void
guestwire_ask_done(struct guestwire_ask *ask)
{
    free(ask->bytes);
    *ask = (struct guestwire_ask){0};
}

bool
guestwire_next(const uint8_t **at, const uint8_t *end, struct guestwire_field *ret_field,
               bool *ret_bad)
{
    *ret_bad = false;
    if (*at == end) {
        return false;
    }
    if (end - *at < 5 || (size_t) (end - *at) - 5 < guestwire_u32(*at + 1)) {
        *ret_bad = true;
        return false;
    }
    *ret_field =
        (struct guestwire_field){.tag = (*at)[0], .size = guestwire_u32(*at + 1), .value = *at + 5};
    *at += 5 + ret_field->size;
    return true;
}
