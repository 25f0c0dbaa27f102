/* What is asked of a running poll-mode process, and how its answers are printed: one thing a line, words
 * first, then name=number. Called by main.c. */
#include "dataplane/poll/pollask.h"

#include "base/fiber.h"
#include "proto/dpdwire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct task {
    const char *dir;
    char **args;
    int status;
    GMainLoop *loop;
};

/* ---- answers ---- */

static void
print_core(const Dpd__PollCore *core)
{
    guint64 total = 0, half = 0, most = 0, sum = 0;
    printf("core %u loops=%" G_GUINT64_FORMAT " received=%" G_GUINT64_FORMAT
           " fast=%" G_GUINT64_FORMAT " slow=%" G_GUINT64_FORMAT " delivered=%" G_GUINT64_FORMAT
           " swallowed=%" G_GUINT64_FORMAT " copies=%" G_GUINT64_FORMAT " unsent=%" G_GUINT64_FORMAT
           " unroutable=%" G_GUINT64_FORMAT " naps=%" G_GUINT64_FORMAT
           " napped_ms=%" G_GUINT64_FORMAT " busy_ms=%" G_GUINT64_FORMAT "\n",
           core->cpu, core->loops, core->received, core->fast, core->slow, core->delivered,
           core->swallowed, core->copies, core->unsent, core->unroutable, core->naps,
           core->napped_ns / 1000000, core->busy_ns / 1000000);
    for (size_t i = 0; i < core->n_reasons; i++) {
        printf("reason %u %s=%s\n", core->cpu, core->reasons[i]->key, core->reasons[i]->value);
    }
    for (size_t i = 0; i + 1 < core->n_latency; i += 2) {
        total += core->latency[i + 1];
    }
    for (size_t i = 0; i + 1 < core->n_latency; i += 2) {
        sum += core->latency[i + 1];
        half = half == 0 && sum * 2 >= total ? core->latency[i] : half;
        most = most == 0 && sum * 100 >= total * 99 ? core->latency[i] : most;
    }
    printf("latency %u frames=%" G_GUINT64_FORMAT " p50_ns=%" G_GUINT64_FORMAT
           " p99_ns=%" G_GUINT64_FORMAT "\n",
           core->cpu, total, half, most);
}

static void
print_status(const Dpd__PollStatus *status)
{
    printf("poll pid=%u signatures=%s flows=%u limit=%u table_bytes=%" G_GUINT64_FORMAT
           " offloaded=%u\n",
           status->pid, status->signatures, status->flows, status->flows_limit, status->table_bytes,
           status->offloaded);
    for (size_t i = 0; i < status->n_ports; i++) {
        const Dpd__PollPortState *port = status->ports[i];
        printf("port %s nic=%u device=%s slow=%s interrupts=%d flows=%s rules=%u "
               "made=%" G_GUINT64_FORMAT " refused=%" G_GUINT64_FORMAT
               " forwarded=%" G_GUINT64_FORMAT " received=%" G_GUINT64_FORMAT
               " sent=%" G_GUINT64_FORMAT " missed=%" G_GUINT64_FORMAT "\n",
               port->id, port->nic, port->device, port->slow[0] != '\0' ? port->slow : "-",
               port->interrupts, port->flows[0] != '\0' ? port->flows : "-", port->rules,
               port->rules_made, port->rules_refused, port->rules_packets, port->received,
               port->sent, port->missed);
    }
    for (size_t i = 0; i < status->n_cores; i++) {
        print_core(status->cores[i]);
    }
    for (size_t i = 0; i < status->n_listed; i++) {
        const Dpd__PollFlow *flow = status->listed[i];
        printf("flow %s from=%s to=%s state=%s packets=%" G_GUINT64_FORMAT
               " bytes=%" G_GUINT64_FORMAT " offloaded=%d\n",
               flow->text, flow->from, flow->to, flow->state, flow->packets, flow->bytes,
               flow->offloaded);
    }
}

/* ---- requests ---- */

static bool
set_field(Dpd__PollPort *port, const char *key, char *value, GStrv *addresses)
{
    struct {
        const char *key;
        char **text;
        uint32_t *number;
    } fields[] = {{"id", &port->id, NULL},     {"device", &port->device, NULL},
                  {"slow", &port->slow, NULL}, {"mac", &port->mac, NULL},
                  {"mtu", NULL, &port->mtu},   {"zone", NULL, &port->zone}};
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (strcmp(key, fields[i].key) == 0) {
            if (fields[i].text != NULL) {
                *fields[i].text = value;
            } else {
                *fields[i].number = (uint32_t) strtoul(value, NULL, 10);
            }
            return true;
        }
    }
    if (strcmp(key, "addresses") == 0) {
        g_strfreev(*addresses);
        *addresses = g_strsplit(value, ",", -1);
        port->addresses = *addresses;
        port->n_addresses = g_strv_length(*addresses);
        return true;
    }
    port->off = strcmp(value, "true") == 0;
    return strcmp(key, "off") == 0;
}

