/* hawser: one command, from argv to an exit status.
 * Data goes to stdout, talk to stderr. A failure is one line, and its code is the exit status. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/interrupt.h"
#include "ctl/manual.h"

/* The command that shows what was not found, or makes what is missing; NULL when we cannot tell. */
static const char *
next_command(const char *message)
{
    static const struct {
        const char *text, *command;
    } known[] = {
        {"Instance not found", "list"},
        {"Profile not found", "profile list"},
        {"Network not found", "network list"},
        {"Network ACL not found", "network acl list"},
        {"pool not found", "storage list"},
        {"Image not found", "image list"},
        {"Image alias", "image alias list"},
        {"Project not found", "project list"},
        {"Operation not found", "operation list"},
        {"Certificate not found", "config trust list"},
        {"Warning not found", "warning list"},
        {"No root device could be found", "init --auto' or 'hawser storage create --help"},
        {"type \"virtual-machine\" doesn't match", "launch --vm"},
        {"Requested profile", "profile list"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strstr(message, known[i].text) != NULL) {
            return known[i].command;
        }
    }
    return NULL;
}

static int
fail(const GError *error)
{
    const char *next = next_command(error->message);
    if (next != NULL && strchr(error->message, '(') == NULL) {
        g_printerr("hawser: %s (see 'hawser %s')\n", error->message, next);
    } else {
        g_printerr("hawser: %s\n", error->message);
    }
    return haw_code_exit(haw_code(error));
}

static int
finish(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        g_printerr("hawser: write to stdout: %s\n", g_strerror(errno));
        return haw_code_exit(HAW_IO);
    }
    return status;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    interrupt_catch();
    g_autoptr(Remotes) remotes = remotes_load(NULL, &error);
    if (remotes == NULL) {
        return fail(error);
    }
    g_autoptr(Ctl) ctl = ctl_new(remotes, argc, argv, &error);
    if (ctl == NULL) {
        return fail(error);
    }
    if (ctl_flag(ctl, "version")) {
        puts("hawser " HAWSER_VERSION);
        return finish(0);
    }
    if (ctl_wants_help(ctl)) {
        g_autofree char *help = manual_help(ctl_row(ctl));
        fputs(help, stdout);
        return finish(0);
    }
    if (!ctl_row(ctl)->run(ctl, &error)) {
        return fail(error);
    }
    return finish(cmd_exec_status());
}
