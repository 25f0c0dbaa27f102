/* agent/vm/guestlink.c, guestask.c, guestexec.c against the real hawser-guest on a socket: G1 to G6, K1 to K3,
 * P1 to P3. Guests that lie are vm_guestlie.c's. */
#include "agent/vm/guestlink.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/vm/guestask.h"
#include "agent/vm/guestexec.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "tests/fakes/guest_bed.h"

/* ---- commands ---- */

typedef struct {
    InstExec *exec;
    int near[3];
    int code;
    GString *out[3];
    Bed *bed;
    const char *script;
    bool done;
} Command;

static void
command_start(Command *command, Bed *bed, const char *script)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    json_t *environment = json_pack("{s:s,s:s}", "PATH", "/usr/bin:/bin", "COLOUR", "blue");
    InstExecSpec spec = {.argv = argv, .environment = environment, .cwd = "/"};
    g_autoptr(GError) error = NULL;

    *command = (Command){.bed = bed};
    for (int i = 0; i < 3; i++) {
        int pair[2];
        g_assert_cmpint(pipe2(pair, O_CLOEXEC), ==, 0);
        spec.fds[i] = pair[i == 0 ? 0 : 1];
        command->near[i] = pair[i == 0 ? 1 : 0];
        command->out[i] = g_string_new(NULL);
    }
    command->exec = guestexec_start(bed->link, &spec, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 3; i++) {
        close(spec.fds[i]);
    }
    json_decref(environment);
}

/* Reads both outputs to their ends, then waits. */
static void
command_end(Command *command, GError **error)
{
    fd_close(&command->near[0]);
    for (int i = 1; i < 3; i++) {
        char buffer[4096];
        ssize_t n;
        fcntl(command->near[i], F_SETFL, O_NONBLOCK);
        while ((n = read(command->near[i], buffer, sizeof(buffer))) != 0) {
            if (n > 0) {
                g_string_append_len(command->out[i], buffer, n);
            } else {
                g_assert_true(fiber_wait_fd(command->near[i], G_IO_IN, WAIT_MS, NULL, NULL));
            }
        }
        fd_close(&command->near[i]);
    }
    guestexec_wait(command->exec, NULL, &command->code, error);
    guestexec_free(command->exec);
}

static void
command_clear(Command *command)
{
    for (int i = 0; i < 3; i++) {
        g_string_free(command->out[i], TRUE);
    }
}

