/* The receiving end: the memory file's mapping, and a thread for each channel (pageintake.c), as taking pages is
 * dearer than sending them: most of it are the page faults of a memory that is new.
 * K1  The first failure, or a cancel, ends every channel; the source is told why on each.
 * K2  Threads are joined before anything they use goes.
 * K3  With a guard the source may owe pages: once every channel has the rest, the guard is raised, and the owner told.
 *     From then on the main thread hears what the guest waits for: what is owed is asked for, all else is let
 *     go. An owner that goes no longer matters: the guest is worth more (K1 holds for its order).
 * Called by job.c on the main thread of hawser-pages. */
#include "dataplane/pages/pagesink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "dataplane/pages/pageintake.h"

static gpointer
intake_thread(gpointer data)
{
    struct intake *intake = data;
    pageintake_run(intake);
    (void) eventfd_write(intake->sink->ended_fd, 1);
    return NULL;
}

/* NULL: the file's pages are of one size. */
static guint8 *
map_huge(const struct page_sink_options *options)
{
    void *map = mmap(NULL, options->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                     options->memory_fd, 0);
    if (map != MAP_FAILED && madvise(map, options->memory_bytes, MADV_HUGEPAGE) != 0) {
        munmap(map, options->memory_bytes);
        map = MAP_FAILED;
    }
    return map != MAP_FAILED ? map : NULL;
}

static bool
open_sink(PageSink *sink, GError **error)
{
    const struct page_sink_options *options = sink->options;
    if (options->memory_bytes == 0 || options->memory_bytes % PAGE_BYTES != 0 ||
        options->channels == 0 || options->channels > FRAME_CHANNELS_MAX) {
        return haw_fail(error, HAW_INVALID,
                        "page stream: %u channels for %" G_GUINT64_FORMAT " bytes of memory",
                        options->channels, options->memory_bytes);
    }
    void *map = mmap(NULL, options->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                     options->memory_fd, 0);
    if (map == MAP_FAILED) {
        return haw_fail_errno(error, errno, "mapping the guest's memory");
    }
    sink->map = map;
    sink->huge_map = map_huge(options);
    sink->populated = g_malloc0(options->memory_bytes / PAGE_BYTES / 8 + 1);
    sink->owed = options->guard != NULL ? pageowed_new(options->memory_bytes) : NULL;
    sink->intakes = g_new0(struct intake, options->channels);
    sink->moved_us = g_get_monotonic_time();
    for (guint i = 0; i < options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        intake->sink = sink;
        intake->fd = options->sockets[i];
        intake->want_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        intake->wants = g_array_new(FALSE, FALSE, sizeof(guint64));
        intake->made = g_array_new(FALSE, FALSE, sizeof(guint64));
    }
    return true;
}

/* Returns how many threads run. */
static guint
start_threads(PageSink *sink)
{
    guint i;
    for (i = 0; i < sink->options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        g_autoptr(GError) why = NULL;
        intake->thread = g_thread_try_new("intake", intake_thread, intake, &why);
        if (intake->thread == NULL) {
            GError *error = NULL;
            haw_fail(&error, HAW_LIMIT, "page stream: %s", why->message);
            pageintake_fail(sink, error);
            break;
        }
    }
    return i;
}

/* ---- what is owed: K3 ---- */

/* Pages that the process has in use already would not be waited for: they become holes, which are. */
static bool
raise_guard(PageSink *sink, GError **error)
{
    g_autoptr(GArray) present = pagescan_runs();
    if (!pageguard_raise(sink->options->guard, present, error)) {
        return false;
    }
    for (guint i = 0; i < present->len; i++) {
        struct page_run run = g_array_index(present, struct page_run, i);
        for (guint64 end = run.offset + run.bytes; run.offset < end; run.offset += run.bytes) {
            run.bytes = pageowed_alike(sink->owed, run.offset, end - run.offset);
            if (pageowed_is(sink->owed, run.offset) &&
                fallocate(sink->options->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          (off_t) run.offset, (off_t) run.bytes) != 0) {
                return haw_fail_errno(error, errno, "punching a hole into the guest's memory");
            }
        }
    }
    return true;
}

static void
begin_owed(PageSink *sink)
{
    GError *error = NULL;
    g_autoptr(GArray) owed = pageowed_runs(sink->owed);
    if (!raise_guard(sink, &error)) {
        pageintake_fail(sink, error);
        return;
    }
    sink->total.owed_bytes = pagescan_total(owed);
    sink->options->done(&sink->total, sink->options->data);
    g_mutex_lock(&sink->lock);
    sink->raised = true;
    g_cond_broadcast(&sink->raised_or_failed);
    g_mutex_unlock(&sink->lock);
}

