/* hawser list: instances as a table.
 * L1  State (addresses, memory, processes) is only asked for when a column shows it: it costs the
 *     server a look into every instance.
 * Not here: printing (out.c). */
#include "ctl/cmd_list.h"

#include <gio/gio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"

typedef char *(*CellFn)(const json_t *instance);

static const json_t *
state_of(const json_t *instance)
{
    return json_object_get(instance, "state");
}

/* Global addresses of all interfaces but loopback, "10.0.3.5 (eth0)", a line each. */
static char *
addresses(const json_t *instance, const char *family)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    const char *name;
    json_t *link;
    json_object_foreach (json_object_get(state_of(instance), "network"), name, link) {
        size_t index;
        json_t *address;
        json_array_foreach (json_object_get(link, "addresses"), index, address) {
            if (strcmp(out_get(address, "family"), family) == 0 &&
                strcmp(out_get(address, "scope"), "link") != 0 &&
                strcmp(out_get(address, "scope"), "local") != 0) {
                g_ptr_array_add(found,
                                g_strdup_printf("%s (%s)", out_get(address, "address"), name));
            }
        }
    }
    g_ptr_array_add(found, NULL);
    char *text = g_strjoinv("\n", (char **) found->pdata);
    g_ptr_array_unref(found);
    return text;
}

static char *
cell_ipv4(const json_t *instance)
{
    return addresses(instance, "inet");
}

static char *
cell_ipv6(const json_t *instance)
{
    return addresses(instance, "inet6");
}

static char *
cell_pool(const json_t *instance)
{
    const char *name;
    json_t *device;
    json_object_foreach (json_object_get(instance, "expanded_devices"), name, device) {
        if (strcmp(out_get(device, "type"), "disk") == 0 &&
            strcmp(out_get(device, "path"), "/") == 0) {
            return g_strdup(out_get(device, "pool"));
        }
    }
    return g_strdup("");
}

static json_int_t
state_number(const json_t *instance, const char *group, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(state_of(instance), group), key));
}

static char *
bytes_or_empty(json_int_t bytes)
{
    return bytes > 0 ? out_bytes(bytes) : g_strdup("");
}

static char *
cell_disk(const json_t *instance)
{
    const json_t *disk = json_object_get(state_of(instance), "disk");
    return bytes_or_empty(
        json_integer_value(json_object_get(json_object_get(disk, "root"), "usage")));
}

static char *
cell_memory(const json_t *instance)
{
    return bytes_or_empty(state_number(instance, "memory", "usage"));
}

static char *
cell_memory_percent(const json_t *instance)
{
    json_int_t total = state_number(instance, "memory", "total");
    json_int_t usage = state_number(instance, "memory", "usage");
    return total > 0 ? g_strdup_printf("%.1f%%", 100.0 * (double) usage / (double) total)
                     : g_strdup("");
}

static char *
cell_cpu(const json_t *instance)
{
    json_int_t used = state_number(instance, "cpu", "usage");
    return used > 0 ? g_strdup_printf("%" JSON_INTEGER_FORMAT "s", used / 1000000000)
                    : g_strdup("");
}

static char *
positive(const json_t *instance, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(state_of(instance), key));
    return number > 0 ? g_strdup_printf("%" JSON_INTEGER_FORMAT, number) : g_strdup("");
}

static char *
cell_processes(const json_t *instance)
{
    return positive(instance, "processes");
}

static char *
cell_pid(const json_t *instance)
{
    return positive(instance, "pid");
}

static char *
cell_type(const json_t *instance)
{
    g_autofree char *type = g_ascii_strup(out_get(instance, "type"), -1);
    bool ephemeral = json_is_true(json_object_get(instance, "ephemeral"));
    return g_strconcat(g_strdelimit(type, "_", '-'), ephemeral ? " (EPHEMERAL)" : "", NULL);
}

static char *
cell_image_long(const json_t *instance)
{
    const json_t *config = json_object_get(instance, "config");
    return g_strdup(out_get(config, "volatile.base_image"));
}

