/* flowshow.h: flows as people see them, whichever engine has learned them: states in words, filters, rates, and the
 * messages that list them.
 * Threads: what Yields inside fibers; the rest any. */
#pragma once
#include "base/error.h"
#include "bpf/layout.h"
#include "proto/dpdwire.h"

typedef enum {
    FLOWSHOW_HALF,    /* one direction is proven */
    FLOWSHOW_FAST,    /* forwarded */
    FLOWSHOW_PROBING, /* forwarded, and its copy is on its way */
    FLOWSHOW_EXPIRED, /* without proof: the next packet goes slow */
    FLOWSHOW_STALE,   /* of a former generation */
} FlowState;
/* Of a flow whose port is in 'zone'. */
FlowState flowshow_state(const volatile struct layout_config *config, guint zone,
                         const struct layout_flow *flow, guint64 now_ns);
/* "half", "fast", … */
const char *flowshow_state_text(FlowState state);
/* "tcp-flags", …; NULL when out of range. */
const char *flowshow_reason_text(guint reason);

typedef struct {
    struct layout_tuple key; /* addresses as the layout has them, both families */
    struct layout_flow flow;
    FlowState state;
    bool offloaded; /* a rule in the device forwards it */
} FlowSeen;
typedef void (*FlowVisit)(const FlowSeen *flow, void *data);

/* What an answer points to. */
typedef struct ShowPool ShowPool;
ShowPool *showpool_new(void);
void showpool_free(ShowPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ShowPool, showpool_free)
/* Takes a g_malloc()ed block. */
void *showpool_keep(ShowPool *pool, void *block);

/* An engine. */
typedef struct {
    void *data;
    const char *(*id)(void *data, guint nic);  /* of a port; "" when there is none */
    int (*nic)(void *data, const char *id);    /* -1: there is none */
    const char *(*off)(void *data, guint nic); /* why nothing of a port is fast; "" */
    guint64 (*walk)(void *data, FlowVisit,
                    void *arg); /* each flow; the time then, in flows' clock. Yields */
} FlowEngine;

/* INVALID for a filter that is none, NOT_FOUND for a port. Yields. */
bool flowshow_list(const FlowEngine *engine, const Dpd__FastFlows *want, ShowPool *pool,
                   Dpd__FastFlows *ret, GError **error);
/* One packet that was judged; borrowed from 'pool'. */
Dpd__FastEvent *flowshow_event(const FlowEngine *engine, const struct layout_event *event,
                               ShowPool *pool);
/* LAYOUT_REASON_COUNT of them. */
void flowshow_counts(const guint64 *counters, ShowPool *pool, Dpd__FastStats *ret);
/* "" is any: family 0. */
bool flowshow_address(const char *text, guint *ret_family, __be32 ret_address[4], GError **error);
/* How many are listed of a request for so many; 0: the usual. */
guint flowshow_limit(guint asked);
/* How long a trace takes. */
gint64 flowshow_trace_ms(const Dpd__FastTrace *want);
