/* crash.h: numbered points at which a test may kill the process, to prove that the next start puts
 * things right. HAWSER_CRASH=create:3 kills it with SIGKILL at the third crash_point("create").
 * Threads: any. Costs a pointer test where the variable is not set. */
#pragma once

void crash_point(const char *area);
