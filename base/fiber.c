/* Fibers: stackful coroutines over ucontext, driven by the main loop.
 * F1  A fiber runs only from the loop's stack (its idle source, or its start); at most one at a time.
 * F2  fiber_wake() never switches stacks: it queues the source. A wake that comes first is kept.
 * F3  A fiber that ended is freed on the loop's stack, never on its own.
 * F4  Stacks are mapped with a guard page below and pooled: an overflow is a fault, not corruption.
 * Sanitizers are told about each switch, or they would take the new stack for an overflow. */
#include "base/fiber.h"
#include "base/fd.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#define FIBER_STACK_BYTES (1024 * 1024)
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **old_bottom, size_t *old_size);
#else
#define FIBER_STACK_BYTES (256 * 1024)
#endif
#define FIBER_GUARD_BYTES 4096
#define FIBER_POOL_MAX    16

struct Fiber {
    const char *name;
    FiberFn fn;
    void *data;
    ucontext_t context;
    guint8 *stack; /* owns; guard page first */
    guint source;  /* its queued idle source, 0 when none */
    bool awake;    /* woken since it last suspended */
    bool ended;
};

static ucontext_t loop_context;
static Fiber *running;
static GQueue live = G_QUEUE_INIT; /* Fibers that have not ended */
static GPtrArray *stack_pool;
static guint8 *stack_warm; /* the pool's last one, when its pages are still there */
#ifdef __SANITIZE_ADDRESS__
static const void *loop_stack;
static size_t loop_stack_size;
#endif

static guint8 *
stack_take(void)
{
    if (stack_pool != NULL && stack_pool->len > 0) {
        stack_warm = NULL;
        return g_ptr_array_steal_index_fast(stack_pool, stack_pool->len - 1);
    }
    size_t size = FIBER_GUARD_BYTES + FIBER_STACK_BYTES;
    guint8 *stack =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    g_assert(stack != MAP_FAILED);
    g_assert(mprotect(stack, FIBER_GUARD_BYTES, PROT_NONE) == 0);
    return stack;
}

static void
stack_give(guint8 *stack)
{
    if (stack_pool == NULL) {
        stack_pool = g_ptr_array_new();
    }
    if (stack_pool->len < FIBER_POOL_MAX) {
        /* The last one stays warm, for requests that come one by one. Of others only the mapping is kept. */
        if (stack_warm != NULL) {
            madvise(stack_warm + FIBER_GUARD_BYTES, FIBER_STACK_BYTES - 16384, MADV_DONTNEED);
        }
        stack_warm = stack;
        g_ptr_array_add(stack_pool, stack);
    } else {
        munmap(stack, FIBER_GUARD_BYTES + FIBER_STACK_BYTES);
    }
}

static void
switch_to_loop(Fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(fiber->ended ? NULL : &fake, loop_stack, loop_stack_size);
    swapcontext(&fiber->context, &loop_context);
    __sanitizer_finish_switch_fiber(fake, &loop_stack, &loop_stack_size);
#else
    swapcontext(&fiber->context, &loop_context);
#endif
}

static void
fiber_entry(void)
{
    Fiber *fiber = running;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &loop_stack, &loop_stack_size);
#endif
    fiber->fn(fiber->data);
    fiber->ended = true;
    switch_to_loop(fiber);
}

static gboolean
fiber_resume(gpointer data)
{
    Fiber *fiber = data;

    g_assert(running == NULL); /* F1 */
    fiber->source = 0;
    running = fiber;
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(&fake, fiber->stack + FIBER_GUARD_BYTES, FIBER_STACK_BYTES);
    swapcontext(&loop_context, &fiber->context);
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#else
    swapcontext(&loop_context, &fiber->context);
#endif
    running = NULL;
    if (fiber->ended) { /* F3 */
        if (fiber->source != 0) {
            g_source_remove(fiber->source);
        }
        stack_give(fiber->stack);
        g_queue_remove(&live, fiber);
        g_free(fiber);
    }
    return G_SOURCE_REMOVE;
}

