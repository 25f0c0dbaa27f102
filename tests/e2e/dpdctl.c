/* dpdctl SOCKET COMMAND…: speaks to a hawser-dpd, for the suites:
 *   up KEY=VALUE… [--- KEY=VALUE…]   partial Apply of these ports; keys as in dpd.proto (kind=vf)
 *   all [KEY=VALUE… --- …]           the whole Apply
 *   down ID…                         partial Apply that removes these
 *   cycle COUNT KEY=VALUE…           up, its device opened, down, COUNT times; prints how many steps failed
 *   list | status | flows | watch SECONDS
 *   await PID SECONDS                until the daemon PID answers, or is gone: status 0 and 1, 2 after the time
 *   exec ID PROGRAM…                 takes the character device, runs PROGRAM with it as descriptor 3
 *   hello LOWEST HIGHEST             another version's greeting
 *   garbage | fds                    bytes that are no frame; a descriptor that nobody asked for
 * A port is one line: id state kind netdev pf vf pci representor vdpa device, then the message of one
 * that failed. The exit status is that of the first failure. */
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/dpdwire.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STALE_EXIT = 11 }; /* of HAW_STALE */

struct task {
    char **args; /* behind the command */
    const char *socket, *command;
    DpdWire *wire;
    guint64 generation;
    int status;
};

static const char *const kinds[] = {"none", "veth", "tap", "vf", "vdpa", "vhost-user"};
static const char *const states[] = {"working", "ready", "failed", "gone"};

static void
fail(struct task *task, const GError *error)
{
    fprintf(stderr, "%s: %s\n", haw_code_name(haw_code(error)), error->message);
    task->status = task->status != 0 ? task->status : haw_code_exit(haw_code(error));
}

static const char *
dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void
print_observed(struct task *task, const Dpd__Observed *observed)
{
    for (size_t i = 0; i < observed->n_ports; i++) {
        const Dpd__PortState *port = observed->ports[i];
        printf("%s %s %s %s %s %d %s %s %s %s%s%s\n", port->id, states[port->state],
               kinds[port->kind], dash(port->netdev), dash(port->pf), port->vf, dash(port->pci),
               dash(port->representor), dash(port->vdpa), dash(port->device),
               port->message[0] != '\0' ? " " : "", port->message);
        fflush(stdout);
        if (port->state == DPD__STATE__FAILED && task->status == 0) {
            task->status = haw_code_exit((HawCode) port->code);
        }
    }
}

static void
print_status(const Dpd__Status *status)
{
    printf("backend %s generation %" G_GUINT64_FORMAT " pid %u\n", status->backend,
           status->generation, status->pid);
    for (size_t i = 0; i < status->n_claims; i++) {
        const Dpd__Claim *claim = status->claims[i];
        printf("claim %s %s %s %d\n", claim->vf, claim->port, claim->pf, claim->index);
    }
}

static Dpd__Frame *
ask(struct task *task, Dpd__Frame *frame, int *ret_fd)
{
    g_autoptr(GError) error = NULL;
    static guint64 id;
    frame->id = ++id;
    Dpd__Frame *answer = dpdwire_send(task->wire, frame, -1, &error)
                             ? dpdwire_receive(task->wire, ret_fd, 120000, NULL, &error)
                             : NULL;
    if (answer == NULL) {
        fail(task, error);
    } else if (answer->body_case == DPD__FRAME__BODY_FAILURE) {
        haw_fail(&error, (HawCode) answer->failure->code, "%s", answer->failure->message);
        fail(task, error);
        g_clear_pointer(&answer, dpdwire_frame_free);
    }
    return answer;
}

static bool
hello(struct task *task, guint lowest, guint highest)
{
    Dpd__Hello mine = DPD__HELLO__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    mine.lowest = lowest;
    mine.highest = highest;
    mine.software = (char *) "dpdctl";
    frame.body_case = DPD__FRAME__BODY_HELLO;
    frame.hello = &mine;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    if (answer != NULL) {
        task->generation = answer->hello->generation;
    }
    return answer != NULL;
}

/* ---- ports ---- */

static guint
word_in(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], word) == 0) {
            return (guint) i;
        }
    }
    return 99;
}

static void
add_parent(Dpd__Port *port, const char *value)
{
    port->parents = g_renew(char *, port->parents, port->n_parents + 1);
    port->parents[port->n_parents++] = g_strdup(value);
}

