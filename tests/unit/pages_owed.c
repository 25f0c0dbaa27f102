/* Post-copy: a process reads memory whose last pages are still to come. */
#include "dataplane/pages/pagechannel.h"
#include "dataplane/pages/pageguard.h"
#include "dataplane/pages/pagesink.h"
#include "dataplane/pages/pagesource.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

enum { CHANNELS = 2, MEMORY = 32 << 20, PAGES = MEMORY / PAGE_BYTES, READS = 40, OLD = 1, NEW = 2 };

/* A process that has the target's memory mapped, and says what its pages begin with. */
struct reader {
    pid_t pid;
    int ask[2], say[2];
};

struct rig {
    int memory, target;
    guint32 *map; /* the source's */
    int ours[CHANNELS], theirs[CHANNELS];
    guint8 key[PAGECRYPT_KEY_BYTES];
    struct page_source_options source;
    struct page_sink_options sink;
    struct reader reader;
    PageGuard *guard;
    GThread *thread;
    GError *sink_error;
    gint done, paid; /* atomic */
    guint64 owed_bytes;
};

static void
connect_pair(int *ret_one, int *ret_other)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(listener, (struct sockaddr *) &address, size), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *) &address, &size), ==, 0);
    *ret_one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(*ret_one, (struct sockaddr *) &address, size), ==, 0);
    *ret_other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(*ret_other, >=, 0);
    close(listener);
}

/* ---- the reader ---- */

static void
reader_main(const struct reader *reader, int target)
{
    guint32 page;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    volatile guint32 *map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, target, 0);
    while (read(reader->ask[0], &page, sizeof page) == sizeof page) {
        guint32 answer[2] = {page, map[(size_t) page * PAGE_BYTES / 4]};
        if (write(reader->say[1], answer, sizeof answer) != sizeof answer) {
            break;
        }
    }
    _exit(0);
}

static void
reader_ask(const struct reader *reader, guint32 page)
{
    g_assert_cmpint(write(reader->ask[1], &page, sizeof page), ==, sizeof page);
}

static guint32
reader_hear(const struct reader *reader)
{
    guint32 answer[2];
    g_assert_cmpint(read(reader->say[0], answer, sizeof answer), ==, sizeof answer);
    return answer[1];
}

static guint32
reader_get(const struct reader *reader, guint32 page)
{
    reader_ask(reader, page);
    return reader_hear(reader);
}

/* ---- the rig ---- */

static void
on_done(const struct page_sink_total *total, void *data)
{
    struct rig *rig = data;
    rig->owed_bytes = total->owed_bytes;
    g_atomic_int_set(&rig->done, 1);
}

static void
on_paid(const struct page_sink_total *total, void *data)
{
    g_atomic_int_set(&((struct rig *) data)->paid, 1);
}

static gpointer
sink_thread(gpointer data)
{
    struct rig *rig = data;
    return GINT_TO_POINTER(pagesink_run(&rig->sink, &rig->sink_error));
}

static struct rig *
rig_new(bool sealed, bool guarded)
{
    struct rig *rig = g_new0(struct rig, 1);
    g_autoptr(GError) error = NULL;
    rig->memory = memfd_create("guest", MFD_CLOEXEC);
    rig->target = memfd_create("target", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(rig->memory, MEMORY), ==, 0);
    g_assert_cmpint(ftruncate(rig->target, MEMORY), ==, 0);
    rig->map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memory, 0);
    for (int i = 0; i < CHANNELS; i++) {
        connect_pair(&rig->ours[i], &rig->theirs[CHANNELS - 1 - i]);
    }
    g_assert_cmpint(pipe2(rig->reader.ask, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(rig->reader.say, O_CLOEXEC), ==, 0);
    rig->reader.pid = fork();
    if (rig->reader.pid == 0) {
        reader_main(&rig->reader, rig->target);
    }
    reader_get(&rig->reader, 7); /* it is in use before anything comes, and its mapping is there */
    if (guarded) {
        rig->guard = pageguard_open(rig->reader.pid, rig->target, &error);
        g_assert_no_error(error);
    }
    rig->source = (struct page_source_options){
        .memory_fd = rig->memory,
        .memory_bytes = MEMORY,
        .sockets = rig->ours,
        .channels = CHANNELS,
        .token = "a migration",
        .key = sealed ? rig->key : NULL,
        .idle_ms = 20000,
        .cancel_fd = -1,
    };
    rig->sink = (struct page_sink_options){
        .memory_fd = rig->target,
        .memory_bytes = MEMORY,
        .sockets = rig->theirs,
        .channels = CHANNELS,
        .token = "a migration",
        .key = sealed ? rig->key : NULL,
        .idle_ms = 20000,
        .cancel_fd = -1,
        .guard = rig->guard,
        .done = on_done,
        .paid = on_paid,
        .data = rig,
    };
    rig->thread = g_thread_new("sink", sink_thread, rig);
    return rig;
}