static void
run(Bed *bed, const char *script, int code, const char *out, const char *err)
{
    g_autoptr(GError) error = NULL;
    Command command;

    command_start(&command, bed, script);
    command_end(&command, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(command.out[1]->str, ==, out);
    g_assert_cmpstr(command.out[2]->str, ==, err);
    g_assert_cmpint(command.code, ==, code);
    command_clear(&command);
}

static void
commands_have_their_streams_and_codes(void)
{
    Bed bed;

    bed_start(&bed);
    run(&bed, "echo out; echo err >&2; exit 3", 3, "out\n", "err\n");
    run(&bed, "echo $COLOUR $HOME; pwd", 0, "blue\n/\n", "");
    run(&bed, "kill -TERM $$", 143, "", "");
    run(&bed, "cat", 0, "", "");
    bed_close(&bed);
}

static void
what_is_not_there_is_127(void)
{
    const char *argv[] = {"/no/such/program", NULL};
    g_autoptr(GError) error = NULL;
    Bed bed;
    int code = -1, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    InstExecSpec spec = {.argv = argv, .environment = NULL, .fds = {null, null, null}};

    bed_start(&bed);
    InstExec *exec = guestexec_start(bed.link, &spec, &error);
    g_assert_true(guestexec_wait(exec, NULL, &code, &error));
    g_assert_cmpint(code, ==, 127);
    guestexec_free(exec);
    close(null);
    bed_close(&bed);
}

static void
signals_reach_the_command(void)
{
    g_autoptr(GError) error = NULL;
    Command command;
    Bed bed;
    char byte;

    bed_start(&bed);
    command_start(&command, &bed,
                  "trap 'echo caught; exit 7' USR1; echo r; while :; do sleep 0.05; done");
    fcntl(command.near[1], F_SETFL, O_NONBLOCK);
    g_assert_true(fiber_wait_fd(command.near[1], G_IO_IN, WAIT_MS, NULL, NULL));
    g_assert_cmpint(read(command.near[1], &byte, 1), ==, 1);
    guestexec_signal(command.exec, SIGUSR1);
    command_end(&command, &error);
    g_assert_no_error(error);
    g_assert_cmpint(command.code, ==, 7);
    g_assert_nonnull(strstr(command.out[1]->str, "caught"));
    command_clear(&command);
    bed_close(&bed);
}

/* Reads a terminal until it has said 'text'. */
static void
expect(int fd, GString *seen, const char *text)
{
    char buffer[512];

    while (strstr(seen->str, text) == NULL) {
        g_assert_true(fiber_wait_fd(fd, G_IO_IN, WAIT_MS, NULL, NULL));
        ssize_t n = read(fd, buffer, sizeof(buffer));
        g_assert_cmpint(n, >, 0);
        g_string_append_len(seen, buffer, n);
    }
}

static void
a_terminal_has_a_size_and_gets_another(void)
{
    const char *argv[] = {"/bin/sh", "-c",
                          "stty size; read x; stty size; tty >/dev/null && echo is-tty", NULL};
    g_autoptr(GString) seen = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Bed bed;
    int pair[2], code = -1;

    bed_start(&bed);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), ==,
                    0);
    json_t *environment = json_pack("{s:s}", "PATH", "/usr/bin:/bin");
    InstExecSpec spec = {.argv = argv,
                         .environment = environment,
                         .terminal = true,
                         .width = 80,
                         .height = 24,
                         .fds = {pair[1], pair[1], pair[1]}};
    InstExec *exec = guestexec_start(bed.link, &spec, &error);
    g_assert_no_error(error);
    close(pair[1]);
    expect(pair[0], seen, "24 80");
    guestexec_resize(exec, 132, 43);
    g_assert_cmpint(write(pair[0], "\n", 1), ==, 1);
    expect(pair[0], seen, "43 132");
    expect(pair[0], seen, "is-tty");
    g_assert_true(guestexec_wait(exec, NULL, &code, &error));
    g_assert_cmpint(code, ==, 0);
    guestexec_free(exec);
    json_decref(environment);
    close(pair[0]);
    bed_close(&bed);
}

/* ---- many, and much ---- */

static void
one_of_many(void *data)
{
    Command *command = data;
    g_autoptr(GError) error = NULL;
    Bed *bed = command->bed;
    g_autofree char *script = g_strdup(command->script);

    command_start(command, bed, script);
    command_end(command, &error);
    g_assert_no_error(error);
    command->done = true;
}

static void
fifty_sessions_run_at_once(void)
{
    Command commands[50] = {0};
    Bed bed;

    bed_start(&bed);
    for (int i = 0; i < 50; i++) {
        commands[i] = (Command){.bed = &bed};
        commands[i].script =
            "head -c 300000 /dev/zero | tr '\\0' x; sleep 0.2; echo end >&2; exit 5";
        fiber_start("one of many", one_of_many, &commands[i]);
    }
    for (int i = 0; i < 50; i++) {
        while (!commands[i].done) {
            fiber_sleep_ms(10, NULL, NULL);
        }
        g_assert_cmpint(commands[i].code, ==, 5);
        g_assert_cmpuint(commands[i].out[1]->len, ==, 300000);
        g_assert_cmpstr(commands[i].out[2]->str, ==, "end\n");
        command_clear(&commands[i]);
    }
    bed_close(&bed);
}

