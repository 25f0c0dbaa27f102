/* The policy of pre-copy.
 * C1  A pause is predicted from what was measured: the rate at which the sink had the pages, and the
 *     time that the shortest round took, for rounds of few pages are all latency.
 * C2  A round that is too short to tell a rate tells none.
 * C3  Two rounds in a row that leave no less to send than the best one before them are a stall: more of
 *     the same would only repeat them.
 * Called by pagemove.c. */
#include "dataplane/pages/converge.h"

enum { RATE_BYTES = 4 << 20, STALL_ROUNDS = 2 };

void
converge_init(struct converge *state, const struct converge_policy *policy)
{
    *state = (struct converge){
        .policy = *policy,
        .shortest_us = G_MAXINT64,
        .least_dirty = G_MAXUINT64,
    };
}

gint64
converge_pause_us(const struct converge *state, guint64 dirty_bytes)
{
    gint64 least = state->shortest_us == G_MAXINT64 ? 0 : state->shortest_us;
    gint64 copy = state->rate > 0 ? (gint64) ((double) dirty_bytes / state->rate * 1e6) : 0;
    return state->policy.fixed_us + MAX(copy, MIN(least, copy + 1000)); /* C1 */
}

gint64
converge_end_us(const struct converge *state, guint64 dirty_bytes)
{
    double budget_us = (double) (state->policy.downtime_us - state->policy.fixed_us);
    double fits = state->rate * MAX(budget_us, 0) / 1e6;
    if (state->rate <= 0 || state->dirty_rate >= state->rate) {
        return (double) dirty_bytes <= fits ? 0 : -1;
    }
    double left = (double) dirty_bytes, spent_us = 0, shrink = state->dirty_rate / state->rate;
    for (guint i = 0; left > fits && i < state->policy.rounds_max; i++) {
        spent_us += left / state->rate * 1e6;
        left *= shrink;
    }
    return left <= fits ? (gint64) spent_us : -1;
}

static enum converge_verdict
stalled(const struct converge *state)
{
    switch (state->policy.stall) {
    case CONVERGE_STALL_THROTTLE:
        return CONVERGE_THROTTLE;
    case CONVERGE_STALL_ABORT:
        return CONVERGE_ABORT;
    case CONVERGE_STALL_POSTCOPY:
        return CONVERGE_SWITCH_OWING;
    default:
        return CONVERGE_SWITCH_LATE;
    }
}

enum converge_verdict
converge_next(struct converge *state, const struct converge_round *round)
{
    gint64 wall_us = MAX(round->wall_us, 1);
    state->rounds++;
    state->shortest_us = MIN(state->shortest_us, wall_us);
    if (round->sent_bytes >= RATE_BYTES || state->rate <= 0) { /* C2 */
        state->rate = (double) MAX(round->sent_bytes, 1) / (double) wall_us * 1e6;
    }
    state->dirty_rate = (double) round->dirty_bytes / (double) wall_us * 1e6;
    state->worse = round->dirty_bytes < state->least_dirty ? 0 : state->worse + 1;
    state->least_dirty = MIN(state->least_dirty, round->dirty_bytes);

    if (state->rounds < state->policy.rounds_min) {
        return CONVERGE_AGAIN;
    }
    if (converge_pause_us(state, round->dirty_bytes) <= state->policy.downtime_us) {
        return CONVERGE_SWITCH;
    }
    if (state->rounds >= state->policy.rounds_max) {
        /* As slow as the guest may be made, the rest is what it is. */
        return state->policy.stall == CONVERGE_STALL_THROTTLE ? CONVERGE_SWITCH_LATE
                                                              : stalled(state);
    }
    if (state->worse >= STALL_ROUNDS) { /* C3 */
        state->worse = 0;
        return stalled(state);
    }
    return CONVERGE_AGAIN;
}
