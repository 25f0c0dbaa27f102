/* ctl/command.c: C1, C2; and the table's own rules. */
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/remotes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Remotes *remotes;

/* Parses a line split at blanks. */
static Ctl *
parse(const char *line, GError **error)
{
    g_autofree char *full = g_strconcat("hawser ", line, NULL);
    int argc = 0;
    g_auto(GStrv) argv = NULL;
    g_assert_true(g_shell_parse_argv(full, &argc, &argv, NULL));
    return ctl_new(remotes, argc, argv, error);
}

static Ctl *
parsed(const char *line)
{
    g_autoptr(GError) error = NULL;
    Ctl *ctl = parse(line, &error);
    g_assert_no_error(error);
    return ctl;
}

static void
assert_refused(const char *line, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(parse(line, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    if (strstr(error->message, part) == NULL) {
        g_error("'%s' gives: %s", line, error->message);
    }
}

static void
words_find_their_row_by_name_and_alias(void)
{
    static const struct {
        const char *line, *path;
    } cases[] = {{"ls", "list"},
                 {"network ls", "network list"},
                 {"config device rm c1 eth0", "config device remove"},
                 {"network forward port add n 1.2.3.4 tcp 80 10.0.0.1", "network forward port add"},
                 {"create img", "init"},
                 {"freeze c1", "pause"},
                 {"--project x list", "list"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Ctl) ctl = parsed(cases[i].line);
        g_assert_cmpstr(ctl_row(ctl)->path, ==, cases[i].path);
    }
}

static void
options_stand_anywhere_in_every_spelling(void)
{
    g_autoptr(Ctl) ctl = parsed("launch -c a=1 img --config=b=2 c1 -e --config c=3 -cd=4 -s=pool");
    char *const *all = ctl_option_all(ctl, "config");
    g_assert_cmpstr(all[0], ==, "a=1");
    g_assert_cmpstr(all[1], ==, "b=2");
    g_assert_cmpstr(all[2], ==, "c=3");
    g_assert_cmpstr(all[3], ==, "d=4");
    g_assert_null(all[4]);
    g_assert_true(ctl_flag(ctl, "ephemeral"));
    g_assert_cmpstr(ctl_option(ctl, "storage"), ==, "pool");
    g_assert_cmpint(ctl_arg_count(ctl), ==, 2);
    g_assert_cmpstr(ctl_arg(ctl, 1), ==, "c1");
    g_assert_null(ctl_arg(ctl, 2));
}

static void
fallbacks_come_from_the_row(void)
{
    g_autoptr(Ctl) ctl = parsed("list");
    g_assert_cmpstr(ctl_option(ctl, "format"), ==, "table");
    g_assert_cmpstr(ctl_option(ctl, "columns"), ==, "ns46tS");
    g_assert_false(ctl_flag(ctl, "fast"));
    g_assert_null(ctl_option(ctl, "no-such-option"));
}

static void
optional_values_are_taken_only_with_equals(void)
{
    g_autoptr(Ctl) bare = parsed("start --console c1");
    g_autoptr(Ctl) with = parsed("start --console=vga c1");
    g_assert_cmpstr(ctl_option(bare, "console"), ==, "");
    g_assert_cmpstr(ctl_arg(bare, 0), ==, "c1");
    g_assert_cmpstr(ctl_option(with, "console"), ==, "vga");
}

static void
the_command_of_exec_keeps_its_own_options(void)
{
    g_autoptr(Ctl) plain = parsed("exec c1 -t ls -la --help");
    g_assert_true(ctl_flag(plain, "force-interactive"));
    g_assert_false(ctl_wants_help(plain));
    g_assert_cmpint(ctl_arg_count(plain), ==, 4);
    g_assert_cmpstr(ctl_arg(plain, 3), ==, "--help");

    g_autoptr(Ctl) dashes = parsed("exec c1 -- -x --project y");
    g_assert_cmpstr(ctl_arg(dashes, 1), ==, "-x");
    g_assert_cmpint(ctl_arg_count(dashes), ==, 4);
    g_assert_null(ctl_option(dashes, "project"));
}

/* C1 */
static void
what_does_not_fit_names_itself_and_the_help(void)
{
    assert_refused("launch", "<image> is missing (see 'hawser launch --help')");
    assert_refused("rename c1", "<new-name> is missing");
    assert_refused("network show", "<network> is missing");
    assert_refused("rename a b c", "'c' is one argument too many");
    assert_refused("remote get-default now", "'now' is one argument too many");
    assert_refused("list --frobnicate", "unknown option '--frobnicate'");
    assert_refused("list -Z", "unknown option '-Z'");
    assert_refused("list --format", "option '--format' needs <format>");
    assert_refused("list --fast=maybe", "takes no value");
    assert_refused("lsit", "did you mean 'list'?");
    assert_refused("network lits", "did you mean 'list'?");
    assert_refused("qqqqqqqq", "unknown command 'qqqqqqqq'");
}

static void
help_needs_no_arguments(void)
{
    g_autoptr(Ctl) a = parsed("launch --help");
    g_autoptr(Ctl) b = parsed("help network acl");
    g_autoptr(Ctl) c = parsed("network");
    g_autoptr(Ctl) d = parsed("");
    g_assert_true(ctl_wants_help(a) && ctl_wants_help(b) && ctl_wants_help(c) && ctl_wants_help(d));
    g_assert_cmpstr(ctl_row(b)->path, ==, "network acl");
    g_assert_null(ctl_row(d));
}

/* C2 */
static void
aliases_of_the_user_expand_once(void)
{
    json_t *aliases = remotes_aliases(remotes);
    json_object_set_new(aliases, "ll", json_string("list -c n --format csv"));
    json_object_set_new(aliases, "sh", json_string("exec @ARGS@ -- sh -l"));
    json_object_set_new(aliases, "list", json_string("list --fast"));
    g_autoptr(Ctl) ll = parsed("ll web");
    g_assert_cmpstr(ctl_option(ll, "format"), ==, "csv");
    g_assert_cmpstr(ctl_arg(ll, 0), ==, "web");
    g_autoptr(Ctl) sh = parsed("sh c1");
    g_assert_cmpstr(ctl_arg(sh, 0), ==, "c1");
    g_assert_cmpstr(ctl_arg(sh, 2), ==, "-l");
    g_autoptr(Ctl) list = parsed("list");
    g_assert_true(ctl_flag(list, "fast"));
    json_object_clear(aliases);
}

static void
remotes_in_front_are_told_from_names(void)
{
    g_autoptr(Ctl) led = parsed("list lab: web"), plain = parsed("list web");
    g_assert_true(ctl_leads_with_remote(led));
    g_assert_false(ctl_leads_with_remote(plain));

    const char *name = NULL;
    g_autoptr(GError) error = NULL;
    const Remote *local = remotes_split(remotes, "local:c1/snap", &name, &error);
    g_assert_cmpstr(local->name, ==, "local");
    g_assert_cmpstr(name, ==, "c1/snap");
    g_assert_nonnull(remotes_split(remotes, "c1/etc/a:b", &name, &error));
    g_assert_cmpstr(name, ==, "c1/etc/a:b");
    g_assert_null(remotes_split(remotes, "nowhere:c1", &name, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_NOT_FOUND);
}

/* Every row can be reached, has a group above it, and no option or letter twice. */
static void
the_table_is_whole(void)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        int used = 0;
        g_auto(GStrv) words = g_strsplit(row->path, " ", -1);
        g_assert_true(command_find(words, &used) == row);
        g_assert_cmpuint(used, ==, g_strv_length(words));
        char *blank = strrchr(row->path, ' ');
        g_autofree char *group =
            blank != NULL ? g_strndup(row->path, (gsize) (blank - row->path)) : NULL;
        g_assert_true(group == NULL || command_get(group) != NULL);
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (const Option *o = row->options; o != NULL && o->name != NULL; o++) {
            g_assert_true(g_hash_table_add(seen, g_strdup(o->name)));
            g_assert_true(o->letter == 0 ||
                          g_hash_table_add(seen, g_strdup_printf("%c", o->letter)));
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *dir = g_dir_make_tmp("hawser-test-XXXXXX", NULL);
    remotes = remotes_load(dir, NULL);
    g_test_add_func("/command/words-find-their-row-by-name-and-alias",
                    words_find_their_row_by_name_and_alias);
    g_test_add_func("/command/options-stand-anywhere-in-every-spelling",
                    options_stand_anywhere_in_every_spelling);
    g_test_add_func("/command/fallbacks-come-from-the-row", fallbacks_come_from_the_row);
    g_test_add_func("/command/optional-values-are-taken-only-with-equals",
                    optional_values_are_taken_only_with_equals);
    g_test_add_func("/command/the-command-of-exec-keeps-its-own-options",
                    the_command_of_exec_keeps_its_own_options);
    g_test_add_func("/command/what-does-not-fit-names-itself-and-the-help",
                    what_does_not_fit_names_itself_and_the_help);
    g_test_add_func("/command/help-needs-no-arguments", help_needs_no_arguments);
    g_test_add_func("/command/aliases-of-the-user-expand-once", aliases_of_the_user_expand_once);
    g_test_add_func("/command/remotes-in-front-are-told-from-names",
                    remotes_in_front_are_told_from_names);
    g_test_add_func("/command/the-table-is-whole", the_table_is_whole);
    int status = g_test_run();
    remotes_free(remotes);
    rmdir(dir);
    return status;
}