static bool
read_port(char **args, Dpd__PollPort *port, GStrv *addresses, GError **error)
{
    for (guint i = 0; args[i] != NULL; i++) {
        char *equals = strchr(args[i], '=');
        if (equals != NULL) {
            *equals = '\0';
        }
        if (equals == NULL || !set_field(port, args[i], equals + 1, addresses)) {
            return haw_fail(error, HAW_INVALID, "'%s' is no KEY=VALUE of a port", args[i]);
        }
    }
    return true;
}

static Dpd__Frame *
exchange(DpdWire *wire, Dpd__Frame *frame, GError **error)
{
    static guint64 id;
    frame->id = ++id;
    g_autoptr(DpdFrame) answer = dpdwire_send(wire, frame, -1, error)
                                     ? dpdwire_receive(wire, NULL, 60000, NULL, error)
                                     : NULL;
    if (answer != NULL && answer->body_case == DPD__FRAME__BODY_FAILURE) {
        haw_fail(error, (HawCode) answer->failure->code, "%s", answer->failure->message);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static bool
ask(struct task *task, DpdWire *wire, GError **error)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    Dpd__PollApply apply = DPD__POLL_APPLY__INIT;
    Dpd__PollAsk status = DPD__POLL_ASK__INIT;
    Dpd__PollPort port = DPD__POLL_PORT__INIT, *ports[1] = {&port};
    g_auto(GStrv) addresses = NULL;
    uint32_t zones[64];
    const char *command = task->args[0] != NULL ? task->args[0] : "status";
    char **args = task->args[0] != NULL ? task->args + 1 : task->args;
    guint count = g_strv_length(args);
    frame.body_case = DPD__FRAME__BODY_POLL_APPLY;
    frame.poll_apply = &apply;
    if (strcmp(command, "add") == 0) {
        apply.ports = ports;
        apply.n_ports = 1;
        if (!read_port(args, &port, &addresses, error)) {
            return false;
        }
    } else if (strcmp(command, "remove") == 0) {
        apply.remove = args;
        apply.n_remove = count;
    } else if (strcmp(command, "bump") == 0 && count <= G_N_ELEMENTS(zones)) {
        for (; apply.n_bump < count; apply.n_bump++) {
            zones[apply.n_bump] = (uint32_t) strtoul(args[apply.n_bump], NULL, 10);
        }
        apply.bump = zones;
    } else if (strcmp(command, "status") == 0) {
        status.flows = args[0] != NULL ? (uint32_t) strtoul(args[0], NULL, 10) : 0;
        frame.body_case = DPD__FRAME__BODY_POLL_ASK;
        frame.poll_ask = &status;
    } else {
        return haw_fail(error, HAW_INVALID, "'%s' is none of add, remove, bump, status", command);
    }
    g_autoptr(DpdFrame) answer = exchange(wire, &frame, error);
    if (answer == NULL) {
        return false;
    }
    print_status(answer->poll_status);
    return true;
}

static bool
greet(DpdWire *wire, GError **error)
{
    Dpd__Hello hello;
    Dpd__Frame frame;
    dpdwire_hello(&hello, &frame);
    g_autoptr(DpdFrame) answer = exchange(wire, &frame, error);
    return answer != NULL;
}

static void
ask_fiber(void *data)
{
    struct task *task = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(task->dir, "poll.socket", NULL);
    g_autoptr(DpdWire) wire = dpdwire_connect(path, &error);
    if (wire == NULL || !greet(wire, &error) || !ask(task, wire, &error)) {
        fprintf(stderr, "hawser-dpd-poll: %s\n", error->message);
        task->status = haw_code_exit(haw_code(error));
    }
    g_main_loop_quit(task->loop);
}

int
pollask_run(const char *dir, char **args)
{
    struct task task = {.dir = dir, .args = args};
    task.loop = g_main_loop_new(NULL, FALSE);
    fiber_start("ask", ask_fiber, &task);
    g_main_loop_run(task.loop);
    g_main_loop_unref(task.loop);
    return task.status;
}
