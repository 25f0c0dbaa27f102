/* info.h: GET / and GET, PUT, PATCH /1.0: what the server is and how it is configured. */
#pragma once
#include "agent/api/server.h"

extern const Route info_routes[];
