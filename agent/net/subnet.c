/* Addresses as numbers. IPv4 sits in the first 4 bytes; the arithmetic runs over big-endian bytes, so
 * one loop does for both families.
 * A1  What subnet_random() gives overlaps nothing that it was told of. */
#include "agent/net/subnet.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/ids.h"

enum { RANDOM_TRIES = 500 };

static int
width(int family)
{
    return family == AF_INET ? 4 : 16;
}

bool
subnet_parse(const char *text, struct subnet *ret)
{
    if (text == NULL) {
        return false;
    }
    struct subnet net = {0};
    const char *slash = strchr(text, '/');
    g_autofree char *address =
        slash != NULL ? g_strndup(text, (gsize) (slash - text)) : g_strdup(text);
    if (inet_pton(AF_INET, address, net.address) == 1) {
        net.family = AF_INET;
    } else if (inet_pton(AF_INET6, address, net.address) == 1) {
        net.family = AF_INET6;
    } else {
        return false;
    }
    guint64 prefix = (guint64) width(net.family) * 8;
    if (slash != NULL && !g_ascii_string_to_unsigned(slash + 1, 10, 0, prefix, &prefix, NULL)) {
        return false;
    }
    net.prefix = (int) prefix;
    *ret = net;
    return true;
}

static char *
text_of(int family, const guint8 *bytes)
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(family, bytes, text, sizeof(text));
    return g_strdup(text);
}

static void
masked(const struct subnet *net, guint8 ret[16], bool ones)
{
    memcpy(ret, net->address, 16);
    for (int bit = net->prefix; bit < width(net->family) * 8; bit++) {
        guint8 mask = (guint8) (0x80 >> (bit % 8));
        ret[bit / 8] = ones ? (guint8) (ret[bit / 8] | mask) : (guint8) (ret[bit / 8] & ~mask);
    }
}

char *
subnet_network(const struct subnet *net)
{
    guint8 base[16];
    masked(net, base, false);
    g_autofree char *text = text_of(net->family, base);
    return g_strdup_printf("%s/%d", text, net->prefix);
}

char *
subnet_address(const struct subnet *net)
{
    return text_of(net->family, net->address);
}

char *
subnet_nth(const struct subnet *net, gint64 n)
{
    guint8 bytes[16];
    int host_bits = width(net->family) * 8 - net->prefix;
    guint64 step = n < 0 ? (guint64) (-(n + 1)) : (guint64) n;
    if (host_bits < 63 && step >= (G_GUINT64_CONSTANT(1) << host_bits)) {
        return NULL;
    }
    masked(net, bytes, n < 0);
    for (int i = width(net->family) - 1; i >= 0 && step != 0; i--) {
        guint64 digit = step & 0xff;
        step >>= 8;
        int value = n < 0 ? bytes[i] - (int) digit : bytes[i] + (int) digit;
        if (value < 0) {
            step += 1;
        } else if (value > 255) {
            step += 1;
        }
        bytes[i] = (guint8) value;
    }
    return text_of(net->family, bytes);
}

static bool
same_bits(const guint8 *a, const guint8 *b, int bits)
{
    int whole = bits / 8;
    if (memcmp(a, b, (size_t) whole) != 0) {
        return false;
    }
    int rest = bits % 8;
    return rest == 0 || (a[whole] >> (8 - rest)) == (b[whole] >> (8 - rest));
}

bool
subnet_contains(const struct subnet *net, const char *address)
{
    struct subnet one;
    return subnet_parse(address, &one) && one.family == net->family &&
           same_bits(one.address, net->address, net->prefix);
}

bool
subnet_range_contains(const char *range, const char *address)
{
    struct subnet first;
    struct subnet last;
    struct subnet one;
    g_auto(GStrv) ends = g_strsplit(range, "-", 2);
    return g_strv_length(ends) == 2 && subnet_parse(g_strstrip(ends[0]), &first) &&
           subnet_parse(g_strstrip(ends[1]), &last) && subnet_parse(address, &one) &&
           one.family == first.family && one.family == last.family &&
           memcmp(first.address, one.address, 16) <= 0 &&
           memcmp(one.address, last.address, 16) <= 0;
}

void
subnet_step(struct subnet *net)
{
    for (int i = width(net->family) - 1; i >= 0 && ++net->address[i] == 0; i--) {
    }
}

bool
subnet_overlap(const struct subnet *a, const struct subnet *b)
{
    return a->family == b->family && same_bits(a->address, b->address, MIN(a->prefix, b->prefix));
}

bool
subnet_same_address(const char *a, const char *b)
{
    struct subnet one;
    struct subnet other;
    return subnet_parse(a, &one) && subnet_parse(b, &other) && one.family == other.family &&
           memcmp(one.address, other.address, (size_t) width(one.family)) == 0;
}

char *
subnet_canonical(const char *address)
{
    struct subnet one;
    return address != NULL && strchr(address, '/') == NULL && subnet_parse(address, &one)
               ? subnet_address(&one)
               : NULL;
}

char *
subnet_eui64(const struct subnet *net, const char *mac)
{
    guint8 m[6];
    if (net->family != AF_INET6 || net->prefix != 64 || mac == NULL ||
        sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &m[0], &m[1], &m[2], &m[3], &m[4],
               &m[5]) != 6) {
        return NULL;
    }
    guint8 bytes[16];
    memcpy(bytes, net->address, 8);
    const guint8 host[8] = {(guint8) (m[0] ^ 0x02), m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};
    memcpy(bytes + 8, host, 8);
    return text_of(AF_INET6, bytes);
}

char *
subnet_random(int family, const GArray *taken)
{
    for (int tries = 0; tries < RANDOM_TRIES; tries++) {
        struct subnet net = {.family = family, .prefix = family == AF_INET ? 24 : 64};
        if (family == AF_INET) {
            net.address[0] = 10;
            ids_random(net.address + 1, 2);
            net.address[3] = 1;
        } else {
            net.address[0] = 0xfd;
            net.address[1] = 0x42;
            ids_random(net.address + 2, 6);
            net.address[15] = 1;
        }
        bool free = true;
        for (guint i = 0; taken != NULL && free && i < taken->len; i++) { /* A1 */
            const struct subnet *other = &g_array_index(taken, struct subnet, i);
            /* A default route overlaps everything and takes nothing. */
            free = other->prefix == 0 || !subnet_overlap(&net, other);
        }
        if (free) {
            g_autofree char *address = subnet_address(&net);
            return g_strdup_printf("%s/%d", address, net.prefix);
        }
    }
    return NULL;
}
