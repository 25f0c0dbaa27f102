/* Any bytes at hawser-guest's end: the frames' reader, and what an OPEN asks for. A frame that is read can
 * be written again as it was. */
#include "proto/guestwire.h"

#include <glib.h>
#include <string.h>

#include "guest/asked.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
frame_again(const struct guestwire_head *head, const uint8_t *payload)
{
    static struct guestwire_reader reader;
    static uint8_t out[GUESTWIRE_FRAME_MAX];
    struct guestwire_head found;
    const uint8_t *back;
    bool frame = false;
    size_t used = guestwire_encode(head, payload, out), at = 0;

    reader = (struct guestwire_reader){0};
    while (at < used) {
        at += guestwire_take(&reader, out + at, used - at, &frame, &found, &back);
    }
    g_assert_true(frame && found.type == head->type && found.session == head->session);
    g_assert_cmpmem(back, found.size, payload, head->size);
}

static void
ask_of(const uint8_t *bytes, size_t size)
{
    g_autofree uint8_t *exact = g_memdup2(bytes, size);
    struct asked asked;

    if (asked_read(&asked, exact, size)) {
        for (size_t i = 0; i < asked.argc; i++) {
            g_assert_nonnull(asked.argv[i]);
        }
        asked_number(&asked, GUESTWIRE_UID, 10, 0);
    }
    asked_done(&asked);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct guestwire_reader reader;
    struct guestwire_head head;
    const uint8_t *payload;
    bool frame;

    reader = (struct guestwire_reader){0};
    for (size_t at = 0; at < size;) {
        size_t step = MIN(size - at, 1 + (at * 7) % 300);
        at += guestwire_take(&reader, bytes + at, step, &frame, &head, &payload);
        if (frame) {
            frame_again(&head, payload);
            ask_of(payload, head.size);
        }
    }
    ask_of(bytes, size);
    return 0;
}
