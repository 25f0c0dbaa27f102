/* Page streams end to end: a process that writes its memory, the tracker, source and sink over TCP. */
#include "dataplane/pages/pagechannel.h"
#include "dataplane/pages/pagesink.h"
#include "dataplane/pages/pagesource.h"
#include "dataplane/pages/tracker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "tests/unit/huge_memory.h"

enum { CHANNELS = 3, MEMORY = 64 << 20, PAGES = MEMORY / PAGE_BYTES };

struct rig {
    int memory, target;
    guint8 *map;
    int ours[CHANNELS], theirs[CHANNELS];
    guint8 key[PAGECRYPT_KEY_BYTES];
    struct page_source_options source;
    struct page_sink_options sink;
    struct page_sink_total total;
    GError *sink_error;
    GThread *thread;
};

static bool source_is_huge, target_is_huge; /* memories of the test that runs */

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

static void
sink_done(const struct page_sink_total *total, void *data)
{
    ((struct rig *) data)->total = *total;
}

static gpointer
sink_thread(gpointer data)
{
    struct rig *rig = data;
    return GINT_TO_POINTER(pagesink_run(&rig->sink, &rig->sink_error));
}

static struct rig *
rig_new(bool sealed, enum page_route route)
{
    struct rig *rig = g_new0(struct rig, 1);
    rig->memory = huge_open("guest", source_is_huge, MEMORY);
    rig->target = huge_open("target", target_is_huge, MEMORY);
    rig->map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memory, 0);
    g_assert_true(rig->map != MAP_FAILED);
    g_assert_true(!source_is_huge || madvise(rig->map, MEMORY, MADV_HUGEPAGE) == 0);
    for (int i = 0; i < CHANNELS; i++) {
        connect_pair(&rig->ours[i], &rig->theirs[CHANNELS - 1 - i]); /* in another order */
    }
    memset(rig->key, 7, sizeof(rig->key));
    rig->source = (struct page_source_options){
        .memory_fd = rig->memory,
        .memory_bytes = MEMORY,
        .sockets = rig->ours,
        .channels = CHANNELS,
        .token = "a migration",
        .key = sealed ? rig->key : NULL,
        .route = route,
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
        .done = sink_done,
        .data = rig,
        .cancel_fd = -1,
    };
    return rig;
}

static void
rig_start(struct rig *rig)
{
    rig->thread = g_thread_new("sink", sink_thread, rig);
}

static bool
rig_join(struct rig *rig)
{
    return GPOINTER_TO_INT(g_thread_join(rig->thread)) != 0;
}

static void
rig_free(struct rig *rig)
{
    for (int i = 0; i < CHANNELS; i++) {
        close(rig->ours[i]);
        close(rig->theirs[i]);
    }
    munmap(rig->map, MEMORY);
    close(rig->memory);
    close(rig->target);
    g_clear_error(&rig->sink_error);
    g_free(rig);
}

static guint64
blocks_of(int fd)
{
    struct stat file;
    g_assert_cmpint(fstat(fd, &file), ==, 0);
    return (guint64) file.st_blocks * 512;
}

static void
assert_same(struct rig *rig)
{
    guint8 *target = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, rig->target, 0);
    g_assert_true(target != MAP_FAILED);
    for (int page = 0; page < PAGES; page++) {
        if (memcmp(rig->map + page * PAGE_BYTES, target + page * PAGE_BYTES, PAGE_BYTES) != 0) {
            g_error("page %d differs", page);
        }
    }
    munmap(target, MEMORY);
}

static void
fill(guint8 *page, guint32 seed)
{
    for (int i = 0; i < PAGE_BYTES / 4; i++) {
        seed = seed * 1664525 + 1013904223;
        memcpy(page + i * 4, &seed, 4);
    }
}

/* Runs over several regions, single pages, zero pages among them, and holes. */
static void
fill_some(struct rig *rig)
{
    for (int page = 0; page < 3000; page++) {
        fill(rig->map + page * PAGE_BYTES, (guint32) page);
    }
    for (int page = 4000; page < 8000; page += 3) {
        fill(rig->map + page * PAGE_BYTES, (guint32) page);
    }
    memset(rig->map + 100 * PAGE_BYTES, 0, 50 * PAGE_BYTES);
}

