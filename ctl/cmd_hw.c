/* hawser hw: NICs with an embedded switch, and what stands between them and acceleration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/out.h"

static guint
count_vfs(const json_t *pf, const char *state)
{
    size_t i;
    json_t *vf;
    guint count = 0;
    json_array_foreach (json_object_get(pf, "vfs"), i, vf) {
        count += strcmp(out_get(vf, "state"), state) == 0;
    }
    return count;
}

/* A PF that can serve may still have VFs that can't: the first one's reason stands for them. */
static const char *
reason_of(const json_t *pf)
{
    const char *reason = out_get(pf, "reason");
    size_t i;
    json_t *vf;
    json_array_foreach (json_object_get(pf, "vfs"), i, vf) {
        if (*reason == '\0' && strcmp(out_get(vf, "state"), "unusable") == 0) {
            reason = out_get(vf, "reason");
        }
    }
    return reason;
}

bool
cmd_hw_list(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, "/1.0/hawser/hw", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"PF",  "DEVICE",     "DRIVER", "NUMA", "MODE",
                                          "VFS", "TC OFFLOAD", "STATE",  NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *pf;
    json_array_foreach (json_object_get(body, "pfs"), i, pf) {
        json_t *numa = json_object_get(pf, "numa");
        g_autofree char *node =
            numa != NULL ? g_strdup_printf("%d", (int) json_integer_value(numa)) : NULL;
        json_t *offload = json_object_get(pf, "hw_tc_offload");
        const char *reason = reason_of(pf);
        out_table_add(table, out_get(pf, "netdev"));
        out_table_add(table, out_get(pf, "device"));
        out_table_add(table, out_get(pf, "driver"));
        out_table_add(table, node);
        out_table_add(table, out_get(pf, "eswitch"));
        out_table_addf(table, "%u used, %u free, max %d", count_vfs(pf, "used"),
                       count_vfs(pf, "free"),
                       (int) json_integer_value(json_object_get(pf, "max_vfs")));
        out_table_add(table, json_is_null(offload) ? "" : (json_is_true(offload) ? "on" : "OFF"));
        out_table_add(table, *reason != '\0' ? reason : "ready");
    }
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

/* As ctl_server(), but a PCI address ("0000:3b:00.0") has no remote in front of its first colon. */
static Rest *
server_of_pf(Ctl *ctl, const char **ret_name, GError **error)
{
    const char *arg = ctl_arg(ctl, 0);
    size_t digits = arg != NULL ? strspn(arg, "0123456789abcdef") : 0;
    if (digits < 4 || arg[digits] != ':' || strlen(arg + digits) < strlen(":00:00.0")) {
        return ctl_server(ctl, arg, ret_name, error);
    }
    *ret_name = arg;
    return ctl_server(ctl, NULL, NULL, error);
}

bool
cmd_hw_show(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = server_of_pf(ctl, &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path =
        *name != '\0' ? rest_path("/1.0/hawser/hw/pfs/%s", name) : g_strdup("/1.0/hawser/hw");
    g_autoptr(json_t) body = rest_get(rest, path, error);
    if (body == NULL) {
        return false;
    }
    out_yaml(body);
    return true;
}

bool
cmd_hw_doctor(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, "/1.0/hawser/hw/doctor", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"SUBJECT", "CHECK", "STATUS", "FOUND", "NEXT STEP", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *check;
    json_array_foreach (body, i, check) {
        const char *status = out_get(check, "status");
        g_autofree char *word =
            strcmp(status, "ok") == 0 ? g_strdup(status) : g_ascii_strup(status, -1);
        out_table_add(table, out_get(check, "subject"));
        out_table_add(table, out_get(check, "check"));
        out_table_add(table, word);
        out_table_add(table, out_get(check, "message"));
        out_table_add(table, out_get(check, "next"));
    }
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_hw_prepare(Ctl *ctl, GError **error)
{
    const char *name = NULL, *vfs = ctl_option(ctl, "vfs");
    char *end = NULL;
    guint64 count = vfs != NULL ? g_ascii_strtoull(vfs, &end, 10) : 0;
    if (vfs == NULL || end == vfs || *end != '\0' || count > 4096) {
        return haw_fail(error, HAW_INVALID, "how many virtual functions? (--vfs N)");
    }
    Rest *rest = server_of_pf(ctl, &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/hawser/hw/pfs/%s", name);
    g_autoptr(json_t) want =
        json_pack("{s:I,s:s}", "vfs", (json_int_t) count, "mode", ctl_option(ctl, "mode"));
    g_autoptr(json_t) body = rest_call(rest, "PUT", path, want, NULL, error);
    if (body == NULL) {
        return false;
    }
    size_t i;
    json_t *step;
    json_array_foreach (json_object_get(body, "steps"), i, step) {
        printf("%s\n", json_string_value(step));
    }
    if (json_array_size(json_object_get(body, "steps")) == 0) {
        printf("'%s' was so already\n", name);
    }
    return true;
}
