/* internal.h: /internal/…: what LXD's own 'lxd' command asks of a daemon on the unix socket. */
#pragma once
#include "agent/api/server.h"

extern const Route internal_routes[];
