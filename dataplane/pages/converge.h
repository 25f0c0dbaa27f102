/* converge.h: when to stop copying a running guest's memory and switch over. Pure; threads: any. */
#pragma once
#include <glib.h>
#include <stdbool.h>

enum converge_stall {
    CONVERGE_STALL_PAUSE,    /* switch anyway, with a longer pause */
    CONVERGE_STALL_THROTTLE, /* have the guest slowed down */
    CONVERGE_STALL_ABORT,    /* give up: the guest stays where it is */
    CONVERGE_STALL_POSTCOPY, /* switch at once: what is left follows while it runs there */
};

struct converge_policy {
    gint64 downtime_us; /* the pause that the guest may see */
    gint64 fixed_us;    /* of it, what does not depend on memory: device state, the switch itself */
    guint rounds_max, rounds_min;
    enum converge_stall stall;
};

/* One round as it went, and what the scan behind it found. */
struct converge_round {
    guint64 sent_bytes;
    gint64 wall_us;
    guint64 dirty_bytes; /* written since the round's own scan */
};

enum converge_verdict {
    CONVERGE_AGAIN,
    CONVERGE_SWITCH,
    CONVERGE_SWITCH_LATE,  /* longer than downtime_us: by CONVERGE_STALL_PAUSE */
    CONVERGE_SWITCH_OWING, /* likewise, by CONVERGE_STALL_POSTCOPY */
    CONVERGE_THROTTLE,
    CONVERGE_ABORT,
};

struct converge {
    struct converge_policy policy;
    guint rounds, worse;     /* 'worse': rounds in a row after which no less was dirty */
    double rate, dirty_rate; /* bytes a second */
    gint64 shortest_us;      /* of all rounds: what even little costs */
    guint64 least_dirty;
};

void converge_init(struct converge *state, const struct converge_policy *policy);
enum converge_verdict converge_next(struct converge *state, const struct converge_round *round);
/* The pause if we switched now, with so much to send. */
gint64 converge_pause_us(const struct converge *state, guint64 dirty_bytes);
/* Until the predicted pause fits, at the present rates; -1: never. */
gint64 converge_end_us(const struct converge *state, guint64 dirty_bytes);
