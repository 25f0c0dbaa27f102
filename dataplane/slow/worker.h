/* worker.h: kernel work that may never end, with a deadline: the fiber goes on without it, the device
 * stays marked busy until the kernel lets go.
 * Threads: main loop, inside fibers; the work itself runs on a thread of its own. */
#pragma once
#include "base/error.h"

typedef struct Workers Workers;
Workers *workers_new(void);
/* Threads that hang are left to themselves. */
void workers_free(Workers *workers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Workers, workers_free)

/* Runs fn(*data, error) and waits. '*data' is taken and freed with 'free_data' once the work has
 * ended, however late, on the main loop; 'done' (may be NULL) is called before that, and only when the
 * fiber still waits, to fetch results. TIMEOUT after wait_ms; BUSY while earlier work on the device
 * 'key' has not ended. Yields. */
typedef bool (*WorkerFn)(void *data, GError **error);
bool worker_run(Workers *workers, const char *key, const char *what, WorkerFn fn, void *data,
                GDestroyNotify free_data, void (*done)(void *data, void *result), void *result,
                gint64 wait_ms, GError **error);
/* What hangs: "vdpa del hw0 (0000:03:00.2) for 12 s", …; caller frees, NULL for nothing. */
char *workers_stuck(const Workers *workers);
