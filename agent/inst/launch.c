/* The agent's end of a container's start: a helper (forkstart.c) that is there before it is needed.
 * P1  The helper has its own end of the channel only: when the agent goes away before the word to go, the
 *     helper ends and nothing was started; after that word the start goes on without us, and the next
 *     agent adopts the container.
 * P2  It is reaped by a fiber of its own: its last words are its answer, not its exit.
 * Called by start.c. Main loop. */
#include "agent/inst/launch.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inst/forkserve.h"
#include "agent/inst/idmap.h"
#include "agent/inst/record.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

enum { NETNS_WAIT_MS = 30000 };

struct Launch {
    Inst *inst;         /* borrowed */
    int channel, netns; /* owned; 0: no namespace */
    bool inside;
};

static char *
map_text(const GArray *map, bool uid)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < map->len; i++) {
        const IdmapEntry *e = &g_array_index(map, IdmapEntry, i);
        if (uid ? e->uid : e->gid) {
            g_string_append_printf(
                text, "%" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT "\n", e->inside,
                e->host, e->count);
        }
    }
    return g_string_free(text, FALSE);
}

static json_t *
request_of(const GArray *map, bool inside)
{
    json_t *request = json_pack("{s:b}", "inside", (int) inside);
    if (map->len > 0) {
        g_autofree char *uids = map_text(map, true), *gids = map_text(map, false);
        json_object_set_new(request, "uid_map", json_string(uids));
        json_object_set_new(request, "gid_map", json_string(gids));
    }
    return request;
}

static void
reap(void *data)
{
    int status;
    fiber_wait_pid(GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

Launch *
launch_new(Inst *inst, const char *conf_path, const GArray *map, bool inside, GError **error)
{
    int pair[2];
    g_autofree char *path = agent_path(inst->agent, "containers");
    const char *argv[] = {inst->agent->exe, "forkstart", inst->object, path, conf_path, NULL};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "open a channel to 'forkstart'");
        return NULL;
    }
    haw_autofd int ours = pair[0];
    haw_autofd int theirs = pair[1];
    pid_t helper = proc_spawn(argv, NULL, NULL, &theirs, 1, error);
    if (helper < 0) {
        return NULL;
    }
    fiber_start("launch-reap", reap, GINT_TO_POINTER(helper)); /* P2 */
    json_t *request = request_of(map, inside);
    forkserve_send(ours, request, -1); /* a failure shows as the missing answer */
    json_decref(request);

    Launch *launch = g_new0(Launch, 1);
    launch->inst = inst;
    launch->channel = fd_steal(&ours);
    launch->inside = inside;
    return launch;
}

/* An answer without an error, a new reference; NULL. Yields. */
static json_t *
take_answer(Launch *launch, gint64 wait_ms, int *ret_fd, GError **error)
{
    if (!fiber_wait_fd(launch->channel, G_IO_IN, wait_ms, NULL, error)) {
        return NULL;
    }
    json_t *reply = forkserve_receive(launch->channel, ret_fd);
    const char *text = json_string_value(json_object_get(reply, "error"));
    if (reply == NULL || text != NULL) {
        haw_fail(error, HAW_FAILED, "%s",
                 text != NULL ? text : "the helper ended without an answer");
        json_decref(reply);
        return NULL;
    }
    return reply;
}

int
launch_netns(Launch *launch, GError **error)
{
    int fd = -1;
    if (!launch->inside || launch->netns > 0) {
        return launch->netns;
    }
    json_t *reply = take_answer(launch, NETNS_WAIT_MS, &fd, error);
    json_decref(reply);
    if (reply == NULL) {
        fd_close(&fd);
        haw_push(error, "Failed to run: forkstart %s", launch->inst->object);
        return -1;
    }
    launch->netns = fd;
    return fd;
}

/* The last ERROR line of liblxc's log says more than "start failed". */
static char *
log_reason(Inst *inst)
{
    g_autofree char *path = agent_path(inst->agent, "logs/%s/lxc.log", inst->object);
    g_autofree char *text = fd_read_file(path, 16 * 1024 * 1024, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        const char *at = strstr(*line, " ERROR ");
        const char *text_at = at != NULL ? strstr(at, " - ") : NULL;
        const char *reason = text_at != NULL ? strstr(text_at + 3, " - ") : NULL;
        /* Mounts that are optional fail loudly, too. */
        if (reason != NULL && strstr(*line, "mkdir_p") == NULL &&
            strstr(*line, "create_dir_file") == NULL) {
            return g_strdup(reason + 3);
        }
    }
    return NULL;
}

bool
launch_go(Launch *launch, pid_t *ret_pid, GError **error)
{
    int fd = -1;
    g_autoptr(GError) local = NULL;
    json_t *go = json_object();
    forkserve_send(launch->channel, go, -1);
    json_decref(go);
    json_t *reply = take_answer(launch, -1, &fd, &local);
    fd_close(&fd);
    if (reply == NULL) {
        g_autofree char *reason = log_reason(launch->inst);
        return haw_fail(error, HAW_FAILED, "Failed to run: forkstart %s: %s", launch->inst->object,
                        reason != NULL ? reason : local->message);
    }
    pid_t pid = (pid_t) json_integer_value(json_object_get(reply, "pid"));
    json_decref(reply);
    if (pid <= 0) {
        return haw_fail(error, HAW_FAILED, "The container stopped right after its start");
    }
    *ret_pid = pid;
    return true;
}

void
launch_free(Launch *launch)
{
    if (launch != NULL) {
        fd_close(&launch->channel);
        if (launch->netns > 0) {
            fd_close(&launch->netns);
        }
        g_free(launch);
    }
}
