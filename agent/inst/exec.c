/* exec: a command in a running container, its streams on WebSockets or in files.
 * E1  Interactive: one pty, sockets "0" and "control", both within EXEC_CONNECT_MS. Otherwise three
 *     pipes and "0", "1", "2"; control is optional and may come later.
 * E2  The operation ends with the command: 'return' in its metadata is the exit code; 127 and 126
 *     make it fail in LXD's words as well.
 * E3  Nothing that the command wrote is lost: a pty is drained after the command's end until it is
 *     dry; pipes are read to their end, so what the command left in the background and still writes
 *     is waited for, as long as somebody listens.
 * E4  A closed control socket kills the command; so does an agent that cancels.
 * Fibers: the operation's own waits for the command; one for each stream, one for control. */
#include "agent/inst/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/api/ws.h"
#include "agent/inst/control.h"
#include "agent/inst/guestpty.h"
#include "agent/inst/inst.h"
#include "agent/inst/instdriver.h"
#include "base/fd.h"
#include "base/fiber.h"

#define EXEC_CONNECT_MS 5000
#define EXEC_BYTES      (64 * 1024)
#define EXEC_PATH       "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

typedef struct {
    Inst *inst; /* shares */
    char **argv;
    json_t *environment;
    char *cwd;
    guint uid, gid;
    int width, height;
    bool websocket, interactive, record;
} Job;

static void
job_free(gpointer data)
{
    Job *job = data;

    inst_unref(job->inst);
    g_strfreev(job->argv);
    json_decref(job->environment);
    g_free(job->cwd);
    g_free(job);
}

/* ---- streams ---- */

/* One way between a descriptor and a WebSocket, in a fiber of its own. */
typedef struct {
    Ws *ws; /* borrowed */
    int fd; /* owns */
    /* Borrowed: ends it once dry. For a pty the end of the command, for a pipe the client's (E3). */
    GCancellable *stop;
    bool done;
    Fiber *owner;
} Stream;

typedef struct {
    Ws *ws[3];
    Stream in, out[2];
    int out_count;
    GCancellable *gone, *closed;
} Streams;

static void
stream_end(Stream *stream)
{
    fd_close(&stream->fd);
    stream->done = true;
    fiber_wake(stream->owner);
}

static void
stream_out(void *data)
{
    Stream *stream = data;
    g_autofree guint8 *buffer = g_malloc(EXEC_BYTES);

    for (;;) {
        ssize_t n = read(stream->fd, buffer, EXEC_BYTES);
        if (n > 0) {
            if (!ws_send(stream->ws, WS_BINARY, buffer, (size_t) n)) {
                break;
            }
        } else if (n < 0 && errno == EAGAIN) {
            if (g_cancellable_is_cancelled(stream->stop) || ws_closed(stream->ws)) {
                break;
            }
            fiber_wait_fd(stream->fd, G_IO_IN, -1, stream->stop, NULL);
        } else if (n == 0 || errno != EINTR) { /* EIO: a pty without a slave */
            break;
        }
    }
    ws_send(stream->ws, WS_TEXT, "", 0); /* LXD's end of stream */
    stream_end(stream);
}

static bool
write_bytes(Stream *stream, const guint8 *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(stream->fd, bytes, size);
        if (n >= 0) {
            bytes += n;
            size -= (size_t) n;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(stream->fd, G_IO_OUT, -1, stream->stop, NULL)) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static void
stream_in(void *data)
{
    Stream *stream = data;

    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        WsKind kind = ws_recv(stream->ws, &bytes, &size);
        if (kind == WS_CLOSED) {
            break;
        }
        if (kind == WS_TEXT || size == 0) {
            fd_close(&stream->fd); /* end of input */
        } else if (stream->fd >= 0 && !write_bytes(stream, bytes, size)) {
            fd_close(&stream->fd);
        }
    }
    stream_end(stream);
}

static void
stream_start(Stream *stream, FiberFn fn, Ws *ws, int *fd, GCancellable *stop)
{
    *stream = (Stream){.ws = ws, .fd = fd_steal(fd), .stop = stop};
    stream->owner = fiber_self();
    fcntl(stream->fd, F_SETFL, fcntl(stream->fd, F_GETFL) | O_NONBLOCK);
    fiber_start("exec stream", fn, stream);
}

static void
streams_join(Streams *streams)
{
    for (int i = 0; i < streams->out_count; i++) {
        while (!streams->out[i].done) {
            fiber_suspend();
        }
    }
    for (int i = 0; i < 3; i++) {
        if (streams->ws[i] != NULL) {
            ws_close(streams->ws[i]);
        }
    }
    while (streams->in.ws != NULL && !streams->in.done) {
        fiber_suspend();
    }
}

