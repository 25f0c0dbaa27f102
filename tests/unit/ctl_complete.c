/* ctl/complete.c and ctl/manual.c: what the table becomes, against tests/golden/.
 * HAWSER_GOLDEN=write writes the files anew; read the difference before you commit it. */
#include "ctl/complete.h"
#include "ctl/manual.h"

#include <string.h>

static const char *golden_dir;

static void
assert_golden(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(golden_dir, name, NULL), *want = NULL;
    if (g_strcmp0(g_getenv("HAWSER_GOLDEN"), "write") == 0) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    if (strcmp(want, text) != 0) {
        g_error("'%s' is out of date (HAWSER_GOLDEN=write writes it; read the difference)", path);
    }
}

/* A server with some things. */
static void
fake_names(void *data, const char *kind, char *const *args, const char *word, GPtrArray *out)
{
    static const struct {
        const char *kind, *name;
    } things[] = {{"instance", "web1"}, {"instance", "web2"},   {"profile", "default"},
                  {"network", "br0"},   {"pool", "default"},    {"remote", "lab:"},
                  {"remote", "local:"}, {"image", "debian/12"}, {"remote-name", "lab"},
                  {"volume", "data"},   {"snapshot", "snap0"},  {"instance/path", "web1/"}};
    for (size_t i = 0; i < G_N_ELEMENTS(things); i++) {
        if (strcmp(things[i].kind, kind) == 0 && g_str_has_prefix(things[i].name, word)) {
            g_ptr_array_add(out, g_strdup(things[i].name));
        }
    }
}

static const char *const lines[] = {
    "",
    "la",
    "network ",
    "network acl ",
    "launch ",
    "launch deb",
    "launch debian/12 ",
    "launch --st",
    "launch -s ",
    "launch --storage=d",
    "launch -p ",
    "exec ",
    "exec web1 ",
    "exec web1 -- l",
    "start web1 ",
    "list ",
    "list --format ",
    "list lab: ",
    "config set ",
    "config device add web1 eth0 ",
    "config device add web1 eth0 n",
    "file pull ",
    "storage volume show ",
    "storage volume show default ",
    "storage create x ",
    "restore web1 ",
    "remote switch ",
    "image build ",
    "completion ",
    "monitor --type ",
    "query -X ",
    "network acl rule add a ",
    "frobnicate ",
    "__",
};

static void
completion_offers_what_the_table_says(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", -1);
        char *const none[] = {(char *) "", NULL};
        g_auto(GStrv) found = complete_words(words[0] != NULL ? words : none, fake_names, NULL);
        g_autofree char *joined = g_strjoinv(" ", found);
        g_string_append_printf(text, "> hawser %s\n%s\n", lines[i], joined);
    }
    assert_golden("ctl_complete.txt", text->str);
}

/* M2 */
static void
every_offered_command_is_one(void)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (row->run != NULL) {
            continue;
        }
        g_autofree char *line = g_strconcat(row->path, " ", NULL);
        g_auto(GStrv) words = g_strsplit(line, " ", -1);
        g_auto(GStrv) found = complete_words(words, NULL, NULL);
        g_assert_cmpuint(g_strv_length(found), >, 0);
        for (char **name = found; *name != NULL; name++) {
            g_autofree char *path = g_strconcat(line, *name, NULL);
            g_assert_nonnull(command_get(path));
        }
    }
}

static void
every_shell_has_a_script(void)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < G_N_ELEMENTS(shells); i++) {
        g_assert_nonnull(strstr(complete_shell(shells[i]), "hawser __complete -- "));
    }
    g_assert_null(complete_shell("tcsh"));
}

static void
manual_page_is_as_reviewed(void)
{
    g_autofree char *text = manual_page();
    assert_golden("hawser.1", text);
}

static void
help_is_as_reviewed(void)
{
    static const char *const paths[] = {NULL,   "list", "network", "exec", "config device add",
                                        "start"};
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *help = manual_help(paths[i] != NULL ? command_get(paths[i]) : NULL);
        g_string_append_printf(text, "> hawser %s%s--help\n%s\n", paths[i] != NULL ? paths[i] : "",
                               paths[i] != NULL ? " " : "", help);
    }
    assert_golden("ctl_help.txt", text->str);
}

static void
nothing_is_wider_than_a_page(void)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        g_autofree char *help = manual_help(row);
        g_auto(GStrv) help_lines = g_strsplit(help, "\n", -1);
        for (char **line = help_lines; *line != NULL; line++) {
            bool usage = g_str_has_prefix(*line, "Usage:");
            if (!usage && g_utf8_strlen(*line, -1) > 100) {
                g_error("help of '%s' is wide: %s", row->path, *line);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    golden_dir = g_getenv("HAWSER_GOLDEN_DIR");
    g_assert_nonnull(golden_dir);
    g_test_add_func("/complete/offers-what-the-table-says", completion_offers_what_the_table_says);
    g_test_add_func("/complete/every-offered-command-is-one", every_offered_command_is_one);
    g_test_add_func("/complete/every-shell-has-a-script", every_shell_has_a_script);
    g_test_add_func("/manual/page-is-as-reviewed", manual_page_is_as_reviewed);
    g_test_add_func("/manual/help-is-as-reviewed", help_is_as_reviewed);
    g_test_add_func("/manual/nothing-is-wider-than-a-page", nothing_is_wider_than_a_page);
    return g_test_run();
}
