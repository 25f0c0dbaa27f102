/* Editing.
 * D1  What a person typed is never lost: after an error the same text is opened again, with the
 *     error on top, until it applies or the person gives up.
 * D2  The temporary file is readable by the user only, and gone afterwards.
 * Called by entity.c, cmd_file.c, cmd_remote.c and cmd_init.c. */
#include "ctl/edit.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/json.h"
#include "ctl/out.h"
#include "proto/yaml.h"

bool
edit_is_piped(void)
{
    return !isatty(STDIN_FILENO);
}

char *
edit_read_stdin(GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char bytes[8192];
    ssize_t got;
    while ((got = read(STDIN_FILENO, bytes, sizeof bytes)) > 0) {
        g_string_append_len(text, bytes, got);
        if (text->len > YAML_MAX_BYTES) {
            haw_fail(error, HAW_LIMIT, "stdin has more than %d bytes", YAML_MAX_BYTES);
            return NULL;
        }
    }
    if (got < 0) {
        haw_fail_errno(error, errno, "read stdin");
        return NULL;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

json_t *
edit_maybe_stdin(GError **error)
{
    struct stat st;
    if (isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &st) != 0) {
        return json_null();
    }
    struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
    bool speaks = S_ISREG(st.st_mode) || (S_ISFIFO(st.st_mode) && poll(&wait, 1, 100) > 0);
    if (!speaks) {
        return json_null();
    }
    g_autofree char *text = edit_read_stdin(error);
    json_t *value = text != NULL ? yaml_to_json(text, strlen(text), yaml_text_keys, error) : NULL;
    if (value == NULL) {
        haw_push(error, "stdin");
    }
    return value;
}

bool
edit_apply_stdin(EditApply apply, void *data, GError **error)
{
    g_autofree char *text = edit_read_stdin(error);
    g_autoptr(json_t) object =
        text != NULL ? yaml_to_json(text, strlen(text), yaml_text_keys, error) : NULL;
    return object != NULL ? apply(object, data, error) : haw_push(error, "stdin");
}

static bool
run_editor(const char *path, GError **error)
{
    static const char *const names[] = {"VISUAL", "EDITOR", NULL};
    const char *editor = NULL;
    for (const char *const *name = names; *name != NULL && editor == NULL; name++) {
        const char *value = g_getenv(*name);
        editor = value != NULL && *value != '\0' ? value : NULL;
    }
    g_autofree char *found = NULL;
    static const char *const fallbacks[] = {"editor", "vi", "nano", "emacs", NULL};
    for (const char *const *name = fallbacks; editor == NULL && *name != NULL; name++) {
        found = g_find_program_in_path(*name);
        editor = found;
    }
    if (editor == NULL) {
        return haw_fail(error, HAW_NOT_FOUND, "there is no editor (set EDITOR to one)");
    }
    g_auto(GStrv) argv = NULL;
    if (!g_shell_parse_argv(editor, NULL, &argv, NULL)) {
        return haw_fail(error, HAW_INVALID, "EDITOR '%s' is not a command", editor);
    }
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (char **word = argv; *word != NULL; word++) {
        g_ptr_array_add(words, *word);
    }
    g_ptr_array_add(words, (void *) path);
    g_ptr_array_add(words, NULL);
    int status = 0;
    GError *why = NULL;
    if (!g_spawn_sync(NULL, (char **) words->pdata, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL,
                      &status, &why) ||
        !g_spawn_check_wait_status(status, &why)) {
        haw_adopt(error, HAW_FAILED, why);
        return haw_push(error, "editor '%s'", editor);
    }
    return true;
}

bool
edit_file(const char *path, bool *ret_changed, GError **error)
{
    g_autofree char *before = NULL, *after = NULL;
    gsize before_size = 0, after_size = 0;
    if (!g_file_get_contents(path, &before, &before_size, NULL) || !run_editor(path, error)) {
        return false;
    }
    if (!g_file_get_contents(path, &after, &after_size, NULL)) {
        return haw_fail(error, HAW_IO, "the edited file '%s' cannot be read", path);
    }
    *ret_changed = before_size != after_size || memcmp(before, after, after_size) != 0;
    return true;
}

/* "# why" lines in front of the text without those of an earlier round. */
static char *
with_reason(const char *text, const char *why)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "#! %s\n", why);
    while (g_str_has_prefix(text, "#! ")) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    g_string_append(out, text);
    return g_string_free(out, FALSE);
}

