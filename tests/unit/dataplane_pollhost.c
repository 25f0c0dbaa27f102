/* dataplane/slow/pollhost.c beside a poll-mode process that is played here: adopted or ended (H1), levelled with what
 * ought to be (H2), wishes on disk (H4), bumps that have arrived (H5). Beside it polllook.c: a trace that ends early (L3). */
#include "dataplane/slow/pollhost.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "dataplane/slow/polllook.h"

#define TAG "cores=1,flows=64,memory=0,huge=0"

/* What is played. */
static struct {
    char *dir;
    int listener;
    guint accepts;
    const char *tag;
    pid_t pid; /* what stands for its process */
    GHashTable *ports;
    GArray *bumped;
    guint refuse; /* requests that fail from now on */
    guint sees;   /* packets of a trace */
    bool hurried; /* a trace ended before its time */
    GMainLoop *loop;
    void (*claim)(void);
} play;

static void
apply(const Dpd__PollApply *change)
{
    for (size_t i = 0; i < change->n_remove; i++) {
        g_hash_table_remove(play.ports, change->remove[i]);
    }
    for (size_t i = 0; i < change->n_ports; i++) {
        g_hash_table_add(play.ports, g_strdup(change->ports[i]->id));
    }
    g_array_append_vals(play.bumped, change->bump, (guint) change->n_bump);
}

static bool
answer_status(DpdWire *wire, Dpd__Frame *frame)
{
    Dpd__PollStatus status = DPD__POLL_STATUS__INIT;
    g_autofree char **ids = (char **) g_hash_table_get_keys_as_array(play.ports, NULL);
    guint count = g_hash_table_size(play.ports);
    g_autofree Dpd__PollPortState *states = g_new0(Dpd__PollPortState, count + 1);
    g_autofree Dpd__PollPortState **ports = g_new0(Dpd__PollPortState *, count + 1);
    for (guint i = 0; i < count; i++) {
        dpd__poll_port_state__init(&states[i]);
        states[i].id = ids[i];
        ports[i] = &states[i];
    }
    status.pid = (guint) play.pid;
    status.tag = (char *) (guintptr) play.tag;
    status.ports = ports;
    status.n_ports = count;
    frame->body_case = DPD__FRAME__BODY_POLL_STATUS;
    frame->poll_status = &status;
    return dpdwire_send(wire, frame, -1, NULL);
}

static bool
answer_trace(DpdWire *wire, const Dpd__FastTrace *want, Dpd__Frame *frame)
{
    Dpd__FastTrace trace = DPD__FAST_TRACE__INIT;
    Dpd__FastEvent event = DPD__FAST_EVENT__INIT, *events[] = {&event, &event, &event};
    play.hurried = play.sees < want->limit && dpdwire_wait(wire, want->wait_ms);
    trace.events = events;
    trace.n_events = play.sees;
    frame->body_case = DPD__FRAME__BODY_FAST_TRACE;
    frame->fast_trace = &trace;
    return dpdwire_send(wire, frame, -1, NULL);
}

static void
peer_fiber(void *data)
{
    g_autoptr(DpdWire) wire = data;
    bool ok = true;
    while (ok) {
        g_autoptr(DpdFrame) request = dpdwire_receive(wire, NULL, -1, NULL, NULL);
        Dpd__Failure failure = DPD__FAILURE__INIT;
        Dpd__Hello hello;
        Dpd__Frame frame;
        if (request == NULL) {
            return;
        }
        dpdwire_hello(&hello, &frame);
        frame.id = request->id;
        if (request->body_case == DPD__FRAME__BODY_HELLO) {
            ok = dpdwire_send(wire, &frame, -1, NULL);
        } else if (request->body_case == DPD__FRAME__BODY_FAST_TRACE) {
            ok = answer_trace(wire, request->fast_trace, &frame);
        } else if (request->body_case == DPD__FRAME__BODY_POLL_APPLY && play.refuse > 0) {
            play.refuse--;
            failure.code = HAW_IO;
            failure.message = (char *) "no such device";
            frame.body_case = DPD__FRAME__BODY_FAILURE;
            frame.failure = &failure;
            ok = dpdwire_send(wire, &frame, -1, NULL);
        } else {
            if (request->body_case == DPD__FRAME__BODY_POLL_APPLY) {
                apply(request->poll_apply);
            }
            ok = answer_status(wire, &frame);
        }
    }
}

