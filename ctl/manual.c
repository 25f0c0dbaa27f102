/* Help and the manual page, from the table.
 * Called by main.c, and at build time through 'hawser __manual'. */
#include "ctl/manual.h"

#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"

enum { TEXT_WIDTH = 78 };

/* Breaks a text into lines; lines that begin with a blank are kept as they are. */
static void
append_wrapped(GString *out, const char *text, const char *indent)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        if (**line == '\0' || **line == ' ') {
            g_string_append_printf(out, "%s%s\n", **line != '\0' ? indent : "", *line);
            continue;
        }
        g_auto(GStrv) words = g_strsplit(*line, " ", -1);
        gsize column = 0;
        for (char **word = words; *word != NULL; word++) {
            gsize width = (gsize) g_utf8_strlen(*word, -1);
            if (column > 0 && strlen(indent) + column + 1 + width > TEXT_WIDTH) {
                g_string_append_c(out, '\n');
                column = 0;
            }
            g_string_append_printf(out, "%s%s", column == 0 ? indent : " ", *word);
            column += width + (column > 0);
        }
        g_string_append_c(out, '\n');
    }
}

static char *
option_name(const Option *option)
{
    g_autofree char *letter =
        option->letter != 0 ? g_strdup_printf("-%c, ", option->letter) : g_strdup("    ");
    if (option->value == NULL) {
        return g_strdup_printf("%s--%s", letter, option->name);
    }
    g_autofree char *optional =
        option->value[0] == '['
            ? g_strdup_printf("[=%.*s]", (int) strlen(option->value) - 2, option->value + 1)
            : NULL;
    return optional != NULL ? g_strdup_printf("%s--%s%s", letter, option->name, optional)
                            : g_strdup_printf("%s--%s %s", letter, option->name, option->value);
}

static void
append_options(GString *out, const char *title, const Option *options)
{
    if (options == NULL || options->name == NULL) {
        return;
    }
    int width = 0;
    for (const Option *option = options; option->name != NULL; option++) {
        g_autofree char *name = option_name(option);
        width = MAX(width, (int) g_utf8_strlen(name, -1));
    }
    g_string_append_printf(out, "\n%s:\n", title);
    for (const Option *option = options; option->name != NULL; option++) {
        g_autofree char *name = option_name(option);
        g_string_append_printf(out, "  %-*s  %s", width, name, option->help);
        if (option->fallback != NULL) {
            g_string_append_printf(out, " (%s)", option->fallback);
        }
        g_string_append_c(out, '\n');
    }
}

static void
append_commands(GString *out, const char *path)
{
    int width = 0;
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (command_is_below(row, path) && !row->hidden) {
            const char *blank = strrchr(row->path, ' ');
            width = MAX(width, (int) strlen(blank != NULL ? blank + 1 : row->path));
        }
    }
    g_string_append(out, "\nCommands:\n");
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (command_is_below(row, path) && !row->hidden) {
            const char *blank = strrchr(row->path, ' ');
            g_string_append_printf(out, "  %-*s  %s\n", width,
                                   blank != NULL ? blank + 1 : row->path, row->summary);
        }
    }
}

static void
append_usage(GString *out, const Command *row)
{
    if (row == NULL) {
        g_string_append(out, "Usage: hawser <command> …\n");
    } else if (row->run == NULL) {
        g_string_append_printf(out, "Usage: hawser %s <command> …\n", row->path);
    } else {
        g_string_append_printf(out, "Usage: hawser %s%s%s%s\n", row->path,
                               row->options != NULL ? " [options]" : "",
                               row->args != NULL ? " " : "", row->args != NULL ? row->args : "");
    }
}

char *
manual_help(const Command *row)
{
    GString *out = g_string_new(NULL);
    append_usage(out, row);
    g_string_append_printf(
        out, "\n%s.\n",
        row != NULL ? row->summary
                    : "Containers and virtual machines, their images, storage and networks");
    if (row != NULL && row->alias != NULL) {
        g_auto(GStrv) names = g_strsplit(row->alias, " ", -1);
        g_autofree char *joined = g_strjoinv(", ", names);
        g_string_append_printf(out, "Also called: %s\n", joined);
    }
    if (row != NULL && row->details != NULL) {
        g_string_append_c(out, '\n');
        append_wrapped(out, row->details, "");
    }
    if (row == NULL || row->run == NULL) {
        append_commands(out, row != NULL ? row->path : "");
    } else {
        append_options(out, "Options", row->options);
    }
    append_options(out, "Everywhere", command_global_options);
    if (row != NULL && row->examples != NULL) {
        g_string_append(out, "\nExamples:\n");
        append_wrapped(out, row->examples, "  ");
    }
    if (row == NULL || row->run == NULL) {
        g_string_append_printf(out, "\n'hawser %s%s<command> --help' says more of one.\n",
                               row != NULL ? row->path : "", row != NULL ? " " : "");
    }
    return g_string_free(out, FALSE);
}

/* Text that troff prints as it is. */
static void
append_troff(GString *out, const char *text)
{
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            g_string_append(out, "\\&");
        }
        if (*text == '\\') {
            g_string_append(out, "\\e");
        } else if (*text == '-') {
            g_string_append(out, "\\-");
        } else {
            g_string_append_c(out, *text);
        }
        line_start = *text == '\n';
    }
}

