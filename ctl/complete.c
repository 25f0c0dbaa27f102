/* Completion: the shells' scripts ask 'hawser __complete -- words…', and the table answers.
 * M1  It never asks, waits long, or prints errors: a shell is at its prompt.
 * M2  What it offers, the parser takes: both read the same rows.
 * Names of things come from the server; their kinds are the words in the brackets of a row. */
#include "ctl/complete.h"

#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/out.h"

static void
offer(GPtrArray *out, const char *text, const char *word)
{
    if (g_str_has_prefix(text, word)) {
        g_ptr_array_add(out, g_strdup(text));
    }
}

static void
offer_words(GPtrArray *out, const char *words, const char *word)
{
    g_auto(GStrv) list = g_strsplit(words, " ", -1);
    for (char **item = list; *item != NULL; item++) {
        offer(out, *item, word);
    }
}

/* Kinds whose values never change. */
static const struct {
    const char *kind, *words;
} fixed_kinds[] = {
    {"format", "table compact csv json yaml"},
    {"monitor-format", "yaml json pretty"},
    {"shell", "bash zsh fish"},
    {"driver", "dir btrfs overlay"},
    {"mode", "auto interactive non-interactive"},
    {"transfer-mode", "pull push relay"},
    {"direction", "ingress egress"},
    {"protocol", "tcp udp"},
    {"server-protocol", "lxd simplestreams"},
    {"device-type", "disk nic none proxy unix-block unix-char unix-hotplug gpu usb tpm pci"},
    {"network-type", "bridge ovn physical macvlan sriov"},
    {"content-type", "filesystem block"},
    {"certificate-type", "client metrics"},
    {"event-type", "logging operation lifecycle"},
    {"distribution", "debian/11 debian/12 debian/13 busybox"},
    {"compression", "gzip xz zstd bzip2 lzma none"},
    {"method", "GET POST PUT PATCH DELETE"},
    {"console", "console vga"},
    {"bench-command", "network migration compare report list run ab"},
    {"eswitch-mode", "switchdev legacy"},
    {"flow-protocol", "tcp udp icmp icmp6"},
    {"flow-state", "half fast probing expired stale"},
};

/* Kinds that a GET lists: "{0}" stands for the first argument. */
static const struct {
    const char *kind, *path, *column;
} listed_kinds[] = {
    {"instance", "/1.0/instances?recursion=1", "name"},
    {"profile", "/1.0/profiles?recursion=1", "name"},
    {"project", "/1.0/projects?recursion=1", "name"},
    {"network", "/1.0/networks?recursion=1", "name"},
    {"acl", "/1.0/network-acls?recursion=1", "name"},
    {"zone", "/1.0/network-zones?recursion=1", "name"},
    {"pool", "/1.0/storage-pools?recursion=1", "name"},
    {"image", "/1.0/images/aliases?recursion=1", "name"},
    {"image-alias", "/1.0/images/aliases?recursion=1", "name"},
    {"fingerprint", "/1.0/certificates?recursion=1", "fingerprint"},
    {"warning", "/1.0/warnings?recursion=1", "uuid"},
    {"pf", "/1.0/hawser/hw/pfs", "netdev"},
    {"volume", "/1.0/storage-pools/{0}/volumes?recursion=1", "name"},
    {"listen-address", "/1.0/networks/{0}/forwards?recursion=1", "listen_address"},
    {"balancer-address", "/1.0/networks/{0}/load-balancers?recursion=1", "listen_address"},
    {"peer", "/1.0/networks/{0}/peers?recursion=1", "name"},
    {"record", "/1.0/network-zones/{0}/records?recursion=1", "name"},
    {"snapshot", "/1.0/instances/{0}/snapshots?recursion=1", "name"},
};

static void
offer_kind(GPtrArray *out, const char *kind, char *const *args, const char *word,
           CompleteNames names, void *data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fixed_kinds); i++) {
        if (strcmp(fixed_kinds[i].kind, kind) == 0) {
            offer_words(out, fixed_kinds[i].words, word);
            return;
        }
    }
    if (names != NULL) {
        names(data, kind, args, word, out);
    }
}

static const Option *
find_option(const Command *row, const char *text)
{
    const Option *lists[] = {row != NULL ? row->options : NULL, command_global_options};
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const Option *o = lists[i]; o != NULL && o->name != NULL; o++) {
            bool is_long = g_str_has_prefix(text, "--") && strcmp(text + 2, o->name) == 0;
            bool is_short = text[1] == o->letter && text[1] != '-' && text[2] == '\0';
            if (is_long || is_short) {
                return o;
            }
        }
    }
    return NULL;
}

static void
offer_options(GPtrArray *out, const Command *row, const char *word)
{
    const Option *lists[] = {row != NULL ? row->options : NULL, command_global_options};
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (const Option *o = lists[i]; o != NULL && o->name != NULL; o++) {
            g_autofree char *name = g_strconcat("--", o->name, NULL);
            offer(out, name, word);
        }
    }
}