static void
set_key(Dpd__Port *port, const char *key, const char *value)
{
    static const char *const choices[] = {"as-is", "off", "on"};
    const struct {
        const char *key;
        char **text;
    } texts[] = {
        {"id", &port->id},         {"netdev", &port->netdev}, {"iface_id", &port->iface_id},
        {"bridge", &port->bridge}, {"mac", &port->mac},       {"path", &port->path},
        {"peer", &port->peer}};
    const struct {
        const char *key;
        guint *number;
    } numbers[] = {{"mtu", &port->mtu}, {"vlan", &port->vlan}, {"numa", &port->numa_plus_one}};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (strcmp(texts[i].key, key) == 0) {
            *texts[i].text = g_strdup(value);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (strcmp(numbers[i].key, key) == 0) {
            *numbers[i].number = (guint) atoi(value) + (strcmp(key, "numa") == 0);
        }
    }
    if (strcmp(key, "kind") == 0) {
        port->kind = (Dpd__Kind) word_in(value, kinds, G_N_ELEMENTS(kinds));
    } else if (strcmp(key, "parent") == 0) {
        add_parent(port, value);
    } else if (strcmp(key, "spoof_check") == 0) {
        port->spoof_check = (Dpd__Choice) word_in(value, choices, 3);
    } else if (strcmp(key, "trust") == 0) {
        port->trust = (Dpd__Choice) word_in(value, choices, 3);
    } else if (strcmp(key, "plain") == 0) {
        port->plain = atoi(value) != 0;
    } else if (strcmp(key, "vfio") == 0) {
        port->vfio = atoi(value) != 0;
    }
}

/* One that leaks: the program ends with its answer. */
static Dpd__Port *
port_new(void)
{
    Dpd__Port *port = g_new0(Dpd__Port, 1);
    dpd__port__init(port);
    return port;
}

static void
do_apply(struct task *task)
{
    Dpd__Apply apply = DPD__APPLY__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GPtrArray) ports = g_ptr_array_new();
    bool down = strcmp(task->command, "down") == 0;
    for (char **arg = task->args; *arg != NULL && !down; arg++) {
        char *equals = strchr(*arg, '=');
        if (ports->len == 0 || strcmp(*arg, "---") == 0) {
            g_ptr_array_add(ports, port_new());
        }
        if (equals != NULL) {
            g_autofree char *key = g_strndup(*arg, (gsize) (equals - *arg));
            set_key(ports->pdata[ports->len - 1], key, equals + 1);
        }
    }
    apply.partial = strcmp(task->command, "all") != 0;
    apply.generation = task->generation + 1;
    apply.ports = (Dpd__Port **) ports->pdata;
    apply.n_ports = ports->len;
    apply.remove = down ? task->args : NULL;
    apply.n_remove = down ? g_strv_length(task->args) : 0;
    frame.body_case = DPD__FRAME__BODY_APPLY;
    frame.apply = &apply;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    /* Another client was quicker: its generation is the one to be above of. */
    for (int left = 20; answer == NULL && task->status == STALE_EXIT && left > 0; left--) {
        task->status = 0;
        apply.generation += 1;
        answer = ask(task, &frame, NULL);
    }
    if (answer != NULL) {
        print_observed(task, answer->observed);
    }
}

/* One change, above whatever generation others have reached; the state of its port. */
static Dpd__State
change(struct task *task, Dpd__Apply *apply)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_APPLY;
    frame.apply = apply;
    apply->partial = true;
    for (int left = 200; left > 0; left--) {
        apply->generation = ++task->generation;
        task->status = 0;
        g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
        if (answer != NULL) {
            return answer->observed->ports[0]->state;
        }
        if (task->status != STALE_EXIT) {
            break;
        }
    }
    return DPD__STATE__FAILED;
}

static bool
open_device(struct task *task, char *id)
{
    Dpd__Take take = DPD__TAKE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    haw_autofd int fd = -1;
    take.id = id;
    frame.body_case = DPD__FRAME__BODY_TAKE;
    frame.take = &take;
    g_autoptr(DpdFrame) answer = ask(task, &frame, &fd);
    return answer != NULL && fd >= 0;
}

static void
do_cycle(struct task *task)
{
    Dpd__Port *port = port_new();
    int failed = 0;
    for (char **arg = task->args + 1; *arg != NULL; arg++) {
        char *equals = strchr(*arg, '=');
        g_autofree char *key = equals != NULL ? g_strndup(*arg, (gsize) (equals - *arg)) : NULL;
        if (key != NULL) {
            set_key(port, key, equals + 1);
        }
    }
    for (int left = atoi(task->args[0]); left > 0; left--) {
        Dpd__Apply up = DPD__APPLY__INIT, down = DPD__APPLY__INIT;
        up.ports = &port;
        up.n_ports = 1;
        down.remove = &port->id;
        down.n_remove = 1;
        failed += change(task, &up) != DPD__STATE__READY;
        failed += port->kind == DPD__KIND__VDPA && !open_device(task, port->id);
        failed += change(task, &down) != DPD__STATE__GONE;
    }
    printf("%d\n", failed);
    task->status = failed > 0;
}

static void
do_list(struct task *task)
{
    Dpd__List nothing = DPD__LIST__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_LIST;
    frame.list = &nothing;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    if (answer != NULL) {
        print_observed(task, answer->observed);
        task->status = 0;
    }
}

static void
do_status(struct task *task)
{
    Dpd__Status nothing = DPD__STATUS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_STATUS;
    frame.status = &nothing;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    if (answer != NULL) {
        print_status(answer->status);
    }
}

