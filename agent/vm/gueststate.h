/* gueststate.h: a guest's own account of its state, checked. Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/* "cpu", "disk", "memory", "network", "processes" in LXD's shape, whatever 'from' (borrowed) is; a new
 * reference. */
json_t *gueststate_checked(json_t *from);
