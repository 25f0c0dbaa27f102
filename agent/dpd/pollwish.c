/* dataplane.poll.*: processors that poll NICs. hawser-dpd has the process; the wish goes there whole, with each session
 * and each change.
 * Called by dpdclient.c, agent.c, dataplane_api.c and metrics. */
#include "agent/dpd/pollwish.h"

#include "agent/api/settings.h"
#include "agent/dpd/dpdclient.h"
#include "proto/dpdwire.h"

enum { WAIT_MS = 30000, LOOK_MS = 10000 };

bool
pollwish_send(Agent *agent, DpdSession *session, GError **error)
{
    Dpd__FastPoll wish = DPD__FAST_POLL__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GError) why = NULL;
    const char *cores = settings_get(agent->settings, "dataplane.poll.cores");
    wish.cores = (char *) (guintptr) (cores != NULL ? cores : "");
    wish.flows = (guint32) settings_int(agent->settings, "dataplane.poll.flows");
    wish.memory_mb = (guint32) settings_int(agent->settings, "dataplane.poll.memory");
    wish.huge = settings_bool(agent->settings, "dataplane.poll.hugepages");
    frame.body_case = DPD__FRAME__BODY_FAST_POLL;
    frame.fast_poll = &wish;
    g_autoptr(DpdFrame) answer = dpdsession_ask(session, &frame, WAIT_MS, &why);
    if (answer != NULL || (haw_code(why) == HAW_UNSUPPORTED && cores == NULL)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool
apply(Agent *agent, const char *key, const char *value, GError **error)
{
    return dpdclient_poll(agent->dpd, error);
}

void
pollwish_start(Agent *agent)
{
    static const char *const keys[] = {"dataplane.poll.cores", "dataplane.poll.flows",
                                       "dataplane.poll.hugepages", "dataplane.poll.memory"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        settings_on_change(agent->settings, keys[i], apply);
    }
}

Dpd__Frame *
pollwish_look(Agent *agent, guint flows, GError **error)
{
    Dpd__FastPoll want = DPD__FAST_POLL__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    want.ask = true;
    want.flows = flows;
    frame.body_case = DPD__FRAME__BODY_FAST_POLL;
    frame.fast_poll = &want;
    return dpdclient_fast(agent->dpd, &frame, LOOK_MS, error);
}
