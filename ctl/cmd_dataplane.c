/* hawser dataplane: the fast path between instances on OVN networks: what is fast, what is not, and why. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/cmd.h"
#include "ctl/interrupt.h"
#include "ctl/out.h"

static const char *
text_option(Ctl *ctl, const char *name)
{
    const char *value = ctl_option(ctl, name);
    return value != NULL ? value : "";
}

/* "10.0.0.1:80", "[fd42::1]:80", or without a port; caller frees. */
static char *
end_text(const json_t *end)
{
    const char *address = out_get(end, "address");
    int port = (int) json_integer_value(json_object_get(end, "port"));
    const char *form = strchr(address, ':') != NULL ? "[%s]:%d" : "%s:%d";
    return port == 0 ? g_strdup(address) : g_strdup_printf(form, address, port);
}

/* "1.25 Gbit/s"; caller frees. */
static char *
rate_text(json_int_t bits)
{
    static const char *const units[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s"};
    double value = (double) bits;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1000;
        unit++;
    }
    return bits == 0 ? g_strdup("")
                     : g_strdup_printf("%.*f %s", unit == 0 ? 0 : 2, value, units[unit]);
}

static void
add_flow(OutTable *table, const json_t *flow)
{
    g_autofree char *source = end_text(json_object_get(flow, "source"));
    g_autofree char *destination = end_text(json_object_get(flow, "destination"));
    g_autofree char *rate = rate_text(json_integer_value(json_object_get(flow, "bits_per_second")));
    json_t *nat = json_object_get(flow, "nat");
    g_autofree char *to_source =
        json_is_object(nat) ? end_text(json_object_get(nat, "source")) : NULL;
    g_autofree char *to_destination =
        json_is_object(nat) ? end_text(json_object_get(nat, "destination")) : NULL;
    out_table_add(table, out_get(flow, "nic"));
    out_table_add(table, out_get(flow, "to"));
    out_table_add(table, out_get(flow, "protocol"));
    out_table_addf(table, "%s%s%s", source, to_source != NULL ? "\nas " : "",
                   to_source != NULL ? to_source : "");
    out_table_addf(table, "%s%s%s", destination, to_destination != NULL ? "\nas " : "",
                   to_destination != NULL ? to_destination : "");
    out_table_addf(table, "%s%s", out_get(flow, "state"),
                   json_is_true(json_object_get(flow, "offloaded")) ? ", offloaded" : "");
    out_table_addf(table, "%" JSON_INTEGER_FORMAT,
                   json_integer_value(json_object_get(flow, "packets")));
    out_table_add(table, rate);
    out_table_add(table, out_get(flow, "why"));
}

bool
cmd_dataplane_flows(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autofree char *path = rest_path(
        "/1.0/hawser/dataplane/flows?rates=true&nic=%s&address=%s&source=%s&destination=%s&port=%s"
        "&protocol=%s&state=%s&limit=%s",
        text_option(ctl, "nic"), text_option(ctl, "address"), text_option(ctl, "source"),
        text_option(ctl, "destination"), text_option(ctl, "port"), text_option(ctl, "protocol"),
        text_option(ctl, "state"), text_option(ctl, "limit"));
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, path, error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"NIC",          "TO",    "PROTOCOL", "SOURCE",
                                          "DESTINATION",  "STATE", "PACKETS",  "RATE",
                                          "SLOW BECAUSE", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    json_t *flows = json_object_get(body, "flows");
    size_t i;
    json_t *flow;
    json_array_foreach (flows, i, flow) {
        add_flow(table, flow);
    }
    out_table_sort(table);
    json_int_t total = json_integer_value(json_object_get(body, "total"));
    if ((json_int_t) json_array_size(flows) < total) {
        fprintf(stderr, "%zu of %" JSON_INTEGER_FORMAT " flows: narrow it, or raise --limit\n",
                json_array_size(flows), total);
    }
    return out_print(table, body, ctl_option(ctl, "format"), error);
}