static bool
has_content(const char *text)
{
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        line += strspn(line, " \t");
        if (*line != '#' && *line != '\n' && *line != '\0') {
            return true;
        }
    }
    return false;
}

/* One round: edit, read, apply. ret_done: no further round is needed. */
static bool
edit_round(const char *path, const char *original, EditApply apply, void *data, bool *ret_done,
           GError **error)
{
    bool changed = false;
    if (!edit_file(path, &changed, error)) {
        *ret_done = true;
        return false;
    }
    size_t size = 0;
    g_autofree char *text = fd_read_file(path, YAML_MAX_BYTES, &size, error);
    if (text == NULL) {
        *ret_done = true;
        return false;
    }
    if (!has_content(text) || strcmp(text, original) == 0) {
        *ret_done = true;
        g_printerr("Nothing was changed.\n");
        return true;
    }
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) object = yaml_to_json(text, size, yaml_text_keys, &why);
    if (object != NULL && apply(object, data, &why)) {
        *ret_done = true;
        return true;
    }
    /* D1 */
    g_printerr("hawser: %s\n", why->message);
    if (!edit_confirm("Edit again?")) {
        *ret_done = true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_autofree char *again = with_reason(text, why->message);
    return fd_write_atomic(path, again, strlen(again), 0600, error);
}

bool
edit_apply_editor(const json_t *object, const char *help, EditApply apply, void *data,
                  GError **error)
{
    g_autofree char *yaml = out_yaml_text(object);
    g_autofree char *text = g_strconcat(help, yaml, NULL);
    g_autofree char *folder = g_dir_make_tmp("hawser-edit-XXXXXX", NULL); /* D2 */
    if (folder == NULL) {
        return haw_fail(error, HAW_IO, "make a temporary folder");
    }
    g_autofree char *path = g_build_filename(folder, "edit.yaml", NULL);
    bool ok = fd_write_atomic(path, text, strlen(text), 0600, error), done = false;
    while (ok && !done) {
        ok = edit_round(path, text, apply, data, &done, error);
    }
    fd_remove_tree(folder, NULL);
    return ok;
}

char *
edit_text(const char *bytes, size_t size, const char *suffix, GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("hawser-edit-XXXXXX", NULL); /* D2 */
    g_autofree char *file = g_strconcat("edit", suffix, NULL), *text = NULL;
    if (folder == NULL) {
        haw_fail(error, HAW_IO, "make a temporary folder");
        return NULL;
    }
    g_autofree char *path = g_build_filename(folder, file, NULL);
    bool changed = false;
    if (fd_write_atomic(path, bytes, size, 0600, error) && edit_file(path, &changed, error)) {
        text = fd_read_file(path, YAML_MAX_BYTES, NULL, error);
    }
    fd_remove_tree(folder, NULL);
    return g_steal_pointer(&text);
}

static char *
read_answer(void)
{
    g_autofree char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, stdin) < 0) {
        return NULL;
    }
    return g_strdup(g_strstrip(line));
}

bool
edit_confirm(const char *question)
{
    if (!isatty(STDIN_FILENO)) {
        return false;
    }
    fprintf(stderr, "%s [yes/no] ", question);
    g_autofree char *answer = read_answer();
    return answer != NULL &&
           (g_ascii_strcasecmp(answer, "yes") == 0 || g_ascii_strcasecmp(answer, "y") == 0);
}

char *
edit_ask(const char *question, const char *fallback)
{
    if (!isatty(STDIN_FILENO)) {
        return g_strdup(fallback);
    }
    fprintf(stderr, "%s ", question);
    if (fallback != NULL) {
        fprintf(stderr, "[%s] ", fallback);
    }
    g_autofree char *answer = read_answer();
    return answer != NULL && *answer != '\0' ? g_steal_pointer(&answer) : g_strdup(fallback);
}

char *
edit_ask_secret(const char *question)
{
    struct termios before, silent;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0) {
        return NULL;
    }
    silent = before;
    silent.c_lflag &= ~(tcflag_t) ECHO;
    fprintf(stderr, "%s ", question);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    char *answer = read_answer();
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputs("\n", stderr);
    return answer;
}