static void
streams_clear(Streams *streams)
{
    for (int i = 0; i < 3; i++) {
        ws_free(g_steal_pointer(&streams->ws[i]));
    }
    g_clear_object(&streams->gone);
    g_clear_object(&streams->closed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Streams, streams_clear)

/* ---- running ---- */

typedef struct {
    int fds[3];  /* the command's */
    int near[3]; /* ours: where to write, what to read */
} Ends;

static void
ends_clear(Ends *ends)
{
    for (int i = 0; i < 3; i++) {
        fd_close(&ends->fds[i]);
        fd_close(&ends->near[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ends, ends_clear)

/* The guest has the terminal: its bytes are one stream. */
static bool
ends_stream(Ends *ends, GError **error)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return haw_fail_errno(error, errno, "make a socket pair");
    }
    for (int i = 0; i < 3; i++) {
        ends->fds[i] = i == 0 ? pair[1] : fcntl(pair[1], F_DUPFD_CLOEXEC, 3);
    }
    ends->near[0] = pair[0];
    ends->near[1] = fcntl(pair[0], F_DUPFD_CLOEXEC, 3);
    return true;
}

static bool
ends_pty(Job *job, Ends *ends, GError **error)
{
    int master = -1, slave = -1;

    if (driver_of_type(inst_type(job->inst))->own_terminals) {
        return ends_stream(ends, error);
    }

    if (!guestpty_open(inst_pid(job->inst), job->uid, &master, &slave, error)) {
        return false;
    }
    control_resize(master, job->width, job->height);
    for (int i = 0; i < 3; i++) {
        ends->fds[i] = i == 0 ? slave : fcntl(slave, F_DUPFD_CLOEXEC, 3);
    }
    ends->near[0] = master;
    ends->near[1] = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return true;
}

static bool
ends_pipes(Ends *ends, GError **error)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0) {
            return haw_fail_errno(error, errno, "make a pipe");
        }
        ends->fds[i] = pair[i == 0 ? 0 : 1];
        ends->near[i] = pair[i == 0 ? 1 : 0];
    }
    return true;
}

/* Without sockets: nothing in, and out to files or nowhere. */
static bool
ends_files(Operation *op, Job *job, Ends *ends, GError **error)
{
    static const char *const suffixes[] = {NULL, "stdout", "stderr"};
    g_autofree char *dir = inst_log_dir(job->inst);

    if (job->record && !fd_mkdir_p(dir, 0700, error)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        if (i == 0 || !job->record) {
            ends->fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        } else {
            g_autofree char *path = g_strdup_printf("%s/exec_%s.%s", dir, op_id(op), suffixes[i]);
            ends->fds[i] = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
        }
        if (ends->fds[i] < 0) {
            return haw_fail_errno(error, errno, "open the command's output");
        }
    }
    return true;
}

static bool
connect_sockets(Operation *op, Job *job, Streams *streams, GError **error)
{
    static const char *const names[] = {"0", "1", "2"};

    for (int i = 0; i < (job->interactive ? 1 : 3); i++) {
        streams->ws[i] = op_ws(op, names[i], EXEC_CONNECT_MS, error); /* E1 */
        if (streams->ws[i] == NULL) {
            return haw_push(error, "Timed out waiting for websockets to connect");
        }
    }
    return true;
}

static void
streams_start(Job *job, Streams *streams, Ends *ends)
{
    if (job->interactive) {
        streams->out_count = 1;
        stream_start(&streams->out[0], stream_out, streams->ws[0], &ends->near[1], streams->gone);
    } else {
        streams->out_count = 2;
        for (int i = 0; i < 2; i++) {
            stream_start(&streams->out[i], stream_out, streams->ws[i + 1], &ends->near[i + 1],
                         streams->closed);
        }
    }
    stream_start(&streams->in, stream_in, streams->ws[0], &ends->near[0], streams->gone);
}

static void
on_closed(GCancellable *closed, gpointer data)
{
    inst_exec_signal(data, SIGKILL); /* E4 */
}

static void
sink_signal(void *data, int number)
{
    inst_exec_signal(data, number);
}

static void
sink_resize(void *data, int width, int height)
{
    inst_exec_resize(data, width, height);
}