static void
move_once(gconstpointer data)
{
    guint which = GPOINTER_TO_UINT(data);
    struct rig *rig = rig_new(which == 4, which == 4 ? PAGE_ROUTE_AUTO : (enum page_route) which);
    g_autoptr(GError) error = NULL;
    struct page_round round;
    fill_some(rig);
    rig_start(rig);
    g_autoptr(PageSource) source = pagesource_new(&rig->source, &error);
    g_assert_no_error(error);
    g_autoptr(GArray) runs = pagescan_runs();
    g_assert_true(pagescan_extents(rig->memory, MEMORY, runs, &error));
    g_assert_true(pagesource_round(source, runs, NULL, false, &round, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(round.data_bytes, ==, (3000 - 50 + 1334) * (guint64) PAGE_BYTES);
    g_assert_cmpuint(round.punched_bytes, ==, 50 * PAGE_BYTES);

    fill(rig->map, 99);
    memset(rig->map + 5 * PAGE_BYTES, 0, PAGE_BYTES); /* was sent, is zero now */
    g_array_set_size(runs, 0);
    pagescan_append(runs, 0, 6 * PAGE_BYTES);
    g_assert_true(pagesource_round(source, runs, NULL, true, &round, &error));
    g_assert_no_error(error);
    g_assert_true(rig_join(rig));
    g_assert_no_error(rig->sink_error);
    g_assert_cmpuint(blocks_of(rig->target), ==, (3000 - 51 + 1334) * (guint64) PAGE_BYTES);
    g_assert_cmpuint(huge_bytes(rig->target, 8 * HUGE_BYTES), ==,
                     target_is_huge ? 4 * HUGE_BYTES : 0);
    assert_same(rig);
    rig_free(rig);
}

/* Regions that are there as a whole become huge pages; the one that ends in a hole is as small as the source's. */
static void
arrives_in_huge_pages(gconstpointer data)
{
    target_is_huge = true;
    move_once(data);
    target_is_huge = false;
}

/* ---- a guest that writes while it moves ---- */

struct guest {
    pid_t pid;
    int pause[2]; /* a byte: stop writing, and say so */
    int paused[2];
    gint *writes; /* shared with it */
};

static void
guest_main(const struct guest *guest, guint8 *map)
{
    guint32 seed = 1;
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        for (int i = 0; i < 64; i++) {
            seed = seed * 1664525 + 1013904223;
            fill(map + (seed >> 8) % PAGES * PAGE_BYTES, seed);
            g_atomic_int_inc(guest->writes);
        }
        if (read(guest->pause[0], &byte, 1) == 1) {
            if (write(guest->paused[1], &byte, 1) != 1) {
                _exit(1);
            }
            for (;;) {
                pause();
            }
        }
    }
}

static void
guest_start(struct guest *guest, guint8 *map)
{
    g_assert_cmpint(pipe2(guest->pause, O_CLOEXEC | O_NONBLOCK), ==, 0);
    g_assert_cmpint(pipe2(guest->paused, O_CLOEXEC), ==, 0);
    guest->writes =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(guest->writes != MAP_FAILED);
    guest->pid = fork();
    if (guest->pid == 0) {
        guest_main(guest, map);
    }
    g_assert_cmpint(guest->pid, >, 0);
}

/* Until it has written some more pages, however busy the machine is. */
static void
guest_writes(const struct guest *guest)
{
    gint from = g_atomic_int_get(guest->writes);
    while (g_atomic_int_get(guest->writes) - from < 64) {
        g_usleep(200);
    }
}

static void
guest_pause(const struct guest *guest)
{
    char byte = 1;
    g_assert_cmpint(write(guest->pause[1], &byte, 1), ==, 1);
    g_assert_cmpint(read(guest->paused[0], &byte, 1), ==, 1);
}

static void
guest_end(const struct guest *guest)
{
    kill(guest->pid, SIGKILL);
    waitpid(guest->pid, NULL, 0);
    munmap(guest->writes, PAGE_BYTES);
    for (int i = 0; i < 2; i++) {
        close(guest->pause[i]);
        close(guest->paused[i]);
    }
}

static void
moves_while_written(gconstpointer data)
{
    struct rig *rig = rig_new(GPOINTER_TO_UINT(data) == 4, PAGE_ROUTE_AUTO);
    struct guest guest;
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs(), holes = pagescan_runs();
    struct page_round round;
    fill_some(rig);
    guest_start(&guest, rig->map);
    g_autoptr(Tracker) tracker = tracker_open(guest.pid, rig->memory, &error);
    g_assert_no_error(error);
    g_assert_true(tracker_arm(tracker, &error));
    rig_start(rig);
    g_autoptr(PageSource) source = pagesource_new(&rig->source, &error);
    g_assert_no_error(error);
    g_assert_true(pagescan_extents(rig->memory, MEMORY, runs, &error));
    for (int i = 0; i < 4; i++) {
        g_assert_true(pagesource_round(source, runs, NULL, false, &round, &error));
        g_assert_no_error(error);
        guest_writes(&guest);
        g_array_set_size(runs, 0);
        g_assert_true(tracker_scan(tracker, true, runs, &error));
        g_assert_cmpuint(runs->len, >, 0);
    }
    g_assert_true(pagesource_round(source, runs, NULL, false, &round, &error));
    guest_pause(&guest);
    g_assert_cmpint(fallocate(rig->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              10 * PAGE_BYTES, 600 * PAGE_BYTES),
                    ==, 0); /* as a balloon does */
    g_array_set_size(runs, 0);
    g_assert_true(tracker_scan(tracker, false, runs, &error));
    g_assert_true(pagesource_punched(source, holes, &error));
    g_assert_cmpuint(pagescan_total(holes), >, 0);
    pagesource_round(source, runs, holes, true, &round, &error);
    g_assert_no_error(error);
    g_assert_true(rig_join(rig));
    assert_same(rig);
    guest_end(&guest);
    rig_free(rig);
}

/* ---- what must be refused ---- */

static void
sink_refuses(struct rig *rig, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    fill_some(rig);
    rig_start(rig);
    PageSource *source = pagesource_new(&rig->source, &error);
    bool ok = source != NULL && pagescan_extents(rig->memory, MEMORY, runs, &error) &&
              pagesource_round(source, runs, NULL, true, &round, &error);
    g_assert_false(ok);
    pagesource_free(source);
    g_assert_false(rig_join(rig));
    if (strstr(rig->sink_error->message, why) == NULL) {
        g_error("\"%s\" is not \"%s\"", rig->sink_error->message, why);
    }
    g_assert_cmpuint(blocks_of(rig->target), ==, 0);
    rig_free(rig);
}

static void
another_token(void)
{
    struct rig *rig = rig_new(false, PAGE_ROUTE_COPY);
    rig->source.token[0] ^= 1;
    sink_refuses(rig, "another migration");
}

static void
another_size(void)
{
    struct rig *rig = rig_new(true, PAGE_ROUTE_COPY);
    rig->source.memory_bytes /= 2;
    sink_refuses(rig, "bytes of memory");
}

static void
another_key(void)
{
    struct rig *rig = rig_new(true, PAGE_ROUTE_COPY);
    guint8 other[PAGECRYPT_KEY_BYTES] = {1};
    rig->source.key = other;
    sink_refuses(rig, "seal is broken");
}

static void
plain_for_sealed(void)
{
    struct rig *rig = rig_new(true, PAGE_ROUTE_COPY);
    rig->source.key = NULL;
    sink_refuses(rig, "has to be");
}

static void
cancelled(void)
{
    struct rig *rig = rig_new(false, PAGE_ROUTE_COPY);
    int stop[2];
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    g_assert_cmpint(pipe2(stop, O_CLOEXEC), ==, 0);
    rig->source.cancel_fd = stop[0];
    rig->source.limit_bytes_s = 1 << 20; /* it would take a minute */
    fill_some(rig);
    rig_start(rig);
    PageSource *source = pagesource_new(&rig->source, &error);
    g_assert_no_error(error);
    g_assert_true(pagescan_extents(rig->memory, MEMORY, runs, &error));
    g_assert_cmpint(write(stop[1], "x", 1), ==, 1);
    g_assert_false(pagesource_round(source, runs, NULL, true, &round, &error));
    g_assert_error(error, HAW_ERROR, HAW_CANCELLED);
    pagesource_free(source);
    g_assert_false(rig_join(rig));
    close(stop[0]);
    close(stop[1]);
    rig_free(rig);
}

/* A round that ended while the limit still wanted a pause left its timer to the next one. */
static void
limited_rounds(void)
{
    struct rig *rig = rig_new(false, PAGE_ROUTE_COPY);
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    guint64 sent = 0;
    rig->source.limit_bytes_s = 64 << 20;
    fill_some(rig);
    rig_start(rig);
    g_autoptr(PageSource) source = pagesource_new(&rig->source, &error);
    g_assert_no_error(error);
    gint64 from_us = g_get_monotonic_time();
    for (guint i = 0; i < 40; i++) {
        g_array_set_size(runs, 0);
        pagescan_append(runs, i * PAGE_BYTES, PAGE_BYTES);
        pagescan_append(runs, FRAME_REGION_BYTES + i * 2 * PAGE_BYTES, 64 * PAGE_BYTES);
        pagesource_round(source, runs, NULL, i == 39, &round, &error);
        g_assert_no_error(error);
        sent += round.data_bytes;
        for (int k = 0; k < CHANNELS; k++) {
            g_assert_false(source->channels[k].op.busy);
        }
    }
    /* Each round's last frames go without waiting for what they cost. */
    g_assert_cmpint(g_get_monotonic_time() - from_us, >,
                    (gint64) (sent * G_USEC_PER_SEC / rig->source.limit_bytes_s / 4));
    g_assert_true(rig_join(rig));
    g_clear_pointer(&source, pagesource_free);
    rig_free(rig);
}

/* ---- the tracker ---- */

static void
tracked_process_keeps_nothing(void)
{
    struct rig *rig = rig_new(false, PAGE_ROUTE_COPY);
    struct guest guest;
    g_autoptr(GError) error = NULL;
    guest_start(&guest, rig->map);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int) guest.pid);
    g_autoptr(GDir) before = g_dir_open(path, 0, NULL);
    guint n_before = 0, n_after = 0;
    while (g_dir_read_name(before) != NULL) {
        n_before++;
    }
    Tracker *tracker = tracker_open(guest.pid, rig->memory, &error);
    g_assert_no_error(error);
    g_autoptr(GDir) after = g_dir_open(path, 0, NULL);
    while (g_dir_read_name(after) != NULL) {
        n_after++;
    }
    g_assert_cmpuint(n_before, ==, n_after);
    tracker_close(tracker);
    guest_pause(&guest); /* it runs on */
    guest_end(&guest);
    rig_free(rig);
}