static void
take_faults(PageSink *sink)
{
    guint64 offset;
    GError *error = NULL;
    while (pageguard_next(sink->options->guard, &offset)) {
        guint64 rest = FRAME_REGION_BYTES - offset % FRAME_REGION_BYTES;
        rest = MIN(rest, sink->options->memory_bytes - offset);
        if (pageowed_is(sink->owed, offset)) {
            pagereply_want(sink, offset);
        } else if (!pageguard_let(sink->options->guard, offset,
                                  pageowed_alike(sink->owed, offset, rest), &error)) {
            pageintake_fail(sink, error);
            return;
        }
    }
}

/* An order, or the owner's end, which no longer matters. */
static bool
is_ordered(const PageSink *sink)
{
    char byte;
    return !sink->raised || recv(sink->options->cancel_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* ---- the main thread ---- */

/* Until the threads have ended; K1. */
static void
await_threads(PageSink *sink, guint threads)
{
    int cancel_fd = sink->options->cancel_fd;
    guint owing = 0;
    while (threads > 0) {
        struct pollfd looks[] = {
            {sink->ended_fd, POLLIN, 0},
            {cancel_fd, POLLIN, 0},
            {sink->owing_fd, POLLIN, 0},
            {sink->raised ? pageguard_fd(sink->options->guard) : -1, POLLIN, 0},
        };
        eventfd_t count;
        if (poll(looks, G_N_ELEMENTS(looks), -1) < 0) {
            continue; /* a signal */
        }
        if (looks[1].revents != 0) {
            if (is_ordered(sink)) {
                GError *error = NULL;
                haw_fail(&error, HAW_CANCELLED, "the migration was cancelled");
                pageintake_fail(sink, error);
            }
            cancel_fd = -1;
        }
        if (looks[2].revents != 0 && eventfd_read(sink->owing_fd, &count) == 0) {
            owing += (guint) count;
            if (owing == sink->options->channels) {
                begin_owed(sink);
            }
        }
        if (looks[3].revents != 0) {
            take_faults(sink);
        }
        if (looks[0].revents != 0 && eventfd_read(sink->ended_fd, &count) == 0) {
            threads -= (guint) count;
        }
    }
    for (guint i = 0; i < sink->options->channels; i++) {
        g_clear_pointer(&sink->intakes[i].thread, g_thread_join); /* K2 */
    }
}

/* All channels have said that they are at their end. */
static bool
settle_owed(PageSink *sink, GError **error)
{
    g_autoptr(GArray) left = pageowed_runs(sink->owed);
    return (left->len == 0 ||
            haw_fail(error, HAW_CORRUPT,
                     "page stream: %" G_GUINT64_FORMAT " bytes that are owed did not come",
                     pagescan_total(left))) &&
           pageguard_lower(sink->options->guard, error);
}

static void
close_sink(PageSink *sink)
{
    for (guint i = 0; sink->intakes != NULL && i < sink->options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        g_clear_pointer(&intake->ring, pagering_free);
        pagecrypt_free(intake->in);
        pagecrypt_free(intake->out);
        fd_close(&intake->want_fd);
        g_array_unref(intake->wants);
        g_array_unref(intake->made);
    }
    if (sink->map != NULL) {
        munmap(sink->map, sink->options->memory_bytes);
    }
    if (sink->huge_map != NULL) {
        munmap(sink->huge_map, sink->options->memory_bytes);
    }
    fd_close(&sink->halt_fd);
    fd_close(&sink->ended_fd);
    fd_close(&sink->owing_fd);
    pageowed_free(sink->owed);
    g_free(sink->populated);
    g_free(sink->intakes);
    g_clear_error(&sink->failure);
    g_cond_clear(&sink->raised_or_failed);
    g_mutex_clear(&sink->lock);
}

bool
pagesink_run(const struct page_sink_options *options, GError **error)
{
    PageSink sink = {
        .options = options,
        .halt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .owing_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    GError *why = NULL;
    g_mutex_init(&sink.lock);
    g_cond_init(&sink.raised_or_failed);
    if (sink.halt_fd < 0 || sink.ended_fd < 0 || sink.owing_fd < 0) {
        haw_fail_errno(&why, errno, "events for the page stream's threads");
        pageintake_fail(&sink, why);
    } else if (!open_sink(&sink, &why)) {
        pageintake_fail(&sink, why);
    } else {
        await_threads(&sink, start_threads(&sink));
    }
    if (sink.failure == NULL && sink.raised && !settle_owed(&sink, &why)) {
        pageintake_fail(&sink, why);
    }
    bool ok = sink.failure == NULL;
    if (ok) {
        (sink.raised ? options->paid : options->done)(&sink.total, options->data);
    } else {
        if (sink.intakes != NULL) {
            pagereply_tell_failure(&sink);
        }
        g_propagate_error(error, g_error_copy(sink.failure));
    }
    close_sink(&sink);
    return ok;
}
