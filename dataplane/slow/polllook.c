/* The poll-mode process's flows, counters and packets beside those of the kernel's programs.
 * L1  Not over the connection by which ports and revokes go: who looks for a minute holds up none.
 * L2  It shows less when the process does not answer, and never fails for it: the log tells.
 * L3  A trace ends for both engines when one of them has seen as many packets as are wanted: a fiber waits for the
 *     process's answer meanwhile. It borrows the look, which therefore outlives it.
 * Called by dpdask.c. */
#include "dataplane/slow/polllook.h"

#include <stdlib.h>
#include <string.h>

#include "base/fiber.h"
#include "base/log.h"

enum { ANSWER_MS = 15000 };

struct PollLook {
    DpdWire *wire;     /* owned */
    guint64 id;        /* of the request */
    Dpd__Frame *frame; /* owned: the answer */
    struct {           /* L3 */
        bool waits;
        FiberSignal came;
        gint64 wait_ms;
        guint limit;
        GCancellable *enough; /* shared */
    } watch;
};

static Dpd__Frame *
receive(PollLook *look, guint64 id, Dpd__Frame__BodyCase body, gint64 wait_ms, GError **error)
{
    g_autoptr(DpdFrame) answer = dpdwire_receive(look->wire, NULL, wait_ms, NULL, error);
    if (answer != NULL && answer->body_case == DPD__FRAME__BODY_FAILURE) {
        guint code = answer->failure->code;
        haw_fail(error, code < HAW_CODE_COUNT ? (HawCode) code : HAW_FAILED, "%s",
                 answer->failure->message);
        return NULL;
    }
    if (answer != NULL && (answer->body_case != body || answer->id != id)) {
        haw_fail(error, HAW_INVALID, "The poll-mode process gave another answer");
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static bool
greet(PollLook *look, GError **error)
{
    Dpd__Hello hello;
    Dpd__Frame frame;
    dpdwire_hello(&hello, &frame);
    if (!dpdwire_check_peer(look->wire, error) || !dpdwire_send(look->wire, &frame, -1, error)) {
        return false;
    }
    g_autoptr(DpdFrame) answer = receive(look, 0, DPD__FRAME__BODY_HELLO, ANSWER_MS, error);
    return answer != NULL;
}

PollLook *
polllook_start(const PollHost *host, const Dpd__Frame *request)
{
    const char *path = pollhost_socket(host);
    g_autoptr(GError) error = NULL;
    if (path == NULL) {
        return NULL;
    }
    g_autoptr(PollLook) look = g_new0(PollLook, 1);
    look->id = request->id;
    look->wire = dpdwire_connect(path, &error);
    if (look->wire == NULL || !greet(look, &error) ||
        !dpdwire_send(look->wire, request, -1, &error)) {
        haw_warn("poll.look", KS("why", error->message)); /* L2 */
        return NULL;
    }
    return g_steal_pointer(&look);
}

static void
wait_for_watch(PollLook *look)
{
    while (look->watch.waits) {
        fiber_signal_wait(&look->watch.came, -1, NULL, NULL);
    }
}

void
polllook_free(PollLook *look)
{
    if (look != NULL) {
        dpdwire_shut(look->wire);
        wait_for_watch(look); /* L3 */
        g_clear_object(&look->watch.enough);
        dpdwire_free(look->wire);
        dpdwire_frame_free(look->frame);
        g_free(look);
    }
}

static bool
answered(PollLook *look, Dpd__Frame__BodyCase body, gint64 wait_ms)
{
    g_autoptr(GError) error = NULL;
    look->frame = receive(look, look->id, body, wait_ms, &error);
    if (look->frame == NULL && haw_code(error) != HAW_NOT_FOUND) {
        haw_warn("poll.look", KS("why", error->message)); /* L2 */
    }
    return look->frame != NULL;
}

/* One list behind the other, up to 'limit'. */
static void *
join(ShowPool *pool, void *first, size_t *count, void *second, size_t more, size_t limit)
{
    void **all = showpool_keep(pool, g_new0(void *, *count + more + 1));
    if (*count > 0) {
        memcpy(all, first, *count * sizeof *all);
    }
    for (size_t i = 0; i < more && *count < limit; i++) {
        all[(*count)++] = ((void **) second)[i];
    }
    return all;
}

bool
polllook_flows(PollLook *look, const Dpd__FastFlows *want, ShowPool *pool, Dpd__FastFlows *ret)
{
    if (look == NULL || !answered(look, DPD__FRAME__BODY_FAST_FLOWS, ANSWER_MS)) {
        return false;
    }
    const Dpd__FastFlows *more = look->frame->fast_flows;
    ret->flows = join(pool, ret->flows, &ret->n_flows, more->flows, more->n_flows,
                      flowshow_limit(want->limit));
    ret->total += more->total;
    return true;
}

static guint64 *
count_of(const Dpd__FastStats *stats, const char *reason)
{
    for (size_t i = 0; i < stats->n_counts; i++) {
        if (strcmp(stats->counts[i]->reason, reason) == 0) {
            return &stats->counts[i]->packets;
        }
    }
    return NULL;
}

bool
polllook_stats(PollLook *look, ShowPool *pool, Dpd__FastStats *ret)
{
    if (look == NULL || !answered(look, DPD__FRAME__BODY_FAST_STATS, ANSWER_MS)) {
        return false;
    }
    const Dpd__FastStats *more = look->frame->fast_stats;
    ret->flows += more->flows;
    ret->flows_half += more->flows_half;
    for (size_t i = 0; i < more->n_counts; i++) {
        guint64 *count = count_of(ret, more->counts[i]->reason);
        if (count != NULL) {
            *count += more->counts[i]->packets;
        }
    }
    for (size_t i = 0; i < ret->n_ports; i++) {
        for (size_t j = 0; j < more->n_ports; j++) {
            if (strcmp(ret->ports[i]->id, more->ports[j]->id) == 0) {
                ret->ports[i]->packets += more->ports[j]->packets;
                ret->ports[i]->bytes += more->ports[j]->bytes;
            }
        }
    }
    return true;
}

static int
by_time(const void *a, const void *b)
{
    const Dpd__FastEvent *x = *(Dpd__FastEvent *const *) a, *y = *(Dpd__FastEvent *const *) b;
    return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

/* L3 */
static void
watch_fiber(void *data)
{
    PollLook *look = data;
    if (answered(look, DPD__FRAME__BODY_FAST_TRACE, look->watch.wait_ms) &&
        look->frame->fast_trace->n_events >= look->watch.limit) {
        g_cancellable_cancel(look->watch.enough);
    }
    look->watch.waits = false;
    fiber_signal_all(&look->watch.came);
}

void
polllook_watch(PollLook *look, const Dpd__FastTrace *want, GCancellable *enough)
{
    if (look != NULL) {
        look->watch.waits = true;
        look->watch.came = (FiberSignal) FIBER_SIGNAL_INIT;
        look->watch.wait_ms = flowshow_trace_ms(want) + ANSWER_MS;
        look->watch.limit = flowshow_limit(want->limit);
        look->watch.enough = g_object_ref(enough);
        fiber_start("look", watch_fiber, look);
    }
}

bool
polllook_trace(PollLook *look, const Dpd__FastTrace *want, ShowPool *pool, Dpd__FastTrace *ret)
{
    size_t limit = flowshow_limit(want->limit);
    if (look == NULL) {
        return false;
    }
    if (ret->n_events >= limit) {
        dpdwire_finish(look->wire);
    }
    wait_for_watch(look);
    if (look->frame == NULL) {
        return false;
    }
    const Dpd__FastTrace *more = look->frame->fast_trace;
    size_t all = ret->n_events + more->n_events;
    ret->events = join(pool, ret->events, &ret->n_events, more->events, more->n_events, all);
    qsort(ret->events, ret->n_events, sizeof(Dpd__FastEvent *), by_time);
    ret->n_events = MIN(all, limit);
    ret->lost += more->lost + (all - ret->n_events);
    return true;
}
