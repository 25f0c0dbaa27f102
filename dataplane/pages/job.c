/* One migration, as the agent orders it.
 * J1  The agent's socket is the leash: when the agent goes, or orders a cancel, the stream ends. The guest
 *     is the agent's: whoever comes after it resumes what stands still.
 * J2  Keys come by the socket, never by arguments, and are wiped after use.
 * J3  Once it has its descriptors it gives up what it could do beside them (privilege.h). */
#include "dataplane/pages/job.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "dataplane/pages/orders.h"
#include "dataplane/pages/pagemove.h"
#include "dataplane/pages/pagesink.h"
#include "dataplane/pages/privilege.h"
#include "dataplane/pages/rdmaoffer.h"

enum { IDLE_MS = 30 * 1000 };

struct job {
    int orders;
    const Pages__Start *start;
    int fds[ORDERS_FDS_MAX];
    guint n_fds;
    bool punched;
    PageGuard *guard; /* owns; of a sink whose guest may run early */
    pid_t lanes;      /* carries the stream by RDMA; 0: nobody does */
};

static void
report_progress(struct job *job, const struct page_progress *progress, Pages__Report__BodyCase kind)
{
    Pages__Progress body = PAGES__PROGRESS__INIT;
    Pages__Report report = PAGES__REPORT__INIT;
    g_autoptr(GError) error = NULL;
    body.round = progress->round;
    body.memory_bytes = progress->memory_bytes;
    body.sent_bytes = progress->sent_bytes;
    body.punched_bytes = progress->punched_bytes;
    body.dirty_bytes = progress->dirty_bytes;
    body.rate = progress->rate;
    body.dirty_rate = progress->dirty_rate;
    body.pause_us = progress->pause_us;
    body.end_us = progress->end_us;
    body.cpu_us = progress->cpu_us;
    body.route = (Pages__Route) progress->route;
    body.rdma = job->lanes > 0;
    body.owed_bytes = progress->owed_bytes;
    report.body_case = kind;
    report.progress = &body; /* a union: 'done' and 'paid' are the same */
    if (!orders_report(job->orders, &report, &error)) {
        haw_debug("pages.unheard", KS("error", error->message));
    }
}

static void
report_failure(int orders, const GError *why)
{
    Pages__Failure body = PAGES__FAILURE__INIT;
    Pages__Report report = PAGES__REPORT__INIT;
    g_autoptr(GError) error = NULL;
    body.code = haw_code(why);
    body.message = why->message;
    report.body_case = PAGES__REPORT__BODY_FAILURE;
    report.failure = &body;
    if (!orders_report(orders, &report, &error)) {
        haw_warn("pages.failed-unheard", KS("why", why->message));
    }
}

/* ---- source ---- */

/* Asks the agent, and waits for its answer. */
static bool
ask(struct job *job, Pages__Wish wish, GError **error)
{
    Pages__Report report = PAGES__REPORT__INIT;
    report.body_case = PAGES__REPORT__BODY_ASK;
    report.ask = wish;
    Pages__Order *order = orders_report(job->orders, &report, error)
                              ? orders_receive(job->orders, NULL, NULL, error)
                              : NULL;
    if (order == NULL) {
        return false;
    }
    bool ok = false;
    if (order->body_case == PAGES__ORDER__BODY_CANCEL) {
        haw_fail(error, HAW_CANCELLED, "the migration was cancelled");
    } else if (order->body_case != PAGES__ORDER__BODY_ANSWER) {
        haw_fail(error, HAW_INVALID, "the agent's order is none for now");
    } else if (!order->answer->ok) {
        haw_fail(error, HAW_FAILED, "%s", order->answer->reason);
    } else {
        job->punched = order->answer->punched;
        ok = true;
    }
    pages__order__free_unpacked(order, NULL);
    return ok;
}

static bool
stop_guest(bool final, void *data, GError **error)
{
    return ask(data, final ? PAGES__WISH__STOP_FINAL : PAGES__WISH__STOP, error);
}

static bool
resume_guest(void *data, GError **error)
{
    return ask(data, PAGES__WISH__RESUME, error);
}

static bool
throttle_guest(void *data, GError **error)
{
    return ask(data, PAGES__WISH__SLOW_DOWN, error);
}

static bool
was_punched(void *data)
{
    return ((struct job *) data)->punched;
}

static void
tell(const struct page_progress *progress, void *data)
{
    report_progress(data, progress, PAGES__REPORT__BODY_PROGRESS);
}

static void
moved(const struct page_progress *progress, void *data)
{
    report_progress(data, progress, PAGES__REPORT__BODY_DONE);
}

static void
paid(const struct page_progress *progress, void *data)
{
    report_progress(data, progress, PAGES__REPORT__BODY_PAID);
}