static void
every_write_is_seen(gconstpointer data)
{
    (void) data;
    struct rig *rig = rig_new(false, PAGE_ROUTE_COPY);
    struct guest guest;
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    g_autofree guint8 *was = g_malloc(MEMORY);
    guest_start(&guest, rig->map);
    g_autoptr(Tracker) tracker = tracker_open(guest.pid, rig->memory, &error);
    g_assert_no_error(error);
    for (int round = 0; round < 20; round++) {
        kill(guest.pid, SIGSTOP);
        g_assert_cmpint(waitpid(guest.pid, NULL, WUNTRACED), ==, guest.pid);
        g_array_set_size(runs, 0);
        g_assert_true(round == 0 ? tracker_arm(tracker, &error)
                                 : tracker_scan(tracker, true, runs, &error));
        g_autofree guint8 *seen = g_malloc0(PAGES);
        for (guint i = 0; i < runs->len; i++) {
            const struct page_run *run = &g_array_index(runs, struct page_run, i);
            memset(seen + run->offset / PAGE_BYTES, 1, run->bytes / PAGE_BYTES);
        }
        for (int page = 0; round > 0 && page < PAGES; page++) {
            bool changed =
                memcmp(was + page * PAGE_BYTES, rig->map + page * PAGE_BYTES, PAGE_BYTES) != 0;
            g_assert_true(!changed || seen[page]);
        }
        memcpy(was, rig->map, MEMORY);
        kill(guest.pid, SIGCONT);
        guest_writes(&guest);
    }
    guest_end(&guest);
    rig_free(rig);
}