static char *
cell_image_short(const json_t *instance)
{
    return g_strndup(out_get(json_object_get(instance, "config"), "volatile.base_image"), 12);
}

/* What has no function is a column of entity_column(). */
static const struct {
    char letter;
    const char *header;
    CellFn cell;
    const char *spec;
    bool needs_state;
} builtin_columns[] = {
    {'4', "IPV4", cell_ipv4, NULL, true},
    {'6', "IPV6", cell_ipv6, NULL, true},
    {'a', "ARCHITECTURE", NULL, "architecture", false},
    {'b', "STORAGE POOL", cell_pool, NULL, false},
    {'c', "CREATED AT", NULL, "created_at@", false},
    {'d', "DESCRIPTION", NULL, "description", false},
    {'D', "DISK USAGE", cell_disk, NULL, true},
    {'e', "PROJECT", NULL, "project", false},
    {'f', "BASE IMAGE", cell_image_short, NULL, false},
    {'F', "BASE IMAGE", cell_image_long, NULL, false},
    {'l', "LAST USED AT", NULL, "last_used_at@", false},
    {'L', "LOCATION", NULL, "location", false},
    {'m', "MEMORY USAGE", cell_memory, NULL, true},
    {'M', "MEMORY USAGE%", cell_memory_percent, NULL, true},
    {'n', "NAME", NULL, "name", false},
    {'N', "PROCESSES", cell_processes, NULL, true},
    {'p', "PID", cell_pid, NULL, true},
    {'P', "PROFILES", NULL, "profiles*", false},
    {'s', "STATE", NULL, "status^", false},
    {'S', "SNAPSHOTS", NULL, "snapshots#", true},
    {'t', "TYPE", cell_type, NULL, false},
    {'u', "CPU USAGE", cell_cpu, NULL, true},
};

static int
find_builtin(char letter)
{
    for (size_t i = 0; i < G_N_ELEMENTS(builtin_columns); i++) {
        if (builtin_columns[i].letter == letter) {
            return (int) i;
        }
    }
    return -1;
}

static void
column_clear(void *data)
{
    ListColumn *column = data;
    g_free(column->key);
    g_free(column->header);
}

/* "[config:|devices:]key[:name][:width]" */
static bool
parse_key_column(const char *word, ListColumn *ret_column, GError **error)
{
    ListColumn column = {.width = -1};
    const char *rest = word;
    if (g_str_has_prefix(word, "devices:")) {
        column.is_device = true;
        rest = word + strlen("devices:");
    } else if (g_str_has_prefix(word, "config:")) {
        rest = word + strlen("config:");
    }
    g_auto(GStrv) parts = g_strsplit(rest, ":", 3);
    guint count = g_strv_length(parts);
    if (count == 0 || *parts[0] == '\0' || (column.is_device && strchr(parts[0], '.') == NULL)) {
        return haw_fail(error, HAW_INVALID, "column '%s' names no key", word);
    }
    if (count == 3) {
        gint64 width = 0;
        if (!g_ascii_string_to_signed(parts[2], 10, -1, 1000, &width, NULL)) {
            return haw_fail(error, HAW_INVALID, "column '%s': '%s' is not a width", word, parts[2]);
        }
        column.width = (int) width;
    }
    column.header =
        count > 1 && *parts[1] != '\0' ? g_strdup(parts[1]) : g_ascii_strup(parts[0], -1);
    column.key = g_strdup(parts[0]);
    if (column.width == 0) {
        column.width = (int) g_utf8_strlen(column.header, -1);
    }
    *ret_column = column;
    return true;
}

