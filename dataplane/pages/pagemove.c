/* A migration's source, from the first page to the last.
 * M1  Write protection is armed, and armed again, only while the guest stands still with its I/O drained:
 *     a direct read that is in flight then lands by DMA without a fault, and its page would be lost.
 * M2  The guest is resumed after every failure that it was stopped for, the last one included.
 * M3  The last scan and the last round see a guest that stands still: what they send is final.
 * M4  With CONVERGE_STALL_POSTCOPY the last scan is not sent: the sink learns which pages it is owed, and gets them
 *     while the guest runs there already. Once the owner has heard of that the guest is its to decide about. */
#include "dataplane/pages/pagemove.h"

#include "dataplane/pages/tracker.h"

struct move {
    const struct page_guest *guest;
    PageSource *source;
    Tracker *tracker;
    struct converge converge;
    struct page_progress progress;
    guint64 before_bytes; /* sent by the rounds before */
    bool owing;           /* M4 */
};

static void
on_bytes(guint64 sent_bytes, void *data)
{
    struct move *move = data;
    move->progress.sent_bytes = move->before_bytes + sent_bytes;
    if (move->guest->progress != NULL) {
        move->guest->progress(&move->progress, move->guest->data);
    }
}

static void
tell_round(struct move *move, const struct page_round *round)
{
    struct page_progress *progress = &move->progress;
    move->before_bytes += round->data_bytes;
    progress->sent_bytes = move->before_bytes;
    progress->punched_bytes += round->punched_bytes;
    progress->cpu_us += round->cpu_us;
    progress->rate = move->converge.rate;
    progress->dirty_rate = move->converge.dirty_rate;
    progress->route = pagesource_route(move->source);
    progress->pause_us = converge_pause_us(&move->converge, progress->dirty_bytes);
    progress->end_us = converge_end_us(&move->converge, progress->dirty_bytes);
    progress->round++;
    if (move->guest->progress != NULL) {
        move->guest->progress(progress, move->guest->data);
    }
}

/* With the guest still: arms, or takes what was written and arms again. M1 */
static bool
look(struct move *move, bool first, GArray *runs, GError **error)
{
    const struct page_guest *guest = move->guest;
    if (!guest->stop(false, guest->data, error)) {
        return false;
    }
    bool ok =
        first ? tracker_arm(move->tracker, error) : tracker_scan(move->tracker, true, runs, error);
    return guest->resume(guest->data, ok ? error : NULL) && ok; /* M2 */
}

/* M3 */
static bool
finish(struct move *move, GError **error)
{
    g_autoptr(GArray) runs = pagescan_runs(), holes = pagescan_runs();
    struct page_round round;
    gint64 from_us = g_get_monotonic_time();
    bool punched = move->guest->punched != NULL && move->guest->punched(move->guest->data);
    if (!tracker_scan(move->tracker, false, runs, error) ||
        (punched && !pagesource_punched(move->source, holes, error)) ||
        !(move->owing ? pagesource_owe(move->source, runs, holes, &round, error)
                      : pagesource_round(move->source, runs, holes, true, &round, error))) {
        return false;
    }
    move->progress.dirty_bytes = 0;
    if (move->owing) {
        move->progress.owed_bytes = pagesource_owed(move->source);
        round.punched_bytes = 0; /* they are not zero */
    }
    tell_round(move, &round);
    move->progress.pause_us = g_get_monotonic_time() - from_us;
    move->progress.end_us = 0;
    return true;
}

static bool
precopy(struct move *move, GArray *runs, GError **error)
{
    for (;;) {
        struct page_round round;
        if (!pagesource_round(move->source, runs, NULL, false, &round, error)) {
            return false;
        }
        g_array_set_size(runs, 0);
        if (!look(move, false, runs, error)) {
            return false;
        }
        move->progress.dirty_bytes = pagescan_total(runs);
        enum converge_verdict verdict =
            converge_next(&move->converge, &(struct converge_round){round.data_bytes, round.wall_us,
                                                                    move->progress.dirty_bytes});
        tell_round(move, &round);
        switch (verdict) {
        case CONVERGE_SWITCH_OWING:
            move->owing = true;
            return true;
        case CONVERGE_SWITCH:
        case CONVERGE_SWITCH_LATE:
            return true;
        case CONVERGE_ABORT:
            return haw_fail(error, HAW_LIMIT,
                            "the guest writes %.0f MB/s and %.0f MB/s can be sent: the pause would "
                            "be %.0f ms",
                            move->converge.dirty_rate / 1e6, move->converge.rate / 1e6,
                            (double) move->progress.pause_us / 1e3);
        case CONVERGE_THROTTLE:
            if (move->guest->throttle != NULL && !move->guest->throttle(move->guest->data, error)) {
                return false;
            }
            break;
        case CONVERGE_AGAIN:
            break;
        }
    }
}

/* What the scan behind the last running round found is still to be sent when the guest stops: it goes
 * with the final round's. */
static bool
switch_over(struct move *move, GArray *runs, GError **error)
{
    const struct page_guest *guest = move->guest;
    struct page_round round;
    if (!pagesource_round(move->source, runs, NULL, false, &round, error)) {
        return false;
    }
    tell_round(move, &round);
    if (!guest->stop(true, guest->data, error)) {
        return false;
    }
    if (finish(move, error)) {
        return true;
    }
    guest->resume(guest->data, NULL); /* M2 */
    return false;
}

/* M4 */
static bool
pay(struct move *move, GError **error)
{
    struct page_round round;
    GError *why = NULL;
    if (!pagesource_pay(move->source, &round, &why)) {
        pagesource_abort(move->source, why->message);
        g_propagate_error(error, why);
        return false;
    }
    tell_round(move, &round);
    move->guest->paid(&move->progress, move->guest->data);
    return true;
}

bool
pagemove_run(pid_t pid, const struct page_source_options *options,
             const struct converge_policy *policy, const struct page_guest *guest, GError **error)
{
    struct move move = {.guest = guest, .progress = {.memory_bytes = options->memory_bytes}};
    struct page_source_options mine = *options;
    g_autoptr(GArray) runs = pagescan_runs();
    GError *why = NULL;
    mine.progress = on_bytes;
    mine.data = &move;
    converge_init(&move.converge, policy);
    g_autoptr(Tracker) tracker = tracker_open(pid, options->memory_fd, error);
    move.tracker = tracker;
    if (tracker == NULL || !look(&move, true, runs, error)) {
        return false;
    }
    g_autoptr(PageSource) source = pagesource_new(&mine, error);
    move.source = source;
    if (source == NULL) {
        return false;
    }
    bool ok = pagescan_extents(options->memory_fd, options->memory_bytes, runs, &why) &&
              precopy(&move, runs, &why) && switch_over(&move, runs, &why);
    if (!ok) {
        pagesource_abort(source, why->message);
        g_propagate_error(error, why);
        return false;
    }
    guest->done(&move.progress, guest->data);
    return !move.owing || pay(&move, error);
}
