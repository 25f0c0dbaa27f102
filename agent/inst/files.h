/* files.h: /1.0/instances/NAME/files and /sftp. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route files_routes[];