static Fiber *
fiber_new(const char *name, FiberFn fn, void *data)
{
    Fiber *fiber = g_new0(Fiber, 1);
    fiber->name = name;
    fiber->fn = fn;
    fiber->data = data;
    fiber->stack = stack_take();
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack + FIBER_GUARD_BYTES;
    fiber->context.uc_stack.ss_size = FIBER_STACK_BYTES;
    makecontext(&fiber->context, fiber_entry, 0);
    g_queue_push_tail(&live, fiber);
    return fiber;
}

void
fiber_start(const char *name, FiberFn fn, void *data)
{
    fiber_wake(fiber_new(name, fn, data));
}

void
fiber_start_now(const char *name, FiberFn fn, void *data)
{
    fiber_resume(fiber_new(name, fn, data));
}

Fiber *
fiber_self(void)
{
    return running;
}

guint
fiber_count(void)
{
    return live.length;
}

char *
fiber_names(void)
{
    GString *names = g_string_new(NULL);
    for (GList *at = live.head; at != NULL; at = at->next) {
        const Fiber *fiber = at->data;
        g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", fiber->name);
    }
    return g_string_free(names, FALSE);
}

void
fiber_wake(Fiber *fiber)
{
    fiber->awake = true;
    if (fiber->source == 0) { /* F2 */
        fiber->source = g_idle_add_full(G_PRIORITY_DEFAULT, fiber_resume, fiber, NULL);
    }
}

static gboolean
wake_on_loop(gpointer data)
{
    fiber_wake(data);
    return G_SOURCE_REMOVE;
}

void
fiber_wake_from_thread(Fiber *fiber)
{
    g_idle_add_full(G_PRIORITY_DEFAULT, wake_on_loop, fiber, NULL);
}

void
fiber_suspend(void)
{
    Fiber *fiber = running;
    g_assert(fiber != NULL);
    fiber->awake = fiber->source != 0;
    do {
        switch_to_loop(fiber);
    } while (!fiber->awake);
}

void
fiber_yield(void)
{
    fiber_wake(running);
    fiber_suspend();
}

/* ---- worker threads ---- */

struct work {
    FiberFn fn;
    void *data;
    Fiber *fiber; /* borrows; it waits for us */
    bool done;    /* written on the loop only */
};

static gboolean
work_done(gpointer data)
{
    struct work *work = data;
    work->done = true;
    fiber_wake(work->fiber);
    return G_SOURCE_REMOVE;
}

static void
work_run(gpointer data, gpointer unused)
{
    (void) unused;
    struct work *work = data;
    work->fn(work->data);
    g_idle_add_full(G_PRIORITY_DEFAULT, work_done, work, NULL);
}

void
fiber_run(FiberFn fn, void *data)
{
    static GThreadPool *pool;
    if (pool == NULL) {
        pool = g_thread_pool_new(work_run, NULL, 16, FALSE, NULL);
    }
    struct work work = {fn, data, running, false};
    g_thread_pool_push(pool, &work, NULL);
    while (!work.done) {
        fiber_suspend();
    }
}

/* ---- waiting for one of: an fd, a deadline, a cancel ---- */

struct wait {
    Fiber *fiber;
    bool ready, late;
};

static gboolean
wait_ready(gint fd, GIOCondition condition, gpointer data)
{
    (void) fd;
    (void) condition;
    struct wait *wait = data;
    wait->ready = true;
    fiber_wake(wait->fiber);
    return G_SOURCE_REMOVE;
}

static gboolean
wait_late(gpointer data)
{
    struct wait *wait = data;
    wait->late = true;
    fiber_wake(wait->fiber);
    return G_SOURCE_REMOVE;
}

static gboolean
wait_cancelled(GCancellable *cancel, gpointer data)
{
    (void) cancel;
    fiber_wake(((struct wait *) data)->fiber);
    return G_SOURCE_REMOVE;
}

