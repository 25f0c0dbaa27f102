/* forward.h: address forwards of bridge networks: checked, stored, turned into DNAT rules.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* DNAT and hairpin SNAT lines of the network's forwards; NULL when it has none. Yields. */
bool forward_rules_of(Network *net, char ***ret_dnat, char ***ret_snat, GError **error);
/* Everything LXD checks of a forward. INVALID with LXD's words. */
bool forward_check(json_t *net_config, const char *listen, json_t *body, GError **error);
/* The lines of one forward, appended. */
void forward_text(const char *listen, json_t *config, json_t *ports, GPtrArray *dnat,
                  GPtrArray *snat);
/* "80,90-99" to the ports in order, an array of guint16; INVALID. NULL text gives none. */
GArray *forward_ports(const char *list, GError **error);

/* What forwards and load balancers check alike, of port specification number 'index'. INVALID with LXD's words. */
bool forward_protocol_ok(json_t *spec, size_t index, GError **error);
/* Its listen ports, at least one. */
GArray *forward_listen(json_t *spec, size_t index, GError **error);
/* Listen ports that earlier specifications have: a bit each. */
typedef struct {
    guint8 tcp[65536 / 8], udp[65536 / 8];
} ForwardTaken;
bool forward_take(ForwardTaken *taken, const GArray *ports, json_t *spec, size_t index,
                  GError **error);
