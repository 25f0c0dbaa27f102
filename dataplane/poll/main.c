/* hawser-dpd-poll: what `hawser-dpd --dpdk` runs: parses arguments, starts DPDK and the engine, runs the loop. */
#include "base/fiber.h"
#include "base/log.h"
#include "base/service.h"
#include "dataplane/poll/pollask.h"
#include "dataplane/poll/pollsock.h"

#include <glib-unix.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir, *cores, *tag;
static gboolean no_huge, no_pci, version, debug;
static int flows, memory_mb, nap_us = 200, mbufs, offload_packets;
static enum pollflows offload = POLLFLOWS_NONE;
static char **rest;

static gboolean
on_offload(const char *option, const char *value, gpointer data, GError **error)
{
    for (enum pollflows least = POLLFLOWS_NONE; least <= POLLFLOWS_FORWARD; least++) {
        if (strcmp(value, pollflows_word(least)) == 0) {
            offload = least;
            return TRUE;
        }
    }
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "%s is none, match or forward, not '%s'", option, value);
    return FALSE;
}

static const GOptionEntry entries[] = {
    {"dir", 0, 0, G_OPTION_ARG_FILENAME, &dir,
     "Directory of the socket (default /var/lib/hawser/dpd)", "DIR"},
    {"cores", 0, 0, G_OPTION_ARG_STRING, &cores,
     "Processors that poll, \"2,3\" (default the last one)", "LIST"},
    {"flows", 0, 0, G_OPTION_ARG_INT, &flows, "Flows there may be (default 1048576)", "COUNT"},
    {"packets", 0, 0, G_OPTION_ARG_INT, &mbufs, "Packets there may be (default 16384)", "COUNT"},
    {"nap", 0, 0, G_OPTION_ARG_INT, &nap_us,
     "Longest nap of a core without work (default 200, 0: none)", "MICROSECONDS"},
    {"offload", 0, 0, G_OPTION_ARG_CALLBACK, (void *) on_offload,
     "Rules for flows that carry much, in devices that \"forward\" them, or (to no gain) do no "
     "more than "
     "\"match\" (default none)",
     "WHAT"},
    {"offload-packets", 0, 0, G_OPTION_ARG_INT, &offload_packets,
     "Packets since its last proof that make a flow one of them (default 512)", "COUNT"},
    {"memory", 'm', 0, G_OPTION_ARG_INT, &memory_mb, "Memory for DPDK", "MB"},
    {"tag", 0, 0, G_OPTION_ARG_STRING, &tag, "What the status says of how it was started", "TEXT"},
    {"no-huge", 0, 0, G_OPTION_ARG_NONE, &no_huge, "Use ordinary pages", NULL},
    {"no-pci", 0, 0, G_OPTION_ARG_NONE, &no_pci, "Leave PCI devices alone", NULL},
    {"debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Log everything", NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and leave", NULL},
    {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &rest, NULL,
     "[ask COMMAND…] [EAL ARGUMENTS…]"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

static gboolean
on_term(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

/* The main thread floats over all processors; the others are pinned. */
static char *
lcores(void)
{
    long last = sysconf(_SC_NPROCESSORS_ONLN) - 1;
    GString *text = g_string_new(NULL);
    g_autofree char *chosen = cores != NULL ? g_strdup(cores) : g_strdup_printf("%ld", last);
    g_auto(GStrv) list = g_strsplit(chosen, ",", -1);
    g_string_printf(text, "--lcores=0@(0-%ld)", last);
    for (guint i = 0; list[i] != NULL; i++) {
        g_string_append_printf(text, ",%u@%s", i + 1, list[i]);
    }
    return g_string_free(text, FALSE);
}

static bool
start_eal(GError **error)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(args, g_strdup("hawser-dpd-poll"));
    g_ptr_array_add(args, lcores());
    g_ptr_array_add(args, g_strdup("--no-telemetry"));
    g_ptr_array_add(args, g_strdup("--log-level=*:warning"));
    if (no_huge) {
        g_ptr_array_add(args, g_strdup("--no-huge"));
        g_ptr_array_add(args, g_strdup("--no-shconf"));
        g_ptr_array_add(args, g_strdup_printf("--file-prefix=hawser-%d", (int) getpid()));
        memory_mb = memory_mb != 0 ? memory_mb : 256;
    } else {
        g_ptr_array_add(args, g_strdup("--in-memory"));
    }
    if (no_pci) {
        g_ptr_array_add(args, g_strdup("--no-pci"));
    }
    if (memory_mb != 0) {
        g_ptr_array_add(args, g_strdup_printf("-m%d", memory_mb));
    }
    for (guint i = 0; rest != NULL && rest[i] != NULL; i++) {
        g_ptr_array_add(args, g_strdup(rest[i]));
    }
    g_autofree char **copy = g_memdup2(args->pdata, args->len * sizeof(char *));
    if (rte_eal_init((int) args->len, copy) < 0) {
        return haw_fail(error, HAW_UNAVAILABLE,
                        "DPDK does not start (%s): without hugepages give --no-huge",
                        rte_strerror(rte_errno));
    }
    return true;
}

static int
serve(void)
{
    g_autoptr(GError) error = NULL;
    const PollerOptions options = {.flows = (guint32) flows,
                                   .nap_us = (guint32) nap_us,
                                   .mbufs = (guint32) mbufs,
                                   .offload = offload,
                                   .offload_packets = (guint32) offload_packets};
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(Poller) poller = start_eal(&error) ? poller_new(&options, &error) : NULL;
    g_autoptr(PollSock) sock = poller != NULL ? pollsock_new(dir, tag, poller, &error) : NULL;
    if (sock == NULL) {
        haw_error("poll.failed", KS("why", error->message));
        return haw_code_exit(haw_code(error));
    }
    g_unix_signal_add(SIGTERM, on_term, loop);
    g_unix_signal_add(SIGINT, on_term, loop);
    haw_info("poll.ready", KS("dir", dir), KS("signatures", engine_isa_set(ENGINE_ISA_BEST)));
    service_notify("READY=1");
    g_main_loop_run(loop);
    service_notify("STOPPING=1");
    return 0;
}

int
main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("- Hawser's dataplane on DPDK");
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || flows < 0 || nap_us < 0 ||
        mbufs < 0 || memory_mb < 0 || offload_packets < 0) {
        fprintf(stderr, "hawser-dpd-poll: %s; see 'hawser-dpd --dpdk --help'\n",
                error != NULL ? error->message : "numbers are not negative");
        return 2;
    }
    if (version) {
        puts(HAWSER_VERSION);
        return 0;
    }
    dir = dir != NULL ? dir : g_strdup("/var/lib/hawser/dpd");
    log_set_level(debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (rest != NULL && g_strcmp0(rest[0], "ask") == 0) {
        return pollask_run(dir, rest + 1);
    }
    return serve();
}
