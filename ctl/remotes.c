/* The user's configuration file.
 * R1  "local" is always there and cannot be changed; built-in image servers are not written out.
 * R2  config.yml is replaced in one step: a crash leaves the old or the new one.
 * R3  Keys that we do not know stay in the file as they are.
 * Called by ctl_server() and cmd_remote.c. */
#include "ctl/remotes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "ctl/json.h"
#include "proto/yaml.h"

struct Remotes {
    char *dir;
    json_t *root;      /* owns: the file */
    GHashTable *shown; /* owns: name -> Remote, what remotes_get() lent */
};

static const Remote builtins[] = {
    {"local", "unix://", "lxd", NULL, false, true},
    {"images", "https://images.lxd.canonical.com", "simplestreams", NULL, true, true},
    {"ubuntu", "https://cloud-images.ubuntu.com/releases", "simplestreams", NULL, true, true},
    {"ubuntu-daily", "https://cloud-images.ubuntu.com/daily", "simplestreams", NULL, true, true},
};

static const Remote *
find_builtin(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++) {
        if (strcmp(builtins[i].name, name) == 0) {
            return &builtins[i];
        }
    }
    return NULL;
}

/* The object under 'key' of the root, made when it is not there. */
static json_t *
section(Remotes *remotes, const char *key)
{
    json_t *object = json_object_get(remotes->root, key);
    if (!json_is_object(object)) {
        object = json_object();
        json_object_set_new(remotes->root, key, object);
    }
    return object;
}

static char *
user_dir(void)
{
    const char *conf = g_getenv("HAWSER_CONF");
    if (conf != NULL && *conf != '\0') {
        return g_strdup(conf);
    }
    return g_build_filename(g_get_user_config_dir(), "hawser", NULL);
}

Remotes *
remotes_load(const char *dir, GError **error)
{
    g_autoptr(Remotes) remotes = g_new0(Remotes, 1);
    remotes->dir = dir != NULL ? g_strdup(dir) : user_dir();
    remotes->shown = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    g_autofree char *path = g_build_filename(remotes->dir, "config.yml", NULL);
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        remotes->root = json_object();
        return g_steal_pointer(&remotes);
    }
    size_t size = 0;
    static const char *const text_keys[] = {"aliases", "addr", "default-remote", "project", NULL};
    g_autofree char *text = fd_read_file(path, YAML_MAX_BYTES, &size, error);
    remotes->root = text != NULL ? yaml_to_json(text, size, text_keys, error) : NULL;
    if (remotes->root == NULL) {
        haw_push(error, "read '%s'", path);
        return NULL;
    }
    if (!json_is_object(remotes->root)) {
        json_decref(remotes->root);
        remotes->root = json_object();
    }
    return g_steal_pointer(&remotes);
}

void
remotes_free(Remotes *remotes)
{
    if (remotes == NULL) {
        return;
    }
    g_clear_pointer(&remotes->shown, g_hash_table_unref);
    json_decref(remotes->root);
    g_free(remotes->dir);
    g_free(remotes);
}

bool
remotes_save(Remotes *remotes, GError **error)
{
    g_autofree char *text = yaml_from_json(remotes->root);
    g_autofree char *path = remotes_path(remotes, "config.yml", error);
    return path != NULL && fd_write_atomic(path, text, strlen(text), 0600, error); /* R2 */
}

const Remote *
remotes_get(Remotes *remotes, const char *name, GError **error)
{
    json_t *row = json_object_get(section(remotes, "remotes"), name);
    const Remote *builtin = find_builtin(name);
    if (row == NULL && builtin == NULL) {
        haw_fail(
            error, HAW_NOT_FOUND,
            "remote '%s' is not known (see 'hawser remote list', or add it with 'hawser remote "
            "add')",
            name);
        return NULL;
    }
    if (row == NULL) {
        return builtin;
    }
    Remote *remote = g_hash_table_lookup(remotes->shown, name);
    if (remote == NULL) {
        remote = g_new0(Remote, 1);
        g_hash_table_insert(remotes->shown, g_strdup(name), remote);
    }
    const char *address = json_string_value(json_object_get(row, "addr"));
    const char *protocol = json_string_value(json_object_get(row, "protocol"));
    const char *project = json_string_value(json_object_get(row, "project"));
    remote->name = builtin != NULL ? builtin->name : g_intern_string(name);
    remote->is_builtin = strcmp(name, "local") == 0; /* R1 */
    remote->address = g_intern_string(address != NULL && !remote->is_builtin ? address : "unix://");
    remote->protocol = g_intern_string(protocol != NULL ? protocol : "lxd");
    remote->project = project != NULL && *project != '\0' ? g_intern_string(project) : NULL;
    remote->is_public = json_is_true(json_object_get(row, "public"));
    return remote;
}

