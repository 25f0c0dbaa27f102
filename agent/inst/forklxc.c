/* The short-lived processes in which liblxc may fork: attach, device rules, and what they share with the
 * one that starts (forkstart.c).
 * K1  They run single-threaded, in a process of their own, and hold nothing of the daemon's.
 * K2  PATH has apparmor_parser, which liblxc calls, but not newuidmap, which it would: that knows
 *     /etc/subuid only, where the map that the daemon chose can be written directly by root; and it saves
 *     two processes a start. Hooks get a whole PATH (lxcconf.c).
 * K3  Whatever a container's volume brings as "config" is thrown away: only our file counts.
 * K4  liblxc 5.0 lets the transient and the attached process write to one socket in any order where no LSM
 *     keeps them apart and system calls are intercepted: then the attaching fails, now and then, while
 *     the command goes on. So a command waits for our word, and a failed attaching is done again.
 * K5  lxc_attach() writes which namespaces it took into its options, without those that were shared at the
 *     start (forkstart.c): a second attaching with the same options left the command in the host's user
 *     namespace, with all of root's capabilities. Each attaching has options of its own, and no command
 *     gets the word before its namespaces have been found to be the container's.
 * Called by fork.c of hawserd for 'forkexec NAME LXCPATH CONF' and 'forkcgroup NAME LXCPATH CONF ITEM VALUE' (device rules of cgroup v2: inject.c),
 * see lxc.c for the descriptors that forkexec expects. */
#include "agent/inst/instdriver.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <lxc/attach_options.h>
#include <lxc/lxccontainer.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Descriptors of forkexec, as lxc.c passes them. */
enum { ATTACH_TRIES = 10 };
enum { EXEC_STDIN = 3, EXEC_STDOUT, EXEC_STDERR, EXEC_PID, EXEC_SPEC };

struct lxc_container *
forklxc_load(char **argv, GError **error)
{
    setenv("PATH", "/usr/sbin:/sbin", 1); /* K2 */
    struct lxc_container *c = lxc_container_new(argv[1], argv[2]);
    if (c == NULL) {
        haw_fail(error, HAW_FAILED, "container '%s' can't be loaded", argv[1]);
        return NULL;
    }
    c->clear_config(c); /* K3 */
    if (!c->load_config(c, argv[3])) {
        haw_fail(error, HAW_FAILED, "configuration '%s' is refused by liblxc", argv[3]);
        lxc_container_put(c);
        return NULL;
    }
    return c;
}

/* The same for a helper whose last words are on stderr. */
static struct lxc_container *
load(char **argv)
{
    g_autoptr(GError) error = NULL;
    struct lxc_container *c = forklxc_load(argv, &error);
    if (c == NULL) {
        fprintf(stderr, "%s\n", error->message);
    }
    return c;
}

int
forklxc_cgroup(int argc, char **argv)
{
    if (argc != 6) {
        return 2;
    }
    struct lxc_container *c = load(argv);
    bool ok = c != NULL && c->set_cgroup_item(c, argv[4], argv[5]);
    if (!ok) {
        fprintf(stderr, "liblxc refused %s '%s'\n", argv[4], argv[5]);
    }
    if (c != NULL) {
        lxc_container_put(c);
    }
    return ok ? 0 : 1;
}

struct command {
    char **argv;
    bool terminal;
    int go[2]; /* K4: a byte, once the attaching has succeeded */
};

/* Inside the container, with its ids and descriptors in place. */
static int
run_inside(void *data)
{
    struct command *command = data;
    char word;
    close(command->go[1]);
    if (read(command->go[0], &word, 1) != 1) {
        return 1;
    }
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (command->terminal) {
        ioctl(STDIN_FILENO, TIOCSCTTY, 1);
    }
    execvp(command->argv[0], command->argv);
    int code = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
    dprintf(STDERR_FILENO, "Error: %s: %s\n", command->argv[0], strerror(errno));
    return code;
}

/* K5 */
static bool
is_inside(pid_t init, pid_t pid)
{
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct stat theirs, its;
        g_autofree char *inits = g_strdup_printf("/proc/%d/ns/%s", (int) init, kinds[i]);
        g_autofree char *own = g_strdup_printf("/proc/%d/ns/%s", (int) pid, kinds[i]);
        if (stat(inits, &theirs) < 0 || stat(own, &its) < 0 || theirs.st_ino != its.st_ino) {
            return false;
        }
    }
    return true;
}

/* K4, K5. The pid, -1. */
static pid_t
attach(struct lxc_container *c, struct command *command, const lxc_attach_options_t *options)
{
    for (int left = ATTACH_TRIES; left > 0; left--) {
        lxc_attach_options_t own = *options;
        pid_t pid = -1;
        if (pipe2(command->go, O_CLOEXEC) < 0) {
            return -1;
        }
        bool ok = c->attach(c, run_inside, command, &own, &pid) == 0 && pid > 0 &&
                  is_inside(c->init_pid(c), pid) && write(command->go[1], "", 1) == 1;
        close(command->go[0]);
        close(command->go[1]);
        if (ok) {
            return pid;
        }
    }
    return -1;
}

static char **
strings_of(json_t *list)
{
    size_t count = json_array_size(list);
    char **strings = g_new0(char *, count + 1);
    for (size_t i = 0; i < count; i++) {
        strings[i] = g_strdup(json_string_value(json_array_get(list, i)));
    }
    return strings;
}

static char **
environment_of(json_t *map)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    const char *name;
    json_t *value;
    json_object_foreach (map, name, value) {
        const char *text = json_string_value(value);
        g_ptr_array_add(list, g_strdup_printf("%s=%s", name, text != NULL ? text : ""));
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

static int
code_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int
forklxc_exec(int argc, char **argv)
{
    for (int fd = EXEC_STDIN; fd <= EXEC_SPEC; fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    lseek(EXEC_SPEC, 0, SEEK_SET);
    json_t *spec = json_loadfd(EXEC_SPEC, 0, NULL);
    if (argc != 4 || spec == NULL) {
        return 2;
    }
    struct lxc_container *c = load(argv);
    if (c == NULL) {
        return 1;
    }

    struct command command = {
        .argv = strings_of(json_object_get(spec, "argv")),
        .terminal = json_is_true(json_object_get(spec, "terminal")),
    };
    char **env = environment_of(json_object_get(spec, "environment"));
    const char *cwd = json_string_value(json_object_get(spec, "cwd"));
    lxc_attach_options_t options = LXC_ATTACH_OPTIONS_DEFAULT;
    options.env_policy = LXC_ATTACH_CLEAR_ENV;
    options.extra_env_vars = env;
    options.initial_cwd = cwd != NULL && *cwd != '\0' ? g_strdup(cwd) : g_strdup("/");
    options.uid = (uid_t) json_integer_value(json_object_get(spec, "uid"));
    options.gid = (gid_t) json_integer_value(json_object_get(spec, "gid"));
    options.stdin_fd = EXEC_STDIN;
    options.stdout_fd = EXEC_STDOUT;
    options.stderr_fd = EXEC_STDERR;
    pid_t pid = attach(c, &command, &options);
    if (pid <= 0) {
        fprintf(stderr, "attach failed\n");
        return 1;
    }

    dprintf(EXEC_PID, "%d\n", (int) pid);
    close(EXEC_PID);
    close(EXEC_STDIN);
    close(EXEC_STDOUT);
    close(EXEC_STDERR);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return 1;
        }
    }
    return code_of(status);
}
