/* The connection to a guest, and what goes over it for all sessions.
 * G1  One fiber reads the connection, one writes it; whoever has a session waits on its signal.
 * G2  What the guest may send is bounded by the credit that it was given: a window a stream. More ends
 *     the connection, as do frames of no session in numbers (LINK_NOISE a second).
 * G3  What we send waits in a queue of LINK_QUEUE; a guest that does not read makes its own callers
 *     wait, with their deadlines.
 * G4  Each greeting draws an epoch. A guest that has restarted asks for one by epoch 0: every session
 *     of the time before fails then, and so it does when the connection goes.
 * G5  A guest that is asked and stays silent for GUESTLINK_ANSWER_MS is absent for LINK_SILENT_MS, so that
 *     a list of a hundred such costs their wait once.
 * G6  No frame is trusted to be in order: a session's state takes any of them at any time.
 * Sessions are in guestcall.c. Called by guestask.c, guestexec.c, guestdev.c and guestvm.c. Main loop. */
#include "agent/vm/guestlink.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/vm/guestlinkobj.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define LINK_QUEUE_MAX   (4 * 1024 * 1024) /* with control frames, which do not wait */
#define LINK_READ        (64 * 1024)
#define LINK_NOISE       10000
#define LINK_NOISE_BYTES (1024 * 1024)
#define LINK_RETRY_MS    1000
#define LINK_FLOOD_MS    10000
#define LINK_GREET_MS    10000
#define LINK_SILENT_MS   30000

static gint64
now_ms(void)
{
    return clock_mono_us() / 1000;
}

/* ---- the end of sessions ---- */

static void
fail_all(GuestLink *link, const char *why)
{
    GHashTableIter iter;
    gpointer call;

    g_hash_table_iter_init(&iter, link->calls);
    while (g_hash_table_iter_next(&iter, NULL, &call)) {
        guestcall_fail(call, HAW_FAILED, why);
        g_hash_table_iter_remove(&iter);
    }
}

static void
absent(GuestLink *link, const char *why)
{
    link->greeted = false;
    fail_all(link, why);
    fiber_signal_all(&link->changed);
}

void
guestlink_drop(GuestLink *link)
{
    if (link->lost != NULL) {
        g_cancellable_cancel(link->lost);
    }
}

/* ---- output ---- */

void
guestlink_queue(GuestLink *link, guint8 type, int stream, guint32 session, const void *payload,
                size_t size)
{
    struct guestwire_head head = {.type = type,
                                  .stream = (guint8) stream,
                                  .epoch = link->epoch,
                                  .session = session,
                                  .size = (guint32) size};
    guint at = link->queue->len;

    if (link->lost == NULL) {
        return;
    }
    if (at > LINK_QUEUE_MAX) {
        guestlink_drop(link); /* G3: it reads nothing, and we have much to say */
        return;
    }
    g_byte_array_set_size(link->queue, at + GUESTWIRE_FRAME_MAX);
    size_t used = guestwire_encode(&head, payload, link->queue->data + at);
    g_byte_array_set_size(link->queue, at + (guint) used);
    fiber_signal_all(&link->changed);
}

void
guestlink_queue_number(GuestLink *link, guint8 type, int stream, guint32 session, guint32 number)
{
    guint8 bytes[4];

    guestwire_put_u32(bytes, number);
    guestlink_queue(link, type, stream, session, bytes, sizeof(bytes));
}

static void
queue_hello(GuestLink *link)
{
    guint8 bytes[4];

    guestwire_put_u16(bytes, GUESTWIRE_VERSION_MIN);
    guestwire_put_u16(bytes + 2, GUESTWIRE_VERSION_MAX);
    guestlink_queue(link, GUESTWIRE_HELLO, 0, 0, bytes, sizeof(bytes));
}

static void
new_greeting(GuestLink *link)
{
    do {
        link->epoch = g_random_int();
    } while (link->epoch == 0);
    link->next_id = 1;
    queue_hello(link);
}

static void
write_body(void *data)
{
    GuestLink *link = data;

    while (!g_cancellable_is_cancelled(link->lost)) {
        if (link->queue->len == 0) {
            fiber_signal_wait(&link->changed, -1, link->lost, NULL);
            continue;
        }
        ssize_t n = write(link->fd, link->queue->data, MIN(link->queue->len, LINK_READ));
        if (n > 0) {
            g_byte_array_remove_range(link->queue, 0, (guint) n);
            fiber_signal_all(&link->changed);
        } else if (n < 0 && errno == EAGAIN) {
            fiber_wait_fd(link->fd, G_IO_OUT, -1, link->lost, NULL);
        } else if (n < 0 && errno != EINTR) {
            guestlink_drop(link);
        }
    }
    link->writer_ended = true;
    fiber_signal_all(&link->changed);
}

