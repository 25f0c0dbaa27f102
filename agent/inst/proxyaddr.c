/* Addresses of proxy devices: text to ports. Bytes come from clients: bounded, no allocation that
 * grows faster than the text but for ranges, which end at 65535 ports in all. */
#include "agent/inst/proxyaddr.h"

#include <arpa/inet.h>
#include <string.h>

#define PROXYADDR_PORTS_MAX 65535
#define PROXYADDR_PATH_MAX  107

static const char *const kinds[] = {"tcp", "udp", "unix"};

static bool
is_address(int family, const char *text)
{
    guint8 bytes[16];

    return inet_pton(family, text, bytes) == 1;
}

static bool
parse_number(const char *text, guint *ret_number)
{
    guint number = 0;

    if (text[0] == '\0' || strlen(text) > 5) {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (!g_ascii_isdigit(*text)) {
            return false;
        }
        number = number * 10 + (guint) (*text - '0');
    }
    *ret_number = number;
    return number <= G_MAXUINT16;
}

static bool
parse_range(const char *text, GArray *ports, GError **error)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    guint first = 0, last = 0;

    if (ends[0] == NULL || !parse_number(ends[0], &first)) {
        return haw_fail(error, HAW_INVALID, "Invalid port number \"%s\"", text);
    }
    last = first;
    if (ends[1] != NULL && (!parse_number(ends[1], &last) || last <= first)) {
        return haw_fail(error, HAW_INVALID, "Invalid port range \"%s\"", text);
    }
    if (ports->len + (last - first) + 1 > PROXYADDR_PORTS_MAX) {
        return haw_fail(error, HAW_INVALID, "Too many ports");
    }
    for (guint port = first; port <= last; port++) {
        guint16 value = (guint16) port;
        g_array_append_val(ports, value);
    }
    return true;
}

static bool
parse_ports(ProxyAddr *addr, const char *text, GError **error)
{
    g_autoptr(GArray) ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    g_auto(GStrv) ranges = g_strsplit(text, ",", -1);

    for (char **range = ranges; *range != NULL; range++) {
        if (!parse_range(*range, ports, error)) {
            return false;
        }
    }
    if (ports->len == 0) {
        return haw_fail(error, HAW_INVALID, "At least one port is required");
    }
    addr->count = ports->len;
    addr->ports = g_memdup2(ports->data, ports->len * sizeof(guint16));
    return true;
}

static bool
parse_inet(ProxyAddr *addr, const char *text, GError **error)
{
    const char *colon;

    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (close == NULL || close[1] != ':') {
            return haw_fail(error, HAW_INVALID, "Invalid address \"%s\": missing port", text);
        }
        addr->address = g_strndup(text + 1, (gsize) (close - text - 1));
        if (!is_address(AF_INET6, addr->address)) {
            return haw_fail(error, HAW_INVALID, "Not a valid IPv6 address \"%s\"", addr->address);
        }
        return parse_ports(addr, close + 2, error);
    }
    colon = strrchr(text, ':');
    if (colon == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid address \"%s\": missing port", text);
    }
    addr->address = g_strndup(text, (gsize) (colon - text));
    if (addr->address[0] != '\0' && !is_address(AF_INET, addr->address)) {
        return haw_fail(error, HAW_INVALID, "Not an IP address \"%s\"", addr->address);
    }
    return parse_ports(addr, colon + 1, error);
}

static bool
parse_unix(ProxyAddr *addr, const char *text, GError **error)
{
    if (text[0] != '/' && text[0] != '@') {
        return haw_fail(error, HAW_INVALID, "Not an absolute path \"%s\"", text);
    }
    if (strlen(text) > PROXYADDR_PATH_MAX || text[1] == '\0') {
        return haw_fail(error, HAW_INVALID, "Not the path of a socket \"%s\"", text);
    }
    addr->address = g_strdup(text);
    return true;
}

ProxyAddr *
proxyaddr_parse(const char *text, GError **error)
{
    g_autoptr(ProxyAddr) addr = g_new0(ProxyAddr, 1);
    g_auto(GStrv) fields = g_strsplit(text, ":", 2);
    bool known = false;

    for (guint i = 0; fields[0] != NULL && i < G_N_ELEMENTS(kinds); i++) {
        if (g_str_equal(fields[0], kinds[i])) {
            addr->kind = i;
            known = true;
        }
    }
    if (!known) {
        haw_fail(error, HAW_INVALID, "Unknown protocol type \"%s\"",
                 fields[0] != NULL ? fields[0] : "");
        return NULL;
    }
    if (fields[1] == NULL || fields[1][0] == '\0') {
        haw_fail(error, HAW_INVALID, "Missing address");
        return NULL;
    }
    bool ok = addr->kind == PROXYADDR_UNIX ? parse_unix(addr, fields[1], error)
                                           : parse_inet(addr, fields[1], error);
    return ok ? g_steal_pointer(&addr) : NULL;
}

void
proxyaddr_free(ProxyAddr *addr)
{
    if (addr != NULL) {
        g_free(addr->address);
        g_free(addr->ports);
        g_free(addr);
    }
}

const char *
proxyaddr_kind(const ProxyAddr *addr)
{
    return kinds[addr->kind];
}

bool
proxyaddr_abstract(const ProxyAddr *addr)
{
    return addr->kind == PROXYADDR_UNIX && addr->address[0] == '@';
}

bool
proxyaddr_wildcard(const ProxyAddr *addr)
{
    return addr->address[0] == '\0' || g_str_equal(addr->address, "0.0.0.0") ||
           g_str_equal(addr->address, "::");
}

bool
proxyaddr_ipv6(const ProxyAddr *addr)
{
    return strchr(addr->address, ':') != NULL;
}

bool
proxyaddr_match(const ProxyAddr *listen, const ProxyAddr *connect, GError **error)
{
    if (connect->count > 1 && listen->count != connect->count) {
        return haw_fail(error, HAW_INVALID,
                        listen->count < connect->count
                            ? "Cannot map a single port to multiple ports"
                            : "Number of ports in the listen range differs from the connect range");
    }
    return true;
}
