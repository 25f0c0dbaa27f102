/* The receiving end: the memory file's mapping, and a thread for each channel (pageintake.c), as taking pages is
 * dearer than sending them: most of it are the page faults of a memory that is new.
 * K1  The first failure, or a cancel, ends every channel; the source is told why on each.
 * K2  Threads are joined before anything they use goes.
 * Called by job.c on the main thread of hawser-pages. */
#include "dataplane/pages/pagesink.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

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
    sink->populated = g_malloc0(options->memory_bytes / PAGE_BYTES / 8 + 1);
    sink->intakes = g_new0(struct intake, options->channels);
    sink->moved_us = g_get_monotonic_time();
    for (guint i = 0; i < options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        intake->sink = sink;
        intake->fd = options->sockets[i];
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

/* Until the threads have ended; K1. */
static void
await_threads(PageSink *sink, guint threads)
{
    int cancel_fd = sink->options->cancel_fd;
    while (threads > 0) {
        struct pollfd looks[] = {{sink->ended_fd, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
        eventfd_t ended;
        if (poll(looks, G_N_ELEMENTS(looks), -1) < 0) {
            continue; /* a signal */
        }
        if (looks[1].revents != 0) {
            GError *error = NULL;
            haw_fail(&error, HAW_CANCELLED, "the migration was cancelled");
            pageintake_fail(sink, error);
            cancel_fd = -1;
        }
        if (looks[0].revents != 0 && eventfd_read(sink->ended_fd, &ended) == 0) {
            threads -= (guint) ended;
        }
    }
    for (guint i = 0; i < sink->options->channels; i++) {
        g_clear_pointer(&sink->intakes[i].thread, g_thread_join); /* K2 */
    }
}

static void
close_sink(PageSink *sink)
{
    for (guint i = 0; sink->intakes != NULL && i < sink->options->channels; i++) {
        struct intake *intake = &sink->intakes[i];
        g_clear_pointer(&intake->ring, pagering_free);
        pagecrypt_free(intake->in);
        pagecrypt_free(intake->out);
    }
    if (sink->map != NULL) {
        munmap(sink->map, sink->options->memory_bytes);
    }
    fd_close(&sink->halt_fd);
    fd_close(&sink->ended_fd);
    g_free(sink->populated);
    g_free(sink->intakes);
    g_clear_error(&sink->failure);
    g_mutex_clear(&sink->lock);
}

bool
pagesink_run(const struct page_sink_options *options, GError **error)
{
    PageSink sink = {
        .options = options,
        .halt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    GError *why = NULL;
    g_mutex_init(&sink.lock);
    if (sink.halt_fd < 0 || sink.ended_fd < 0) {
        haw_fail_errno(&why, errno, "events for the page stream's threads");
        pageintake_fail(&sink, why);
    } else if (!open_sink(&sink, &why)) {
        pageintake_fail(&sink, why);
    } else {
        await_threads(&sink, start_threads(&sink));
    }
    bool ok = sink.failure == NULL;
    if (ok) {
        options->done(&sink.total, options->data);
    } else {
        if (sink.intakes != NULL) {
            pageintake_tell_failure(&sink);
        }
        g_propagate_error(error, g_error_copy(sink.failure));
    }
    close_sink(&sink);
    return ok;
}
