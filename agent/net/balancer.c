/* Load balancers: what a right one is.
 * B1  Backends have names of their own; ports name backends that are there.
 * B2  Listen ports are unique for each protocol.
 * B3  A backend's target ports are none (as listened), one (many to one), or as many as the listen
 *     ports of each port that names it.
 * B4  A port has at least one backend (LXD takes none, and fails later).
 * What it becomes is ovn_lb.c's. Called by balancer_api.c. */
#include "agent/net/balancer.h"

#include <string.h>

#include "agent/net/forward.h"
#include "agent/net/subnet.h"
#include "proto/keys.h"

struct check {
    int family;
    bool bounded; /* the network has a subnet of the family */
    struct subnet net;
    json_t *backends;
    ForwardTaken *taken; /* borrowed */
};

static const char *
text_of(json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text != NULL ? text : "";
}

static json_t *
backend_named(json_t *backends, const char *name, size_t before)
{
    json_t *backend;
    size_t i;
    json_array_foreach (backends, i, backend) {
        if (i < before && strcmp(text_of(backend, "name"), name) == 0) {
            return backend;
        }
    }
    return NULL;
}

static bool
check_backend(const struct check *check, json_t *backend, size_t index, GError **error)
{
    const char *name = text_of(backend, "name");
    const char *target = text_of(backend, "target_address");
    struct subnet address;
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "Name is required in backend specification %zu", index);
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (g_ascii_isspace(*at)) {
            return haw_fail(error, HAW_INVALID,
                            "Name cannot contain white space in backend specification %zu", index);
        }
    }
    if (backend_named(check->backends, name, index) != NULL) { /* B1 */
        return haw_fail(error, HAW_INVALID, "Duplicate name \"%s\" in backend specification %zu",
                        name, index);
    }
    if (strchr(target, '/') != NULL || !subnet_parse(target, &address)) {
        return haw_fail(error, HAW_INVALID, "Invalid target address for backend \"%s\"", name);
    }
    if (address.family != check->family) {
        return haw_fail(
            error, HAW_INVALID,
            "Cannot mix IP versions in listen address and backend \"%s\" target address", name);
    }
    if (check->bounded && !subnet_contains(&check->net, target)) {
        return haw_fail(error, HAW_INVALID,
                        "Target address is not within the network subnet for backend \"%s\"", name);
    }
    g_autoptr(GArray) ports = forward_ports(text_of(backend, "target_port"), error);
    return ports != NULL ||
           haw_push(error, "Invalid target port in backend specification %zu", index);
}

/* B1, B3, B4 */
static bool
check_targets(const struct check *check, json_t *names, guint listen_count, size_t index,
              GError **error)
{
    json_t *each;
    size_t i;
    if (json_array_size(names) == 0) {
        return haw_fail(error, HAW_INVALID, "Missing target backend in port specification %zu",
                        index);
    }
    json_array_foreach (names, i, each) {
        const char *name = json_string_value(each);
        json_t *backend = backend_named(check->backends, name, json_array_size(check->backends));
        if (backend == NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid target backend name \"%s\" in port specification %zu", name,
                            index);
        }
        g_autoptr(GArray) to = forward_ports(text_of(backend, "target_port"), NULL);
        if (to != NULL && to->len > 1 && to->len != listen_count) {
            return haw_fail(error, HAW_INVALID,
                            "Mismatch of listen port(s) and target port(s) count for backend "
                            "\"%s\" in port specification %zu",
                            name, index);
        }
    }
    return true;
}

static bool
check_port(struct check *check, json_t *spec, size_t index, GError **error)
{
    g_autoptr(GArray) listen =
        forward_protocol_ok(spec, index, error) ? forward_listen(spec, index, error) : NULL;
    return listen != NULL && forward_take(check->taken, listen, spec, index, error) /* B2 */ &&
           check_targets(check, json_object_get(spec, "target_backend"), listen->len, index, error);
}