static void
do_flows(struct task *task)
{
    Dpd__FastFlows all = DPD__FAST_FLOWS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_FAST_FLOWS;
    frame.fast_flows = &all;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    for (size_t i = 0; answer != NULL && i < answer->fast_flows->n_flows; i++) {
        const Dpd__FastFlow *flow = answer->fast_flows->flows[i];
        printf("flow %s %s:%u %s:%u state=%s offloaded=%d\n", flow->port, flow->source,
               flow->source_port, flow->destination, flow->destination_port, flow->state,
               flow->offloaded);
    }
}

static void
do_watch(struct task *task)
{
    Dpd__Watch nothing = DPD__WATCH__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_WATCH;
    frame.watch = &nothing;
    g_autoptr(DpdFrame) answer = ask(task, &frame, NULL);
    gint64 end_us = g_get_monotonic_time() + atoi(task->args[0]) * G_USEC_PER_SEC;
    while (answer != NULL && g_get_monotonic_time() < end_us) {
        g_autoptr(DpdFrame) event = dpdwire_receive(
            task->wire, NULL, (end_us - g_get_monotonic_time()) / 1000 + 1, NULL, NULL);
        if (event == NULL) {
            break;
        }
        print_observed(task, event->observed);
        task->status = 0;
    }
}

static void
do_exec(struct task *task)
{
    Dpd__Take take = DPD__TAKE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    int fd = -1;
    take.id = task->args[0];
    frame.body_case = DPD__FRAME__BODY_TAKE;
    frame.take = &take;
    g_autoptr(DpdFrame) answer = ask(task, &frame, &fd);
    if (answer == NULL) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 3);
        execvp(task->args[1], task->args + 1);
        _exit(127);
    }
    fd_close(&fd);
    int status = 0;
    waitpid(pid, &status, 0);
    task->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void
do_hello(struct task *task)
{
    if (hello(task, (guint) atoi(task->args[0]), (guint) atoi(task->args[1]))) {
        puts("hello");
    }
}

static void
do_foreign(struct task *task)
{
    g_autoptr(GError) error = NULL;
    Dpd__Failure odd = DPD__FAILURE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    haw_autofd int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool fds = strcmp(task->command, "fds") == 0;
    frame.body_case = fds ? DPD__FRAME__BODY_FAILURE : DPD__FRAME__BODY__NOT_SET;
    frame.failure = fds ? &odd : NULL;
    frame.id = 1;
    if (!dpdwire_send(task->wire, &frame, fds ? null : -1, &error)) {
        fail(task, error);
        return;
    }
    g_autoptr(DpdFrame) answer = dpdwire_receive(task->wire, NULL, 5000, NULL, &error);
    puts(answer == NULL && haw_code(error) == HAW_UNAVAILABLE ? "closed" : "open");
}

static const struct {
    const char *command;
    void (*run)(struct task *task);
    int args;
    bool silent; /* says no hello of its own */
} commands[] = {
    {"up", do_apply, 1, false},      {"all", do_apply, 0, false},
    {"down", do_apply, 1, false},    {"list", do_list, 0, false},
    {"status", do_status, 0, false}, {"watch", do_watch, 1, false},
    {"exec", do_exec, 2, false},     {"cycle", do_cycle, 2, false},
    {"hello", do_hello, 2, true},    {"garbage", do_foreign, 0, true},
    {"fds", do_foreign, 0, false},   {"flows", do_flows, 0, false},
};

/* A dead one that its shell has not waited for is gone, too. */
static bool
lives(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid), *text = NULL;
    const char *state = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    return state != NULL && strncmp(state, ") Z", 3) != 0;
}

/* One process that asks again and again, as starting one costs a second in the lab. */
static void
await_daemon(struct task *task)
{
    gint64 end_us = g_get_monotonic_time() + atoi(task->args[1]) * G_USEC_PER_SEC;
    task->status = 2;
    while (task->status == 2 && g_get_monotonic_time() < end_us) {
        task->wire = dpdwire_connect(task->socket, NULL);
        if (task->wire != NULL && hello(task, DPDWIRE_LOWEST, DPDWIRE_HIGHEST)) {
            task->status = 0;
        } else if (!lives(task->args[0])) {
            task->status = 1;
        } else {
            task->status = 2;
            fiber_sleep_ms(20, NULL, NULL);
        }
        g_clear_pointer(&task->wire, dpdwire_free);
    }
}

static void
run(void *data)
{
    struct task *task = data;
    g_autoptr(GError) error = NULL;
    if (strcmp(task->command, "await") == 0 && g_strv_length(task->args) == 2) {
        await_daemon(task);
        return;
    }
    task->wire = dpdwire_connect(task->socket, &error);
    if (task->wire == NULL) {
        fail(task, error);
        return;
    }
    task->status = 2;
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].command, task->command) == 0 &&
            (int) g_strv_length(task->args) >= commands[i].args) {
            task->status = 0;
            if (commands[i].silent || hello(task, DPDWIRE_LOWEST, DPDWIRE_HIGHEST)) {
                commands[i].run(task);
            }
        }
    }
    dpdwire_free(task->wire);
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: dpdctl SOCKET COMMAND…\n");
        return 2;
    }
    struct task task = {.args = argv + 3, .socket = argv[1], .command = argv[2]};
    fiber_start("dpdctl", run, &task);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    return task.status;
}
