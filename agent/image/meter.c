/* Progress of workers.
 * The worker only adds to counters; a timer on the loop reads them and tells the operation. So a
 * worker never touches the loop's objects, and an operation hears of it a few times a second.
 * Partner of each atomic: worker adds, tick() reads. */
#include "agent/image/meter.h"

#include "base/clock.h"

#define TICK_MS 200

struct Meter {
    Operation *op; /* borrowed; NULL: nobody looks */
    const char *key;
    char *prefix;
    GCancellable *cancel; /* shared with the operation */
    guint timer;
    gint64 started_us;
    gint64 done, total; /* atomic */
};

static void
show(Meter *meter)
{
    gint64 done = __atomic_load_n(&meter->done, __ATOMIC_RELAXED);
    gint64 total = __atomic_load_n(&meter->total, __ATOMIC_RELAXED);
    if (done == 0) {
        return;
    }
    if (meter->prefix == NULL) {
        op_progress(meter->op, meter->key, done, total);
        return;
    }

    gint64 took_us = MAX(clock_mono_us() - meter->started_us, 1);
    g_autofree char *speed = g_format_size((guint64) (done * 1000000.0 / took_us));
    g_autofree char *text = NULL;
    if (total > 0) {
        text = g_strdup_printf("%s: %d%% (%s/s)", meter->prefix,
                               (int) (MIN(done, total) * 100.0 / total), speed);
    } else {
        g_autofree char *size = g_format_size((guint64) done);
        text = g_strdup_printf("%s: %s (%s/s)", meter->prefix, size, speed);
    }
    op_update(meter->op, json_pack("{s:s}", meter->key, text));
}

static gboolean
tick(gpointer data)
{
    show(data);
    return G_SOURCE_CONTINUE;
}

Meter *
meter_start(Operation *op, const char *key, const char *prefix)
{
    Meter *meter = g_new0(Meter, 1);
    meter->op = op;
    meter->key = key;
    meter->prefix = g_strdup(prefix);
    meter->started_us = clock_mono_us();
    if (op != NULL) {
        GCancellable *cancel = op_cancel(op);
        meter->cancel = cancel != NULL ? g_object_ref(cancel) : NULL;
        meter->timer = g_timeout_add(TICK_MS, tick, meter);
    }
    return meter;
}

void
meter_stop(Meter *meter)
{
    if (meter == NULL) {
        return;
    }
    if (meter->timer != 0) {
        g_source_remove(meter->timer);
    }
    g_clear_object(&meter->cancel);
    g_free(meter->prefix);
    g_free(meter);
}

void
meter_set_total(Meter *meter, gint64 bytes)
{
    if (meter != NULL) {
        __atomic_store_n(&meter->total, bytes, __ATOMIC_RELAXED);
    }
}

void
meter_add(Meter *meter, gint64 bytes)
{
    if (meter != NULL) {
        __atomic_add_fetch(&meter->done, bytes, __ATOMIC_RELAXED);
    }
}

void
meter_set(Meter *meter, gint64 bytes)
{
    if (meter != NULL) {
        __atomic_store_n(&meter->done, bytes, __ATOMIC_RELAXED);
    }
}

bool
meter_cancelled(Meter *meter)
{
    return meter != NULL && meter->cancel != NULL && g_cancellable_is_cancelled(meter->cancel);
}

GCancellable *
meter_cancel(Meter *meter)
{
    return meter != NULL ? meter->cancel : NULL;
}
