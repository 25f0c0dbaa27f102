/* A session with hawser-dpd.
 * S1  Answers go by the id of their request, in whatever order dpd has them ready: one port that takes
 *     long holds up no other.
 * S2  The end of the connection is the answer (UNAVAILABLE) to all that still wait.
 * S3  A frame that fits no request is a fault of the peer's and ends the session. */
#include "agent/dpd/dpdsession.h"

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/dpdwire.h"

enum { HELLO_MS = 15000, WAIT_MS = 30000, GRACE_MS = 5000 };

struct DpdSession {
    DpdWire *wire;       /* owned */
    GHashTable *waiting; /* id → struct request, borrowed from the stacks of waiting fibers */
    guint64 last_id;
    guint refs;
    bool alive, ended; /* ended: the owner has let go */
    void (*on_end)(void *data);
    void *data;
};

struct request {
    guint64 id;
    Dpd__Frame *answer; /* owned until it is handed on */
    int fd;
    bool lost;
    FiberSignal done;
};

static void
session_unref(DpdSession *session)
{
    if (--session->refs == 0) {
        dpdwire_free(session->wire);
        g_hash_table_unref(session->waiting);
        g_free(session);
    }
}

bool
dpdsession_alive(const DpdSession *session)
{
    return session->alive;
}

void
dpdsession_end(DpdSession *session)
{
    if (session != NULL) {
        session->ended = true;
        dpdwire_shut(session->wire);
        session_unref(session);
    }
}

void
dpdsession_answer_free(Dpd__Frame *answer)
{
    dpdwire_frame_free(answer);
}

static void
tell_failures(const Dpd__Observed *observed)
{
    for (size_t i = 0; i < observed->n_ports; i++) {
        const Dpd__PortState *state = observed->ports[i];
        if (state->state == DPD__STATE__FAILED) {
            haw_warn("dpd.port_failed", KS("port", state->id), KS("why", state->message));
        }
    }
}

/* S1, S3 */
static bool
hand_on(DpdSession *session, Dpd__Frame *frame, int *fd, GError **error)
{
    struct request *request = g_hash_table_lookup(session->waiting, &frame->id);
    if (request != NULL) {
        g_hash_table_remove(session->waiting, &frame->id);
        request->answer = frame;
        request->fd = fd_steal(fd);
        fiber_signal_all(&request->done);
        return true;
    }
    bool observed = frame->body_case == DPD__FRAME__BODY_OBSERVED;
    /* Of a later release there may be events that we do not know. */
    bool event = frame->id == 0 && (observed || frame->body_case == DPD__FRAME__BODY__NOT_SET);
    if (event && observed) {
        tell_failures(frame->observed);
    }
    /* An answer whose fiber has given up waiting is late, not wrong. */
    bool late = frame->id > 0 && frame->id <= session->last_id;
    dpdwire_frame_free(frame);
    return event || late || haw_fail(error, HAW_INVALID, "hawser-dpd answers what nobody asked");
}

static void
lose_all(DpdSession *session)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, session->waiting);
    while (g_hash_table_iter_next(&iter, NULL, &value)) { /* S2 */
        struct request *request = value;
        request->lost = true;
        g_hash_table_iter_remove(&iter);
        fiber_signal_all(&request->done);
    }
}

static void
receive_fiber(void *data)
{
    DpdSession *session = data;
    g_autoptr(GError) error = NULL;
    for (;;) {
        haw_autofd int fd = -1;
        Dpd__Frame *frame = dpdwire_receive(session->wire, &fd, -1, NULL, &error);
        if (frame == NULL || !hand_on(session, frame, &fd, &error)) {
            break;
        }
    }
    session->alive = false;
    dpdwire_shut(session->wire);
    lose_all(session);
    if (!session->ended) {
        haw_info("dpd.disconnected", KS("why", error->message));
        session->on_end(session->data);
    }
    session_unref(session);
}

/* ---- requests ---- */