static gboolean
on_connection(gint listener, GIOCondition condition, gpointer data)
{
    (void) condition, (void) data;
    haw_autofd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        fiber_start("peer", peer_fiber, dpdwire_new(&fd));
    }
    return G_SOURCE_CONTINUE;
}

/* ---- around each claim ---- */

static void
write_wish(void)
{
    Dpd__FastPoll wish = DPD__FAST_POLL__INIT;
    g_autofree char *path = g_build_filename(play.dir, "poll.wish", NULL);
    wish.cores = (char *) "1";
    wish.flows = 64;
    g_autoptr(GBytes) bytes = dpdwire_pack(&wish.base);
    gsize size = 0;
    const void *at = g_bytes_get_data(bytes, &size);
    g_assert_true(fd_write_atomic(path, at, size, 0600, NULL));
}

static void
begin(const char *tag)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    play.dir = g_dir_make_tmp("pollhost-XXXXXX", NULL);
    g_autofree char *room = g_build_filename(play.dir, "poll", NULL);
    play.tag = tag;
    play.ports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    play.bumped = g_array_new(FALSE, FALSE, sizeof(guint32));
    play.refuse = 0;
    play.pid = fork();
    if (play.pid == 0) {
        for (;;) {
            pause();
        }
    }
    g_assert_cmpint(g_mkdir(room, 0700), ==, 0);
    g_snprintf(address.sun_path, sizeof address.sun_path, "%s/poll.socket", room);
    play.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(bind(play.listener, (struct sockaddr *) &address, sizeof address), ==, 0);
    g_assert_cmpint(listen(play.listener, 8), ==, 0);
    play.accepts = g_unix_fd_add(play.listener, G_IO_IN, on_connection, NULL);
}

/* Nobody listens any more, and its process has ended. */
static void
die(void)
{
    if (play.accepts != 0) {
        g_source_remove(play.accepts);
        play.accepts = 0;
        fd_close(&play.listener);
        kill(play.pid, SIGKILL);
        waitpid(play.pid, NULL, 0);
    }
}

static void
end(PollHost *host)
{
    pollhost_free(host, false);
    die();
    g_autofree char *socket = g_build_filename(play.dir, "poll", "poll.socket", NULL);
    g_autofree char *log = g_build_filename(play.dir, "poll", "log", NULL);
    g_autofree char *room = g_build_filename(play.dir, "poll", NULL);
    g_autofree char *wish = g_build_filename(play.dir, "poll.wish", NULL);
    g_unlink(socket);
    g_unlink(log);
    g_unlink(wish);
    g_rmdir(room);
    g_rmdir(play.dir);
    g_clear_pointer(&play.dir, g_free);
    g_clear_pointer(&play.ports, g_hash_table_unref);
    g_array_unref(play.bumped);
}

/* Until 'is' is true, half a minute at most. */
#define WAIT(is)                                                                                   \
    do {                                                                                           \
        for (guint turn = 0; turn < 3000 && !(is); turn++) {                                       \
            fiber_sleep_ms(10, NULL, NULL);                                                        \
        }                                                                                          \
        g_assert_true(is);                                                                         \
    } while (0)

static bool
knows_kept(const char *id, void *data)
{
    (void) data;
    return strcmp(id, "kept") == 0;
}

static PollHost *
host_new(void)
{
    return pollhost_new(play.dir, knows_kept, NULL);
}