static bool
check_config(json_t *config, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (!g_str_has_prefix(key, "user.")) {
            return haw_fail(error, HAW_INVALID, "Invalid option \"%s\"", key);
        }
    }
    return true;
}

bool
balancer_check(json_t *net_config, const char *listen, json_t *config, json_t *backends,
               json_t *ports, GError **error)
{
    struct subnet address;
    json_t *each;
    size_t i;
    if (strchr(listen, '/') != NULL || !subnet_parse(listen, &address) ||
        subnet_same_address(listen, "0.0.0.0") || subnet_same_address(listen, "::")) {
        return haw_fail(error, HAW_INVALID, "Invalid listen address");
    }
    g_autofree ForwardTaken *taken = g_new0(ForwardTaken, 1);
    struct check check = {.family = address.family, .backends = backends, .taken = taken};
    check.bounded = subnet_parse(
        keys_get(net_config, address.family == AF_INET ? "ipv4.address" : "ipv6.address"),
        &check.net);
    if (!check_config(config, error)) {
        return false;
    }
    json_array_foreach (backends, i, each) {
        if (!check_backend(&check, each, i, error)) {
            return false;
        }
    }
    json_array_foreach (ports, i, each) {
        if (!check_port(&check, each, i, error)) {
            return false;
        }
    }
    return true;
}

/* ---- bodies ---- */

static bool
take_texts(json_t *from, const char *const *fields, const char *what, size_t index, json_t *into,
           GError **error)
{
    if (!json_is_object(from)) {
        return haw_fail(error, HAW_INVALID, "Invalid %s specification %zu: not an object", what,
                        index);
    }
    for (; *fields != NULL; fields++) {
        json_t *value = json_object_get(from, *fields);
        if (value != NULL && !json_is_null(value) && !json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid %s in %s specification %zu: not a string",
                            *fields, what, index);
        }
        json_object_set_new(
            into, *fields,
            json_string(value != NULL && json_is_string(value) ? json_string_value(value) : ""));
    }
    return true;
}

static bool
take_names(json_t *from, size_t index, json_t *into, GError **error)
{
    json_t *names = json_object_get(from, "target_backend");
    json_t *kept = json_array();
    json_t *name;
    size_t i;
    json_object_set_new(into, "target_backend", kept);
    if (names != NULL && !json_is_null(names) && !json_is_array(names)) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid target_backend in port specification %zu: not a list", index);
    }
    json_array_foreach (names, i, name) {
        if (!json_is_string(name)) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid target_backend in port specification %zu: not a string",
                            index);
        }
        json_array_append(kept, name);
    }
    return true;
}

/* The list "backends" or "ports" of the body; a new reference, NULL on failure. */
static json_t *
take_list(json_t *body, const char *field, const char *what, const char *const *fields,
          bool with_names, GError **error)
{
    json_t *list = json_object_get(body, field);
    json_t *taken = json_array();
    json_t *each;
    size_t i;
    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        haw_fail(error, HAW_INVALID, "\"%s\" is not a list", field);
        json_decref(taken);
        return NULL;
    }
    json_array_foreach (list, i, each) {
        json_t *kept = json_object();
        json_array_append_new(taken, kept);
        if (!take_texts(each, fields, what, i, kept, error) ||
            (with_names && !take_names(each, i, kept, error))) {
            json_decref(taken);
            return NULL;
        }
    }
    return taken;
}

bool
balancer_take(json_t *body, json_t **ret_backends, json_t **ret_ports, GError **error)
{
    static const char *const backend_fields[] = {"name", "description", "target_address",
                                                 "target_port", NULL};
    static const char *const port_fields[] = {"description", "protocol", "listen_port", NULL};
    json_t *backends = take_list(body, "backends", "backend", backend_fields, false, error);
    json_t *ports =
        backends != NULL ? take_list(body, "ports", "port", port_fields, true, error) : NULL;
    if (ports == NULL) {
        json_decref(backends);
        return false;
    }
    *ret_backends = backends;
    *ret_ports = ports;
    return true;
}
