/* The command line of one run: words to a row of the table, options and arguments by that row.
 * C1  What parses is what the help says: counts of arguments and names of options come from the row.
 * C2  Aliases of the user are expanded once, before anything else is looked at.
 * C3  Connections that commands open are kept until the end of the run, one a remote and project.
 * Called by main.c and every cmd_*.c. */
#include "ctl/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/remotes.h"
#include "ctl/rest.h"
#include "ctl/rows.h"

struct Ctl {
    Remotes *remotes;   /* borrows */
    const Command *row; /* borrows; NULL: none named */
    bool help;
    GPtrArray *args;     /* owns, NULL behind the last */
    GHashTable *options; /* owns: name -> GPtrArray of values, NULL-terminated */
    GHashTable *servers; /* owns: "remote" -> Rest */
};

const Option command_global_options[] = {
    {0, "project", "<project>", "Work in this project"},
    {0, "force-local", NULL, "Use the local socket whatever the default remote is"},
    {'q', "quiet", NULL, "Show no progress"},
    {0, "debug", NULL, "Show each request on stderr"},
    {'h', "help", NULL, "Show help"},
    {0, "version", NULL, "Show the version"},
    {0},
};

const Command *const command_rows = rows_instance;

static const char *
last_word(const char *path)
{
    const char *blank = strrchr(path, ' ');
    return blank != NULL ? blank + 1 : path;
}

bool
command_is_below(const Command *row, const char *path)
{
    size_t length = strlen(path);
    if (length == 0) {
        return strchr(row->path, ' ') == NULL;
    }
    return strncmp(row->path, path, length) == 0 && row->path[length] == ' ' &&
           strchr(row->path + length + 1, ' ') == NULL;
}

const Command *
command_next(const Command *row)
{
    row++;
    while (row->path == NULL && row->more != NULL) {
        row = row->more;
    }
    return row->path != NULL ? row : NULL;
}

const Command *
command_get(const char *path)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (strcmp(row->path, path) == 0) {
            return row;
        }
    }
    return NULL;
}

static bool
row_answers_to(const Command *row, const char *word)
{
    if (strcmp(last_word(row->path), word) == 0) {
        return true;
    }
    g_auto(GStrv) names = g_strsplit(row->alias != NULL ? row->alias : "", " ", -1);
    return g_strv_contains((const char *const *) names, word);
}

const Command *
command_find(char *const *words, int *ret_used)
{
    const Command *found = NULL;
    int used = 0;
    for (; words[used] != NULL; used++) {
        const char *path = found != NULL ? found->path : "";
        const Command *next = NULL;
        for (const Command *row = command_rows; row != NULL && next == NULL;
             row = command_next(row)) {
            if (command_is_below(row, path) && row_answers_to(row, words[used])) {
                next = row;
            }
        }
        if (next == NULL) {
            break;
        }
        found = next;
    }
    *ret_used = used;
    return found;
}

/* Levenshtein distance, for words as short as commands are. */
static guint
word_distance(const char *a, const char *b)
{
    guint row[64];
    size_t length = MIN(strlen(b), 63);
    for (guint i = 0; i <= length; i++) {
        row[i] = i;
    }
    for (guint i = 1; a[i - 1] != '\0'; i++) {
        guint diagonal = row[0];
        row[0] = i;
        for (guint k = 1; k <= length; k++) {
            guint above = row[k];
            guint replaced = diagonal + (a[i - 1] != b[k - 1]);
            row[k] = MIN(MIN(row[k], row[k - 1]) + 1, replaced);
            diagonal = above;
        }
    }
    return row[length];
}

const char *
command_guess(const char *group, const char *word)
{
    const char *best = NULL;
    guint best_distance = 5;
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (row->hidden || !command_is_below(row, group)) {
            continue;
        }
        /* People seldom miss the first letter. */
        const char *name = last_word(row->path);
        guint distance = 2 * word_distance(word, name) + (name[0] != word[0]);
        if (distance < best_distance) {
            best_distance = distance;
            best = name;
        }
    }
    return best;
}

