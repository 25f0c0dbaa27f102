/* What a guest says of itself, taken apart and put together again: only keys that we know, of the types that
 * they must have, texts of a bounded size, at most STATE_LINKS_MAX interfaces. Called by guestask.c. */
#include "agent/vm/gueststate.h"

#include <string.h>

#define STATE_LINKS_MAX 1024
#define STATE_ADDRESSES 1024

/* An object with these keys as numbers that are not negative. */
static json_t *
checked_numbers(json_t *from, const char *const *keys)
{
    json_t *to = json_object();

    for (; *keys != NULL; keys++) {
        json_int_t value = json_integer_value(json_object_get(from, *keys));
        json_object_set_new(to, *keys, json_integer(MAX(0, value)));
    }
    return to;
}

static void
copy_texts(json_t *from, json_t *to, const char *const *keys)
{
    for (; *keys != NULL; keys++) {
        const char *text = json_string_value(json_object_get(from, *keys));
        bool fits = text != NULL && strlen(text) < 256;
        json_object_set_new(to, *keys, json_string(fits ? text : ""));
    }
}

static json_t *
checked_link(json_t *from)
{
    static const char *const texts[] = {"hwaddr", "host_name", "state", "type", NULL};
    static const char *const parts[] = {"family", "address", "netmask", "scope", NULL};
    static const char *const counters[] = {"bytes_received",
                                           "bytes_sent",
                                           "packets_received",
                                           "packets_sent",
                                           "errors_received",
                                           "errors_sent",
                                           "packets_dropped_outbound",
                                           "packets_dropped_inbound",
                                           NULL};
    json_t *to = json_object(), *addresses = json_array(), *one;
    size_t i;

    json_array_foreach (json_object_get(from, "addresses"), i, one) {
        if (i < STATE_ADDRESSES && json_is_object(one)) {
            json_t *address = json_object();
            copy_texts(one, address, parts);
            json_array_append_new(addresses, address);
        }
    }
    json_object_set_new(to, "addresses", addresses);
    json_object_set_new(to, "counters",
                        checked_numbers(json_object_get(from, "counters"), counters));
    copy_texts(from, to, texts);
    json_object_set_new(
        to, "mtu",
        json_integer(CLAMP(json_integer_value(json_object_get(from, "mtu")), 0, 1 << 30)));
    return to;
}

json_t *
gueststate_checked(json_t *from)
{
    static const char *const memory[] = {"usage",      "usage_peak",      "total",
                                         "swap_usage", "swap_usage_peak", NULL};
    static const char *const cpu[] = {"usage", NULL}, *const disk[] = {"usage", "total", NULL};
    json_t *network = json_object(), *disks = json_object(), *one;
    const char *name;

    json_object_foreach (json_object_get(from, "network"), name, one) {
        if (json_object_size(network) < STATE_LINKS_MAX && strlen(name) < 64) {
            json_object_set_new(network, name, checked_link(one));
        }
    }
    json_object_foreach (json_object_get(from, "disk"), name, one) {
        if (json_object_size(disks) < STATE_LINKS_MAX && strlen(name) < 256) {
            json_object_set_new(disks, name, checked_numbers(one, disk));
        }
    }
    json_int_t processes = json_integer_value(json_object_get(from, "processes"));
    return json_pack("{s:o,s:o,s:o,s:o,s:I}", "cpu",
                     checked_numbers(json_object_get(from, "cpu"), cpu), "disk", disks, "memory",
                     checked_numbers(json_object_get(from, "memory"), memory), "network", network,
                     "processes", (json_int_t) CLAMP(processes, 0, G_MAXINT32));
}
