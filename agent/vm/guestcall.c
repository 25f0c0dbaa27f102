/* Sessions of a link: what a caller reads, writes and waits for. The rules G2, G3 and G6 of guestlink.c are kept
 * here for each session's streams. Called by guestask.c, guestexec.c and guestdev.c. Main loop. */
#include <errno.h>
#include <string.h>

#include "agent/vm/guestlinkobj.h"
#include "base/log.h"

void
guestcall_fail(GuestCall *call, HawCode code, const char *why)
{
    if (call->failed == NULL) {
        haw_fail(&call->failed, code, "%s", why);
    }
    fiber_signal_all(&call->changed);
}

/* ---- what the guest sends ---- */

static void
take_data(GuestCall *call, const struct guestwire_head *head, const guint8 *payload)
{
    int stream = head->stream;

    if (stream == 0 || call->ended[stream] ||
        head->size > GUESTWIRE_WINDOW - call->in[stream]->len - call->taken[stream]) {
        haw_warn("guest.beyond_credit", KS("inst", call->link->name));
        guestlink_drop(call->link); /* G2 */
        return;
    }
    g_byte_array_append(call->in[stream], payload, head->size);
}

static void
take_failed(GuestCall *call, const struct guestwire_head *head, const guint8 *payload)
{
    int err = head->size >= 4 ? (int) guestwire_u32(payload) : 0;
    HawCode code = err == ENOENT   ? HAW_NOT_FOUND
                   : err == E2BIG  ? HAW_LIMIT
                   : err == EAGAIN ? HAW_BUSY
                                   : HAW_FAILED;
    const char *why = err > 0 && err < 4096 ? g_strerror(err) : "unknown";
    g_autofree char *text = g_strdup_printf("The VM agent could not start it: %s", why);

    guestcall_fail(call, code, text);
}

void
guestcall_take(GuestCall *call, const struct guestwire_head *head, const guint8 *payload)
{
    guint32 number = head->size == 4 ? guestwire_u32(payload) : 0;

    switch (head->type) {
    case GUESTWIRE_DATA:
        take_data(call, head, payload);
        break;
    case GUESTWIRE_END:
        call->ended[head->stream] = call->ended[head->stream] || head->stream > 0;
        break;
    case GUESTWIRE_CREDIT:
        if (number > GUESTWIRE_WINDOW - call->credit) {
            guestlink_noise(call->link);
        }
        call->credit += MIN(number, GUESTWIRE_WINDOW - call->credit);
        break;
    case GUESTWIRE_EXIT:
        call->code = call->exited ? call->code : (int) MIN(number, 255);
        call->exited = true;
        break;
    case GUESTWIRE_FAILED:
        take_failed(call, head, payload);
        break;
    default:
        guestlink_noise(call->link);
        return;
    }
    fiber_signal_all(&call->changed);
}

/* ---- sessions ---- */

static bool
queue_ask(GuestLink *link, guint32 id, const struct guestwire_ask *ask)
{
    size_t at = 0;

    while (at < ask->size) {
        size_t part = MIN(ask->size - at, GUESTWIRE_PAYLOAD_MAX);
        guestlink_queue(link, GUESTWIRE_OPEN, at + part < ask->size ? 1 : 0, id, ask->bytes + at,
                        part);
        at += part;
    }
    return true;
}

GuestCall *
guestcall_open(GuestLink *link, const struct guestwire_ask *ask, GError **error)
{
    g_autoptr(GuestLink) held = guestlink_ref(link);

    if (ask->full) {
        haw_fail(error, HAW_LIMIT, "Arguments and environment are larger than %d KiB",
                 GUESTWIRE_ASK_MAX / 1024);
        return NULL;
    }
    if (!guestlink_answers(link, error)) {
        return NULL;
    }
    if (g_hash_table_size(link->calls) >= GUESTWIRE_SESSION_MAX) {
        haw_fail(error, HAW_BUSY, "The virtual machine has %d sessions already",
                 GUESTWIRE_SESSION_MAX);
        return NULL;
    }
    GuestCall *call = g_new0(GuestCall, 1);
    call->link = g_steal_pointer(&held);
    call->id = link->next_id++;
    call->credit = GUESTWIRE_WINDOW;
    for (int i = 1; i < GUESTWIRE_STREAMS; i++) {
        call->in[i] = g_byte_array_new();
    }
    g_hash_table_insert(link->calls, GUINT_TO_POINTER(call->id), call);
    queue_ask(link, call->id, ask);
    return call;
}