static void
arg_clear(void *data)
{
    g_free(((CommandArg *) data)->kind);
}

static CommandArg
arg_of_token(const char *token)
{
    static const char remote[] = "[<remote>:]";
    CommandArg arg = {0};
    if (g_str_has_prefix(token, "[[<remote>:]")) {
        arg.optional = arg.remote = true;
        token += 1 + strlen(remote);
    } else if (g_str_has_prefix(token, remote)) {
        arg.remote = true;
        token += strlen(remote);
        arg.optional = *token == '\0' || *token == '[';
    } else {
        arg.optional = *token == '[';
    }
    arg.many = strstr(token, "...") != NULL;
    const char *open = strchr(token, '<'), *close = open != NULL ? strchr(open, '>') : NULL;
    if (*token == '\0') {
        arg.kind = g_strdup("remote");
    } else if (close != NULL) {
        arg.kind = g_strndup(open + 1, (gsize) (close - open - 1));
    } else {
        arg.kind = g_strdup(token);
    }
    return arg;
}

GArray *
command_args(const Command *row)
{
    GArray *args = g_array_new(FALSE, FALSE, sizeof(CommandArg));
    g_array_set_clear_func(args, arg_clear);
    g_auto(GStrv) tokens = g_strsplit(row->args != NULL ? row->args : "", " ", -1);
    for (char **token = tokens; *token != NULL; token++) {
        if (**token != '\0') {
            CommandArg arg = arg_of_token(*token);
            g_array_append_val(args, arg);
        }
    }
    return args;
}

static const Option *
find_option(const Ctl *ctl, const char *name, char letter)
{
    const Option *lists[] = {ctl->row != NULL ? ctl->row->options : NULL, command_global_options};
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const Option *o = lists[i]; o != NULL && o->name != NULL; o++) {
            if (name != NULL ? strcmp(o->name, name) == 0 : o->letter == letter) {
                return o;
            }
        }
    }
    return NULL;
}

static void
add_value(Ctl *ctl, const Option *option, const char *value)
{
    GPtrArray *values = g_hash_table_lookup(ctl->options, option->name);
    if (values == NULL) {
        values = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(values, NULL);
        g_hash_table_insert(ctl->options, (void *) option->name, values);
    }
    g_ptr_array_insert(values, (gint) values->len - 1, g_strdup(value));
}

static bool
fail_usage(const Ctl *ctl, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    const char *path = ctl->row != NULL ? ctl->row->path : "";
    return haw_fail(error, HAW_INVALID, "%s (see 'hawser%s%s --help')", what, *path ? " " : "",
                    path);
}

/* "--name", "--name=value" or "--name value". Steps *at over what it takes. */
static bool
parse_long(Ctl *ctl, char *const *argv, int argc, int *at, GError **error)
{
    const char *text = argv[*at] + 2;
    const char *equals = strchr(text, '=');
    g_autofree char *name =
        equals != NULL ? g_strndup(text, (gsize) (equals - text)) : g_strdup(text);
    const Option *option = find_option(ctl, name, 0);
    if (option == NULL) {
        return fail_usage(ctl, error, "unknown option '--%s'", name);
    }

    const char *value = equals != NULL ? equals + 1 : NULL;
    if (option->value == NULL) {
        if (value != NULL && strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
            return fail_usage(ctl, error, "option '--%s' takes no value", name);
        }
        value = value != NULL ? value : "true";
    } else if (value == NULL && option->value[0] != '[') {
        if (*at + 1 >= argc) {
            return fail_usage(ctl, error, "option '--%s' needs %s", name, option->value);
        }
        value = argv[++*at];
    }
    add_value(ctl, option, value != NULL ? value : "");
    ++*at;
    return true;
}