static char *
bare_kind(const char *value)
{
    g_autofree char *kind = g_strdup(value);
    g_strdelimit(kind, "<>[]", ' ');
    return g_strdup(g_strstrip(kind));
}

/* The value of an option: "--name word" or "--name=word". True when the word is one. */
static bool
offer_option_value(GPtrArray *out, const Command *row, const char *before, const char *word,
                   CompleteNames names, void *data)
{
    char *const none[] = {NULL};
    const char *equals = g_str_has_prefix(word, "--") ? strchr(word, '=') : NULL;
    if (equals != NULL) {
        g_autofree char *name = g_strndup(word, (gsize) (equals - word));
        const Option *option = find_option(row, name);
        g_autoptr(GPtrArray) values = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *kind =
            option != NULL && option->value != NULL ? bare_kind(option->value) : NULL;
        if (kind != NULL) {
            offer_kind(values, kind, none, equals + 1, names, data);
        }
        for (guint i = 0; i < values->len; i++) {
            g_ptr_array_add(out, g_strconcat(name, "=", values->pdata[i], NULL));
        }
        return true;
    }
    const Option *option =
        before != NULL && before[0] == '-' && before[1] != '\0' ? find_option(row, before) : NULL;
    if (option == NULL || option->value == NULL || option->value[0] == '[') {
        return false;
    }
    g_autofree char *kind = bare_kind(option->value);
    offer_kind(out, kind, none, word, names, data);
    return true;
}

/* The row's argument at a position: an optional leading "[<remote>:]" takes none unless it was
 * written. */
static void
offer_arg(GPtrArray *out, const Command *row, GPtrArray *args, const char *word,
          CompleteNames names, void *data)
{
    g_autoptr(GArray) grammar = command_args(row);
    guint position = args->len - 1; /* NULL at its end */
    for (guint i = 0; i < grammar->len; i++) {
        const CommandArg *arg = &g_array_index(grammar, CommandArg, i);
        bool bare_remote = strcmp(arg->kind, "remote") == 0, skipped = false;
        if (bare_remote && i == 0) {
            const char *first = args->pdata[0];
            skipped = first == NULL || !g_str_has_suffix(first, ":");
            position += skipped ? 1 : 0;
        }
        bool here = i == position || (arg->many && i <= position);
        if (bare_remote && (here || (skipped && position == 1))) {
            offer_kind(out, "remote", (char *const *) args->pdata, word, names, data);
        }
        if (here && !bare_remote) {
            if (arg->remote) {
                offer_kind(out, "remote", (char *const *) args->pdata, word, names, data);
            }
            offer_kind(out, arg->kind, (char *const *) args->pdata, word, names, data);
            return;
        }
    }
}

static int
compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
offer_commands(GPtrArray *out, const char *path, const char *word)
{
    for (const Command *row = command_rows; row != NULL; row = command_next(row)) {
        if (!row->hidden && command_is_below(row, path)) {
            const char *blank = strrchr(row->path, ' ');
            offer(out, blank != NULL ? blank + 1 : row->path, word);
        }
    }
}

char **
complete_words(char *const *words, CompleteNames names, void *data)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    int count = (int) g_strv_length((char **) words), used = 0;
    const char *word = count > 0 ? words[count - 1] : "";
    g_autoptr(GPtrArray) head = g_ptr_array_new();
    for (int i = 0; i + 1 < count; i++) {
        g_ptr_array_add(head, words[i]);
    }
    g_ptr_array_add(head, NULL);
    const Command *row = command_find((char *const *) head->pdata, &used);
    const char *before = count > 1 ? words[count - 2] : NULL;

    g_autoptr(GPtrArray) args = g_ptr_array_new();
    for (int i = used; i + 1 < count; i++) {
        const Option *option = words[i][0] == '-' ? find_option(row, words[i]) : NULL;
        if (option != NULL && option->value != NULL && option->value[0] != '[') {
            i++;
        } else if (words[i][0] != '-') {
            g_ptr_array_add(args, words[i]);
        }
    }
    g_ptr_array_add(args, NULL);

    if ((row == NULL || row->run == NULL) && args->len == 1) {
        offer_commands(out, row != NULL ? row->path : "", word);
    }
    if (!offer_option_value(out, row, before, word, names, data)) {
        if (*word == '-') {
            offer_options(out, row, word);
        } else if (row != NULL && row->run != NULL) {
            offer_arg(out, row, args, word, names, data);
        }
    }
    g_ptr_array_sort(out, compare);
    g_ptr_array_set_free_func(out, NULL);
    g_ptr_array_add(out, NULL);
    return (char **) g_ptr_array_free(out, FALSE);
}

static void
offer_remotes(Ctl *ctl, const char *word, GPtrArray *out, const char *suffix)
{
    g_auto(GStrv) names = remotes_names(ctl_remotes(ctl));
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *text = g_strconcat(*name, suffix, NULL);
        offer(out, text, word);
    }
}

