/* Grammar of addresses: IPv4, IPv6, CIDR, ranges, lists of them, and where to listen.
 * N1  What passes here, inet_pton() took: no octal, no short forms, no zone ids. */
#include "proto/grammar.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY(v) ((v) == NULL || *(v) == '\0')

static bool
refuse(GError **error, const char *text, const char *v)
{
    g_autofree char *quoted = grammar_quote(v);
    return haw_fail(error, HAW_INVALID, "%s %s", text, quoted);
}

static size_t
address_size(int family)
{
    return family == AF_INET ? 4 : 16;
}

static bool
is_address(const char *v, int family)
{
    guint8 bytes[16];
    return v != NULL && inet_pton(family, v, bytes) == 1;
}

bool
grammar_ipv4(const char *v, GError **error)
{
    return EMPTY(v) || is_address(v, AF_INET) || refuse(error, "Not an IPv4 address", v);
}

bool
grammar_ipv6(const char *v, GError **error)
{
    return EMPTY(v) || is_address(v, AF_INET6) || refuse(error, "Not an IPv6 address", v);
}

bool
grammar_ip(const char *v, GError **error)
{
    return EMPTY(v) || is_address(v, AF_INET) || is_address(v, AF_INET6) ||
           refuse(error, "Not an IP address", v);
}

bool
grammar_ip_list(const char *v, GError **error)
{
    return grammar_each(v, grammar_ip, error);
}

/* address/prefix; the bytes go to 'bytes', at least 16. */
static bool
split_cidr(const char *v, int family, guint8 *bytes, guint *ret_prefix)
{
    const char *slash = strchr(v, '/');
    if (slash == NULL || slash - v >= INET6_ADDRSTRLEN) {
        return false;
    }
    char address[INET6_ADDRSTRLEN];
    memcpy(address, v, (size_t) (slash - v));
    address[slash - v] = '\0';
    size_t digits = strspn(slash + 1, "0123456789");
    if (digits == 0 || digits > 3 || slash[1 + digits] != '\0') {
        return false;
    }
    guint prefix = (guint) strtoul(slash + 1, NULL, 10);
    if (prefix > address_size(family) * 8 || inet_pton(family, address, bytes) != 1) {
        return false;
    }
    *ret_prefix = prefix;
    return true;
}

static bool
has_host_bits(const guint8 *bytes, int family, guint prefix)
{
    for (guint bit = prefix; bit < address_size(family) * 8; bit++) {
        if (bytes[bit / 8] & (0x80 >> (bit % 8))) {
            return true;
        }
    }
    return false;
}

static bool
check_cidr(const char *v, int family, bool network, GError **error)
{
    guint8 bytes[16];
    guint prefix;
    if (EMPTY(v)) {
        return true;
    }
    if (!split_cidr(v, family, bytes, &prefix)) {
        return haw_fail(error, HAW_INVALID, "invalid CIDR address: %s", v);
    }
    if (network && has_host_bits(bytes, family, prefix)) {
        return refuse(
            error,
            family == AF_INET ? "Not an IPv4 network address" : "Not an IPv6 network address", v);
    }
    return true;
}

bool
grammar_cidr4(const char *v, GError **error)
{
    return check_cidr(v, AF_INET, false, error);
}

bool
grammar_cidr6(const char *v, GError **error)
{
    return check_cidr(v, AF_INET6, false, error);
}

bool
grammar_net4(const char *v, GError **error)
{
    return check_cidr(v, AF_INET, true, error);
}

bool
grammar_net6(const char *v, GError **error)
{
    return check_cidr(v, AF_INET6, true, error);
}

bool
grammar_net4_list(const char *v, GError **error)
{
    return grammar_each(v, grammar_net4, error);
}

bool
grammar_net6_list(const char *v, GError **error)
{
    return grammar_each(v, grammar_net6, error);
}

static bool
check_range(const char *v, int family, GError **error)
{
    guint8 low[16], high[16];
    g_auto(GStrv) ends = g_strsplit(v, "-", 2);
    if (ends[0] == NULL || ends[1] == NULL) {
        return haw_fail(error, HAW_INVALID, "IP range must contain start and end IP addresses");
    }
    g_strstrip(ends[0]);
    g_strstrip(ends[1]);
    const char *which = family == AF_INET ? "IPv4" : "IPv6";
    if (inet_pton(family, ends[0], low) != 1) {
        g_autofree char *text = g_strdup_printf("Start not an %s address", which);
        return refuse(error, text, ends[0]);
    }
    if (inet_pton(family, ends[1], high) != 1) {
        g_autofree char *text = g_strdup_printf("End not an %s address", which);
        return refuse(error, text, ends[1]);
    }
    return memcmp(low, high, address_size(family)) <= 0 ||
           refuse(error, "Start IP address must be less than or equal to end IP address in", v);
}

static bool
check_range4(const char *v, GError **error)
{
    return check_range(v, AF_INET, error);
}

static bool
check_range6(const char *v, GError **error)
{
    return check_range(v, AF_INET6, error);
}

bool
grammar_range4_list(const char *v, GError **error)
{
    return grammar_each(v, check_range4, error);
}

bool
grammar_range6_list(const char *v, GError **error)
{
    return grammar_each(v, check_range6, error);
}

static bool
is_host(const char *host)
{
    if (*host == '\0' || is_address(host, AF_INET) || is_address(host, AF_INET6)) {
        return true;
    }
    return strlen(host) <= 253 && g_ascii_isalnum(*host) &&
           host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")] ==
               '\0';
}

bool
grammar_parse_listen(const char *v, guint16 default_port, char **ret_host, guint16 *ret_port,
                     GError **error)
{
    g_autofree char *host = g_strdup(v != NULL ? v : "");
    const char *port = NULL;
    char *end;

    if (*host == '[') {
        end = strchr(host, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return refuse(error, "Invalid address", v);
        }
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        memmove(host, host + 1, strlen(host));
        if (!is_address(host, AF_INET6)) {
            return refuse(error, "Invalid address", v);
        }
    } else if (!is_address(host, AF_INET6) && (end = strchr(host, ':')) != NULL) {
        *end = '\0';
        port = end + 1;
    }
    if (!is_host(host)) {
        return refuse(error, "Invalid address", v);
    }
    if (port != NULL && (*port == '\0' || !grammar_port(port, NULL))) {
        return refuse(error, "Invalid port in address", v);
    }
    *ret_port = port != NULL ? (guint16) strtoul(port, NULL, 10) : default_port;
    *ret_host = g_steal_pointer(&host);
    return true;
}

bool
grammar_listen(const char *v, GError **error)
{
    g_autofree char *host = NULL;
    guint16 port;
    return EMPTY(v) || grammar_parse_listen(v, 0, &host, &port, error);
}
