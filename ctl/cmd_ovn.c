/* hawser network ovn: the OVN behind the networks: its state, and the rows that differ from ours. */
#include <stdio.h>

#include "ctl/cmd.h"
#include "ctl/out.h"

bool
cmd_ovn_info(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, "/1.0/hawser/ovn", error) : NULL;
    if (body != NULL) {
        out_yaml(body);
    }
    return body != NULL;
}

/* Columns of a step, without the marks that every row carries; caller frees. */
static char *
columns_text(const json_t *columns)
{
    GString *text = g_string_new(NULL);
    const char *column;
    json_t *value;
    json_object_foreach ((json_t *) columns, column, value) {
        g_autofree char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        g_string_append_printf(text, "%s%s=%s", text->len > 0 ? "\n" : "", column, json);
    }
    return g_string_free(text, FALSE);
}

bool
cmd_ovn_diff(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, "/1.0/hawser/ovn/diff", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"ACTION", "SCOPE", "TABLE", "ROW",
                                          "WANTED", "FOUND", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *step;
    json_array_foreach (body, i, step) {
        g_autofree char *wanted = columns_text(json_object_get(step, "wanted"));
        g_autofree char *found = columns_text(json_object_get(step, "found"));
        out_table_add(table, out_get(step, "action"));
        out_table_add(table, out_get(step, "scope"));
        out_table_add(table, out_get(step, "table"));
        out_table_add(table, out_get(step, "key"));
        out_table_add(table, wanted);
        out_table_add(table, found);
    }
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

bool
cmd_ovn_reconcile(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body =
        rest != NULL ? rest_call(rest, "POST", "/1.0/hawser/ovn/reconcile", NULL, NULL, error)
                     : NULL;
    return body != NULL;
}