/* ---- input ---- */

void
guestlink_noise(GuestLink *link)
{
    gint64 now = now_ms();

    if (now - link->noise_since_ms > 1000) {
        link->noise_since_ms = now;
        link->noise = 0;
    }
    if (++link->noise > LINK_NOISE && !link->flooded) {
        haw_warn("guest.floods", KS("inst", link->name));
        link->flooded = true;
        guestlink_drop(link);
    }
}

static void
take_hello(GuestLink *link, const struct guestwire_head *head, const guint8 *payload)
{
    guint16 version = head->size >= 2 ? guestwire_u16(payload) : 0;

    if (head->epoch == 0) { /* G4 */
        guestlink_noise(link);
        absent(link, "The VM agent has restarted");
        new_greeting(link);
        return;
    }
    if (head->epoch != link->epoch || link->greeted) {
        guestlink_noise(link);
        return;
    }
    if (version < GUESTWIRE_VERSION_MIN || version > GUESTWIRE_VERSION_MAX) {
        haw_warn("guest.version", KS("inst", link->name), KU("version", version));
        return;
    }
    g_free(link->version);
    link->version = g_strndup((const char *) payload + 2, MIN(head->size - 2, 32));
    if (!g_str_is_ascii(link->version)) {
        g_clear_pointer(&link->version, g_free);
    }
    link->greeted = true;
    link->heard_ms = now_ms();
    link->silent_until_ms = 0;
    haw_info("guest.greeted", KS("inst", link->name),
             KS("version", link->version != NULL ? link->version : "?"));
    fiber_signal_all(&link->changed);
    link->on_greeted(link, link->data);
}

static void
take(GuestLink *link, const struct guestwire_head *head, const guint8 *payload)
{
    link->noise_bytes = 0;
    if (head->type == GUESTWIRE_HELLO) {
        take_hello(link, head, payload);
        return;
    }
    if (head->epoch != link->epoch || !link->greeted) {
        guestlink_noise(link);
        return;
    }
    link->heard_ms = now_ms();
    link->silent_until_ms = 0;
    GuestCall *call = g_hash_table_lookup(link->calls, GUINT_TO_POINTER(head->session));
    if (call != NULL && (head->type != GUESTWIRE_DATA || head->size > 0)) {
        guestcall_take(call, head, payload);
    } else {
        guestlink_noise(link); /* of a session that we have closed, or of none; an unasked pong */
    }
    fiber_signal_all(&link->changed);
}

static void
take_bytes(GuestLink *link, const guint8 *bytes, size_t size)
{
    guint64 bad = link->reader.bad;
    struct guestwire_head head;
    const uint8_t *payload;
    bool frame;

    link->noise_bytes += size;
    for (size_t at = 0; at < size && !g_cancellable_is_cancelled(link->lost);) {
        at += guestwire_take(&link->reader, bytes + at, size - at, &frame, &head, &payload);
        if (frame) {
            take(link, &head, payload);
        }
        for (; bad < link->reader.bad; bad++) {
            guestlink_noise(link);
        }
    }
    if (link->noise_bytes > LINK_NOISE_BYTES && !link->flooded) {
        haw_warn("guest.floods", KS("inst", link->name));
        link->flooded = true;
        guestlink_drop(link);
    }
}

static void
read_body(GuestLink *link)
{
    g_autofree guint8 *buffer = g_malloc(LINK_READ);

    while (!g_cancellable_is_cancelled(link->lost)) {
        ssize_t n = read(link->fd, buffer, LINK_READ);
        if (n > 0) {
            take_bytes(link, buffer, (size_t) n);
            fiber_yield(); /* others have their turn, however fast it writes */
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return;
        } else if (!fiber_wait_fd(link->fd, G_IO_IN, link->greeted ? -1 : LINK_GREET_MS, link->lost,
                                  NULL) &&
                   !link->greeted && link->queue->len == 0) {
            queue_hello(link); /* the first may have met nobody */
        }
    }
}

/* ---- the connection ---- */

