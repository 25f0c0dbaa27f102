/* job.h: what a hawser-pages does from its first order to its last report.
 * Threads: the process's only one. */
#pragma once
#include <stdbool.h>

/* Serves one migration over the agent's socket; reports a failure itself. True when it was done. */
bool job_run(int orders_fd);
