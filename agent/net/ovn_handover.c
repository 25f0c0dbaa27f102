/* The end of a hand-over, for all NICs of an instance: called by move/livein.c and livedecide.c once the guest
 * runs here, before the source hears of it (ovn/handover.c, H2). NICs on networks that are not shared have
 * ports of their own here, and nothing to take over. */
#include "agent/net/ovn_handover.h"

#include "agent/ovn/handover.h"
#include "agent/state/ovn_ports.h"
#include "base/log.h"

static void
take(Agent *agent, const OvnPort *port)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *scope = g_strdup_printf("net%" G_GINT64_FORMAT, port->network_id);
    if (!handover_take(agent, port->lsp, scope, &error)) {
        haw_warn("ovn.handover", KS("inst", port->inst), KS("port", port->lsp),
                 KS("why", error->message));
    }
}

void
ovn_handover_take(Agent *agent, gint64 instance_id)
{
    g_autoptr(GPtrArray) ports = ovn_ports_list(agent->db, 0, NULL);
    for (guint i = 0; ports != NULL && i < ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(ports, i);
        if (port->instance_id == instance_id && port->running) {
            take(agent, port);
        }
    }
}