static bool
run_source(struct job *job, GError **error)
{
    const Pages__Start *start = job->start;
    struct page_source_options options = {
        .memory_fd = job->fds[0],
        .memory_bytes = start->memory_bytes,
        .sockets = job->fds + 1,
        .channels = job->n_fds - 1,
        .key = start->key.len > 0 ? start->key.data : NULL,
        .route = (enum page_route) start->route,
        .limit_bytes_s = start->limit_bytes_s,
        .idle_ms = start->idle_ms,
        .cancel_fd = job->orders, /* J1: between questions the agent says nothing but that */
    };
    struct converge_policy policy = {
        .downtime_us = (gint64) start->downtime_us,
        .fixed_us = (gint64) start->fixed_us,
        .rounds_max = start->rounds_max,
        .rounds_min = start->rounds_min,
        .stall = (enum converge_stall) start->stall,
    };
    struct page_guest guest = {
        .stop = stop_guest,
        .resume = resume_guest,
        .throttle = throttle_guest,
        .punched = was_punched,
        .progress = tell,
        .done = moved,
        .paid = paid,
        .data = job,
    };
    memcpy(options.token, start->token.data, FRAME_TOKEN_BYTES);
    return pagemove_run(start->pid, &options, &policy, &guest, error);
}

/* ---- sink ---- */

static void
received(guint64 total_bytes, void *data)
{
    struct job *job = data;
    struct page_progress progress = {
        .memory_bytes = job->start->memory_bytes, .sent_bytes = total_bytes, .end_us = -1};
    report_progress(job, &progress, PAGES__REPORT__BODY_PROGRESS);
}

static void
report_total(struct job *job, const struct page_sink_total *total, Pages__Report__BodyCase kind)
{
    struct page_progress progress = {
        .round = total->rounds,
        .memory_bytes = job->start->memory_bytes,
        .sent_bytes = total->data_bytes,
        .punched_bytes = total->punched_bytes,
        .owed_bytes = total->owed_bytes,
    };
    report_progress(job, &progress, kind);
}

static void
whole(const struct page_sink_total *total, void *data)
{
    report_total(data, total, PAGES__REPORT__BODY_DONE);
}

static void
whole_at_last(const struct page_sink_total *total, void *data)
{
    report_total(data, total, PAGES__REPORT__BODY_PAID);
}

static bool
run_sink(struct job *job, GError **error)
{
    const Pages__Start *start = job->start;
    struct page_sink_options options = {
        .memory_fd = job->fds[0],
        .memory_bytes = start->memory_bytes,
        .sockets = job->fds + 1,
        .channels = job->n_fds - 1,
        .key = start->key.len > 0 ? start->key.data : NULL,
        .idle_ms = start->idle_ms,
        .cancel_fd = job->orders,
        .progress = received,
        .guard = job->guard,
        .done = whole,
        .paid = whole_at_last,
        .data = job,
    };
    memcpy(options.token, start->token.data, FRAME_TOKEN_BYTES);
    return pagesink_run(&options, error);
}

/* ---- both ---- */

static bool
check_start(const struct job *job, GError **error)
{
    const Pages__Start *start = job->start;
    if (job->n_fds < 2) {
        return haw_fail(error, HAW_INVALID, "the order came without memory and sockets");
    }
    if (start->token.len != FRAME_TOKEN_BYTES ||
        (start->key.len != 0 && start->key.len != PAGECRYPT_KEY_BYTES)) {
        return haw_fail(error, HAW_INVALID, "the order's token or key has a wrong size");
    }
    if (start->route > PAGES__ROUTE__ZERO_COPY || start->stall > PAGES__STALL__POSTCOPY) {
        return haw_fail(error, HAW_INVALID, "the order's route or policy is unknown");
    }
    return true;
}

/* Before anything is given up: finding a device takes the network. Whether 'fds' are those of RDMA now or not, they
 * carry the stream. */
static void
take_lanes(struct job *job)
{
    const Pages__Start *start = job->start;
    const RdmaOffer offer = {.sockets = job->fds + 1,
                             .n = job->n_fds - 1,
                             .token = start->token.data,
                             .cancel_fd = job->orders,
                             .wait_ms = start->idle_ms > 0 ? start->idle_ms : IDLE_MS};
    if (start->sink) {
        job->lanes = rdmaoffer_answer(&offer);
    } else if (start->rdma) {
        job->lanes = rdmaoffer_ask(&offer);
    }
}

static bool
run(struct job *job, GError **error)
{
    if (!check_start(job, error)) {
        return false;
    }
    if (job->start->sink && job->start->guard_pid > 0) {
        job->guard = pageguard_open(job->start->guard_pid, job->fds[0], error);
        if (job->guard == NULL) {
            return false;
        }
    }
    take_lanes(job);
    return privilege_drop(job->start->sink ? PRIVILEGE_HELD : PRIVILEGE_TRACE, error) &&
           (job->start->sink ? run_sink(job, error) : run_source(job, error));
}

bool
job_run(int orders_fd)
{
    struct job job = {.orders = orders_fd};
    g_autoptr(GError) error = NULL;
    Pages__Order *order = orders_receive(orders_fd, job.fds, &job.n_fds, &error);
    bool ok = false;
    if (order != NULL && order->body_case == PAGES__ORDER__BODY_START) {
        job.start = order->start;
        ok = run(&job, &error);
        if (order->start->key.data != NULL) {
            explicit_bzero(order->start->key.data, order->start->key.len); /* J2 */
        }
    } else if (order != NULL) {
        haw_fail(&error, HAW_INVALID, "the first order is to start");
    }
    if (!ok) {
        report_failure(orders_fd, error);
    }
    for (guint i = 0; i < job.n_fds; i++) {
        fd_close(&job.fds[i]);
    }
    pageguard_close(job.guard);
    rdmaoffer_end(job.lanes);
    if (order != NULL) {
        pages__order__free_unpacked(order, NULL);
    }
    return ok;
}