static char *
sum_of(int fd)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 buffer[65536];
    ssize_t n;

    lseek(fd, 0, SEEK_SET);
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        g_checksum_update(sum, buffer, n);
    }
    lseek(fd, 0, SEEK_SET);
    return g_strdup(g_checksum_get_string(sum));
}

static void
files_go_both_ways_unharmed(void)
{
    g_autoptr(GError) error = NULL;
    Bed bed;
    int fd = memfd_create("content", MFD_CLOEXEC), back = -1;
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);

    bed_start(&bed);
    for (int i = 0; i < 64 * 1024; i++) { /* 16 MiB with runs of zeros */
        guint32 words[64];
        for (int k = 0; k < 64; k++) {
            words[k] = i % 5 == 0 ? 0 : g_rand_int(rand);
        }
        g_assert_cmpint(write(fd, words, sizeof(words)), ==, sizeof(words));
    }
    g_autofree char *path = g_build_filename(bed.dir, "content", NULL), *sum = sum_of(fd);
    json_t *request =
        json_pack("{s:s,s:i,s:i,s:i}", "path", path, "uid", 12, "gid", 34, "mode", 0640);
    guestask_put(bed.link, request, fd, &error);
    g_assert_no_error(error);
    json_t *reply = guestask_get(bed.link, path, false, bed.dir, &back, &error);
    g_assert_no_error(error);
    g_autofree char *back_sum = sum_of(back);
    g_assert_cmpstr(sum, ==, back_sum);
    g_assert_cmpint(json_integer_value(json_object_get(reply, "uid")), ==, 12);
    g_assert_cmpint(json_integer_value(json_object_get(reply, "gid")), ==, 34);
    g_assert_cmpint(json_integer_value(json_object_get(reply, "mode")), ==, 0640);
    g_assert_true(guestask_delete(bed.link, path, &error));
    g_assert_false(guestask_delete(bed.link, path, &error));
    g_assert_error(error, HAW_ERROR, HAW_NOT_FOUND);
    json_decref(reply);
    json_decref(request);
    close(back);
    close(fd);
    bed_close(&bed);
}

static void
directories_and_links_are_made_and_listed(void)
{
    g_autoptr(GError) error = NULL;
    Bed bed;
    int fd = -1;

    bed_start(&bed);
    g_autofree char *dir = g_build_filename(bed.dir, "d", NULL);
    g_autofree char *link = g_build_filename(dir, "l\"ink", NULL);
    json_t *make = json_pack("{s:s,s:s,s:i}", "path", dir, "type", "directory", "mode", 0711);
    json_t *tie =
        json_pack("{s:s,s:s,s:s}", "path", link, "type", "symlink", "target", "some/where");
    g_assert_true(guestask_put(bed.link, make, -1, &error));
    g_assert_true(guestask_put(bed.link, make, -1, &error)); /* there already */
    g_assert_true(guestask_put(bed.link, tie, -1, &error));
    json_t *reply = guestask_get(bed.link, dir, false, bed.dir, &fd, &error);
    g_assert_cmpstr(json_string_value(json_array_get(json_object_get(reply, "names"), 0)), ==,
                    "l\"ink");
    g_assert_cmpint(json_integer_value(json_object_get(reply, "mode")), ==, 0711);
    json_decref(reply);
    reply = guestask_get(bed.link, link, false, bed.dir, &fd, &error);
    g_assert_cmpstr(json_string_value(json_object_get(reply, "target")), ==, "some/where");
    g_assert_cmpint(fd, ==, -1);
    json_decref(reply);
    json_decref(make);
    json_decref(tie);
    bed_close(&bed);
}

static void
sftp_answers_through_the_session(void)
{
    static const guint8 init[] = {0, 0, 0, 5, 1, 0, 0, 0, 3};
    guint8 answer[64];
    Bed bed;
    int pair[2];

    bed_start(&bed);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    g_assert_cmpint(write(pair[0], init, sizeof(init)), ==, sizeof(init));
    shutdown(pair[0], SHUT_WR);
    g_assert_true(guestask_sftp(bed.link, pair[1], NULL, NULL));
    g_assert_cmpint(read(pair[0], answer, sizeof(answer)), >, 9);
    g_assert_cmpint(answer[4], ==, 2); /* VERSION */
    close(pair[0]);
    close(pair[1]);
    bed_close(&bed);
}