static bool
put(PollHost *host, const char *id, GError **error)
{
    Dpd__PollPort port = DPD__POLL_PORT__INIT;
    port.id = (char *) (guintptr) id;
    return pollhost_put(host, &port, error);
}

static bool
polled(const char *id)
{
    return g_hash_table_contains(play.ports, id);
}

/* ---- claims ---- */

static void
who_was_started_as_wished_is_adopted_and_levelled(void)
{
    begin(TAG);
    write_wish();
    g_hash_table_add(play.ports, g_strdup("kept"));
    g_hash_table_add(play.ports, g_strdup("stray"));
    PollHost *host = host_new();
    WAIT(!polled("stray"));
    WAIT(pollhost_socket(host) != NULL);
    g_assert_true(polled("kept")); /* H2 */
    g_assert_cmpint(kill(play.pid, 0), ==, 0);
    g_assert_true(pollhost_drop(host, "kept", NULL));
    g_assert_false(polled("kept"));
    end(host);
}

static void
a_death_is_seen_though_nobody_asks(void)
{
    begin(TAG);
    write_wish();
    PollHost *host = host_new();
    WAIT(pollhost_socket(host) != NULL);
    die();                               /* the connection's other end is open still */
    WAIT(pollhost_socket(host) == NULL); /* H3 */
    end(host);
}

static void
who_was_started_otherwise_is_ended(void)
{
    begin("cores=1,flows=128,memory=0,huge=0");
    write_wish();
    PollHost *host = host_new();
    int status = 0;
    WAIT(waitpid(play.pid, &status, WNOHANG) == play.pid || errno == ECHILD); /* H1 */
    end(host);
}

