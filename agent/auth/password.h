/* password.h: the trust password as it is stored: a yescrypt string, never the word itself.
 * Threads: main loop, inside fibers; the work is done on a worker thread. */
#pragma once
#include "base/error.h"

/* "$y$…"; caller frees. Yields. */
char *password_hash(const char *plain, GError **error);
/* Attempts queue up, one at a time, and a wrong one takes a second: guessing is slow and costs at
 * most one worker. UNAVAILABLE when too many wait, DENIED when it is wrong. Yields. */
bool password_check(const char *hash, const char *plain, GError **error);