static void
in_huge_pages(gconstpointer data)
{
    source_is_huge = target_is_huge = true;
    ((void (*)(gconstpointer)) data)(NULL);
    source_is_huge = target_is_huge = false;
}

/* ---- frames ---- */

static void
crc_is_rfc3720(void)
{
    guint8 zeros[32] = {0};
    g_assert_cmphex(frame_crc(0, zeros, sizeof(zeros)), ==, 0x8a9136aa);
    g_assert_cmphex(frame_crc(frame_crc(0, "1234", 4), "56789", 5), ==, 0xe3069283);
}

static void
frames_outside_the_memory_are_refused(void)
{
    static const struct page_run bad[] = {
        {MEMORY, PAGE_BYTES},
        {MEMORY - PAGE_BYTES, 2 * PAGE_BYTES},
        {G_MAXUINT64 - PAGE_BYTES + 1, PAGE_BYTES},
        {100, PAGE_BYTES},
        {0, 100},
        {0, 0},
        {FRAME_REGION_BYTES, PAGE_BYTES},
        {FRAME_REGION_BYTES - PAGE_BYTES, 2 * PAGE_BYTES},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        guint8 bytes[FRAME_TABLE_MAX];
        guint32 crc;
        g_autoptr(GError) error = NULL;
        struct frame frame = {.kind = FRAME_PUNCH, .n_extents = 1, .extents = {bad[i]}}, got;
        frame_put(&frame, bytes, &crc);
        g_assert_true(frame_get_header(bytes, &got, &error));
        g_assert_false(
            frame_get_table(bytes, bytes + FRAME_HEADER_BYTES, MEMORY, 2, &got, &crc, &error));
        g_assert_error(error, HAW_ERROR, HAW_INVALID);
    }
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/frame/crc-is-rfc3720", crc_is_rfc3720);
    g_test_add_func("/frame/outside-the-memory-is-refused", frames_outside_the_memory_are_refused);
    g_test_add_data_func("/stream/copy", GUINT_TO_POINTER(PAGE_ROUTE_COPY), move_once);
    g_test_add_data_func("/stream/splice", GUINT_TO_POINTER(PAGE_ROUTE_SPLICE), move_once);
    g_test_add_data_func("/stream/zero-copy", GUINT_TO_POINTER(PAGE_ROUTE_ZC), move_once);
    g_test_add_data_func("/stream/sealed", GUINT_TO_POINTER(4), move_once);
    g_test_add_func("/refused/another-token", another_token);
    g_test_add_func("/refused/another-size", another_size);
    g_test_add_func("/refused/another-key", another_key);
    g_test_add_func("/refused/plain-where-sealed-is-due", plain_for_sealed);
    g_test_add_func("/cancelled-in-the-middle", cancelled);
    g_test_add_func("/limited/short-rounds-leave-no-timer-behind", limited_rounds);
    bool huge = huge_find();
    if (huge) {
        g_test_add_data_func("/stream/huge/copy", GUINT_TO_POINTER(PAGE_ROUTE_COPY),
                             arrives_in_huge_pages);
        g_test_add_data_func("/stream/huge/sealed", GUINT_TO_POINTER(4), arrives_in_huge_pages);
    } else {
        g_test_message("no huge pages: a tmpfs with huge=advise gives none here");
    }
    if (huge && tracker_works(NULL)) {
        g_test_add_data_func("/tracker/huge/every-write-is-seen", every_write_is_seen,
                             in_huge_pages);
        g_test_add_data_func("/tracker/huge/moves-while-written", moves_while_written,
                             in_huge_pages);
    }
    if (tracker_works(&error)) {
        g_test_add_func("/tracker/process-keeps-nothing", tracked_process_keeps_nothing);
        g_test_add_data_func("/tracker/every-write-is-seen", NULL, every_write_is_seen);
        g_test_add_data_func("/tracker/moves-while-written", GUINT_TO_POINTER(0),
                             moves_while_written);
        g_test_add_data_func("/tracker/moves-while-written-sealed", GUINT_TO_POINTER(4),
                             moves_while_written);
    } else {
        g_test_message("no tracking here: %s", error->message);
    }
    return g_test_run();
}