static void
print_ports(const json_t *body)
{
    static const char *const headers[] = {"NIC",     "INTERFACE", "ZONE",         "FAST",
                                          "PACKETS", "BYTES",     "SLOW BECAUSE", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *port;
    json_array_foreach (json_object_get(body, "ports"), i, port) {
        g_autofree char *bytes = out_bytes(json_integer_value(json_object_get(port, "bytes")));
        out_table_add(table, out_get(port, "nic"));
        out_table_add(table, out_get(port, "interface"));
        out_table_addf(table, "%d", (int) json_integer_value(json_object_get(port, "zone")));
        out_table_add(table, json_is_true(json_object_get(port, "fast")) ? "YES" : "NO");
        out_table_addf(table, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(json_object_get(port, "packets")));
        out_table_add(table, bytes);
        out_table_add(table, out_get(port, "why"));
    }
    out_table_sort(table);
    g_autofree char *text = out_table_text(table, "table");
    fputs(text, stdout);
}

static void
print_uplinks(const json_t *body)
{
    static const char *const headers[] = {"UPLINK",   "FAST IN",      "STEERED",
                                          "UNWANTED", "SLOW BECAUSE", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *uplink;
    json_array_foreach (json_object_get(body, "uplinks"), i, uplink) {
        json_t *packets = json_object_get(uplink, "packets");
        json_int_t unwanted = json_integer_value(json_object_get(packets, "no-network")) +
                              json_integer_value(json_object_get(packets, "no-port"));
        out_table_add(table, out_get(uplink, "interface"));
        out_table_add(table, json_is_true(json_object_get(uplink, "fast")) ? "YES" : "NO");
        out_table_addf(table, "%" JSON_INTEGER_FORMAT,
                       json_integer_value(json_object_get(packets, "steered")));
        out_table_addf(table, "%" JSON_INTEGER_FORMAT, unwanted);
        out_table_add(table, out_get(uplink, "why"));
    }
    if (i > 0) {
        g_autofree char *text = out_table_text(table, "table");
        fputs(text, stdout);
    }
}

static void
print_polled(const json_t *poll)
{
    static const char *const headers[] = {"POLLED NIC", "DRIVER", "RECEIVED",
                                          "SENT",       "MISSED", NULL};
    static const char *const numbers[] = {"received", "sent", "missed"};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t i;
    json_t *port;
    if (out_get(poll, "processors")[0] == '\0') {
        return;
    }
    printf("Polling: processors %s, %s%s\n", out_get(poll, "processors"),
           json_is_true(json_object_get(poll, "running")) ? "running" : "not running: ",
           out_get(poll, "why"));
    json_array_foreach (json_object_get(poll, "ports"), i, port) {
        out_table_add(table, out_get(port, "nic"));
        out_table_add(table, out_get(port, "driver"));
        for (size_t j = 0; j < G_N_ELEMENTS(numbers); j++) {
            out_table_addf(table, "%" JSON_INTEGER_FORMAT,
                           json_integer_value(json_object_get(port, numbers[j])));
        }
    }
    out_table_sort(table);
    g_autofree char *text = out_table_text(table, "table");
    fputs(text, stdout);
}

bool
cmd_dataplane_stats(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    const char *format = ctl_option(ctl, "format");
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, "/1.0/hawser/dataplane", error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"PACKETS", "VERDICT", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    const char *reason;
    json_t *count;
    json_object_foreach (json_object_get(body, "packets"), reason, count) {
        if (json_integer_value(count) > 0) {
            out_table_addf(table, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
            out_table_add(table, reason);
        }
    }
    if (strcmp(format, "table") == 0) {
        bool on = json_is_true(json_object_get(body, "fastpath"));
        const char *why = out_get(body, "why");
        printf("Fast path: %s%s%s\nFlows: %" JSON_INTEGER_FORMAT " fast, %" JSON_INTEGER_FORMAT
               " not, room for %" JSON_INTEGER_FORMAT " of each family\n",
               on ? "on" : "off", *why != '\0' ? ": " : "", why,
               json_integer_value(json_object_get(body, "flows_fast")),
               json_integer_value(json_object_get(body, "flows_slow")),
               json_integer_value(json_object_get(body, "flows_max")));
        print_ports(body);
        print_uplinks(body);
        print_polled(json_object_get(body, "poll"));
    }
    return out_print(table, body, format, error);
}

static void
print_event(const json_t *event)
{
    g_autofree char *source = end_text(json_object_get(event, "source"));
    g_autofree char *destination = end_text(json_object_get(event, "destination"));
    json_int_t at_us = json_integer_value(json_object_get(event, "at_ns")) / 1000;
    printf("%" JSON_INTEGER_FORMAT ".%06" JSON_INTEGER_FORMAT " %s %s %s %s > %s %d bytes: %s\n",
           at_us / 1000000, at_us % 1000000, out_get(event, "nic"),
           strcmp(out_get(event, "direction"), "out") == 0 ? "from OVN" : "sent",
           out_get(event, "protocol"), source, destination,
           (int) json_integer_value(json_object_get(event, "bytes")), out_get(event, "verdict"));
}

/* One look of a second at most, at 'limit' packets; how many have come, or -1. */
static gint64
trace_once(Ctl *ctl, Rest *rest, gint64 wait_ms, const char *limit, GError **error)
{
    g_autofree char *wait = g_strdup_printf("%" G_GINT64_FORMAT, CLAMP(wait_ms, 1, 1000));
    g_autofree char *path =
        rest_path("/1.0/hawser/dataplane/trace?wait_ms=%s&nic=%s&address=%s&limit=%s", wait,
                  text_option(ctl, "nic"), text_option(ctl, "address"), limit);
    g_autoptr(json_t) body = rest_get(rest, path, error);
    size_t i;
    json_t *event;
    if (body == NULL) {
        return -1;
    }
    json_array_foreach (json_object_get(body, "packets"), i, event) {
        print_event(event);
    }
    json_int_t lost = json_integer_value(json_object_get(body, "lost"));
    if (lost > 0) {
        fprintf(stderr, "%" JSON_INTEGER_FORMAT " more came too fast to be shown\n", lost);
    }
    fflush(stdout);
    return (gint64) i;
}

bool
cmd_dataplane_trace(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    gint64 left_ms, come = 0, left = g_ascii_strtoll(text_option(ctl, "limit"), NULL, 10);
    gint64 end_us =
        clock_mono_us() + g_ascii_strtoll(text_option(ctl, "seconds"), NULL, 10) * G_USEC_PER_SEC;
    g_autofree char *limit = g_strdup(text_option(ctl, "limit"));
    while (rest != NULL && come >= 0 && !interrupt_seen() &&
           (left_ms = (end_us - clock_mono_us()) / 1000) > 0) {
        come = trace_once(ctl, rest, left_ms, limit, error);
        left -= come;
        if (left <= 0) {
            break;
        }
        g_free(limit);
        limit = g_strdup_printf("%" G_GINT64_FORMAT, left);
    }
    return rest != NULL && come >= 0;
}

static bool
set_fast(Ctl *ctl, bool on, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body = json_pack("{s:b}", "fastpath", on);
    return rest != NULL && rest_do(rest, "PUT", "/1.0/hawser/dataplane", body, error);
}

bool
cmd_dataplane_on(Ctl *ctl, GError **error)
{
    return set_fast(ctl, true, error);
}

bool
cmd_dataplane_off(Ctl *ctl, GError **error)
{
    return set_fast(ctl, false, error);
}