static void
serve(GuestLink *link, int *fd)
{
    link->fd = fd_steal(fd);
    fcntl(link->fd, F_SETFL, fcntl(link->fd, F_GETFL) | O_NONBLOCK);
    link->lost = g_cancellable_new();
    link->reader = (struct guestwire_reader){0};
    link->noise = 0;
    link->noise_bytes = 0;
    link->flooded = link->writer_ended = false;
    g_byte_array_set_size(link->queue, 0);
    new_greeting(link);
    fiber_start("guest writer", write_body, link);
    read_body(link);
    guestlink_drop(link);
    while (!link->writer_ended) {
        fiber_signal_wait(&link->changed, -1, NULL, NULL);
    }
    g_clear_object(&link->lost);
    fd_close(&link->fd);
    absent(link, "The connection to the VM agent was lost");
}

static void
link_body(void *data)
{
    GuestLink *link = data;

    while (!link->closed) {
        g_autoptr(GError) error = NULL;
        int fd = link->dial(link->data, &error);
        if (fd >= 0 && !link->closed) {
            serve(link, &fd);
        }
        fd_close(&fd);
        fiber_sleep_ms(link->flooded ? LINK_FLOOD_MS : LINK_RETRY_MS, link->stop, NULL);
    }
    guestlink_unref(link);
}

GuestLink *
guestlink_new(const char *name, GuestDial dial, GuestGreeted greeted, void *data)
{
    GuestLink *link = g_new0(GuestLink, 1);

    link->refs = 2; /* the fiber's */
    link->name = g_strdup(name);
    link->dial = dial;
    link->on_greeted = greeted;
    link->data = data;
    link->fd = -1;
    link->stop = g_cancellable_new();
    link->queue = g_byte_array_new();
    link->calls = g_hash_table_new(NULL, NULL);
    fiber_start("guest link", link_body, link);
    return link;
}

void
guestlink_close(GuestLink *link)
{
    if (!link->closed) {
        link->closed = true;
        absent(link, "The virtual machine has stopped");
        g_cancellable_cancel(link->stop);
        guestlink_drop(link);
    }
}

GuestLink *
guestlink_ref(GuestLink *link)
{
    link->refs++;
    return link;
}

void
guestlink_unref(GuestLink *link)
{
    if (link != NULL && --link->refs == 0) {
        g_hash_table_unref(link->calls);
        g_byte_array_unref(link->queue);
        g_clear_object(&link->stop);
        g_free(link->version);
        g_free(link->name);
        g_free(link);
    }
}

void
guestlink_port(GuestLink *link, bool open)
{
    if (!open) {
        absent(link, "The VM agent has stopped");
    }
}

bool
guestlink_present(GuestLink *link)
{
    return link->greeted && now_ms() >= link->silent_until_ms;
}

const char *
guestlink_version(GuestLink *link)
{
    return link->version;
}

bool
guestlink_wait(GuestLink *link, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    gint64 until_ms = now_ms() + wait_ms;

    while (!guestlink_present(link)) {
        gint64 left_ms = until_ms - now_ms();
        if (link->closed) {
            return haw_fail(error, HAW_FAILED, GUESTLINK_OFFLINE);
        }
        if (left_ms <= 0) {
            return haw_fail(error, HAW_TIMEOUT, GUESTLINK_OFFLINE);
        }
        if (!fiber_signal_wait(&link->changed, left_ms, cancel, error)) {
            if (g_cancellable_is_cancelled(cancel)) {
                return false;
            }
            g_clear_error(error);
        }
    }
    return true;
}

/* ---- does it live? ---- */

bool
guestlink_answers(GuestLink *link, GError **error)
{
    gint64 asked_ms = now_ms(), left_ms = GUESTLINK_ANSWER_MS;

    if (!guestlink_present(link)) {
        return haw_fail(error, HAW_FAILED, GUESTLINK_OFFLINE);
    }
    if (link->heard_ms > 0 && asked_ms - link->heard_ms < LINK_RETRY_MS) {
        return true;
    }
    link->heard_ms = 0;
    guestlink_queue_number(link, GUESTWIRE_PING, 0, 0, (guint32) asked_ms);
    while (link->greeted && link->heard_ms == 0 && left_ms > 0) {
        fiber_signal_wait(&link->changed, left_ms, NULL, NULL);
        left_ms = asked_ms + GUESTLINK_ANSWER_MS - now_ms();
    }
    if (link->greeted && link->heard_ms > 0) {
        return true;
    }
    link->silent_until_ms = now_ms() + LINK_SILENT_MS; /* G5 */
    return haw_fail(error, HAW_FAILED, GUESTLINK_OFFLINE);
}
