/* Commands and consoles in instances, over WebSockets.
 * X1  The terminal is as it was before, however we leave (raw_done at every return, and on
 *     interrupts we only note them).
 * X2  Output is complete before the command's status is given: we end when the server has ended
 *     every stream, not when the operation says so.
 * X3  What the other side does not take yet is not read from stdin: memory stays bounded.
 * X4  A signal that comes to us goes to the command; with a terminal of its own Ctrl-C is a
 *     character, not a signal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/interrupt.h"
#include "ctl/out.h"
#include "ctl/wait.h"
#include "ctl/wsclient.h"

enum { QUEUE_MAX = 1024 * 1024, ESCAPE_CTRL_A = 0x01 };

typedef struct {
    WsClient *in_out;    /* stdin, and with a terminal also the output */
    WsClient *out, *err; /* NULL with a terminal */
    WsClient *control;
    bool interactive, escapes; /* escapes: Ctrl-A q leaves */
    bool stdin_open, escaped, leave;
    bool ended[3]; /* the server said that this stream is complete */
    struct termios saved;
    bool raw;
} Session;

typedef struct {
    Session *session;
    int index, fd;
} Sink;

static int exit_status;
static volatile sig_atomic_t pending_signal, resized;

int
cmd_exec_status(void)
{
    return exit_status;
}

static void
on_signal(int number)
{
    if (number == SIGWINCH) {
        resized = 1;
    } else {
        pending_signal = number;
    }
}