static bool
result(Operation *op, Job *job, int code, GError **error)
{
    json_t *metadata = json_pack("{s:i}", "return", code);

    if (job->record) {
        const char *name = inst_name(job->inst), *id = op_id(op);
        g_autofree char *out = g_strdup_printf("/1.0/instances/%s/logs/exec_%s.stdout", name, id);
        g_autofree char *err = g_strdup_printf("/1.0/instances/%s/logs/exec_%s.stderr", name, id);
        json_object_set_new(metadata, "output", json_pack("{s:s,s:s}", "1", out, "2", err));
    }
    op_update(op, metadata);
    if (code == 127) { /* E2 */
        return haw_fail(error, HAW_FAILED, "Command not found");
    }
    return code != 126 || haw_fail(error, HAW_FAILED, "Command not executable");
}

/* The command with its ends in place; the caller's sockets are connected. */
static bool
run_command(Operation *op, Job *job, Streams *streams, Ends *ends, int *ret_code, GError **error)
{
    g_autoptr(Control) control = NULL;
    haw_autofd int pidfd = -1;
    InstExecSpec spec = {.argv = (const char *const *) job->argv,
                         .environment = job->environment,
                         .cwd = job->cwd,
                         .uid = job->uid,
                         .gid = job->gid,
                         .fds = {ends->fds[0], ends->fds[1], ends->fds[2]},
                         .terminal = job->interactive,
                         .width = job->width,
                         .height = job->height};

    if (job->websocket) {
        control = control_start(op, job->interactive ? ends->near[0] : -1, -1, streams->closed);
    }
    g_autoptr(InstExec) exec = inst_exec_start(job->inst, &spec, error);
    if (exec == NULL) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        fd_close(&ends->fds[i]);
    }
    if (inst_exec_pid(exec) > 0) {
        pidfd = pidfd_open(inst_exec_pid(exec), 0);
    }
    gulong handler = g_cancellable_connect(streams->closed, G_CALLBACK(on_closed), exec, NULL);
    if (job->websocket) {
        ControlSink sink = {.signal = sink_signal, .resize = sink_resize, .data = exec};
        control_set_pidfd(control, pidfd);
        control_set_sink(control, &sink);
        streams_start(job, streams, ends);
    }
    bool ok = inst_exec_wait(exec, op_cancel(op), ret_code, error);
    if (!ok) {
        inst_exec_signal(exec, SIGKILL);
    }
    g_cancellable_disconnect(streams->closed, handler);
    g_cancellable_cancel(streams->gone);
    streams_join(streams);
    return ok;
}

static bool
exec_run(Operation *op, void *data, GError **error)
{
    Job *job = data;
    g_auto(Streams) streams = {.gone = g_cancellable_new(), .closed = g_cancellable_new()};
    g_auto(Ends) ends = {.fds = {-1, -1, -1}, .near = {-1, -1, -1}};
    int code = -1;

    if (job->websocket && !connect_sockets(op, job, &streams, error)) {
        return false;
    }
    bool ready = !job->websocket    ? ends_files(op, job, &ends, error)
                 : job->interactive ? ends_pty(job, &ends, error)
                                    : ends_pipes(&ends, error);
    return ready && run_command(op, job, &streams, &ends, &code, error) &&
           result(op, job, code, error);
}

/* ---- the request ---- */

/* Only on the volume's own file system: another that the container has mounted may never answer. */
static bool
inside(Inst *inst, const char *path)
{
    g_autofree char *root_path = g_strdup_printf("/proc/%d/root", (int) inst_pid(inst));
    haw_autofd int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    struct statx st = {0};

    if (root < 0 ||
        statx(root, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) < 0 ||
        (gint64) makedev(st.stx_dev_major, st.stx_dev_minor) != inst_root_device(inst)) {
        return false;
    }
    haw_autofd int found = (int) syscall(SYS_openat2, root, path, &how, sizeof how);
    return found >= 0;
}

static void
default_to(json_t *environment, const char *name, const char *value)
{
    if (json_object_get(environment, name) == NULL) {
        json_object_set_new(environment, name, json_string(value));
    }
}

static void
default_path(json_t *environment, Inst *inst)
{
    g_autoptr(GString) path = g_string_new(EXEC_PATH);

    if (json_object_get(environment, "PATH") != NULL) {
        return;
    }
    bool look = strcmp(inst_type(inst), "container") == 0; /* its root can be walked from here */
    if (look && inside(inst, "/snap")) {
        g_string_append(path, ":/snap/bin");
    }
    if (look && inside(inst, "/etc/NIXOS")) {
        g_string_append(path, ":/run/current-system/sw/bin");
    }
    json_object_set_new(environment, "PATH", json_string(path->str));
}