static void
rig_free(struct rig *rig)
{
    kill(rig->reader.pid, SIGKILL);
    g_assert_cmpint(waitpid(rig->reader.pid, NULL, 0), ==, rig->reader.pid);
    for (int i = 0; i < 2; i++) {
        close(rig->reader.ask[i]);
        close(rig->reader.say[i]);
        close(rig->ours[i]);
        close(rig->theirs[i]);
    }
    pageguard_close(rig->guard);
    munmap(rig->map, MEMORY);
    close(rig->memory);
    close(rig->target);
    g_clear_error(&rig->sink_error);
    g_free(rig);
}

static void
put(struct rig *rig, guint32 page, guint32 value)
{
    for (size_t i = 0; i < PAGE_BYTES / 4; i++) {
        rig->map[(size_t) page * (PAGE_BYTES / 4) + i] = value;
    }
}

/* Of pages 0…3999 every one is there; of those from 1000 on every other is written anew after the first round, as are
 * page 7, which the reader has in use, and 5000, a hole until then; 2000 has become zero. */
static guint32
expected(guint32 page)
{
    bool anew = page == 7 || page == 5000 || (page >= 1000 && page < 4000 && page % 2 == 0);
    return page == 2000 ? 0 : anew ? NEW : page < 4000 ? OLD : 0;
}

static GArray *
write_anew(struct rig *rig)
{
    GArray *runs = pagescan_runs();
    for (guint32 page = 0; page < PAGES; page++) {
        if (page == 2000 || expected(page) == NEW) {
            put(rig, page, expected(page));
            pagescan_append(runs, page * (guint64) PAGE_BYTES, PAGE_BYTES);
        }
    }
    return runs;
}

static PageSource *
send_old(struct rig *rig)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    for (guint32 page = 0; page < 4000; page++) {
        put(rig, page, OLD);
    }
    PageSource *source = pagesource_new(&rig->source, &error);
    g_assert_no_error(error);
    pagescan_append(runs, 0, 4000 * PAGE_BYTES);
    pagesource_round(source, runs, NULL, false, &round, &error);
    g_assert_no_error(error);
    return source;
}

static void
owe(struct rig *rig, PageSource *source)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = write_anew(rig);
    struct page_round round;
    pagesource_owe(source, runs, NULL, &round, &error);
    g_assert_no_error(error);
    while (g_atomic_int_get(&rig->done) == 0) {
        g_usleep(1000);
    }
    g_assert_cmpuint(rig->owed_bytes, ==, pagescan_total(runs));
    g_assert_cmpuint(pagesource_owed(source), ==, rig->owed_bytes);
}

/* ---- claims ---- */

struct asking {
    struct rig *rig;
    gint paid; /* atomic: all was there when the last answer came */
};

static gpointer
ask_some(gpointer data)
{
    struct asking *asking = data;
    guint32 seed = 3;
    for (int i = 0; i < READS; i++) {
        static const guint32 always[] = {7, 5000, 2000, 1000, 3998, 999, 6000};
        seed = seed * 1664525 + 1013904223;
        guint32 page = i < (int) G_N_ELEMENTS(always) ? always[i] : (seed >> 8) % PAGES;
        g_assert_cmpuint(reader_get(&asking->rig->reader, page), ==, expected(page));
    }
    g_atomic_int_set(&asking->paid, g_atomic_int_get(&asking->rig->paid));
    return NULL;
}