static void
state_and_metrics_say_what_is(void)
{
    g_autoptr(GError) error = NULL;
    Bed bed;

    bed_start(&bed);
    json_t *state = guestask_state(bed.link, &error);
    g_assert_no_error(error);
    json_t *lo = json_object_get(json_object_get(state, "network"), "lo");
    g_assert_cmpstr(json_string_value(json_object_get(lo, "type")), ==, "loopback");
    g_assert_cmpint(json_integer_value(json_object_get(state, "processes")), >, 0);
    g_assert_cmpint(json_integer_value(json_object_get(json_object_get(state, "memory"), "total")),
                    >, 1 << 20);
    json_decref(state);
    json_t *metrics = guestask_metrics(bed.link, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_array_size(json_object_get(metrics, "cpu")), >, 0);
    json_decref(metrics);
    bed_close(&bed);
}

/* ---- guests that go away ---- */

static void
a_killed_guest_fails_its_sessions_and_comes_back(void)
{
    g_autoptr(GError) error = NULL;
    Command command;
    Bed bed;

    bed_start(&bed);
    command_start(&command, &bed, "sleep 1000");
    end_guest(&bed);
    command_end(&command, &error);
    g_assert_nonnull(error);
    g_clear_error(&error);
    command_clear(&command);
    g_assert_null(guestask_state(bed.link, &error));
    g_assert_cmpstr(error->message, ==, GUESTLINK_OFFLINE);
    g_clear_error(&error);
    start_guest(&bed);
    g_assert_true(guestlink_wait(bed.link, WAIT_MS, NULL, &error));
    g_assert_cmpuint(bed.greeted, >=, 2);
    run(&bed, "echo again", 0, "again\n", "");
    bed_close(&bed);
}

static void
an_agent_that_left_ends_what_it_ran(void)
{
    g_autoptr(GError) error = NULL;
    Command command;
    Bed bed;
    char text[32] = "";

    bed_start(&bed);
    command_start(&command, &bed, "echo $$; exec sleep 1000");
    fcntl(command.near[1], F_SETFL, O_NONBLOCK);
    g_assert_true(fiber_wait_fd(command.near[1], G_IO_IN, WAIT_MS, NULL, NULL));
    g_assert_cmpint(read(command.near[1], text, sizeof(text) - 1), >, 0);
    guestexec_free(command.exec);
    while (kill(atoi(text), 0) == 0) { /* killed, then reaped */
        fiber_sleep_ms(10, NULL, NULL);
    }
    for (int i = 0; i < 3; i++) {
        fd_close(&command.near[i]);
    }
    command_clear(&command);
    bed_close(&bed);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    add("commands-have-their-streams-and-codes", commands_have_their_streams_and_codes);
    add("what-is-not-there-is-127", what_is_not_there_is_127);
    add("signals-reach-the-command", signals_reach_the_command);
    add("a-terminal-has-a-size-and-gets-another", a_terminal_has_a_size_and_gets_another);
    add("fifty-sessions-run-at-once", fifty_sessions_run_at_once);
    add("files-go-both-ways-unharmed", files_go_both_ways_unharmed);
    add("directories-and-links-are-made-and-listed", directories_and_links_are_made_and_listed);
    add("sftp-answers-through-the-session", sftp_answers_through_the_session);
    add("state-and-metrics-say-what-is", state_and_metrics_say_what_is);
    add("a-killed-guest-fails-its-sessions-and-comes-back",
        a_killed_guest_fails_its_sessions_and_comes_back);
    add("an-agent-that-left-ends-what-it-ran", an_agent_that_left_ends_what_it_ran);
    return g_test_run();
}
