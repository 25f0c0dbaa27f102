/* The brake. QEMU can slow vCPUs down only within its own migration, and a CPU quota needs a cgroup of ours, so the
 * guest is stopped and resumed, like a slower machine would do its work.
 * B1  The brake never resumes a guest that somebody else has stopped: it is held, then.
 * B2  A guest that the brake has stopped runs again before anybody else has it, and when the brake goes.
 * Called by liveout.c. */
#include "agent/move/livebrake.h"

#include "base/fiber.h"
#include "base/log.h"

enum { BRAKE_PERIOD_MS = 60 };

struct LiveBrake {
    Qmp *qmp; /* borrowed */
    guint percent;
    bool working, held, ending;
    bool stopping; /* the guest is stopped by us, or about to be */
    FiberSignal happened;
};

/* Until it is over or somebody wants the guest. */
static void
wait_part(LiveBrake *brake, guint percent)
{
    fiber_signal_wait(&brake->happened, MAX(1, BRAKE_PERIOD_MS * percent / 100), NULL, NULL);
}

static void
work(void *data)
{
    LiveBrake *brake = data;
    g_autoptr(GError) error = NULL;
    while (!brake->ending && error == NULL) {
        if (brake->held) {
            fiber_signal_wait(&brake->happened, -1, NULL, NULL);
            continue;
        }
        brake->stopping = true;
        bool stopped = qmp_do(brake->qmp, "stop", NULL, &error);
        if (stopped && !brake->held && !brake->ending) {
            wait_part(brake, brake->percent);
        }
        if (stopped) { /* B2 */
            qmp_do(brake->qmp, "cont", NULL, &error);
        }
        brake->stopping = false;
        fiber_signal_all(&brake->happened);
        if (!brake->held && !brake->ending) {
            wait_part(brake, 100 - brake->percent);
        }
    }
    if (error != NULL) {
        haw_warn("live.brake", KS("why", error->message));
    }
    brake->working = false;
    fiber_signal_all(&brake->happened);
}

LiveBrake *
livebrake_new(Qmp *qmp)
{
    LiveBrake *brake = g_new0(LiveBrake, 1);
    brake->qmp = qmp;
    brake->happened = (FiberSignal) FIBER_SIGNAL_INIT;
    return brake;
}

guint
livebrake_harder(LiveBrake *brake)
{
    brake->percent = MIN(brake->percent + LIVEBRAKE_STEP, LIVEBRAKE_MOST);
    if (!brake->working) {
        brake->working = true;
        fiber_start("live-brake", work, brake);
    }
    return brake->percent;
}

void
livebrake_hold(LiveBrake *brake)
{
    brake->held = true; /* B1 */
    fiber_signal_all(&brake->happened);
    while (brake->stopping) {
        fiber_signal_wait(&brake->happened, -1, NULL, NULL);
    }
}

void
livebrake_let(LiveBrake *brake)
{
    brake->held = false;
    fiber_signal_all(&brake->happened);
}

void
livebrake_free(LiveBrake *brake)
{
    if (brake == NULL) {
        return;
    }
    brake->ending = true;
    fiber_signal_all(&brake->happened);
    while (brake->working) {
        fiber_signal_wait(&brake->happened, -1, NULL, NULL);
    }
    g_free(brake);
}