/* "-q", "-qf", "-ctext", "-c text" or "-c=text". Steps *at over what it takes. */
static bool
parse_short(Ctl *ctl, char *const *argv, int argc, int *at, GError **error)
{
    for (const char *letter = argv[*at] + 1; *letter != '\0'; letter++) {
        const Option *option = find_option(ctl, NULL, *letter);
        if (option == NULL) {
            return fail_usage(ctl, error, "unknown option '-%c'", *letter);
        }
        if (option->value == NULL) {
            add_value(ctl, option, "true");
            continue;
        }
        const char *value = letter[1] == '=' ? letter + 2 : letter + 1;
        if (*value == '\0' && option->value[0] != '[') {
            if (*at + 1 >= argc) {
                return fail_usage(ctl, error, "option '-%c' needs %s", *letter, option->value);
            }
            value = argv[++*at];
        }
        add_value(ctl, option, value);
        break;
    }
    ++*at;
    return true;
}

static bool
is_option(const char *text)
{
    return text[0] == '-' && text[1] != '\0';
}

/* Global options in front of the command, then the command itself. Leaves *at behind it. */
static bool
parse_command(Ctl *ctl, int argc, char *const *argv, int *at, GError **error)
{
    while (*at < argc && is_option(argv[*at])) {
        bool fits = argv[*at][1] == '-' ? parse_long(ctl, argv, argc, at, error)
                                        : parse_short(ctl, argv, argc, at, error);
        if (!fits) {
            return false;
        }
    }
    if (*at < argc && strcmp(argv[*at], "help") == 0) {
        ctl->help = true;
        ++*at;
    }
    int used = 0;
    ctl->row = command_find(argv + *at, &used);
    *at += used;

    bool group = ctl->row == NULL || ctl->row->run == NULL;
    if (group && *at < argc && !is_option(argv[*at])) {
        const char *path = ctl->row != NULL ? ctl->row->path : "";
        const char *guess = command_guess(path, argv[*at]);
        g_autofree char *hint =
            guess != NULL ? g_strdup_printf(", did you mean '%s'?", guess) : NULL;
        return fail_usage(ctl, error, "unknown command '%s%s%s'%s", path, *path ? " " : "",
                          argv[*at], hint != NULL ? hint : "");
    }
    return true;
}

static bool
parse_rest(Ctl *ctl, int argc, char *const *argv, int at, GError **error)
{
    bool only_args = false;
    while (at < argc) {
        const char *text = argv[at];
        if (only_args || !is_option(text)) {
            g_ptr_array_insert(ctl->args, (gint) ctl->args->len - 1, g_strdup(text));
            only_args =
                only_args || (ctl->row != NULL && ctl->row->verbatim && ctl->args->len - 1 >= 2);
            at++;
        } else if (strcmp(text, "--") == 0) {
            only_args = true;
            at++;
        } else if (!(text[1] == '-' ? parse_long(ctl, argv, argc, &at, error)
                                    : parse_short(ctl, argv, argc, &at, error))) {
            return false;
        }
    }
    return true;
}

/* C1 */
static bool
check_count(const Ctl *ctl, GError **error)
{
    g_autoptr(GArray) args = command_args(ctl->row);
    guint given = ctl->args->len - 1, least = 0, most = 0;
    for (guint i = 0; i < args->len; i++) {
        const CommandArg *arg = &g_array_index(args, CommandArg, i);
        if (!arg->optional && ++least > given) {
            return fail_usage(ctl, error, "<%s> is missing", arg->kind);
        }
        most = arg->many ? G_MAXUINT : MAX(most, i + 1);
    }
    for (guint i = 0; i < args->len; i++) {
        most = g_array_index(args, CommandArg, i).many ? G_MAXUINT : most;
    }
    if (given > most) {
        return fail_usage(ctl, error, "'%s' is one argument too many", ctl_arg(ctl, (int) most));
    }
    return true;
}

