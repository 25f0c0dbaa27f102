/* hawserd: parses arguments, builds the agent, runs the loop.
 * "hawserd fork… ARGS" is a short-lived helper of a running agent: see the table. */
#include "agent/agent.h"
#include "agent/fork.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/service.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ending {
    GMainLoop *loop;
    Agent *agent;
    int status;
};

static void
on_done(const GError *error, void *data)
{
    struct ending *ending = data;
    if (error != NULL) {
        haw_error("agent.failed", KS("why", error->message));
        ending->status = haw_code_exit(haw_code(error));
    }
    g_main_loop_quit(ending->loop);
}

static void
shut_down(void *data)
{
    struct ending *ending = data;
    agent_shutdown(ending->agent, false, false, NULL);
}

static gboolean
on_term(gpointer data)
{
    fiber_start("shutdown", shut_down, data);
    return G_SOURCE_CONTINUE;
}

int
main(int argc, char **argv)
{
    if (argc > 1 && g_str_has_prefix(argv[1], "fork")) {
        return fork_main(argc - 1, argv + 1);
    }

    const char *env = getenv("HAWSER_DIR");
    g_autofree char *dir = NULL;
    g_autofree char *group = NULL;
    gboolean debug = FALSE, version = FALSE;
    const GOptionEntry entries[] = {
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "State directory (default /var/lib/hawser)",
         "DIR"},
        {"group", 0, 0, G_OPTION_ARG_STRING, &group, "Group that may use the socket", "GROUP"},
        {"debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Log everything", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and leave", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- the Hawser agent");
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
        fprintf(stderr, "hawserd: %s; see 'hawserd --help'\n",
                error != NULL ? error->message : "unexpected argument");
        return 2;
    }
    if (version) {
        puts(HAWSER_VERSION);
        return 0;
    }

    log_set_level(debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    struct ending ending = {.loop = loop};
    const char *default_dir = env != NULL && *env != '\0' ? env : "/var/lib/hawser";
    AgentOptions options = {dir != NULL ? dir : default_dir, group, debug, service_listen_fd()};
    ending.agent = agent_new(&options, on_done, &ending, &error);
    if (ending.agent == NULL) {
        haw_error("agent.failed", KS("why", error->message));
        return haw_code_exit(haw_code(error));
    }
    g_unix_signal_add(SIGTERM, on_term, &ending);
    g_unix_signal_add(SIGINT, on_term, &ending);
    g_main_loop_run(loop);
    if (!agent_settle(ending.agent)) {
        _exit(ending.status);
    }
    agent_free(ending.agent);
    return ending.status;
}
