/* ovn_lb.h: address forwards and load balancers of ovn networks, as rows of Load_Balancer.
 * The builder's hook is declared in ovn_rows.h, the gatherer's in ovn_input.h.
 * Threads: any. */
#pragma once
#include "agent/net/ovn_rows.h"

/* One listen address. Maps are owned: "10.0.0.9:80" → "10.1.0.2:80,10.1.0.3:80". */
typedef struct {
    char *listen;
    json_t *tcp; /* and the forward's default target, which takes every protocol */
    json_t *udp;
} OvnBalancer;
/* Of a forward, or of a load balancer; both are checked bodies. */
OvnBalancer *ovn_lb_of_forward(const char *listen, json_t *config, json_t *ports);
OvnBalancer *ovn_lb_of_balancer(const char *listen, json_t *backends, json_t *ports);
void ovn_lb_free(OvnBalancer *balancer);