static void
source_drop(GSource *source)
{
    if (source != NULL) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

/* Waits until wait->ready, which a callback sets, or the deadline or the cancel. */
static bool
wait_for(struct wait *wait, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    GSource *timer = NULL;
    GSource *canceller = NULL;
    if (wait_ms >= 0) {
        timer = g_timeout_source_new((guint) MIN(wait_ms, G_MAXINT));
        g_source_set_callback(timer, wait_late, wait, NULL);
        g_source_attach(timer, NULL);
    }
    if (cancel != NULL) {
        canceller = g_cancellable_source_new(cancel);
        g_source_set_callback(canceller, G_SOURCE_FUNC(wait_cancelled), wait, NULL);
        g_source_attach(canceller, NULL);
    }
    while (!wait->ready && !wait->late && !g_cancellable_is_cancelled(cancel)) {
        fiber_suspend();
    }
    source_drop(timer);
    source_drop(canceller);
    if (wait->ready) {
        return true;
    }
    if (g_cancellable_is_cancelled(cancel)) {
        return haw_fail(error, HAW_CANCELLED, "Cancelled");
    }
    return haw_fail(error, HAW_TIMEOUT, "Timed out after %" G_GINT64_FORMAT " ms", wait_ms);
}

bool
fiber_wait_fd(int fd, GIOCondition want, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    struct wait wait = {.fiber = running};
    guint source = g_unix_fd_add_full(G_PRIORITY_DEFAULT, fd, want | G_IO_HUP | G_IO_ERR,
                                      wait_ready, &wait, NULL);
    bool ok = wait_for(&wait, wait_ms, cancel, error);
    if (!wait.ready) {
        g_source_remove(source);
    }
    return ok;
}

bool
fiber_write(int fd, const void *bytes, size_t size, GCancellable *cancel, GError **error)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, (const char *) bytes + at, size - at);
        if (n >= 0) {
            at += (size_t) n;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(fd, G_IO_OUT, -1, cancel, error)) {
                return false;
            }
        } else if (errno != EINTR) {
            return haw_fail_errno(error, errno, "write");
        }
    }
    return true;
}

bool
fiber_sleep_ms(gint64 wait_ms, GCancellable *cancel, GError **error)
{
    struct wait wait = {.fiber = running};
    g_autoptr(GError) why = NULL;
    wait_for(&wait, wait_ms, cancel, &why);
    if (haw_code(why) == HAW_TIMEOUT) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
fiber_wait_pid(pid_t pid, gint64 wait_ms, GCancellable *cancel, int *ret_status, GError **error)
{
    haw_autofd int fd = pidfd_open(pid, 0);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "watch process %d", (int) pid);
    }
    if (!fiber_wait_fd(fd, G_IO_IN, wait_ms, cancel, error)) {
        return false;
    }
    if (waitpid(pid, ret_status, 0) < 0) {
        return haw_fail_errno(error, errno, "wait for process %d", (int) pid);
    }
    return true;
}

/* ---- locks and signals ---- */

void
fiber_lock(FiberLock *lock)
{
    g_assert(running != NULL && lock->holder != running);
    if (lock->holder == NULL) {
        lock->holder = running;
        return;
    }
    g_queue_push_tail(&lock->waiters, running);
    while (lock->holder != running) { /* fiber_unlock() hands it over */
        fiber_suspend();
    }
}

void
fiber_unlock(FiberLock *lock)
{
    g_assert(lock->holder == running);
    lock->holder = g_queue_pop_head(&lock->waiters);
    if (lock->holder != NULL) {
        fiber_wake(lock->holder);
    }
}

FiberHold
fiber_hold(FiberLock *lock)
{
    fiber_lock(lock);
    return lock;
}

bool
fiber_signal_wait(FiberSignal *signal, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    struct wait wait = {.fiber = running};
    g_queue_push_tail(&signal->waiters, &wait);
    bool ok = wait_for(&wait, wait_ms, cancel, error);
    if (!wait.ready) {
        g_queue_remove(&signal->waiters, &wait);
    }
    return ok;
}

void
fiber_signal_all(FiberSignal *signal)
{
    struct wait *wait;
    while ((wait = g_queue_pop_head(&signal->waiters)) != NULL) {
        wait->ready = true;
        fiber_wake(wait->fiber);
    }
}
