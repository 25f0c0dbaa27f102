/* Any frames from a guest at the agent: sessions are opened, read and closed while they come. Input: u8
 * type, u8 stream and session, u16 size, the payload; again and again. */
#include "agent/vm/guestlink.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/vm/guestask.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct {
    int near, far;
    guint32 epoch;
    GuestLink *link;
    const uint8_t *bytes;
    size_t size;
} Bed;

static int
dial(void *data, GError **error)
{
    Bed *bed = data;

    if (bed->near < 0) {
        haw_fail(error, HAW_FAILED, "once only");
    }
    return fd_steal(&bed->near);
}

static void
greeted(GuestLink *link, void *data)
{
}

static void
say(Bed *bed, guint8 type, int stream, guint32 session, const uint8_t *payload, size_t size)
{
    static guint8 out[GUESTWIRE_FRAME_MAX];
    struct guestwire_head head = {type, (guint8) stream, bed->epoch, session, (guint32) size};
    size_t used = guestwire_encode(&head, payload, out);

    if (send(bed->far, out, used, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        fiber_yield();
    }
}

/* The agent draws the epoch: it is in its greeting, behind the zero and the first run's length. */
static void
read_epoch(Bed *bed)
{
    static struct guestwire_reader reader;
    struct guestwire_head head = {0};
    const uint8_t *payload;
    guint8 bytes[256];
    bool frame = false;

    fiber_wait_fd(bed->far, G_IO_IN, 10000, NULL, NULL);
    ssize_t n = recv(bed->far, bytes, sizeof(bytes), MSG_DONTWAIT);
    reader = (struct guestwire_reader){0};
    for (ssize_t at = 0; at < n && !frame;) {
        at += (ssize_t) guestwire_take(&reader, bytes + at, (size_t) (n - at), &frame, &head,
                                       &payload);
    }
    bed->epoch = head.epoch;
}

static void
feed(Bed *bed)
{
    while (bed->size >= 4) {
        size_t size = MIN((size_t) (bed->bytes[2] | bed->bytes[3] << 8), bed->size - 4);
        size = MIN(size, GUESTWIRE_PAYLOAD_MAX);
        say(bed, bed->bytes[0] % GUESTWIRE_TYPE_COUNT, bed->bytes[1] % GUESTWIRE_STREAMS,
            bed->bytes[1] >> 4, bed->bytes + 4, size);
        bed->bytes += 4 + size;
        bed->size -= 4 + size;
    }
}

static void
state_body(void *data)
{
    json_decref(guestask_state(data, NULL));
    guestlink_unref(data);
}

static void
bed_body(void *data)
{
    Bed *bed = data;
    struct guestwire_ask ask;
    char buffer[512];
    int code;

    read_epoch(bed);
    say(bed, GUESTWIRE_HELLO, 0, 0, (const uint8_t *) "\001\000v", 3);
    guestlink_wait(bed->link, 10000, NULL, NULL);
    fiber_start("state", state_body, guestlink_ref(bed->link));
    guestwire_ask_begin(&ask, GUESTWIRE_EXEC);
    g_autoptr(GuestCall) call = guestcall_open(bed->link, &ask, NULL);
    guestwire_ask_done(&ask);
    feed(bed);
    for (int i = 0; i < 3; i++) {
        fiber_yield();
    }
    for (int i = 0; call != NULL && i < 8; i++) {
        guestcall_read(call, 1 + i % 2, buffer, sizeof(buffer), 0, NULL, NULL);
    }
    if (call != NULL) {
        guestcall_write(call, buffer, 16, 0, NULL, NULL);
        guestcall_wait(call, 0, NULL, &code, NULL);
    }
    guestlink_close(bed->link);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    Bed bed = {.near = pair[0], .far = pair[1], .bytes = bytes, .size = size};
    log_set_level(LOG_LEVEL_ERROR);
    bed.link = guestlink_new("fuzz", dial, greeted, &bed);
    fiber_start("bed", bed_body, &bed);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    guestlink_unref(bed.link);
    fd_close(&bed.near);
    close(bed.far);
    return 0;
}
