/* The baseline ACLs of an ovn network's internal switch: what no ACL of a user may break.
 * B1  They only ever match when some ACL applies; without one OVN lets everything through.
 * B2  Answers to a reject rule must pass, or ovn-controller would reject its own packets for ever.
 * Order and texts are LXD's; each row's key is its number. Called by ovn_rows.c. */
#include "agent/net/ovn_parts.h"

#include <stdarg.h>
#include <string.h>

enum { PRIORITY = 200 };

typedef struct {
    OvnNetRows *rows;
    char *router_port, *ls; /* owned by ovn_parts_baseline() */
    guint count;
} Baseline;

static void allow(Baseline *base, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
allow(Baseline *base, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *match = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *key = g_strdup_printf("%s/base/%02u", base->ls, base->count++);
    ovn_rows_add(base->rows, "ACL", key,
                 json_pack("{s:s, s:i, s:s, s:s, s:{s:s}}", "direction", "to-lport", "priority",
                           PRIORITY, "action", "allow", "match", match, "external_ids",
                           "lxd_switch", base->ls),
                 OVN_IN_SWITCH_ACLS);
}

static void
allow_ping(Baseline *base, int family, const char *router)
{
    int version = family == 0 ? 4 : 6;
    int request = family == 0 ? 8 : 128;
    int reply = family == 0 ? 0 : 129;
    allow(base, "outport == \"%s\" && icmp%d.type == %d && ip%d.dst == %s", base->router_port,
          version, request, version, router);
    allow(base, "inport == \"%s\" && icmp%d.type == %d && ip%d.src == %s", base->router_port,
          version, reply, version, router);
}

static void
allow_dns(Baseline *base, const char *server)
{
    int version = strchr(server, ':') == NULL ? 4 : 6;
    allow(base,
          "(outport == \"%s\" && ip%d.dst == %s && (udp.dst == 53 || tcp.dst == 53)) || "
          "(inport == \"%s\" && ip%d.src == %s && (udp.src == 53 || tcp.src == 53))",
          base->router_port, version, server, base->router_port, version, server);
}

void
ovn_parts_baseline(OvnNetRows *rows)
{
    g_autofree char *port = ovn_rows_name(rows->in->id, OVN_ROWS_LSP_INT);
    g_autofree char *ls = ovn_rows_name(rows->in->id, OVN_ROWS_LS_INT);
    Baseline base = {.rows = rows, .router_port = port, .ls = ls};
    allow(&base, "(arp || nd)");
    allow(&base, "inport == \"%s\" && nd_ra", port);
    allow(&base, "outport == \"%s\" && nd_rs", port);
    allow(&base, "icmp6 && icmp6.type == 143 && ip.ttl == 1 && ip6.dst == ff02::16");
    allow(&base, "igmp && ip.ttl == 1 && ip4.mcast");
    allow(&base, "outport == \"%s\" && ((ip4 && udp.dst == 67) || (ip6 && udp.dst == 547))", port);
    /* B2 */
    allow(&base, "icmp6 && icmp6.type == {1,2,3,4} && ip.ttl == 255");
    allow(&base, "icmp4 && icmp4.type == {3,11,12} && ip.ttl == 255");
    allow(&base, "tcp && tcp.flags == 0x014");
    for (int i = 0; i < 2; i++) {
        if (rows->in->family[i].router != NULL) {
            allow_ping(&base, i, rows->in->family[i].router);
        }
    }
    for (int i = 0; i < 2; i++) {
        for (char **server = rows->in->family[i].dns; server != NULL && *server != NULL; server++) {
            allow_dns(&base, *server);
        }
    }
}