const Remote *
remotes_split(Remotes *remotes, const char *arg, const char **ret_name, GError **error)
{
    const char *colon = arg != NULL ? strchr(arg, ':') : NULL;
    const char *slash = arg != NULL ? strchr(arg, '/') : NULL;
    if (colon == NULL || (slash != NULL && slash < colon)) {
        *ret_name = arg != NULL ? arg : "";
        return remotes_get(remotes, remotes_default(remotes), error);
    }
    g_autofree char *name = g_strndup(arg, (gsize) (colon - arg));
    *ret_name = colon + 1;
    return remotes_get(remotes, name, error);
}

static int
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

char **
remotes_names(Remotes *remotes)
{
    GPtrArray *names = g_ptr_array_new();
    json_t *rows = section(remotes, "remotes");
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++) {
        if (json_object_get(rows, builtins[i].name) == NULL) {
            g_ptr_array_add(names, g_strdup(builtins[i].name));
        }
    }
    const char *name;
    json_t *row;
    json_object_foreach (rows, name, row) {
        g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(names, FALSE);
}

const char *
remotes_default(Remotes *remotes)
{
    const char *name = json_string_value(json_object_get(remotes->root, "default-remote"));
    return name != NULL && *name != '\0' ? name : "local";
}

bool
remotes_set_default(Remotes *remotes, const char *name, GError **error)
{
    if (remotes_get(remotes, name, error) == NULL) {
        return false;
    }
    json_object_set_new(remotes->root, "default-remote", json_string(name));
    return true;
}

static bool
check_new_name(Remotes *remotes, const char *name, GError **error)
{
    if (*name == '\0' || strpbrk(name, ":/ ") != NULL || *name == '.') {
        return haw_fail(error, HAW_INVALID, "'%s' cannot be the name of a remote", name);
    }
    if (remotes_get(remotes, name, NULL) != NULL) {
        return haw_fail(error, HAW_EXISTS,
                        "remote '%s' exists already (choose another name, or 'hawser remote "
                        "remove %s')",
                        name, name);
    }
    return true;
}

bool
remotes_add(Remotes *remotes, const Remote *remote, GError **error)
{
    if (!check_new_name(remotes, remote->name, error)) {
        return false;
    }
    json_t *row = json_pack("{ss ss sb}", "addr", remote->address, "protocol", remote->protocol,
                            "public", (int) remote->is_public);
    if (remote->project != NULL) {
        json_object_set_new(row, "project", json_string(remote->project));
    }
    json_object_set_new(section(remotes, "remotes"), remote->name, row);
    return true;
}

/* A remote of the file that may change; NULL for "local" (R1) and unknown ones. */
static json_t *
own_row(Remotes *remotes, const char *name, GError **error)
{
    if (remotes_get(remotes, name, error) == NULL) {
        return NULL;
    }
    json_t *row = json_object_get(section(remotes, "remotes"), name);
    if (row == NULL || strcmp(name, "local") == 0) {
        haw_fail(error, HAW_DENIED, "remote '%s' is built in and cannot be changed", name);
        return NULL;
    }
    return row;
}

bool
remotes_remove(Remotes *remotes, const char *name, GError **error)
{
    if (own_row(remotes, name, error) == NULL) {
        return false;
    }
    if (strcmp(remotes_default(remotes), name) == 0) {
        return haw_fail(error, HAW_BUSY,
                        "remote '%s' is the default one (choose another with 'hawser remote "
                        "switch')",
                        name);
    }
    json_object_del(section(remotes, "remotes"), name);
    g_autofree char *pin = remotes_pin_path(remotes, name);
    return fd_remove_tree(pin, error);
}