static void
catch_signals(void)
{
    static const int numbers[] = {SIGWINCH, SIGTERM, SIGHUP,  SIGINT,
                                  SIGQUIT,  SIGUSR1, SIGUSR2, SIGALRM};
    struct sigaction action = {.sa_handler = on_signal};
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

static void
raw_init(Session *session)
{
    if (!session->interactive || tcgetattr(STDIN_FILENO, &session->saved) != 0) {
        return;
    }
    struct termios raw = session->saved;
    cfmakeraw(&raw);
    session->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* X1 */
static void
raw_done(Session *session)
{
    if (session->raw) {
        tcsetattr(STDIN_FILENO, TCSANOW, &session->saved);
        session->raw = false;
    }
}

static void
session_done(Session *session)
{
    raw_done(session);
    g_clear_pointer(&session->in_out, wsclient_free);
    g_clear_pointer(&session->out, wsclient_free);
    g_clear_pointer(&session->err, wsclient_free);
    g_clear_pointer(&session->control, wsclient_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Session, session_done)

/* The server's output. A text message is its mark for "complete". */
static void
on_output(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    Sink *sink = data;
    if (is_text && size == 0) {
        sink->session->ended[sink->index] = true;
        return;
    }
    if (!fd_write_all(sink->fd, bytes, size, "output", NULL)) {
        sink->session->ended[sink->index] = true;
        sink->session->leave = true;
    }
}

static void
on_ignored(void *data, bool is_text, const guint8 *bytes, size_t size)
{
}

static bool
terminal_size(int *ret_width, int *ret_height)
{
    struct winsize size = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        return false;
    }
    *ret_width = size.ws_col;
    *ret_height = size.ws_row;
    return true;
}

static void
send_control(Session *session, json_t *message)
{
    g_autofree char *text = json_dumps(message, JSON_COMPACT);
    if (session->control != NULL && wsclient_is_open(session->control)) {
        wsclient_send(session->control, true, text, strlen(text));
    }
}

static void
forward_size(Session *session)
{
    int width = 0, height = 0;
    resized = 0;
    if (!session->interactive || !terminal_size(&width, &height)) {
        return;
    }
    g_autofree char *w = g_strdup_printf("%d", width), *h = g_strdup_printf("%d", height);
    g_autoptr(json_t) message =
        json_pack("{ss s{ss ss}}", "command", "window-resize", "args", "width", w, "height", h);
    send_control(session, message);
}

/* X4 */
static void
forward_signal(Session *session)
{
    int number = pending_signal;
    pending_signal = 0;
    g_autoptr(json_t) message = json_pack("{ss si}", "command", "signal", "signal", number);
    send_control(session, message);
}

/* Ctrl-A q leaves, Ctrl-A Ctrl-A is one Ctrl-A. What is left for the instance goes to 'out'. */
static void
take_escapes(Session *session, const char *bytes, size_t size, GByteArray *out)
{
    static const guint8 ctrl_a = ESCAPE_CTRL_A;
    for (size_t i = 0; i < size; i++) {
        bool was_escaped = session->escaped;
        session->escaped = !was_escaped && bytes[i] == ESCAPE_CTRL_A;
        if (was_escaped && bytes[i] == 'q') {
            session->leave = true;
            return;
        }
        if (was_escaped && bytes[i] != ESCAPE_CTRL_A) {
            g_byte_array_append(out, &ctrl_a, 1);
        }
        if (!session->escaped) {
            g_byte_array_append(out, (const guint8 *) bytes + i, 1);
        }
    }
}

static void
read_stdin(Session *session)
{
    char bytes[32768];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (got <= 0) {
        session->stdin_open = false;
        wsclient_send(session->in_out, true, "", 0);
        return;
    }
    g_autoptr(GByteArray) left = g_byte_array_new();
    if (session->escapes) {
        take_escapes(session, bytes, (size_t) got, left);
    } else {
        g_byte_array_append(left, (guint8 *) bytes, (guint) got);
    }
    if (left->len > 0) {
        wsclient_send(session->in_out, false, left->data, left->len);
    }
}

static bool
stream_over(const Session *session, const WsClient *socket, int index)
{
    return socket == NULL || session->ended[index] || !wsclient_is_open(socket);
}

/* X2 */
static bool
output_over(const Session *session)
{
    if (session->interactive) {
        return stream_over(session, session->in_out, 0);
    }
    return stream_over(session, session->out, 1) && stream_over(session, session->err, 2);
}

static void
pump(Session *session)
{
    WsClient *sockets[] = {session->in_out, session->out, session->err, session->control};
    while (!session->leave && !output_over(session)) {
        bool readable = false;
        bool room = wsclient_queued(session->in_out) < QUEUE_MAX; /* X3 */
        bool reads = session->stdin_open && room && wsclient_is_open(session->in_out);
        wsclient_poll(sockets, G_N_ELEMENTS(sockets), reads ? STDIN_FILENO : -1, 1000, &readable);
        if (resized) {
            forward_size(session);
        }
        if (pending_signal != 0) {
            forward_signal(session);
        }
        if (readable) {
            read_stdin(session);
        }
    }
}

/* Says goodbye on every socket, so that the server sees no broken connection. The control socket's end
 * kills the command, which may have closed its output and not ended yet: it stays until that has. */
static void
close_sockets(Session *session)
{
    WsClient *sockets[] = {session->in_out, session->out, session->err,
                           session->leave ? session->control : NULL};
    for (size_t i = 0; i < G_N_ELEMENTS(sockets); i++) {
        if (sockets[i] != NULL && wsclient_is_open(sockets[i])) {
            wsclient_close(sockets[i]);
            wsclient_pump(sockets[i]);
        }
    }
}

static WsClient *
open_socket(Rest *rest, const json_t *operation, const char *key, WsClientFn fn, void *data,
            GError **error)
{
    const json_t *fds = json_object_get(json_object_get(operation, "metadata"), "fds");
    const char *secret = json_string_value(json_object_get(fds, key));
    if (secret == NULL) {
        haw_fail(error, HAW_FAILED, "the server offers no socket '%s'", key);
        return NULL;
    }
    g_autofree char *path =
        rest_path("/1.0/operations/%s/websocket?secret=%s", out_get(operation, "id"), secret);
    return wsclient_open(rest, path, fn, data, error);
}

/* Connects what the session needs and runs it to its end. */
static bool
run_session(Rest *rest, const json_t *operation, Session *session, GError **error)
{
    Sink sinks[3] = {
        {session, 0, STDOUT_FILENO}, {session, 1, STDOUT_FILENO}, {session, 2, STDERR_FILENO}};
    session->control = open_socket(rest, operation, "control", on_ignored, NULL, error);
    session->in_out =
        session->control != NULL
            ? open_socket(rest, operation, "0", session->interactive ? on_output : on_ignored,
                          &sinks[0], error)
            : NULL;
    if (session->in_out == NULL) {
        return false;
    }
    if (!session->interactive) {
        session->out = open_socket(rest, operation, "1", on_output, &sinks[1], error);
        session->err = session->out != NULL
                           ? open_socket(rest, operation, "2", on_output, &sinks[2], error)
                           : NULL;
        if (session->err == NULL) {
            return false;
        }
    }
    catch_signals();
    raw_init(session);
    forward_size(session);
    pump(session);
    close_sockets(session);
    raw_done(session);
    interrupt_catch();
    return true;
}

/* "--env A=b" and what a terminal needs. */
static json_t *
exec_environment(Ctl *ctl, bool interactive, GError **error)
{
    g_autoptr(json_t) environment = json_object();
    const char *term = g_getenv("TERM");
    if (interactive && term != NULL) {
        json_object_set_new(environment, "TERM", json_string(term));
    }
    for (char *const *pair = ctl_option_all(ctl, "env"); *pair != NULL; pair++) {
        g_auto(GStrv) parts = g_strsplit(*pair, "=", 2);
        if (parts[0] == NULL || *parts[0] == '\0') {
            haw_fail(error, HAW_INVALID, "'%s' is not of the form NAME=value", *pair);
            return NULL;
        }
        json_object_set_new(environment, parts[0], json_string(parts[1] != NULL ? parts[1] : ""));
    }
    return g_steal_pointer(&environment);
}

static bool
wants_terminal(Ctl *ctl, bool *ret_interactive, GError **error)
{
    const char *mode = ctl_option(ctl, "mode");
    bool terminals = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    bool forced = ctl_flag(ctl, "force-interactive"), never = ctl_flag(ctl, "force-noninteractive");
    if (forced && never) {
        return haw_fail(error, HAW_INVALID, "-t and -T exclude each other");
    }
    if (mode == NULL || strcmp(mode, "auto") == 0) {
        *ret_interactive = forced || (!never && terminals && !ctl_flag(ctl, "disable-stdin"));
        return true;
    }
    *ret_interactive = strcmp(mode, "interactive") == 0;
    return *ret_interactive || strcmp(mode, "non-interactive") == 0 ||
           haw_fail(error, HAW_INVALID,
                    "unknown mode '%s' (choose auto, interactive or non-interactive)", mode);
}

static json_t *
exec_body(Ctl *ctl, const json_t *command, bool interactive, GError **error)
{
    int width = 0, height = 0;
    json_t *environment = exec_environment(ctl, interactive, error);
    if (environment == NULL) {
        return NULL;
    }
    json_t *body = json_pack("{sO sb sb so}", "command", command, "wait-for-websocket", 1,
                             "interactive", (int) interactive, "environment", environment);
    if (interactive && terminal_size(&width, &height)) {
        json_object_set_new(body, "width", json_integer(width));
        json_object_set_new(body, "height", json_integer(height));
    }
    static const char *const numbers[] = {"user", "group", NULL};
    for (const char *const *name = numbers; *name != NULL; name++) {
        gint64 id = 0;
        const char *text = ctl_option(ctl, *name);
        if (text != NULL && !g_ascii_string_to_signed(text, 10, 0, G_MAXUINT32, &id, NULL)) {
            haw_fail(error, HAW_INVALID, "--%s takes a number, not '%s'", *name, text);
            json_decref(body);
            return NULL;
        }
        json_object_set_new(body, *name, json_integer(id));
    }
    const char *cwd = ctl_option(ctl, "cwd");
    json_object_set_new(body, "cwd", json_string(cwd != NULL ? cwd : ""));
    return body;
}

/* Runs a command in an instance and keeps its status. */
static bool
exec_command(Ctl *ctl, Rest *rest, const char *name, const json_t *command, GError **error)
{
    bool interactive = false;
    if (!wants_terminal(ctl, &interactive, error)) {
        return false;
    }
    g_autoptr(json_t) body = exec_body(ctl, command, interactive, error);
    if (body == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s/exec", name);
    g_autoptr(json_t) operation = rest_call(rest, "POST", path, body, NULL, error);
    if (operation == NULL) {
        return false;
    }
    g_auto(Session)
        session = {.interactive = interactive, .stdin_open = !ctl_flag(ctl, "disable-stdin")};
    if (!run_session(rest, operation, &session, error)) {
        return false;
    }
    if (!session.stdin_open && session.leave) {
        return true;
    }
    g_autoptr(json_t) end = wait_end(ctl, rest, operation, NULL, error);
    if (end == NULL) {
        return false;
    }
    const json_t *status = json_object_get(json_object_get(end, "metadata"), "return");
    const char *why = out_get(end, "err");
    if (status == NULL) {
        return haw_fail(error, HAW_FAILED, "%s", *why != '\0' ? why : "the command has no status");
    }
    if (*why != '\0') { /* it was not there, or is no program: 127 and 126, as a shell says it */
        g_printerr("hawser: exec in '%s': %s\n", name, why);
    }
    exit_status = (int) json_integer_value(status);
    return true;
}

bool
cmd_exec_run(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autoptr(json_t) command = json_array();
    for (char *const *word = ctl_args_from(ctl, 1); *word != NULL; word++) {
        if (json_array_append_new(command, json_string(*word)) != 0) {
            return haw_fail(error, HAW_INVALID, "the command is not UTF-8 text");
        }
    }
    return exec_command(ctl, rest, name, command, error) || haw_push(error, "exec in '%s'", name);
}

bool
cmd_exec_shell(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autoptr(json_t) command = json_pack("[sss]", "su", "-l", "root");
    return exec_command(ctl, rest, name, command, error) || haw_push(error, "shell in '%s'", name);
}

bool
cmd_exec_attach_console(Ctl *ctl, Rest *rest, const char *name, GError **error)
{
    int width = 80, height = 24;
    terminal_size(&width, &height);
    g_autofree char *path = rest_path("/1.0/instances/%s/console", name);
    g_autoptr(json_t) body =
        json_pack("{si si ss}", "width", width, "height", height, "type", "console");
    g_autoptr(json_t) operation = rest_call(rest, "POST", path, body, NULL, error);
    if (operation == NULL) {
        return haw_push(error, "console of '%s'", name);
    }
    g_printerr("To leave the console, press Ctrl-A and then q.\n");
    g_auto(Session) session = {.interactive = true, .escapes = true, .stdin_open = true};
    if (!run_session(rest, operation, &session, error)) {
        return haw_push(error, "console of '%s'", name);
    }
    g_printerr("\n");
    return true;
}

static bool
show_log(Rest *rest, const char *name, GError **error)
{
    g_autofree char *path = rest_path("/1.0/instances/%s/console", name);
    RestRaw raw = {.method = "GET", .path = path, .is_download = true, .fd_save = STDOUT_FILENO};
    return rest_raw(rest, &raw, NULL, NULL, NULL, error) ||
           haw_push(error, "console log of '%s'", name);
}

bool
cmd_exec_console(Ctl *ctl, GError **error)
{
    const char *name = NULL, *type = ctl_option(ctl, "type");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    if (ctl_flag(ctl, "show-log")) {
        return show_log(rest, name, error);
    }
    if (strcmp(type, "vga") == 0) {
        return cmd_vga(ctl, rest, name, error);
    }
    if (strcmp(type, "console") != 0) {
        return haw_fail(error, HAW_INVALID, "unknown type of console '%s': console or vga", type);
    }
    return cmd_exec_attach_console(ctl, rest, name, error);
}