GArray *
cmd_list_columns(const char *text, GError **error)
{
    g_autoptr(GArray) columns = g_array_new(FALSE, FALSE, sizeof(ListColumn));
    g_array_set_clear_func(columns, column_clear);
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    for (char **word = words; *word != NULL; word++) {
        ListColumn column = {0};
        if (strpbrk(*word, ".:") != NULL) {
            if (!parse_key_column(*word, &column, error)) {
                return NULL;
            }
            g_array_append_val(columns, column);
            continue;
        }
        for (const char *letter = *word; *letter != '\0'; letter++) {
            int index = find_builtin(*letter);
            if (index < 0) {
                haw_fail(error, HAW_INVALID,
                         "unknown column '%c' in '%s' (see 'hawser list --help')", *letter, text);
                return NULL;
            }
            column = (ListColumn){
                .letter = *letter, .header = g_strdup(builtin_columns[index].header), .width = -1};
            g_array_append_val(columns, column);
        }
    }
    if (columns->len == 0) {
        haw_fail(error, HAW_INVALID, "no columns (see 'hawser list --help')");
        return NULL;
    }
    return g_steal_pointer(&columns);
}

bool
cmd_list_needs_state(const GArray *columns)
{
    for (guint i = 0; i < columns->len; i++) {
        const ListColumn *column = &g_array_index(columns, ListColumn, i);
        if (column->letter != 0 && builtin_columns[find_builtin(column->letter)].needs_state) {
            return true;
        }
    }
    return false;
}

char *
cmd_list_cell(const json_t *instance, const ListColumn *column)
{
    if (column->letter != 0) {
        int index = find_builtin(column->letter);
        return builtin_columns[index].cell != NULL
                   ? builtin_columns[index].cell(instance)
                   : entity_column(instance, builtin_columns[index].spec);
    }
    g_autofree char *text = NULL;
    if (column->is_device) {
        const char *dot = strchr(column->key, '.');
        g_autofree char *device = g_strndup(column->key, (gsize) (dot - column->key));
        const json_t *devices = json_object_get(instance, "expanded_devices");
        text = g_strdup(out_get(json_object_get(devices, device), dot + 1));
    } else {
        text = g_strdup(out_get(json_object_get(instance, "expanded_config"), column->key));
        if (*text == '\0') {
            g_free(text);
            text = g_strdup(out_get(json_object_get(instance, "config"), column->key));
        }
    }
    if (column->width >= 0 && g_utf8_strlen(text, -1) > column->width) {
        return g_utf8_substring(text, 0, column->width);
    }
    return g_steal_pointer(&text);
}

static bool
regex_matches(const char *pattern, const char *text)
{
    g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_ANCHORED | G_REGEX_CASELESS, 0, NULL);
    return regex != NULL && g_regex_match(regex, text, 0, NULL);
}

/* "u.blah" for "user.blah": each part of the filter's key begins the key's part. */
static bool
key_abbreviates(const char *word, const char *key)
{
    g_auto(GStrv) short_parts = g_strsplit(word, ".", -1), parts = g_strsplit(key, ".", -1);
    guint count = g_strv_length(short_parts);
    if (count != g_strv_length(parts)) {
        return false;
    }
    for (guint i = 0; i < count; i++) {
        if (!g_str_has_prefix(parts[i], short_parts[i])) {
            return false;
        }
    }
    return true;
}

static bool
address_matches(const json_t *instance, const char *family, const char *value)
{
    g_autoptr(GInetAddressMask) mask = g_inet_address_mask_new_from_string(value, NULL);
    const char *name;
    json_t *link;
    json_object_foreach (json_object_get(state_of(instance), "network"), name, link) {
        size_t index;
        json_t *item;
        json_array_foreach (json_object_get(link, "addresses"), index, item) {
            g_autoptr(GInetAddress) address =
                g_inet_address_new_from_string(out_get(item, "address"));
            if (strcmp(out_get(item, "family"), family) == 0 && address != NULL && mask != NULL &&
                g_inet_address_mask_matches(mask, address)) {
                return true;
            }
        }
    }
    return false;
}

static bool
any_equal(const char *wanted, const char *have)
{
    g_auto(GStrv) words = g_strsplit(wanted, ",", -1);
    for (char **word = words; *word != NULL; word++) {
        if (g_ascii_strcasecmp(*word, have) == 0) {
            return true;
        }
    }
    return false;
}

