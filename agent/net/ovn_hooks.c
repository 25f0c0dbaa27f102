/* What networks without peers, ACLs and load balancers say: nothing. The files that own these hooks
 * define them; until all are there, these weak ones let the rest link. */
#include "agent/net/ovn_input.h"
#include "agent/net/ovn_net.h"

#define WEAK __attribute__((weak))

WEAK void
ovn_peer_rows(OvnNetRows *rows)
{
}

WEAK void
ovn_acl_rows(OvnNetRows *rows)
{
}

WEAK void
ovn_lb_rows(OvnNetRows *rows)
{
}

WEAK bool
ovn_peer_gather(Network *net, OvnNetInput *in, GError **error)
{
    return true;
}

WEAK bool
ovn_acl_gather(Network *net, OvnNetInput *in, GError **error)
{
    return true;
}

WEAK bool
ovn_lb_gather(Network *net, OvnNetInput *in, GError **error)
{
    return true;
}

WEAK GPtrArray *
ovn_peer_dependents(Network *net)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netobj_unref);
}

WEAK void
ovn_acl_scopes(Network *net, GPtrArray *scopes)
{
}

WEAK void
ovn_peer_used_by(Network *net, json_t *urls)
{
}
