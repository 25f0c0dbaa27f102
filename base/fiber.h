/* fiber.h: cooperative fibers on the main loop.
 * A request, an operation, a background task is a fiber: straight-line code that gives the loop
 * back while it waits for the disk, a child, a socket, the database, a lock or time. Objects
 * therefore have one owner, the main loop, and need no mutex; what may change is only what another
 * fiber changes while we wait, so look again after each call that is marked "Yields".
 * Threads: main loop only, except fiber_wake_from_thread(). */
#pragma once
#include "base/error.h"
#include <gio/gio.h>
#include <sys/types.h>

typedef struct Fiber Fiber;
typedef void (*FiberFn)(void *data);

/* Runs fn(data) on a stack of its own, from the next turn of the loop. 'name' is a literal. */
void fiber_start(const char *name, FiberFn fn, void *data);
/* The same, but at once, until it first waits: for callers on the loop's own stack. */
void fiber_start_now(const char *name, FiberFn fn, void *data);
/* The running fiber, NULL on the loop's own stack. */
Fiber *fiber_self(void);
/* Number of fibers that have not ended. */
guint fiber_count(void);
/* Their names, "a, b", for logs; caller frees. */
char *fiber_names(void);

/* The two primitives beneath all waiting. A wake before the suspend is not lost; wakes do not add
 * up. fiber_suspend() may return spuriously, so callers loop on their condition. Yields. */
void fiber_suspend(void);
void fiber_wake(Fiber *fiber);
void fiber_wake_from_thread(Fiber *fiber);
/* Gives the loop one turn. Yields. */
void fiber_yield(void);

/* Runs fn(data) on a worker thread and waits for it; 'data' may live on the caller's stack. fn must
 * not touch the main loop's objects. Yields. */
void fiber_run(FiberFn fn, void *data);
/* Waits for time to pass: true. False, with CANCELLED, once 'cancel' (may be NULL) is. Yields. */
bool fiber_sleep_ms(gint64 wait_ms, GCancellable *cancel, GError **error);
/* Until fd is ready for 'want' (G_IO_IN, G_IO_OUT; G_IO_HUP and G_IO_ERR count as ready). TIMEOUT
 * after wait_ms (-1: never), CANCELLED once 'cancel' is. Yields. */
bool fiber_wait_fd(int fd, GIOCondition want, gint64 wait_ms, GCancellable *cancel, GError **error);
/* All of it into a non-blocking fd. False, with the reason, when 'fd' fails or 'cancel' is. Yields. */
bool fiber_write(int fd, const void *bytes, size_t size, GCancellable *cancel, GError **error);
/* Until the child ends; *ret_status is waitpid's. It must not be reaped elsewhere. Yields. */
bool fiber_wait_pid(pid_t pid, gint64 wait_ms, GCancellable *cancel, int *ret_status,
                    GError **error);

/* A fair lock between fibers, first come first served. */
typedef struct {
    GQueue waiters; /* borrowed Fibers, in order */
    Fiber *holder;
} FiberLock;
#define FIBER_LOCK_INIT                                                                            \
    {                                                                                              \
        .waiters = G_QUEUE_INIT, .holder = NULL                                                    \
    }
void fiber_lock(FiberLock *lock); /* Yields. */
void fiber_unlock(FiberLock *lock);
/* g_auto(FiberHold) hold = fiber_hold(&lock): unlocks at the end of the scope. */
typedef FiberLock *FiberHold;
FiberHold fiber_hold(FiberLock *lock); /* Yields. */
static inline void
fiber_hold_done(FiberHold *hold)
{
    if (*hold != NULL) {
        fiber_unlock(*hold);
        *hold = NULL;
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FiberHold, fiber_hold_done)

/* Something that fibers wait for and others announce. */
typedef struct {
    GQueue waiters; /* borrowed records on the waiters' stacks */
} FiberSignal;
#define FIBER_SIGNAL_INIT                                                                          \
    {                                                                                              \
        .waiters = G_QUEUE_INIT                                                                    \
    }
/* Until the next fiber_signal_all(), wait_ms (-1: never) or the cancel: false with TIMEOUT or
 * CANCELLED. Yields. */
bool fiber_signal_wait(FiberSignal *signal, gint64 wait_ms, GCancellable *cancel, GError **error);
void fiber_signal_all(FiberSignal *signal);
