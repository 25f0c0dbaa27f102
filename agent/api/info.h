/* info.h: GET / and GET, PUT, PATCH /1.0: what the server is and how it is configured. */
#pragma once
#include "agent/api/server.h"

/* What of LXD's API works, by its extensions' names; ends with NULL. */
extern const char *const info_extensions[];
extern const Route info_routes[];
