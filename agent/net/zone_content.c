/* What a zone says: its own records, and for each network that names it the leases that the zone's
 * project sees.
 * Z1  A forward zone (dns.zone.forward) has an address record for each lease; a reverse zone a pointer
 *     for each lease that lies in it, to the name in each forward zone of the network.
 * Z2  With network.nat=false families that are translated are left out.
 * Called by zone_server.c, zone_api.c, netlife.c. */
#include "agent/net/zone.h"

#include <string.h>

#include "agent/net/leases.h"
#include "agent/net/ovn_leases.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { LEASE_TTL = 300 };

struct filling {
    Agent *agent;
    const ZoneRow *row;
    ZoneContent *content;
    GHashTable *seen; /* "owner type value" */
};

static bool
lists(json_t *config, const char *key, const char *zone)
{
    g_auto(GStrv) names = grammar_list(keys_get(config, key));
    return g_strv_contains((const char *const *) names, zone);
}

static bool
is_reverse(const char *zone)
{
    return g_str_has_suffix(zone, ".in-addr.arpa") || g_str_has_suffix(zone, ".ip6.arpa");
}

bool
zone_named_by(json_t *net_config, const char *zone)
{
    return lists(net_config, "dns.zone.forward", zone) ||
           lists(net_config, "dns.zone.reverse.ipv4", zone) ||
           lists(net_config, "dns.zone.reverse.ipv6", zone);
}

ZoneRow *
zone_find(Agent *agent, const char *name, GError **error)
{
    g_autoptr(GPtrArray) rows = zonerow_list(agent->db, NULL, error);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        if (g_ascii_strcasecmp(((ZoneRow *) g_ptr_array_index(rows, i))->name, name) == 0) {
            return zonerow_load(agent->db, NULL, ((ZoneRow *) g_ptr_array_index(rows, i))->name,
                                error);
        }
    }
    if (rows != NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Network zone not found");
    }
    return NULL;
}

/* Each record once; what DNS cannot say is told to the log. */
static void
put(struct filling *filling, const char *owner, const char *type, guint32 ttl, const char *value)
{
    g_autoptr(GError) error = NULL;
    char *key = g_strdup_printf("%s %s %s", owner, type, value);
    if (g_hash_table_add(filling->seen, key) &&
        !zonewire_add(filling->content, owner, type, ttl, value, &error)) {
        haw_debug("zone.record_left_out", KS("zone", filling->row->name), KS("name", owner),
                  KS("why", error->message));
    }
}

static const char *
text_of(json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text != NULL ? text : "";
}

/* Z2 */
static bool
is_told(const struct filling *filling, const Network *net, const char *address)
{
    bool six = strchr(address, ':') != NULL;
    return keys_get_bool(filling->row->config, "network.nat", true) ||
           !netobj_bool(net, six ? "ipv6.nat" : "ipv4.nat", false);
}

/* As a project sees them; [] when they cannot be had. */
static json_t *
leases(Network *net, const char *project)
{
    if (!netobj_is(net, "ovn")) {
        return netobj_is(net, "bridge") ? leases_of(net, project) : json_array();
    }
    json_t *list = ovn_leases_of(net, project, NULL);
    return list != NULL ? list : json_array();
}

static void
put_forward(struct filling *filling, Network *net)
{
    json_t *list = leases(net, filling->row->project);
    json_t *lease;
    size_t i;
    json_array_foreach (list, i, lease) {
        const char *address = text_of(lease, "address");
        if (is_told(filling, net, address)) {
            put(filling, text_of(lease, "hostname"), strchr(address, ':') != NULL ? "AAAA" : "A",
                LEASE_TTL, address);
        }
    }
    json_decref(list);
}

static void
put_pointers(struct filling *filling, Network *net, const ZoneRow *forward)
{
    json_t *list = leases(net, forward->project);
    json_t *lease;
    size_t i;
    json_array_foreach (list, i, lease) {
        const char *address = text_of(lease, "address");
        const char *hostname = text_of(lease, "hostname");
        g_autofree char *owner = zonewire_reverse(filling->row->name, address);
        if (owner != NULL && is_told(filling, net, address) &&
            zonewire_check_name(hostname, NULL)) {
            g_autofree char *target = g_strdup_printf("%s.%s.", hostname, forward->name);
            put(filling, owner, "PTR", LEASE_TTL, target);
        }
    }
    json_decref(list);
}

