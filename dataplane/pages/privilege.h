/* privilege.h: what hawser-pages may still do once it has its descriptors.
 * Threads: the process's only one. */
#pragma once
#include "base/error.h"

enum privilege {
    PRIVILEGE_HELD,    /* read, write and map what it holds */
    PRIVILEGE_TRACE,   /* and look into another process: a source's tracker */
    PRIVILEGE_NETWORK, /* instead, speak to the network */
};

/* Nothing but that, and no way to get more. Does nothing where we are not root. */
bool privilege_drop(enum privilege keep, GError **error);