static bool
failed(const Dpd__Frame *frame, GError **error)
{
    if (frame->body_case == DPD__FRAME__BODY_FAILURE) {
        guint code = frame->failure->code;
        haw_fail(error, code < HAW_CODE_COUNT ? (HawCode) code : HAW_FAILED, "%s",
                 frame->failure->message);
        return true;
    }
    return false;
}

/* Sends it and waits; NULL with the error that dpd answers. */
static Dpd__Frame *
ask(DpdSession *session, Dpd__Frame *frame, Dpd__Frame__BodyCase want, int *ret_fd, gint64 wait_ms,
    GError **error)
{
    struct request request = {.id = ++session->last_id, .fd = -1, .done = FIBER_SIGNAL_INIT};
    if (!session->alive) {
        haw_fail(error, HAW_UNAVAILABLE, "the connection to hawser-dpd has ended");
        return NULL;
    }
    session->refs++;
    frame->id = request.id;
    g_hash_table_insert(session->waiting, &request.id, &request);
    g_autoptr(GError) why = NULL;
    bool ok = dpdwire_send(session->wire, frame, -1, &why);
    while (ok && request.answer == NULL && !request.lost) {
        ok = fiber_signal_wait(&request.done, wait_ms, NULL, &why);
    }
    g_hash_table_remove(session->waiting, &request.id);
    haw_autofd int fd = request.fd;
    if (request.lost) {
        haw_fail(error, HAW_UNAVAILABLE, "the connection to hawser-dpd has ended");
    } else if (request.answer == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        haw_push(error, "ask hawser-dpd");
    } else if (failed(request.answer, error) || request.answer->body_case != want) {
        if (error != NULL && *error == NULL) {
            haw_fail(error, HAW_INVALID, "hawser-dpd gave another kind of answer");
        }
        dpdwire_frame_free(g_steal_pointer(&request.answer));
    } else if (ret_fd != NULL) {
        *ret_fd = fd_steal(&fd);
    }
    session_unref(session);
    return request.answer;
}

Dpd__Frame *
dpdsession_apply(DpdSession *session, Dpd__Apply *apply, GError **error)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_APPLY;
    frame.apply = apply;
    apply->wait_ms = apply->wait_ms > 0 ? apply->wait_ms : WAIT_MS;
    Dpd__Frame *answer =
        ask(session, &frame, DPD__FRAME__BODY_OBSERVED, NULL, apply->wait_ms + GRACE_MS, error);
    if (answer != NULL && answer->observed->n_ports != apply->n_ports + apply->n_remove) {
        haw_fail(error, HAW_INVALID, "hawser-dpd answered of other ports");
        g_clear_pointer(&answer, dpdwire_frame_free);
    }
    return answer;
}

Dpd__Frame *
dpdsession_ask(DpdSession *session, Dpd__Frame *request, gint64 wait_ms, GError **error)
{
    bool done = request->body_case == DPD__FRAME__BODY_FAST_BUMP ||
                request->body_case == DPD__FRAME__BODY_FAST_SWITCH ||
                request->body_case == DPD__FRAME__BODY_FAST_FAR;
    return ask(session, request, done ? DPD__FRAME__BODY_DONE : request->body_case, NULL, wait_ms,
               error);
}

int
dpdsession_take(DpdSession *session, const char *id, GError **error)
{
    Dpd__Take take = DPD__TAKE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    int fd = -1;
    take.id = (char *) (guintptr) id;
    frame.body_case = DPD__FRAME__BODY_TAKE;
    frame.take = &take;
    g_autoptr(DpdFrame) answer = ask(session, &frame, DPD__FRAME__BODY_TAKEN, &fd, WAIT_MS, error);
    if (answer != NULL && fd < 0) {
        haw_fail(error, HAW_INVALID, "hawser-dpd sent no descriptor");
    }
    return fd;
}

static json_t *
port_json(const Dpd__PortState *port)
{
    static const char *const kinds[] = {"none", "veth", "tap", "vf", "vdpa", "vhost-user"};
    static const char *const states[] = {"working", "ready", "failed", "gone"};
    guint kind = (guint) port->kind, state = (guint) port->state;
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", port->id, "kind",
                     kind < G_N_ELEMENTS(kinds) ? kinds[kind] : "unknown", "state",
                     state < G_N_ELEMENTS(states) ? states[state] : "unknown", "pf", port->pf,
                     "representor", port->representor);
}