/* The path to list a kind, its "{0}" filled; NULL when there is none. */
static char *
list_path(const char *kind, char *const *args, const char **ret_column)
{
    for (size_t i = 0; i < G_N_ELEMENTS(listed_kinds); i++) {
        if (strcmp(listed_kinds[i].kind, kind) != 0) {
            continue;
        }
        const char *mark = strstr(listed_kinds[i].path, "{0}");
        *ret_column = listed_kinds[i].column;
        if (mark == NULL) {
            return g_strdup(listed_kinds[i].path);
        }
        if (args[0] == NULL) {
            return NULL;
        }
        const char *colon = strchr(args[0], ':');
        g_autofree char *escaped =
            g_uri_escape_string(colon != NULL ? colon + 1 : args[0], NULL, FALSE);
        return g_strdup_printf("%.*s%s%s", (int) (mark - listed_kinds[i].path),
                               listed_kinds[i].path, escaped, mark + 3);
    }
    return NULL;
}

static void
names_of_server(void *data, const char *kind, char *const *args, const char *word, GPtrArray *out)
{
    Ctl *ctl = data;
    const char *column = NULL;
    if (strcmp(kind, "remote") == 0) {
        offer_remotes(ctl, word, out, ":");
        return;
    }
    if (strcmp(kind, "remote-name") == 0) {
        offer_remotes(ctl, word, out, "");
        return;
    }
    bool below = strcmp(kind, "instance/path") == 0;
    g_autofree char *path = list_path(below ? "instance" : kind, args, &column);
    const char *colon = strchr(word, ':');
    const char *place =
        colon != NULL ? word : (args[0] != NULL && strchr(args[0], ':') ? args[0] : NULL);
    Rest *rest = path != NULL ? ctl_server(ctl, place, NULL, NULL) : NULL;
    g_autoptr(json_t) list = rest != NULL ? rest_get(rest, path, NULL) : NULL;
    size_t index;
    json_t *object;
    json_array_foreach (list, index, object) {
        g_autofree char *text =
            g_strdup_printf("%.*s%s%s", colon != NULL ? (int) (colon + 1 - word) : 0, word,
                            out_get(object, column), below ? "/" : "");
        offer(out, text, word);
    }
}

bool
complete_run(Ctl *ctl, GError **error)
{
    g_auto(GStrv) found = complete_words(ctl_args_from(ctl, 0), names_of_server, ctl);
    for (char **text = found; *text != NULL; text++) {
        puts(*text);
    }
    return true;
}

static const struct {
    const char *shell, *script;
} scripts[] = {
    {"bash",
     "_hawser() {\n"
     "    local words cword\n"
     "    if declare -F _get_comp_words_by_ref >/dev/null; then\n"
     "        _get_comp_words_by_ref -n := words cword\n"
     "    else\n"
     "        words=(\"${COMP_WORDS[@]}\") cword=$COMP_CWORD\n"
     "    fi\n"
     "    local cur=${words[cword]}\n"
     "    mapfile -t COMPREPLY < <(hawser __complete -- \"${words[@]:1:cword}\" 2>/dev/null)\n"
     "    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions \"$cur\"\n"
     "    [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[:/] ]] && compopt -o nospace\n"
     "    [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default\n"
     "}\n"
     "complete -F _hawser hawser\n"},
    {"zsh", "#compdef hawser\n"
            "_hawser() {\n"
            "    local -a found\n"
            "    found=(${(f)\"$(hawser __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
            "    if (( ${#found} )); then\n"
            "        compadd -S '' -- ${(M)found:#*[:/]}\n"
            "        compadd -- ${found:#*[:/]}\n"
            "    else\n"
            "        _files\n"
            "    fi\n"
            "}\n"
            "if [ \"$funcstack[1]\" = _hawser ]; then\n"
            "    _hawser \"$@\"\n"
            "else\n"
            "    compdef _hawser hawser\n"
            "fi\n"},
    {"fish", "function __hawser_complete\n"
             "    set -l words (commandline -opc)\n"
             "    set -l found (hawser __complete -- $words[2..-1] (commandline -ct) 2>/dev/null)\n"
             "    if set -q found[1]\n"
             "        printf '%s\\n' $found\n"
             "    else\n"
             "        __fish_complete_path (commandline -ct)\n"
             "    end\n"
             "end\n"
             "complete -c hawser -f -a '(__hawser_complete)'\n"},
};

const char *
complete_shell(const char *shell)
{
    for (size_t i = 0; i < G_N_ELEMENTS(scripts); i++) {
        if (strcmp(scripts[i].shell, shell) == 0) {
            return scripts[i].script;
        }
    }
    return NULL;
}

bool
complete_script(Ctl *ctl, GError **error)
{
    const char *script = complete_shell(ctl_arg(ctl, 0));
    if (script == NULL) {
        return haw_fail(error, HAW_INVALID, "no completion for '%s' (choose bash, zsh or fish)",
                        ctl_arg(ctl, 0));
    }
    fputs(script, stdout);
    return true;
}
