/* QEMU's arguments. Each is a section with pairs, as in the file that LXD gives to -readconfig, so that
 * raw.qemu.conf means the same here; but what QEMU gets is an argument list.
 * A1  A comma in a value is doubled, as QEMU's option parser wants it: a name or a path cannot add
 *     options of its own.
 * A2  raw.qemu.conf is the operator's: it may say anything, but only by whole keys and sections.
 * Called by vmmachine.c. */
#include "agent/vm/vmargs.h"

#include <stdarg.h>
#include <string.h>

struct pair {
    char *key, *value;
};

struct section {
    char *name, *id; /* id NULL: none */
    GArray *pairs;
    bool gone;
};

struct VmArgs {
    GPtrArray *plain; /* of char* */
    GPtrArray *sections;
};

/* Sections whose option has another name on the command line. */
static const struct {
    const char *section, *option;
} options[] = {{"smp-opts", "-smp"}, {"memory", "-m"}};

static void
pair_clear(void *data)
{
    struct pair *pair = data;
    g_free(pair->key);
    g_free(pair->value);
}

static void
section_free(void *data)
{
    struct section *section = data;
    g_free(section->name);
    g_free(section->id);
    g_array_unref(section->pairs);
    g_free(section);
}

VmArgs *
vmargs_new(void)
{
    VmArgs *args = g_new0(VmArgs, 1);
    args->plain = g_ptr_array_new_with_free_func(g_free);
    args->sections = g_ptr_array_new_with_free_func(section_free);
    return args;
}

void
vmargs_free(VmArgs *args)
{
    if (args != NULL) {
        g_ptr_array_unref(args->plain);
        g_ptr_array_unref(args->sections);
        g_free(args);
    }
}

static struct section *
add_section(VmArgs *args, const char *name, const char *id)
{
    struct section *section = g_new0(struct section, 1);
    section->name = g_strdup(name);
    section->id = g_strdup(id);
    section->pairs = g_array_new(FALSE, TRUE, sizeof(struct pair));
    g_array_set_clear_func(section->pairs, pair_clear);
    g_ptr_array_add(args->sections, section);
    return section;
}

/* NULL or "" takes the key away. */
static void
set_pair(struct section *section, const char *key, const char *value)
{
    for (guint i = 0; i < section->pairs->len; i++) {
        struct pair *pair = &g_array_index(section->pairs, struct pair, i);
        if (strcmp(pair->key, key) != 0) {
            continue;
        }
        if (value == NULL || *value == '\0') {
            g_array_remove_index(section->pairs, i);
        } else {
            g_free(pair->value);
            pair->value = g_strdup(value);
        }
        return;
    }
    if (value != NULL && *value != '\0') {
        struct pair pair = {g_strdup(key), g_strdup(value)};
        g_array_append_val(section->pairs, pair);
    }
}

void
vmargs_add(VmArgs *args, const char *name, const char *id, ...)
{
    struct section *section = add_section(args, name, id);
    va_list list;
    va_start(list, id);
    for (const char *key = va_arg(list, const char *); key != NULL;
         key = va_arg(list, const char *)) {
        set_pair(section, key, va_arg(list, const char *));
    }
    va_end(list);
}

void
vmargs_set(VmArgs *args, const char *key, const char *format, ...)
{
    struct section *section = args->sections->pdata[args->sections->len - 1];
    va_list list;
    va_start(list, format);
    g_autofree char *value = g_strdup_vprintf(format, list);
    va_end(list);
    set_pair(section, key, value);
}

void
vmargs_plain(VmArgs *args, const char *option, const char *value)
{
    g_ptr_array_add(args->plain, g_strdup(option));
    if (value != NULL) {
        g_ptr_array_add(args->plain, g_strdup(value));
    }
}

/* ---- overriding ---- */

typedef struct {
    char *name, *id;
    guint index;
} Header;

static void
header_clear(Header *header)
{
    g_free(header->name);
    g_free(header->id);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Header, header_clear)

/* [name], [name "id"], and [3] behind either. */
static bool
parse_header(const char *line, Header *ret)
{
    static GRegex *form;
    g_autoptr(GMatchInfo) match = NULL;
    if (form == NULL) {
        form =
            g_regex_new("^\\[([\\w.-]+)(?:\\s+\"([^\"]*)\")?\\](?:\\[(\\d{1,6})\\])?$", 0, 0, NULL);
    }
    if (!g_regex_match(form, line, 0, &match)) {
        return false;
    }
    g_autofree char *id = g_match_info_fetch(match, 2), *index = g_match_info_fetch(match, 3);
    ret->name = g_match_info_fetch(match, 1);
    ret->id = id != NULL && *id != '\0' ? g_steal_pointer(&id) : NULL;
    ret->index = index != NULL ? (guint) g_ascii_strtoull(index, NULL, 10) : 0;
    return true;
}