static void
a_refusal_leaves_the_port_out_and_the_connection_there(void)
{
    g_autoptr(GError) error = NULL;
    begin(TAG);
    write_wish();
    PollHost *host = host_new();
    WAIT(pollhost_socket(host) != NULL);
    play.refuse = 1;
    g_assert_false(put(host, "one", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_IO);
    g_assert_false(pollhost_has(host, "one"));
    g_assert_nonnull(pollhost_socket(host));
    g_assert_true(put(host, "one", NULL));
    g_assert_true(polled("one") && pollhost_has(host, "one"));
    end(host);
}

static void
a_bump_has_arrived_or_fails(void)
{
    const guint32 zones[] = {5, 9};
    begin(TAG);
    write_wish();
    PollHost *host = host_new();
    WAIT(pollhost_socket(host) != NULL);
    g_assert_true(pollhost_bump(host, zones, 2, NULL));
    g_assert_cmpuint(play.bumped->len, ==, 2); /* H5 */
    g_assert_cmpuint(g_array_index(play.bumped, guint32, 1), ==, 9);
    play.refuse = 1;
    g_autoptr(GError) error = NULL;
    g_assert_false(pollhost_bump(host, zones, 1, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_IO);
    end(host);
}

static void
without_processors_there_is_nobody_to_ask(void)
{
    const guint32 zones[] = {5};
    g_autoptr(GError) error = NULL;
    begin(TAG);
    die();
    g_autofree char *socket = g_build_filename(play.dir, "poll", "poll.socket", NULL);
    g_unlink(socket);
    PollHost *host = host_new();
    g_assert_false(put(host, "one", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_UNAVAILABLE);
    g_assert_true(pollhost_bump(host, zones, 1, NULL)); /* H5 */
    g_assert_true(pollhost_drop(host, "one", NULL));
    g_assert_null(pollhost_socket(host));
    end(host);
}

static void
a_wish_is_on_disk_and_the_last_processor_stays_while_ports_need_it(void)
{
    Dpd__FastPoll wish = DPD__FAST_POLL__INIT;
    g_autoptr(GError) error = NULL;
    begin(TAG);
    write_wish();
    PollHost *host = host_new();
    WAIT(pollhost_socket(host) != NULL);
    g_assert_true(put(host, "one", NULL));
    g_assert_false(pollhost_configure(host, &wish, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_BUSY);
    g_assert_true(pollhost_drop(host, "one", NULL));
    g_assert_true(pollhost_configure(host, &wish, NULL));
    g_autofree char *path = g_build_filename(play.dir, "poll.wish", NULL);
    size_t size = 1;
    g_autofree char *bytes = fd_read_file(path, 4096, &size, NULL);
    g_assert_cmpuint(size, ==, 0); /* H4: nothing is wished */
    end(host);
}

/* Beside an engine that has seen 'count' packets, of 3 wanted ones. How many there are then. */
static size_t
trace(guint count, GCancellable *enough)
{
    Dpd__FastTrace want = DPD__FAST_TRACE__INIT, ret = DPD__FAST_TRACE__INIT;
    Dpd__Frame request = DPD__FRAME__INIT;
    Dpd__FastEvent event = DPD__FAST_EVENT__INIT, *events[] = {&event, &event, &event};
    want.limit = 3;
    want.wait_ms = 20000;
    request.body_case = DPD__FRAME__BODY_FAST_TRACE;
    request.fast_trace = &want;
    begin(TAG);
    write_wish();
    PollHost *host = host_new();
    WAIT(pollhost_socket(host) != NULL);
    g_autoptr(ShowPool) pool = showpool_new();
    g_autoptr(PollLook) look = polllook_start(host, &request);
    g_assert_nonnull(look);
    polllook_watch(look, &want, enough);
    WAIT(count > 0 || g_cancellable_is_cancelled(enough));
    ret.events = events;
    ret.n_events = count;
    g_assert_true(polllook_trace(look, &want, pool, &ret));
    g_clear_pointer(&look, polllook_free);
    end(host);
    return ret.n_events;
}

static void
a_trace_is_enough_when_the_process_has_seen_as_many_packets_as_are_wanted(void)
{
    g_autoptr(GCancellable) enough = g_cancellable_new();
    play.sees = 3;
    g_assert_cmpuint(trace(0, enough), ==, 3); /* L3 */
    g_assert_true(g_cancellable_is_cancelled(enough));
}

static void
a_trace_that_has_enough_packets_ends_the_process_s_look(void)
{
    g_autoptr(GCancellable) enough = g_cancellable_new();
    play.sees = 0;
    g_assert_cmpuint(trace(3, enough), ==, 3);
    g_assert_true(play.hurried); /* L3 */
    g_assert_false(g_cancellable_is_cancelled(enough));
}

static void
claim_fiber(void *data)
{
    (void) data;
    play.claim();
    g_main_loop_quit(play.loop);
}

static void
run_claim(gconstpointer at)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    play.loop = loop;
    play.claim = *(void (*const *)(void)) at;
    fiber_start("claim", claim_fiber, NULL);
    g_main_loop_run(loop);
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--dpdk") == 0) {
        return 1; /* what pollhost.c starts is this program */
    }
    g_test_init(&argc, &argv, NULL);
#define CLAIM(name)                                                                                \
    {                                                                                              \
        static void (*const claim)(void) = name;                                                   \
        g_test_add_data_func("/dataplane/pollhost/" #name, &claim, run_claim);                     \
    }
    CLAIM(who_was_started_as_wished_is_adopted_and_levelled)
    CLAIM(a_death_is_seen_though_nobody_asks)
    CLAIM(who_was_started_otherwise_is_ended)
    CLAIM(a_refusal_leaves_the_port_out_and_the_connection_there)
    CLAIM(a_bump_has_arrived_or_fails)
    CLAIM(without_processors_there_is_nobody_to_ask)
    CLAIM(a_wish_is_on_disk_and_the_last_processor_stays_while_ports_need_it)
    CLAIM(a_trace_is_enough_when_the_process_has_seen_as_many_packets_as_are_wanted)
    CLAIM(a_trace_that_has_enough_packets_ends_the_process_s_look)
    return g_test_run();
}
