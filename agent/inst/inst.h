/* inst.h: instances: their rows, their states, the one queue of operations that each has.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "agent/store/pool.h"
#include "base/fiber.h"

typedef struct Inst Inst;

typedef enum {
    INST_STOPPED,
    INST_STARTING,
    INST_RUNNING,
    INST_FREEZING,
    INST_FROZEN,
    INST_THAWING,
    INST_STOPPING,
    INST_ERROR,
} InstState;

InstTable *inst_table_new(Agent *agent);
void inst_table_free(InstTable *table);
/* At start: loads rows, undoes or finishes what a crash left, adopts running containers, then
 * (in the background) autostarts by priority. Yields. */
bool inst_table_start(InstTable *table, GError **error);
/* Ordered stop of every instance (shutdown); a plain restart leaves them running. Yields. */
void inst_table_stop_all(InstTable *table);

/* A reference; NOT_FOUND "Instance not found". 'name' may not name a snapshot. */
Inst *inst_find(InstTable *table, const char *project, const char *name, GError **error);
Inst *inst_ref(Inst *inst);
void inst_unref(Inst *inst);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Inst, inst_unref)

const char *inst_name(Inst *inst);
const char *inst_project(Inst *inst);
const char *inst_type(Inst *inst); /* "container", "virtual-machine" */
gint64 inst_id(Inst *inst);
InstState inst_state(Inst *inst);
pid_t inst_pid(Inst *inst); /* of init on the host; 0 unless running or frozen */
/* Borrowed; replaced by each change, so take a reference across anything that yields. */
json_t *inst_config(Inst *inst);          /* local */
json_t *inst_devices(Inst *inst);         /* local */
json_t *inst_profiles(Inst *inst);        /* names, in order */
json_t *inst_expanded_config(Inst *inst); /* profiles, then local */
json_t *inst_expanded_devices(Inst *inst);
/* config value, expanded; NULL when absent. */
const char *inst_get(Inst *inst, const char *key);
bool inst_get_bool(Inst *inst, const char *key, bool fallback);
/* The instance's volume on the pool of its root disk; the strings live as long as the instance and
 * its root device. */
bool inst_volume(Inst *inst, Vol *ret_vol, GError **error);
/* <dir>/logs/NAME and so on; caller frees. */
char *inst_log_dir(Inst *inst);
char *inst_run_dir(Inst *inst); /* devices, proxies' pid files */
/* Changes volatile (or any) local keys in row and memory; NULL values remove. 'changes' is stolen.
 * Yields. */
bool inst_set_config(Inst *inst, json_t *changes, GError **error);

/* One operation at a time: the instance's queue. g_auto(FiberHold) works with it. */
FiberLock *inst_queue(Inst *inst);

/* All instances of a project (NULL: of all), sorted by project and name; elements are referenced. */
GPtrArray *inst_list(InstTable *table, const char *project);
/* URLs of instances and profiles for which match(expanded config, expanded devices) is true, for
 * "used_by"; a new array. match is given profiles' own devices as well. Yields. */
typedef bool (*InstUses)(const char *project, json_t *config, json_t *devices, void *data);
json_t *inst_used_by(InstTable *table, InstUses uses, void *data);
/* A profile changed: re-expands and applies live to the running ones; failures are collected. Yields. */
bool inst_profile_changed(InstTable *table, const char *project, const char *profile,
                          GError **error);
/* A profile got another name: those that use it know it by that now. Rows go by id. Yields. */
void inst_profile_renamed(InstTable *table, const char *project, const char *profile,
                          const char *new_name);
extern const Route instance_routes[];
/* A route below all three names that LXD has for instances. */
#define INST_ROUTES(method, tail, fn, flags)                                                       \
    {method, "/1.0/instances" tail, fn, flags}, {method, "/1.0/containers" tail, fn, flags},       \
    {                                                                                              \
        method, "/1.0/virtual-machines" tail, fn, flags                                            \
    }

/* ---- running inside, by the instance's driver (instdriver.h): exec, files, console ---- */
/* Starts argv inside; fds[0..2] become its stdio (of a guest with terminals of its own: one stream for
 * all three when 'terminal'). Yields. */
typedef struct InstExec InstExec;
typedef struct {
    const char *const *argv;
    json_t *environment; /* name → value, complete */
    const char *cwd;
    guint uid, gid;
    int fds[3];
    bool terminal;     /* fds are one pty's slave: make it the controlling terminal */
    int width, height; /* of the terminal, 0: unknown */
} InstExecSpec;
InstExec *inst_exec_start(Inst *inst, const InstExecSpec *spec, GError **error);
pid_t inst_exec_pid(InstExec *exec); /* 0: it has none here */
void inst_exec_signal(InstExec *exec, int number);
void inst_exec_resize(InstExec *exec, int width, int height);
/* Exit code as a shell's: 128+n for a signal. Yields. */
bool inst_exec_wait(InstExec *exec, GCancellable *cancel, int *ret_code, GError **error);
void inst_exec_free(InstExec *exec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InstExec, inst_exec_free)
/* The pty master of the container's console, read-write; liblxc keeps it ours until *ret_token is
 * closed. The caller closes both; -1 and BUSY while somebody else has the console. Yields. */
int inst_console_open(Inst *inst, int *ret_token, GError **error);
/* The console log ring's content; caller frees. */
char *inst_console_log(Inst *inst, size_t *ret_size, GError **error);
bool inst_console_clear(Inst *inst, GError **error);
/* Of containers. Descriptors for the instance's root as seen from inside: the running one's /proc/PID/root
 * and user namespace, or the mounted volume's rootfs while it is stopped. Call done after use. */
typedef struct {
    int root_fd;   /* O_PATH of "/" */
    pid_t pid;     /* 0 when stopped */
    json_t *idmap; /* [{"Isuid","Isgid","Hostid","Nsid","Maprange"}…] how ids on disk are read */
    bool mounted;  /* we mounted the volume */
} InstRoot;
bool inst_root_open(Inst *inst, InstRoot *ret_root, GError **error);
void inst_root_close(Inst *inst, InstRoot *root);
/* The device number of its volume's root, as the host sees it; 0: unknown. What a container shows as its root may be
 * a file system of its own, which need not answer. */
gint64 inst_root_device(Inst *inst);