static struct section *
find_section(VmArgs *args, const Header *header)
{
    guint seen = 0;
    for (guint i = 0; i < args->sections->len; i++) {
        struct section *section = args->sections->pdata[i];
        if (strcmp(section->name, header->name) == 0 && g_strcmp0(section->id, header->id) == 0 &&
            seen++ == header->index) {
            return section;
        }
    }
    return NULL;
}

/* key = "value", or without the quotes. */
static bool
parse_pair(const char *line, char **ret_key, char **ret_value)
{
    const char *equals = strchr(line, '=');
    if (equals == NULL || equals == line) {
        return false;
    }
    g_autofree char *key = g_strstrip(g_strndup(line, (gsize) (equals - line)));
    g_autofree char *value = g_strstrip(g_strdup(equals + 1));
    size_t size = strlen(value);
    if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
        value[size - 1] = '\0';
        memmove(value, value + 1, size - 1);
    }
    if (*key == '\0' || strpbrk(key, ", \t") != NULL) {
        return false;
    }
    *ret_key = g_steal_pointer(&key);
    *ret_value = g_steal_pointer(&value);
    return true;
}

struct override {
    struct section *section;
    bool any; /* a key was given */
};

static void
end_section(struct override *now)
{
    if (now->section != NULL && !now->any) {
        now->section->gone = true;
    }
    now->section = NULL;
}

static bool
take_line(VmArgs *args, struct override *now, const char *line, GError **error)
{
    g_auto(Header) header = {0};
    g_autofree char *key = NULL, *value = NULL;
    if (line[0] == '[') {
        end_section(now);
        if (!parse_header(line, &header)) {
            return haw_fail(error, HAW_INVALID, "raw.qemu.conf: invalid section \"%s\"", line);
        }
        now->section = find_section(args, &header);
        now->any = false;
        if (now->section == NULL) {
            now->section = add_section(args, header.name, header.id);
        }
        return true;
    }
    if (now->section == NULL || !parse_pair(line, &key, &value)) {
        return haw_fail(error, HAW_INVALID, "raw.qemu.conf: invalid line \"%s\"", line);
    }
    now->any = true;
    set_pair(now->section, key, value);
    return true;
}

bool
vmargs_override(VmArgs *args, const char *text, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    struct override now = {NULL, false};
    for (char **line = lines; *line != NULL; line++) {
        g_strstrip(*line);
        if (**line != '\0' && **line != '#' && !take_line(args, &now, *line, error)) {
            return false;
        }
    }
    end_section(&now);
    return true;
}

/* ---- rendering ---- */

/* A1 */
static void
append_escaped(GString *text, const char *value)
{
    for (; *value != '\0'; value++) {
        g_string_append_c(text, *value);
        if (*value == ',') {
            g_string_append_c(text, ',');
        }
    }
}

static char *
option_of(const struct section *section)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strcmp(options[i].section, section->name) == 0) {
            return g_strdup(options[i].option);
        }
    }
    return g_strconcat("-", section->name, NULL);
}

/* The pair that names the kind of thing comes first, without its key where QEMU has one implied. */
static const char *
leading(const struct section *section)
{
    return strcmp(section->name, "device") == 0    ? "driver"
           : strcmp(section->name, "object") == 0  ? "qom-type"
           : strcmp(section->name, "chardev") == 0 ? "backend"
           : strcmp(section->name, "tpmdev") == 0  ? "type"
           : strcmp(section->name, "fsdev") == 0   ? "fsdriver"
           : strcmp(section->name, "machine") == 0 ? "type"
                                                   : NULL;
}

static void
append_pair(GString *text, const char *key, const char *value)
{
    if (text->len > 0) {
        g_string_append_c(text, ',');
    }
    if (key != NULL) {
        g_string_append_printf(text, "%s=", key);
    }
    append_escaped(text, value);
}

void
vmargs_render(const VmArgs *args, GPtrArray *argv)
{
    for (guint i = 0; i < args->plain->len; i++) {
        g_ptr_array_add(argv, g_strdup(args->plain->pdata[i]));
    }
    for (guint i = 0; i < args->sections->len; i++) {
        const struct section *section = args->sections->pdata[i];
        const char *first = leading(section);
        g_autoptr(GString) text = g_string_new(NULL);
        for (int pass = first != NULL ? 0 : 1; pass < 2; pass++) {
            if (pass == 1 && section->id != NULL) {
                append_pair(text, "id", section->id);
            }
            for (guint p = 0; p < section->pairs->len; p++) {
                const struct pair *pair = &g_array_index(section->pairs, struct pair, p);
                if ((g_strcmp0(pair->key, first) == 0) == (pass == 0)) {
                    append_pair(text, pass == 0 ? NULL : pair->key, pair->value);
                }
            }
        }
        if (!section->gone && text->len > 0) {
            g_ptr_array_add(argv, option_of(section));
            g_ptr_array_add(argv, g_strdup(text->str));
        }
    }
}
