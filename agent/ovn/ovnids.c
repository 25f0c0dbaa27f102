/* Ids that names of rows are made of.
 * I1  With a database of our own they are small, as LXD's: 1, 2, 3.
 * I2  Servers that have one database in common (network.ovn.northbound_connection) count from a thousand of their
 *     own each, chosen by their owner mark: there is nobody to ask, and nothing to wait for. Should two meet
 *     after all, names are unique in the database, and the one who comes later is refused.
 * I3  An id of a shared network follows from its name, so that all servers make the same rows. Eight digits,
 *     for names of interfaces are made of ids as well.
 * Called by netlife.c and netacl_api.c. */
#include "agent/ovn/ovnids.h"

#include "agent/api/settings.h"
#include "agent/ovn/ovnobj.h"

enum {
    OWN_FIRST = 1000000,
    OWN_STEP = 1000,
    OWN_COUNT = 9000,
    SHARED_FIRST = OWN_FIRST + OWN_STEP * OWN_COUNT,
    SHARED_COUNT = 80000000,
};

OvnIds
ovnids_plain(void)
{
    return (OvnIds){1, OWN_FIRST - 1};
}

OvnIds
ovnids_own(Agent *agent)
{
    const char *named = settings_get(agent->settings, "network.ovn.northbound_connection");
    if (named == NULL || *named == '\0' || agent->ovn->owner == NULL) {
        return ovnids_plain(); /* I1 */
    }
    gint64 first = OWN_FIRST + (gint64) (g_str_hash(agent->ovn->owner) % OWN_COUNT) * OWN_STEP;
    return (OvnIds){first, first + OWN_STEP - 1}; /* I2 */
}

OvnIds
ovnids_shared(const char *project, const char *name)
{
    g_autofree char *text = g_strdup_printf("%s/%s", project, name);
    gint64 id = SHARED_FIRST + g_str_hash(text) % SHARED_COUNT; /* I3 */
    return (OvnIds){id, id};
}
