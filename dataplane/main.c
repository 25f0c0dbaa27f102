/* hawser-dpd: parses arguments, builds the daemon, runs the loop. */
#include "base/fiber.h"
#include "base/log.h"
#include "base/service.h"
#include "dataplane/slow/dpd.h"

#include <glib-unix.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
on_done(void *data)
{
    g_main_loop_quit(data);
}

static gboolean
on_term(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_CONTINUE;
}

/* `hawser-dpd --dpdk …` is a program of its own: who has no DPDK needs none of its libraries. */
static int
run_poll(char **argv)
{
    static const char *const places[] = {"hawser-dpd-poll", "poll/hawser-dpd-poll"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = g_path_get_dirname(self != NULL ? self : argv[0]);
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(folder, places[i], NULL);
        execv(path, argv);
    }
    fprintf(stderr,
            "hawser-dpd: built without DPDK, for there is no '%s/%s': install its package, or "
            "libdpdk-dev and build again\n",
            folder, places[0]);
    return 8;
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--dpdk") == 0) {
        return run_poll(argv + 1);
    }
    g_autofree char *dir = NULL;
    g_autofree char *backend = NULL;
    g_autofree char *ovsdb = NULL;
    g_autofree char *bpf = NULL;
    gboolean debug = FALSE, embedded = FALSE, version = FALSE;
    const GOptionEntry entries[] = {
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &dir,
         "Directory of ledger and socket (default /var/lib/hawser/dpd)", "DIR"},
        {"backend", 0, 0, G_OPTION_ARG_STRING, &backend,
         "\"kernel\", or \"sim:/DIRECTORY\" (default $HAWSER_HW, else kernel)", "BACKEND"},
        {"ovsdb", 0, 0, G_OPTION_ARG_STRING, &ovsdb,
         "Where the local Open_vSwitch database listens (default the system's)", "REMOTE"},
        {"bpf", 0, 0, G_OPTION_ARG_FILENAME, &bpf,
         "Where the fast path is pinned, a bpffs (default bpf/ in DIR)", "DIR"},
        {"embedded", 0, 0, G_OPTION_ARG_NONE, &embedded,
         "End when there are neither ports nor peers", NULL},
        {"debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Log everything", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and leave", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- the Hawser dataplane daemon");
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "hawser-dpd: %s; see 'hawser-dpd --help'\n",
                error != NULL ? error->message : "unexpected argument");
        return 2;
    }
    if (version) {
        puts(HAWSER_VERSION);
        return 0;
    }

    log_set_level(debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, 2); /* worker threads would each keep an arena of their own */
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    DpdOptions options = {dir != NULL ? dir : "/var/lib/hawser/dpd", backend, ovsdb, bpf, embedded};
    Dpd *dpd = dpd_new(&options, on_done, loop, &error);
    if (dpd == NULL) {
        haw_error("dpd.failed", KS("why", error->message));
        return haw_code_exit(haw_code(error));
    }
    g_unix_signal_add(SIGTERM, on_term, loop);
    g_unix_signal_add(SIGINT, on_term, loop);
    service_notify("READY=1");
    g_main_loop_run(loop);
    service_notify("STOPPING=1");
    if (fiber_count() > 0) {
        _exit(0); /* work in flight is the next start's to finish */
    }
    dpd_free(dpd);
    return 0;
}
