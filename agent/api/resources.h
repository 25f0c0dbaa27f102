/* resources.h: GET /1.0/resources: the host's hardware in LXD's form. */
#pragma once
#include "agent/api/server.h"

extern const Route resource_routes[];