static void
what_is_touched_comes_first(gconstpointer data)
{
    struct rig *rig = rig_new(GPOINTER_TO_INT(data), true);
    g_autoptr(GError) error = NULL;
    struct page_round round;
    struct asking asking = {.rig = rig};
    PageSource *source = send_old(rig);
    owe(rig, source);
    GThread *asker = g_thread_new("ask", ask_some, &asking);
    pagesource_pay(source, &round, &error);
    g_assert_no_error(error);
    g_thread_join(asker);
    g_assert_true(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    g_assert_no_error(rig->sink_error);
    g_assert_cmpint(g_atomic_int_get(&rig->paid), ==, 1);
    for (guint32 page = 0; page < PAGES; page++) {
        g_assert_cmpuint(reader_get(&rig->reader, page), ==, expected(page));
    }
    pagesource_free(source);
    rig_free(rig);
}

static gpointer
pay_thread(gpointer data)
{
    struct page_round round;
    return GINT_TO_POINTER(pagesource_pay(data, &round, NULL));
}

/* The background alone would take minutes: what is asked for does not wait for it, nor does a cancel. */
static void
nobody_waits_for_the_background(void)
{
    struct rig *rig = rig_new(true, true);
    struct asking asking = {.rig = rig};
    int cancel[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, cancel), ==, 0);
    rig->source.cancel_fd = cancel[0];
    PageSource *source = send_old(rig);
    owe(rig, source);
    source->options.limit_bytes_s = 20000;
    GThread *payer = g_thread_new("pay", pay_thread, source);
    ask_some(&asking);
    g_assert_cmpint(asking.paid, ==, 0);
    g_assert_cmpint(write(cancel[1], "x", 1), ==, 1);
    g_assert_false(GPOINTER_TO_INT(g_thread_join(payer)));
    pagesource_free(source);
    g_assert_false(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    close(cancel[0]);
    close(cancel[1]);
    rig_free(rig);
}

/* The owner's end is no cancel once the guest may run there. */
static void
an_owner_that_goes_ends_nothing(void)
{
    struct rig *rig = rig_new(true, true);
    g_autoptr(GError) error = NULL;
    struct page_round round;
    int cancel[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, cancel), ==, 0);
    rig->source.cancel_fd = cancel[0];
    PageSource *source = send_old(rig);
    owe(rig, source);
    g_assert_cmpint(write(cancel[0], "x", 1), ==, 1); /* it has not read all that was told */
    close(cancel[1]);
    pagesource_pay(source, &round, &error);
    g_assert_no_error(error);
    g_assert_true(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    g_assert_cmpuint(reader_get(&rig->reader, 7), ==, NEW);
    close(cancel[0]);
    pagesource_free(source);
    rig_free(rig);
}

static bool
is_silent(const struct reader *reader, int wait_ms)
{
    struct pollfd look = {.fd = reader->say[0], .events = POLLIN};
    return poll(&look, 1, wait_ms) == 0;
}

/* The connections break, and both ends go: who needs a page that did not come stands still, for good. */
static void
a_source_that_dies_leaves_nothing_stale(void)
{
    struct rig *rig = rig_new(true, true);
    PageSource *source = send_old(rig);
    owe(rig, source);
    pagesource_free(source);
    g_assert_false(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    g_assert_nonnull(rig->sink_error);
    g_clear_pointer(&rig->guard, pageguard_close);
    reader_ask(&rig->reader, 1000);
    g_assert_true(is_silent(&rig->reader, 300));
    rig_free(rig);
}

static void
a_sink_without_a_guard_is_owed_nothing(void)
{
    struct rig *rig = rig_new(true, false);
    g_autoptr(GError) error = NULL;
    PageSource *source = send_old(rig);
    g_autoptr(GArray) runs = write_anew(rig);
    struct page_round round;
    g_assert_false(pagesource_owe(source, runs, NULL, &round, &error));
    g_assert_false(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    g_assert_nonnull(strstr(rig->sink_error->message, "may not owe pages"));
    pagesource_free(source);
    rig_free(rig);
}

/* A running guest's other pages are not the source's any more. */
static void
what_is_not_owed_is_refused(void)
{
    struct rig *rig = rig_new(true, true);
    g_autoptr(GError) error = NULL;
    PageSource *source = send_old(rig);
    struct page_round round;
    owe(rig, source);
    pageowed_add(source->owed, 0, PAGE_BYTES);
    g_assert_false(pagesource_pay(source, &round, &error));
    g_assert_false(GPOINTER_TO_INT(g_thread_join(rig->thread)));
    g_assert_nonnull(strstr(rig->sink_error->message, "not owed"));
    pagesource_free(source);
    rig_free(rig);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        g_print("1..0 # SKIP holding a process's memory back takes root\n");
        return 0;
    }
    g_test_add_data_func("/owed/what-is-touched-comes-first", GINT_TO_POINTER(0),
                         what_is_touched_comes_first);
    g_test_add_data_func("/owed/what-is-touched-comes-first-sealed", GINT_TO_POINTER(1),
                         what_is_touched_comes_first);
    g_test_add_func("/owed/nobody-waits-for-the-background", nobody_waits_for_the_background);
    g_test_add_func("/owed/an-owner-that-goes-ends-nothing", an_owner_that_goes_ends_nothing);
    g_test_add_func("/owed/a-source-that-dies-leaves-nothing-stale",
                    a_source_that_dies_leaves_nothing_stale);
    g_test_add_func("/owed/a-sink-without-a-guard-is-owed-nothing",
                    a_sink_without_a_guard_is_owed_nothing);
    g_test_add_func("/owed/what-is-not-owed-is-refused", what_is_not_owed_is_refused);
    return g_test_run();
}