Ctl *
ctl_new(Remotes *remotes, int argc, char *const *argv, GError **error)
{
    g_autoptr(Ctl) ctl = g_new0(Ctl, 1);
    ctl->remotes = remotes;
    ctl->args = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(ctl->args, NULL);
    ctl->options =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) g_ptr_array_unref);
    ctl->servers =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) rest_free);

    g_auto(GStrv) words = remotes_expand_alias(remotes, argc, argv); /* C2 */
    int count = (int) g_strv_length(words), at = 1;
    if (!parse_command(ctl, count, words, &at, error) ||
        !parse_rest(ctl, count, words, at, error)) {
        return NULL;
    }
    ctl->help = ctl->help || ctl_flag(ctl, "help") || ctl->row == NULL || ctl->row->run == NULL;
    if (!ctl->help && !check_count(ctl, error)) {
        return NULL;
    }
    return g_steal_pointer(&ctl);
}

void
ctl_free(Ctl *ctl)
{
    if (ctl == NULL) {
        return;
    }
    g_clear_pointer(&ctl->servers, g_hash_table_unref);
    g_clear_pointer(&ctl->options, g_hash_table_unref);
    g_clear_pointer(&ctl->args, g_ptr_array_unref);
    g_free(ctl);
}

const Command *
ctl_row(const Ctl *ctl)
{
    return ctl->row;
}

bool
ctl_wants_help(const Ctl *ctl)
{
    return ctl->help;
}

Remotes *
ctl_remotes(const Ctl *ctl)
{
    return ctl->remotes;
}

int
ctl_arg_count(const Ctl *ctl)
{
    return (int) ctl->args->len - 1;
}

const char *
ctl_arg(const Ctl *ctl, int index)
{
    return index < ctl_arg_count(ctl) ? ctl->args->pdata[index] : NULL;
}

char *const *
ctl_args_from(const Ctl *ctl, int index)
{
    return (char *const *) ctl->args->pdata + MIN(index, ctl_arg_count(ctl));
}

char *const *
ctl_option_all(const Ctl *ctl, const char *name)
{
    static char *const none[] = {NULL};
    const GPtrArray *values = g_hash_table_lookup(ctl->options, name);
    return values != NULL ? (char *const *) values->pdata : none;
}

const char *
ctl_option(const Ctl *ctl, const char *name)
{
    const GPtrArray *values = g_hash_table_lookup(ctl->options, name);
    if (values != NULL) {
        return values->pdata[values->len - 2];
    }
    const Option *option = find_option(ctl, name, 0);
    return option != NULL ? option->fallback : NULL;
}

bool
ctl_flag(const Ctl *ctl, const char *name)
{
    return g_strcmp0(ctl_option(ctl, name), "true") == 0;
}

bool
ctl_leads_with_remote(const Ctl *ctl)
{
    const char *first = ctl_arg(ctl, 0);
    return first != NULL && g_str_has_suffix(first, ":");
}

bool
ctl_draws_progress(const Ctl *ctl)
{
    return !ctl_flag(ctl, "quiet") && isatty(STDERR_FILENO);
}

Rest *
ctl_server(Ctl *ctl, const char *arg, const char **ret_name, GError **error)
{
    const char *name = "";
    const Remote *remote = NULL;
    if (ctl_flag(ctl, "force-local")) {
        const char *colon = arg != NULL ? strchr(arg, ':') : NULL;
        name = colon != NULL ? colon + 1 : (arg != NULL ? arg : "");
        remote = remotes_get(ctl->remotes, "local", error);
    } else {
        remote = remotes_split(ctl->remotes, arg, &name, error);
    }
    if (remote == NULL) {
        return NULL;
    }

    Rest *rest = g_hash_table_lookup(ctl->servers, remote->name); /* C3 */
    if (rest == NULL) {
        const char *project = ctl_option(ctl, "project");
        rest = rest_open(ctl->remotes, remote, error);
        if (rest == NULL) {
            return NULL;
        }
        rest_set_project(rest, project != NULL ? project : remote->project);
        rest_set_target(rest, ctl_option(ctl, "target"));
        rest_set_debug(rest, ctl_flag(ctl, "debug"));
        g_hash_table_insert(ctl->servers, g_strdup(remote->name), rest);
    }
    if (ret_name != NULL) {
        *ret_name = name;
    }
    return rest;
}
