/* hawser info: one instance, or the server. */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/out.h"

static void
print_line(int indent, const char *label, const char *value)
{
    if (value != NULL && *value != '\0') {
        printf("%*s%s: %s\n", indent, "", label, value);
    }
}

static void
print_bytes(int indent, const char *label, const json_t *object, const char *key)
{
    gint64 bytes = json_integer_value(json_object_get(object, key));
    if (bytes > 0) {
        g_autofree char *text = out_bytes(bytes);
        print_line(indent, label, text);
    }
}

static void
print_network(const json_t *state)
{
    const char *name;
    json_t *link;
    if (json_object_size(json_object_get(state, "network")) > 0) {
        printf("  Network usage:\n");
    }
    json_object_foreach (json_object_get(state, "network"), name, link) {
        const json_t *counters = json_object_get(link, "counters");
        printf("    %s:\n", name);
        print_line(6, "Type", out_get(link, "type"));
        print_line(6, "State", out_get(link, "state"));
        print_line(6, "Host interface", out_get(link, "host_name"));
        print_line(6, "MAC address", out_get(link, "hwaddr"));
        print_bytes(6, "Bytes received", counters, "bytes_received");
        print_bytes(6, "Bytes sent", counters, "bytes_sent");
        size_t index;
        json_t *address;
        printf("      IP addresses:\n");
        json_array_foreach (json_object_get(link, "addresses"), index, address) {
            printf("        %s:  %s/%s (%s)\n", out_get(address, "family"),
                   out_get(address, "address"), out_get(address, "netmask"),
                   out_get(address, "scope"));
        }
    }
}

static void
print_resources(const json_t *state)
{
    const char *name;
    json_t *disk;
    const json_t *memory = json_object_get(state, "memory");
    gint64 cpu_ns = json_integer_value(json_object_get(json_object_get(state, "cpu"), "usage"));
    printf("\nResources:\n  Processes: %" JSON_INTEGER_FORMAT "\n",
           json_integer_value(json_object_get(state, "processes")));
    if (json_object_size(json_object_get(state, "disk")) > 0) {
        printf("  Disk usage:\n");
    }
    json_object_foreach (json_object_get(state, "disk"), name, disk) {
        print_bytes(4, name, disk, "usage");
    }
    if (cpu_ns > 0) {
        printf("  CPU usage:\n    CPU usage (in seconds): %" G_GINT64_FORMAT "\n",
               cpu_ns / 1000000000);
    }
    if (json_integer_value(json_object_get(memory, "usage")) > 0) {
        printf("  Memory usage:\n");
        print_bytes(4, "Memory (current)", memory, "usage");
        print_bytes(4, "Memory (peak)", memory, "usage_peak");
        print_bytes(4, "Swap (current)", memory, "swap_usage");
    }
    print_network(state);
}

static void
print_rows(const char *title, const json_t *list, const char *third, const char *third_key)
{
    if (json_array_size(list) == 0) {
        return;
    }
    const char *headers[] = {"NAME", "TAKEN AT", "EXPIRES AT", third, NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *row;
    json_array_foreach (list, index, row) {
        g_autofree char *taken = out_time(out_get(row, "created_at"));
        g_autofree char *expires = out_time(out_get(row, "expires_at"));
        out_table_add(table, out_get(row, "name"));
        out_table_add(table, taken);
        out_table_add(table, expires);
        out_table_add(table, json_is_true(json_object_get(row, third_key)) ? "YES" : "NO");
    }
    g_autofree char *text = out_table_text(table, "table");
    printf("\n%s:\n%s", title, text);
}

static bool
print_log(Rest *rest, const char *name, GError **error)
{
    static const char *const files[] = {"lxc.log", "qemu.log", NULL};
    for (const char *const *file = files; *file != NULL; file++) {
        g_autofree char *path = rest_path("/1.0/instances/%s/logs/%s", name, *file);
        g_autoptr(GByteArray) bytes = NULL;
        RestRaw raw = {.method = "GET", .path = path};
        if (rest_raw(rest, &raw, NULL, NULL, &bytes, NULL)) {
            printf("\nLog:\n\n");
            fwrite(bytes->data, 1, bytes->len, stdout);
            puts("");
            return true;
        }
    }
    return haw_fail(error, HAW_NOT_FOUND, "there is no log of '%s'", name);
}

static bool
show_instance(Ctl *ctl, Rest *rest, const char *name, GError **error)
{
    g_autofree char *path = rest_path("/1.0/instances/%s?recursion=1", name);
    g_autoptr(json_t) instance = rest_get(rest, path, error);
    if (instance == NULL) {
        return haw_push(error, "instance '%s'", name);
    }
    g_autofree char *state_path = rest_path("/1.0/instances/%s/state", name);
    g_autofree char *snapshots_path = rest_path("/1.0/instances/%s/snapshots?recursion=1", name);
    g_autofree char *backups_path = rest_path("/1.0/instances/%s/backups?recursion=1", name);
    g_autoptr(json_t) state = rest_get(rest, state_path, NULL);
    g_autoptr(json_t) snapshots = rest_get(rest, snapshots_path, NULL);
    g_autoptr(json_t) backups = rest_get(rest, backups_path, NULL);
    g_autofree char *status = g_ascii_strup(out_get(instance, "status"), -1);
    g_autofree char *created = out_time(out_get(instance, "created_at"));
    g_autofree char *used = out_time(out_get(instance, "last_used_at"));
    bool ephemeral = json_is_true(json_object_get(instance, "ephemeral"));
    g_autofree char *type =
        g_strconcat(out_get(instance, "type"), ephemeral ? " (ephemeral)" : "", NULL);
    gint64 pid = json_integer_value(json_object_get(state, "pid"));

    print_line(0, "Name", out_get(instance, "name"));
    print_line(0, "Status", status);
    print_line(0, "Type", type);
    print_line(0, "Architecture", out_get(instance, "architecture"));
    print_line(0, "Location", out_get(instance, "location"));
    if (pid > 0) {
        printf("PID: %" G_GINT64_FORMAT "\n", pid);
    }
    print_line(0, "Created", created);
    print_line(0, "Last Used", used);
    if (pid > 0) {
        print_resources(state);
    }
    print_rows("Snapshots", snapshots, "STATEFUL", "stateful");
    print_rows("Backups", backups, "OPTIMIZED STORAGE", "optimized_storage");
    return !ctl_flag(ctl, "show-log") || print_log(rest, name, error);
}

bool
cmd_info_show(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    if (*name != '\0') {
        return show_instance(ctl, rest, name, error);
    }
    bool resources = ctl_flag(ctl, "resources");
    g_autoptr(json_t) object = rest_get(rest, resources ? "/1.0/resources" : "/1.0", error);
    if (object == NULL) {
        return false;
    }
    out_yaml(object);
    return true;
}
