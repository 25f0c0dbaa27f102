/* Until agent/ovn/ has its reconciler: an OVN that is never there. Weak, so that the real one wins. */
#include "agent/ovn/ovn.h"

#define WEAK __attribute__((weak))

WEAK void
ovn_add_builder(const OvnBuilder *builder)
{
}

WEAK bool
ovn_need(Agent *agent, GError **error)
{
    return haw_fail(error, HAW_UNAVAILABLE, "OVN is not available on this server");
}

WEAK void
ovn_unneeded(Agent *agent)
{
}

WEAK const char *
ovn_integration_bridge(Agent *agent)
{
    return "br-int";
}

WEAK const char *
ovn_system_id(Agent *agent)
{
    return NULL;
}

WEAK const char *
ovn_datapath_type(Agent *agent)
{
    return "";
}

WEAK Ovsdb *
ovn_nb(Agent *agent)
{
    return NULL;
}

WEAK Ovsdb *
ovn_sb(Agent *agent)
{
    return NULL;
}

WEAK Ovsdb *
ovn_local(Agent *agent)
{
    return NULL;
}

WEAK bool
ovn_applyv(Agent *agent, const char *const *scopes, OvnWait wait, GError **error)
{
    return ovn_need(agent, error);
}

WEAK void
ovn_kick(Agent *agent, const char *scope)
{
}