static void
append_troff_block(GString *out, const char *text)
{
    g_string_append(out, ".nf\n");
    append_troff(out, text);
    g_string_append(out, "\n.fi\n");
}

/* Paragraphs; those with lines that begin with a blank stay as they are. */
static void
append_troff_details(GString *out, const char *text)
{
    g_auto(GStrv) paragraphs = g_strsplit(text, "\n\n", -1);
    for (char **paragraph = paragraphs; *paragraph != NULL; paragraph++) {
        g_string_append(out, ".IP\n");
        if (strstr(*paragraph, "\n ") != NULL) {
            append_troff_block(out, *paragraph);
        } else {
            append_troff(out, *paragraph);
            g_string_append_c(out, '\n');
        }
    }
}

static void
append_troff_options(GString *out, const Option *options)
{
    for (const Option *option = options; option != NULL && option->name != NULL; option++) {
        g_autofree char *name = option_name(option);
        g_string_append(out, ".RS\n.TP\n");
        append_troff(out, g_strstrip(name));
        g_string_append_c(out, '\n');
        append_troff(out, option->help);
        if (option->fallback != NULL) {
            g_string_append(out, " (");
            append_troff(out, option->fallback);
            g_string_append_c(out, ')');
        }
        g_string_append(out, "\n.RE\n");
    }
}

static void
append_troff_command(GString *out, const Command *row)
{
    g_string_append(out, ".TP\n\\fBhawser ");
    append_troff(out, row->path);
    g_string_append(out, "\\fR ");
    append_troff(out, row->args != NULL ? row->args : "");
    g_string_append_c(out, '\n');
    append_troff(out, row->summary);
    g_string_append(out, ".\n");
    if (row->alias != NULL) {
        g_string_append(out, "Also called: ");
        append_troff(out, row->alias);
        g_string_append(out, ".\n");
    }
    if (row->details != NULL) {
        append_troff_details(out, row->details);
    }
    append_troff_options(out, row->options);
    if (row->examples != NULL) {
        g_string_append(out, ".IP\n");
        append_troff_block(out, row->examples);
    }
}

static const char manual_head[] =
    ".TH HAWSER 1 \"\" \"hawser " HAWSER_VERSION "\" \"Hawser\"\n"
    ".SH NAME\nhawser \\- containers, their images, storage and networks\n"
    ".SH SYNOPSIS\n.B hawser\n.I command\n[options] [arguments]\n"
    ".SH DESCRIPTION\n"
    "hawser talks to hawserd on this machine, or to servers that were added with\n"
    ".BR \"hawser remote add\" .\n"
    "A name may have such a server in front, with a colon: lab:web1.\n"
    "Data goes to stdout, everything else to stderr. For scripts, ask for\n"
    ".B \\-\\-format json\nwhere it is offered: that is the body of the server's answer.\n";

static const char manual_tail[] =
    ".SH FILES\n"
    ".TP\n~/.config/hawser/config.yml\nServers and aliases.\n"
    ".TP\n~/.config/hawser/client.crt, client.key\nWho you are to servers; made when needed.\n"
    ".TP\n~/.config/hawser/servercerts/\nCertificates of servers that you trust.\n"
    ".SH ENVIRONMENT\n"
    ".TP\nHAWSER_SOCKET\nSocket of the local server.\n"
    ".TP\nHAWSER_DIR\nState directory whose unix.socket it is otherwise (/var/lib/hawser).\n"
    ".TP\nHAWSER_CONF\nFolder of the files above.\n"
    ".TP\nVISUAL, EDITOR\nThe editor of the edit commands.\n";

/* The table of base/error.h, so that it is written once. */
static void
append_exit_statuses(GString *out)
{
    g_string_append(out, ".SH EXIT STATUS\n"
                         "0 when it was done. 'hawser exec' ends with the status of the command. "
                         "Else:\n");
    for (int code = 0; code < HAW_CODE_COUNT; code++) {
        g_autofree char *name = g_ascii_strdown(haw_code_name((HawCode) code), -1);
        g_strdelimit(name, "_", ' ');
        g_string_append_printf(out, ".TP\n%d\n%s\n", haw_code_exit((HawCode) code), name);
    }
}

char *
manual_page(void)
{
    GString *out = g_string_new(manual_head);
    g_string_append(out, ".SH OPTIONS\n");
    append_troff_options(out, command_global_options);
    g_string_append(out, ".SH COMMANDS\n");
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (row->run == NULL) {
            g_string_append(out, ".SS ");
            append_troff(out, row->summary);
            g_string_append_c(out, '\n');
            if (row->details != NULL) {
                append_troff(out, row->details);
                g_string_append_c(out, '\n');
            }
        } else if (!row->hidden) {
            append_troff_command(out, row);
        }
    }
    append_exit_statuses(out);
    g_string_append(out, manual_tail);
    return g_string_free(out, FALSE);
}

bool
manual_run(Ctl *ctl, GError **error)
{
    g_autofree char *text = manual_page();
    fputs(text, stdout);
    return true;
}