/* Whether the guest still knows the session. */
static bool
known(GuestCall *call)
{
    return g_hash_table_lookup(call->link->calls, GUINT_TO_POINTER(call->id)) == call;
}

void
guestcall_free(GuestCall *call)
{
    if (call == NULL) {
        return;
    }
    if (known(call)) {
        bool over = call->failed != NULL || (call->exited && call->ended[1] && call->ended[2]);
        if (!over) {
            guestlink_queue(call->link, GUESTWIRE_CLOSE, 0, call->id, NULL, 0);
        }
        g_hash_table_remove(call->link->calls, GUINT_TO_POINTER(call->id));
    }
    for (int i = 1; i < GUESTWIRE_STREAMS; i++) {
        g_byte_array_unref(call->in[i]);
    }
    g_clear_error(&call->failed);
    guestlink_unref(call->link);
    g_free(call);
}

/* Waits for something to happen to the session; false with TIMEOUT, CANCELLED, or its failure. */
static bool
call_wait(GuestCall *call, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    if (call->failed != NULL) {
        g_propagate_error(error, g_error_copy(call->failed));
        return false;
    }
    return fiber_signal_wait(&call->changed, wait_ms, cancel, error);
}

gssize
guestcall_read(GuestCall *call, int stream, void *buffer, size_t size, gint64 wait_ms,
               GCancellable *cancel, GError **error)
{
    GByteArray *in = call->in[stream];

    while (in->len == 0) {
        if (call->ended[stream]) {
            return 0;
        }
        if (!call_wait(call, wait_ms, cancel, error)) {
            return -1;
        }
    }
    guint part = (guint) MIN(size, in->len);
    memcpy(buffer, in->data, part);
    g_byte_array_remove_range(in, 0, part);
    call->taken[stream] += part;
    if (call->taken[stream] >= GUESTWIRE_WINDOW / 2 && known(call)) {
        guestlink_queue_number(call->link, GUESTWIRE_CREDIT, stream, call->id, call->taken[stream]);
        call->taken[stream] = 0;
    }
    return part;
}

bool
guestcall_write(GuestCall *call, const void *bytes, size_t size, gint64 wait_ms,
                GCancellable *cancel, GError **error)
{
    const guint8 *at = bytes;

    while (size > 0) {
        if (call->exited) {
            return haw_fail(error, HAW_CONFLICT, "Nobody reads it any more");
        }
        if (call->failed != NULL || call->credit == 0) {
            if (!call_wait(call, wait_ms, cancel, error)) {
                return false;
            }
            continue;
        }
        if (call->link->queue->len > LINK_QUEUE) { /* G3 */
            if (!fiber_signal_wait(&call->link->changed, wait_ms, cancel, error)) {
                return false;
            }
            continue;
        }
        size_t part = MIN(MIN(size, call->credit), GUESTWIRE_PAYLOAD_MAX);
        guestlink_queue(call->link, GUESTWIRE_DATA, 0, call->id, at, part);
        call->credit -= (guint32) part;
        at += part;
        size -= part;
    }
    return true;
}

void
guestcall_end(GuestCall *call, int stream)
{
    if (known(call)) {
        guestlink_queue(call->link, GUESTWIRE_END, stream, call->id, NULL, 0);
    }
}

void
guestcall_signal(GuestCall *call, int number)
{
    if (known(call)) {
        guestlink_queue_number(call->link, GUESTWIRE_SIGNAL, 0, call->id, (guint32) number);
    }
}

void
guestcall_resize(GuestCall *call, int width, int height)
{
    guint8 bytes[4];

    guestwire_put_u16(bytes, (guint16) CLAMP(width, 0, G_MAXUINT16));
    guestwire_put_u16(bytes + 2, (guint16) CLAMP(height, 0, G_MAXUINT16));
    if (known(call) && width > 0 && height > 0) {
        guestlink_queue(call->link, GUESTWIRE_RESIZE, 0, call->id, bytes, sizeof(bytes));
    }
}

bool
guestcall_wait(GuestCall *call, gint64 wait_ms, GCancellable *cancel, int *ret_code, GError **error)
{
    while (!call->exited) {
        if (!call_wait(call, wait_ms, cancel, error)) {
            return false;
        }
    }
    *ret_code = call->code;
    return true;
}