static void
put_reverse(struct filling *filling, Network *net)
{
    g_auto(GStrv) forwards = grammar_list(netobj_get(net, "dns.zone.forward"));
    for (char **name = forwards; *name != NULL; name++) {
        g_autoptr(ZoneRow) forward = zonerow_load(filling->agent->db, NULL, *name, NULL);
        if (forward != NULL) {
            put_pointers(filling, net, forward);
        }
    }
}

static bool
put_records(struct filling *filling, GError **error)
{
    g_autoptr(GPtrArray) records = zonerow_records(filling->agent->db, filling->row->id, error);
    for (guint i = 0; records != NULL && i < records->len; i++) {
        const ZoneRecord *record = g_ptr_array_index(records, i);
        json_t *entry;
        size_t k;
        json_array_foreach (record->entries, k, entry) {
            gint64 ttl = json_integer_value(json_object_get(entry, "ttl"));
            put(filling, record->name, text_of(entry, "type"), ttl > 0 ? (guint32) ttl : LEASE_TTL,
                text_of(entry, "value"));
        }
    }
    return records != NULL;
}

/* Z1 */
static void
put_networks(struct filling *filling)
{
    g_autoptr(GPtrArray) networks = netobj_list(filling->agent->networks);
    const char *zone = filling->row->name;
    for (guint i = 0; i < networks->len; i++) {
        Network *net = g_ptr_array_index(networks, i);
        if (lists(net->row->config, "dns.zone.forward", zone)) {
            put_forward(filling, net);
        }
        if (is_reverse(zone) && (lists(net->row->config, "dns.zone.reverse.ipv4", zone) ||
                                 lists(net->row->config, "dns.zone.reverse.ipv6", zone))) {
            put_reverse(filling, net);
        }
    }
}

ZoneContent *
zone_content(Agent *agent, const ZoneRow *row, GError **error)
{
    g_auto(GStrv) nameservers = grammar_list(keys_get(row->config, "dns.nameservers"));
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (char **name = nameservers; *name != NULL; name++) {
        if (g_str_has_suffix(*name, ".")) {
            (*name)[strlen(*name) - 1] = '\0';
        }
    }
    g_autoptr(ZoneContent) content =
        zonewire_content_new(row->name, (const char *const *) nameservers,
                             (guint32) (clock_real_us() / G_USEC_PER_SEC), error);
    struct filling filling = {.agent = agent, .row = row, .content = content, .seen = seen};
    if (content == NULL || !put_records(&filling, error)) {
        return NULL;
    }
    put_networks(&filling);
    return g_steal_pointer(&content);
}

/* ---- what networks may name ---- */

bool
zone_check_network(Agent *agent, json_t *net_config, GError **error)
{
    static const char *const keys[] = {"dns.zone.forward", "dns.zone.reverse.ipv4",
                                       "dns.zone.reverse.ipv6"};
    g_autoptr(GHashTable) projects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_auto(GStrv) names = grammar_list(keys_get(net_config, keys[i]));
        if (i > 0 && g_strv_length(names) > 1) {
            return haw_fail(error, HAW_INVALID, "Invalid value for option \"%s\": one zone only",
                            keys[i]);
        }
        for (char **name = names; *name != NULL; name++) {
            g_autoptr(ZoneRow) row = zonerow_load(agent->db, NULL, *name, NULL);
            if (row == NULL) {
                return haw_fail(error, HAW_INVALID, "Network zone \"%s\" does not exist", *name);
            }
            if (i == 0 && !g_hash_table_add(projects, g_strdup(row->project))) {
                return haw_fail(error, HAW_INVALID,
                                "Only one forward zone of project \"%s\" can be used by a network",
                                row->project);
            }
        }
    }
    return true;
}