static bool
pair_matches(const json_t *instance, const char *key, const char *value)
{
    static const char *const plain[] = {"type",     "status",  "architecture",
                                        "location", "project", NULL};
    if (strcmp(key, "ipv4") == 0 || strcmp(key, "ipv6") == 0) {
        return address_matches(instance, key[3] == '4' ? "inet" : "inet6", value);
    }
    if (g_strv_contains(plain, key)) {
        return any_equal(value, out_get(instance, key));
    }
    if (strcmp(key, "name") == 0) {
        return regex_matches(value, out_get(instance, key));
    }
    const char *name;
    json_t *item;
    json_object_foreach (json_object_get(instance, "expanded_config"), name, item) {
        const char *have = json_string_value(item);
        if (have != NULL && key_abbreviates(key, name) &&
            (g_ascii_strcasecmp(have, value) == 0 || regex_matches(value, have))) {
            return true;
        }
    }
    return false;
}

bool
cmd_list_matches(const json_t *instance, const char *filter)
{
    const char *equals = strchr(filter, '=');
    if (equals != NULL) {
        g_autofree char *key = g_strndup(filter, (gsize) (equals - filter));
        return pair_matches(instance, key, equals + 1);
    }
    const char *name = out_get(instance, "name");
    return g_str_has_prefix(name, filter) || regex_matches(filter, name);
}

static bool
filters_need_state(char *const *filters)
{
    for (; *filters != NULL; filters++) {
        if (g_str_has_prefix(*filters, "ipv4=") || g_str_has_prefix(*filters, "ipv6=")) {
            return true;
        }
    }
    return false;
}

/* The instances that pass every filter, in natural order of their names. */
static json_t *
select_instances(json_t *all, char *const *filters)
{
    json_t *selected = json_array();
    size_t index;
    json_t *instance;
    json_array_foreach (all, index, instance) {
        bool passes = true;
        for (char *const *filter = filters; *filter != NULL && passes; filter++) {
            passes = cmd_list_matches(instance, *filter);
        }
        if (passes) {
            json_array_append(selected, instance);
        }
    }
    return selected;
}

bool
cmd_list_instances(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    Rest *rest = ctl_server(ctl, led ? ctl_arg(ctl, 0) : NULL, NULL, error);
    const char *text = ctl_flag(ctl, "fast") ? "nsacPt" : ctl_option(ctl, "columns");
    bool all = ctl_flag(ctl, "all-projects");
    g_autofree char *with_project = g_strconcat("e", text, NULL);
    bool add_project = all && strcmp(text, "ns46tS") == 0;
    g_autoptr(GArray) columns = cmd_list_columns(add_project ? with_project : text, error);
    if (rest == NULL || columns == NULL) {
        return false;
    }
    char *const *filters = ctl_args_from(ctl, led ? 1 : 0);
    const char *format = ctl_option(ctl, "format");
    bool whole = strcmp(format, "json") == 0 || strcmp(format, "yaml") == 0;
    bool state = whole || cmd_list_needs_state(columns) || filters_need_state(filters); /* L1 */
    g_autofree char *path = g_strdup_printf("/1.0/instances?recursion=%d%s", state ? 2 : 1,
                                            all ? "&all-projects=true" : "");
    g_autoptr(json_t) body = rest_get(rest, path, error);
    if (body == NULL) {
        return false;
    }

    g_autoptr(json_t) selected = select_instances(body, filters);
    g_autoptr(GPtrArray) headers = g_ptr_array_new();
    for (guint i = 0; i < columns->len; i++) {
        g_ptr_array_add(headers, g_array_index(columns, ListColumn, i).header);
    }
    g_ptr_array_add(headers, NULL);
    g_autoptr(OutTable) table = out_table_new((const char *const *) headers->pdata);
    size_t index;
    json_t *instance;
    json_array_foreach (selected, index, instance) {
        for (guint i = 0; i < columns->len; i++) {
            g_autofree char *cell = cmd_list_cell(instance, &g_array_index(columns, ListColumn, i));
            out_table_add(table, cell);
        }
    }
    out_table_sort(table);
    return out_print(table, selected, format, error);
}
