/* proto/guestwire.c: F1 to F3. */
#include "proto/guestwire.h"

#include <glib.h>
#include <string.h>

static struct guestwire_reader reader;

/* Feeds bytes in pieces of 'step'; the number of frames, the last one's size in *ret_size. */
static guint
feed(const guint8 *bytes, size_t size, size_t step, guint8 *last, guint32 *ret_size)
{
    struct guestwire_head head;
    const uint8_t *payload;
    guint frames = 0;
    bool frame;

    for (size_t at = 0; at < size;) {
        size_t end = MIN(at + step, size);
        while (at < end) {
            at += guestwire_take(&reader, bytes + at, end - at, &frame, &head, &payload);
            if (frame) {
                frames++;
                *ret_size = head.size;
                memcpy(last, payload, head.size);
            }
        }
    }
    return frames;
}

static size_t
make(const guint8 *payload, guint32 size, guint8 *out)
{
    struct guestwire_head head = {GUESTWIRE_DATA, 1, 0x01020300, 7, size};
    size_t used = guestwire_encode(&head, payload, out);

    g_assert_cmpuint(used, <=, GUESTWIRE_FRAME_MAX);
    g_assert_null(memchr(out + 1, 0, used - 2));
    return used;
}

static void
frames_come_out_as_they_went_in(void)
{
    static guint8 payload[GUESTWIRE_PAYLOAD_MAX], last[GUESTWIRE_PAYLOAD_MAX];
    static guint8 out[GUESTWIRE_FRAME_MAX];
    static const guint32 sizes[] = {
        0, 1, 2, 237, 238, 239, 253, 254, 255, 508, 509, 4096, GUESTWIRE_PAYLOAD_MAX};
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);

    for (int zeros = 0; zeros < 4; zeros++) {
        for (size_t i = 0; i < sizeof(payload); i++) {
            payload[i] = zeros == 0 ? 0 : (guint8) g_rand_int_range(rand, zeros == 1, 256);
            payload[i] = zeros == 3 && i % 254 != 0 ? 0x41 : payload[i];
        }
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
            for (size_t step = 1; step < 100000; step *= 17) {
                guint32 size = 0;
                size_t used = make(payload, sizes[i], out);
                reader = (struct guestwire_reader){0};
                g_assert_cmpuint(feed(out, used, step, last, &size), ==, 1);
                g_assert_cmpmem(last, size, payload, sizes[i]);
                g_assert_cmpuint(reader.bad, ==, 0);
            }
        }
    }
}

static void
a_cut_frame_does_not_harm_the_next(void)
{
    static guint8 bytes[3 * GUESTWIRE_FRAME_MAX], last[GUESTWIRE_PAYLOAD_MAX];
    guint8 payload[600];
    guint32 size = 0;

    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (guint8) (i * 7);
    }
    size_t whole = make(payload, sizeof(payload), bytes);
    for (size_t cut = 1; cut < whole - 1; cut++) {
        size_t used = cut + make(payload, sizeof(payload), bytes + cut);
        make(payload, sizeof(payload), bytes + GUESTWIRE_FRAME_MAX);
        reader = (struct guestwire_reader){0};
        g_assert_cmpuint(feed(bytes, used, 64, last, &size), ==, 1);
        g_assert_cmpmem(last, size, payload, sizeof(payload));
        g_assert_cmpuint(reader.bad, <=, 1);
        make(payload, sizeof(payload), bytes);
    }
}

static void
endless_frames_are_passed_over(void)
{
    static guint8 bytes[4 * GUESTWIRE_FRAME_MAX], last[GUESTWIRE_PAYLOAD_MAX];
    guint32 size = 0;

    for (int fill = 1; fill < 256; fill += 127) {
        memset(bytes, fill, sizeof(bytes));
        size_t used = 3 * GUESTWIRE_FRAME_MAX;
        used += make((const guint8 *) "hello", 5, bytes + used);
        reader = (struct guestwire_reader){0};
        g_assert_cmpuint(feed(bytes, used, 4096, last, &size), ==, 1);
        g_assert_cmpmem(last, size, "hello", 5);
        g_assert_cmpuint(reader.bad, ==, 1);
    }
}

static void
fields_come_out_and_nonsense_does_not(void)
{
    struct guestwire_ask ask;
    struct guestwire_field field;
    bool bad;

    guestwire_ask_begin(&ask, GUESTWIRE_EXEC);
    guestwire_ask_add(&ask, GUESTWIRE_ARG, "ls");
    guestwire_ask_add(&ask, GUESTWIRE_CWD, NULL);
    guestwire_ask_number(&ask, GUESTWIRE_UID, -1);
    const uint8_t *at = ask.bytes + 1, *end = ask.bytes + ask.size;
    g_assert_true(guestwire_next(&at, end, &field, &bad));
    g_assert_cmpmem(field.value, field.size, "ls", 2);
    g_assert_true(guestwire_next(&at, end, &field, &bad));
    g_assert_cmpint(field.tag, ==, GUESTWIRE_UID);
    g_assert_cmpmem(field.value, field.size, "-1", 2);
    g_assert_false(guestwire_next(&at, end, &field, &bad));
    g_assert_false(bad);
    at = ask.bytes + 1;
    g_assert_false(guestwire_next(&at, at + 6, &field, &bad));
    g_assert_true(bad);
    guestwire_ask_done(&ask);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guestwire/frames-come-out-as-they-went-in", frames_come_out_as_they_went_in);
    g_test_add_func("/guestwire/a-cut-frame-does-not-harm-the-next",
                    a_cut_frame_does_not_harm_the_next);
    g_test_add_func("/guestwire/endless-frames-are-passed-over", endless_frames_are_passed_over);
    g_test_add_func("/guestwire/fields-come-out-and-nonsense-does-not",
                    fields_come_out_and_nonsense_does_not);
    return g_test_run();
}
