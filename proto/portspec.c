/* Checks of a port that came over the socket: after them no text is longer than what it is copied to,
 * no name leaves its directory, and each kind has what it needs. */
#include "proto/portspec.h"

#include <gio/gio.h>
#include <string.h>

enum {
    ID_BYTES = 200,
    TEXT_BYTES = 1000,
    LIST_MAX = 64,
    MTU_MIN = 68,
    MTU_MAX = 65535,
    ZONES = 4096
};

bool
portspec_ifname(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > 15 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return false;
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (!g_ascii_isgraph(*at) || *at == '/' || *at == ':') {
            return false;
        }
    }
    return true;
}

bool
portspec_mac(const char *mac)
{
    if (strlen(mac) != 17) {
        return false;
    }
    for (size_t i = 0; i < 17; i++) {
        if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i])) {
            return false;
        }
    }
    return (g_ascii_xdigit_value(mac[1]) & 1) == 0;
}

static bool
plain(const char *text, size_t most)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        if ((guchar) text[i] < 0x20) {
            return false;
        }
    }
    return size <= most && g_utf8_validate(text, -1, NULL);
}

static bool
wrong(const Dpd__Port *spec, GError **error, const char *what)
{
    g_autofree char *id = g_utf8_make_valid(spec->id, (gssize) strnlen(spec->id, ID_BYTES));
    return haw_fail(error, HAW_INVALID, "port \"%s\": %s", id, what);
}

static bool
lists_are_right(const Dpd__Port *spec, GError **error)
{
    if (spec->n_parents > LIST_MAX || spec->n_external_ids > LIST_MAX) {
        return wrong(spec, error, "too many parents or external ids");
    }
    for (size_t i = 0; i < spec->n_parents; i++) {
        if (spec->parents[i][0] == '\0' || !plain(spec->parents[i], 64)) {
            return wrong(spec, error, "a parent that is no name of a device");
        }
    }
    for (size_t i = 0; i < spec->n_external_ids; i++) {
        const Dpd__Pair *pair = spec->external_ids[i];
        if (pair->key[0] == '\0' || !plain(pair->key, TEXT_BYTES) ||
            !plain(pair->value, TEXT_BYTES)) {
            return wrong(spec, error, "an external id that is no text");
        }
    }
    return true;
}

static bool
fast_is_right(const Dpd__Port *spec, GError **error)
{
    const Dpd__Fast *fast = spec->fast;
    if (fast == NULL) {
        return true;
    }
    if (fast->zone >= ZONES || fast->n_addresses > LIST_MAX || !plain(fast->slow, TEXT_BYTES)) {
        return wrong(spec, error, "a zone below 4096, and not too many addresses");
    }
    for (size_t i = 0; i < fast->n_addresses; i++) {
        if (!g_hostname_is_ip_address(fast->addresses[i])) {
            return wrong(spec, error, "an address that is none");
        }
    }
    return true;
}

static bool
kind_is_right(const Dpd__Port *spec, GError **error)
{
    bool bridged = spec->iface_id[0] != '\0';
    switch (spec->kind) {
    case DPD__KIND__VETH:
    case DPD__KIND__TAP:
        return portspec_ifname(spec->netdev) || wrong(spec, error, "no name of an interface");
    case DPD__KIND__VHOST_USER:
        if (!portspec_ifname(spec->netdev) || spec->path[0] != '/' || !bridged) {
            return wrong(spec, error,
                         "vhost-user needs a name, the path of a socket and a logical port");
        }
        return true;
    case DPD__KIND__VF:
    case DPD__KIND__VDPA:
        return spec->netdev[0] == '\0' ||
               wrong(spec, error, "the interface of a virtual function is not asked for by name");
    default:
        return wrong(spec, error, "a kind that this version does not know");
    }
}

bool
portspec_check(const Dpd__Port *spec, GError **error)
{
    if (spec->id[0] == '\0' || !plain(spec->id, ID_BYTES)) {
        return wrong(spec, error, "an id is 1 to 200 bytes of text");
    }
    if (!plain(spec->iface_id, ID_BYTES) || !plain(spec->path, 107)) {
        return wrong(spec, error, "a text that is too long, or none");
    }
    if (spec->peer[0] != '\0' && !portspec_ifname(spec->peer)) {
        return wrong(spec, error, "the peer has no name of an interface");
    }
    if (spec->bridge[0] != '\0' && !portspec_ifname(spec->bridge)) {
        return wrong(spec, error, "no name of a bridge");
    }
    if (spec->mac[0] != '\0' && !portspec_mac(spec->mac)) {
        return wrong(spec, error, "no MAC address of one host");
    }
    if (spec->mtu != 0 && (spec->mtu < MTU_MIN || spec->mtu > MTU_MAX)) {
        return wrong(spec, error, "an MTU is 68 to 65535");
    }
    if (spec->vlan > 4094 || spec->numa_plus_one > 65536 || spec->spoof_check > DPD__CHOICE__ON ||
        spec->trust > DPD__CHOICE__ON) {
        return wrong(spec, error, "a number out of its range");
    }
    return lists_are_right(spec, error) && fast_is_right(spec, error) && kind_is_right(spec, error);
}
