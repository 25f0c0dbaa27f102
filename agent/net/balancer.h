/* balancer.h: load balancers of ovn networks: checks.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* Everything LXD checks of a load balancer with backends and ports as balancer_take() gives them.
 * INVALID with LXD's words. */
bool balancer_check(json_t *net_config, const char *listen, json_t *config, json_t *backends,
                    json_t *ports, GError **error);
/* The fields of a body's backends and ports that are known, missing ones as "" and []; two new
 * references. INVALID for values of other types. */
bool balancer_take(json_t *body, json_t **ret_backends, json_t **ret_ports, GError **error);