static bool
job_environment(Job *job, json_t *asked, GError **error)
{
    const char *name;
    json_t *value;

    job->environment = json_object();
    json_object_foreach (asked, name, value) {
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid environment value of \"%s\"", name);
        }
        json_object_set(job->environment, name, value);
    }
    json_object_foreach (inst_expanded_config(job->inst), name, value) {
        if (g_str_has_prefix(name, "environment.")) {
            default_to(job->environment, name + strlen("environment."), json_string_value(value));
        }
    }
    default_path(job->environment, job->inst);
    if (job->uid == 0) {
        default_to(job->environment, "HOME", "/root");
        default_to(job->environment, "USER", "root");
    }
    default_to(job->environment, "LANG", "C.UTF-8");
    if (job->cwd == NULL) {
        const char *home = json_string_value(json_object_get(job->environment, "HOME"));
        job->cwd = g_strdup(home != NULL ? home : "/");
    }
    return true;
}

static bool
read_command(Job *job, json_t *command, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    size_t i;
    json_t *word;

    json_array_foreach (command, i, word) {
        if (!json_is_string(word)) {
            return haw_fail(error, HAW_INVALID, "Invalid command");
        }
        g_ptr_array_add(argv, g_strdup(json_string_value(word)));
    }
    if (argv->len == 0 || ((char *) g_ptr_array_index(argv, 0))[0] == '\0') {
        return haw_fail(error, HAW_INVALID, "No command was given");
    }
    g_ptr_array_add(argv, NULL);
    job->argv = (char **) g_ptr_array_free(g_steal_pointer(&argv), FALSE);
    return true;
}

static bool
read_job(Job *job, json_t *body, GError **error)
{
    const char *cwd = json_string_value(json_object_get(body, "cwd"));
    json_t *user = json_object_get(body, "user"), *group = json_object_get(body, "group");

    job->websocket = json_is_true(json_object_get(body, "wait-for-websocket"));
    job->interactive = job->websocket && json_is_true(json_object_get(body, "interactive"));
    job->record = json_is_true(json_object_get(body, "record-output"));
    job->width = (int) json_integer_value(json_object_get(body, "width"));
    job->height = (int) json_integer_value(json_object_get(body, "height"));
    job->cwd = cwd != NULL && cwd[0] != '\0' ? g_strdup(cwd) : NULL;
    if ((user != NULL && (!json_is_integer(user) || json_integer_value(user) < 0)) ||
        (group != NULL && (!json_is_integer(group) || json_integer_value(group) < 0))) {
        return haw_fail(error, HAW_INVALID, "Invalid user or group");
    }
    job->uid = (guint) json_integer_value(user);
    job->gid = (guint) json_integer_value(group);
    return read_command(job, json_object_get(body, "command"), error) &&
           job_environment(job, json_object_get(body, "environment"), error);
}

static json_t *
job_metadata(Job *job)
{
    static const char *const pty[] = {"0", "control", NULL};
    static const char *const pipes[] = {"0", "1", "2", "control", NULL};
    json_t *metadata = job->websocket ? op_fds(job->interactive ? pty : pipes) : json_object();
    json_t *command = json_array();

    for (char **word = job->argv; *word != NULL; word++) {
        json_array_append_new(command, json_string(*word));
    }
    json_object_set_new(metadata, "command", command);
    json_object_set(metadata, "environment", job->environment);
    json_object_set_new(metadata, "interactive", json_boolean(job->interactive));
    return metadata;
}

static bool
handle_exec(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(Inst) inst =
        inst_find(agent->instances, req_project(req), req_arg(req, "name"), error);

    if (inst == NULL) {
        return false;
    }
    if (inst_state(inst) == INST_FROZEN) {
        return haw_fail(error, HAW_CONFLICT, "Instance is frozen");
    }
    if (inst_pid(inst) <= 0) {
        return haw_fail(error, HAW_CONFLICT, "Instance is not running");
    }
    Job *job = g_new0(Job, 1);
    job->inst = inst_ref(inst);
    if (!read_job(job, req_json(req), error)) {
        job_free(job);
        return false;
    }
    g_autofree char *url = g_strdup_printf("/1.0/instances/%s", inst_name(inst));
    json_t *metadata = job_metadata(job);
    event_lifecycle(agent, inst_project(inst), req_caller(req),
                    json_pack("{s:O}", "command", json_object_get(metadata, "command")),
                    "instance-exec", "%s", url);
    return op_reply(req, (OpSpec){.class = job->websocket ? OP_WEBSOCKET : OP_TASK,
                                  .description = "Executing command",
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s]}", "instances", url),
                                  .metadata = metadata,
                                  .fn = exec_run,
                                  .data = job,
                                  .free_data = job_free});
}

const Route exec_routes[] = {
    INST_ROUTES("POST", "/{name}/exec", handle_exec, ROUTE_BODY_JSON),
    {NULL},
};