/* A new reference, [] when dpd does not say. */
static json_t *
list_ports(DpdSession *session)
{
    Dpd__List nothing = DPD__LIST__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    json_t *ports = json_array();
    frame.body_case = DPD__FRAME__BODY_LIST;
    frame.list = &nothing;
    g_autoptr(DpdFrame) answer =
        ask(session, &frame, DPD__FRAME__BODY_OBSERVED, NULL, WAIT_MS, NULL);
    for (size_t i = 0; answer != NULL && i < answer->observed->n_ports; i++) {
        json_array_append_new(ports, port_json(answer->observed->ports[i]));
    }
    return ports;
}

json_t *
dpdsession_status(DpdSession *session, GError **error)
{
    Dpd__Status nothing = DPD__STATUS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_STATUS;
    frame.status = &nothing;
    g_autoptr(DpdFrame) answer =
        ask(session, &frame, DPD__FRAME__BODY_STATUS, NULL, WAIT_MS, error);
    if (answer == NULL) {
        return NULL;
    }
    const Dpd__Status *status = answer->status;
    json_t *claims = json_array();
    for (size_t i = 0; i < status->n_claims; i++) {
        const Dpd__Claim *claim = status->claims[i];
        json_array_append_new(claims,
                              json_pack("{s:s, s:s, s:s, s:i}", "vf", claim->vf, "port",
                                        claim->port, "pf", claim->pf, "index", claim->index));
    }
    return json_pack("{s:s, s:I, s:i, s:I, s:o, s:o}", "backend", status->backend, "generation",
                     (json_int_t) status->generation, "pid", (int) status->pid, "busy_us",
                     (json_int_t) status->busy_us, "claims", claims, "ports", list_ports(session));
}

/* ---- opening ---- */

static bool
greet(DpdWire *wire, guint64 *ret_generation, GError **error)
{
    Dpd__Hello hello;
    Dpd__Frame frame;
    dpdwire_hello(&hello, &frame);
    if (!dpdwire_send(wire, &frame, -1, error)) {
        return false;
    }
    g_autoptr(DpdFrame) answer = dpdwire_receive(wire, NULL, HELLO_MS, NULL, error);
    if (answer == NULL || failed(answer, error)) {
        return false;
    }
    const Dpd__Hello *theirs = answer->body_case == DPD__FRAME__BODY_HELLO ? answer->hello : NULL;
    if (theirs == NULL ||
        dpdwire_agree(DPDWIRE_LOWEST, DPDWIRE_HIGHEST, theirs->lowest, theirs->highest) == 0) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "hawser-dpd (%s) speaks another version of the protocol than this agent "
                        "(%s): install the same release of both",
                        theirs != NULL ? theirs->software : "?", HAWSER_VERSION);
    }
    *ret_generation = theirs->generation;
    return true;
}

DpdSession *
dpdsession_open(const char *path, void (*on_end)(void *data), void *data, guint64 *ret_generation,
                GError **error)
{
    g_autoptr(DpdWire) wire = dpdwire_connect(path, error);
    if (wire == NULL || !dpdwire_check_peer(wire, error) || !greet(wire, ret_generation, error)) {
        return NULL;
    }
    DpdSession *session = g_new0(DpdSession, 1);
    session->wire = g_steal_pointer(&wire);
    session->waiting = g_hash_table_new(g_int64_hash, g_int64_equal);
    session->refs = 2; /* the caller's and the receiving fiber's */
    session->alive = true;
    session->on_end = on_end;
    session->data = data;
    fiber_start("dpd session", receive_fiber, session);
    Dpd__Watch watch = DPD__WATCH__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_WATCH;
    frame.watch = &watch;
    g_autoptr(DpdFrame) answer = ask(session, &frame, DPD__FRAME__BODY_DONE, NULL, HELLO_MS, error);
    if (answer == NULL) {
        dpdsession_end(session);
        return NULL;
    }
    return session;
}
