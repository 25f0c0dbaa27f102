/* hawser: one command, from argv to an exit status.
 * Data goes to stdout, talk to stderr. A failure is one line, and its code is the exit status. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/manual.h"

/* "hawser network list", where what was not found would be seen; NULL when there is none. */
static char *
list_command(const Command *row)
{
    g_autofree char *path = row != NULL ? g_strdup(row->path) : g_strdup("");
    char *blank = strrchr(path, ' ');
    if (blank != NULL) {
        *blank = '\0';
    }
    g_autofree char *list = blank != NULL ? g_strconcat(path, " list", NULL) : g_strdup("list");
    const Command *found = command_get(list);
    return found != NULL && found != row && row != NULL ? g_steal_pointer(&list) : NULL;
}

static int
fail(const Command *row, const GError *error)
{
    g_autofree char *list = haw_code(error) == HAW_NOT_FOUND ? list_command(row) : NULL;
    bool has_step = strchr(error->message, '(') != NULL;
    if (list != NULL && !has_step) {
        g_printerr("hawser: %s (see 'hawser %s')\n", error->message, list);
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
    rest_catch_interrupt();
    g_autoptr(Remotes) remotes = remotes_load(NULL, &error);
    if (remotes == NULL) {
        return fail(NULL, error);
    }
    g_autoptr(Ctl) ctl = ctl_new(remotes, argc, argv, &error);
    if (ctl == NULL) {
        return fail(NULL, error);
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
        return fail(ctl_row(ctl), error);
    }
    return finish(cmd_exec_status());
}