bool
remotes_rename(Remotes *remotes, const char *from, const char *to, GError **error)
{
    json_t *row = own_row(remotes, from, error);
    if (row == NULL || !check_new_name(remotes, to, error)) {
        return false;
    }
    bool was_default = strcmp(remotes_default(remotes), from) == 0;
    json_object_set(section(remotes, "remotes"), to, row);
    json_object_del(section(remotes, "remotes"), from);
    if (was_default) {
        json_object_set_new(remotes->root, "default-remote", json_string(to));
    }
    g_autofree char *old_pin = remotes_pin_path(remotes, from);
    g_autofree char *new_pin = remotes_pin_path(remotes, to);
    if (g_file_test(old_pin, G_FILE_TEST_EXISTS) && rename(old_pin, new_pin) != 0) {
        return haw_fail_errno(error, errno, "rename '%s' to '%s'", old_pin, new_pin);
    }
    return true;
}

bool
remotes_set(Remotes *remotes, const char *name, const char *key, const char *value, GError **error)
{
    json_t *row = NULL;
    if (strcmp(key, "project") == 0) { /* the project in use: for built-in ones too */
        if (remotes_get(remotes, name, error) == NULL) {
            return false;
        }
        row = json_object_get(section(remotes, "remotes"), name);
        if (row == NULL) {
            row = json_pack("{ss}", "addr", find_builtin(name)->address);
            json_object_set_new(section(remotes, "remotes"), name, row);
        }
    } else {
        row = own_row(remotes, name, error);
    }
    if (row == NULL) {
        return false;
    }
    json_object_set_new(row, key, json_string(value));
    return true;
}

char *
remotes_path(Remotes *remotes, const char *below, GError **error)
{
    g_autofree char *path = g_build_filename(remotes->dir, below, NULL);
    g_autofree char *folder = g_path_get_dirname(path);
    return fd_mkdir_p(folder, 0700, error) ? g_steal_pointer(&path) : NULL;
}

char *
remotes_pin_path(Remotes *remotes, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".crt", NULL);
    return g_build_filename(remotes->dir, "servercerts", file, NULL);
}

json_t *
remotes_aliases(Remotes *remotes)
{
    return section(remotes, "aliases");
}

/* The target of the alias made of the first words behind argv[0], longest first; NULL for none. */
static const char *
find_alias(Remotes *remotes, char *const *argv, int *ret_words)
{
    const char *found = NULL, *name;
    json_t *target;
    json_object_foreach (remotes_aliases(remotes), name, target) {
        g_auto(GStrv) words = g_strsplit(name, " ", -1);
        int count = 0;
        while (words[count] != NULL && argv[1 + count] != NULL &&
               strcmp(words[count], argv[1 + count]) == 0) {
            count++;
        }
        if (words[count] == NULL && count > *ret_words && json_is_string(target)) {
            found = json_string_value(target);
            *ret_words = count;
        }
    }
    return found;
}

char **
remotes_expand_alias(Remotes *remotes, int argc, char *const *argv)
{
    g_autoptr(GPtrArray) given = g_ptr_array_new();
    for (int i = 0; i < argc; i++) {
        g_ptr_array_add(given, argv[i]);
    }
    g_ptr_array_add(given, NULL);

    int used = 0;
    const char *target = find_alias(remotes, (char *const *) given->pdata, &used);
    g_auto(GStrv) words = NULL;
    if (target == NULL || !g_shell_parse_argv(target, NULL, &words, NULL)) {
        return g_strdupv((char **) given->pdata);
    }

    GPtrArray *result = g_ptr_array_new();
    bool placed = false;
    g_ptr_array_add(result, g_strdup(argv[0]));
    for (char **word = words; *word != NULL; word++) {
        if (strcmp(*word, "@ARGS@") != 0) {
            g_ptr_array_add(result, g_strdup(*word));
            continue;
        }
        placed = true;
        for (int i = 1 + used; i < argc; i++) {
            g_ptr_array_add(result, g_strdup(argv[i]));
        }
    }
    for (int i = 1 + used; !placed && i < argc; i++) {
        g_ptr_array_add(result, g_strdup(argv[i]));
    }
    g_ptr_array_add(result, NULL);
    return (char **) g_ptr_array_free(result, FALSE);
}
