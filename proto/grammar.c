/* Grammar: what a configuration value may look like: numbers, sizes, names, lists.
 * G1  NULL and "" pass every check: that is a key which is unset.
 * G2  A parser accepts exactly what its check accepts; numbers that don't fit 64 bits are errors.
 * The error texts are LXD's, as clients and its tests look at them.
 * Addresses are in grammar_net.c, schedules and expiries in grammar_time.c. */
#include "proto/grammar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY(v) ((v) == NULL || *(v) == '\0')

typedef struct {
    const char *suffix;
    gint64 factor;
} Unit;

#define K10 (G_GINT64_CONSTANT(1000))
#define K2  (G_GINT64_CONSTANT(1024))
static const Unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {" bytes", 1},
    {"kB", K10},
    {"MB", K10 *K10},
    {"GB", K10 *K10 *K10},
    {"TB", K10 *K10 *K10 *K10},
    {"PB", K10 *K10 *K10 *K10 *K10},
    {"EB", K10 *K10 *K10 *K10 *K10 *K10},
    {"KiB", K2},
    {"MiB", K2 *K2},
    {"GiB", K2 *K2 *K2},
    {"TiB", K2 *K2 *K2 *K2},
    {"PiB", K2 *K2 *K2 *K2 *K2},
    {"EiB", K2 *K2 *K2 *K2 *K2 *K2},
    {NULL, 0},
};
static const Unit bit_units[] = {
    {"", 1},
    {"bit", 1},
    {"kbit", K10},
    {"Mbit", K10 *K10},
    {"Gbit", K10 *K10 *K10},
    {"Tbit", K10 *K10 *K10 *K10},
    {"Pbit", K10 *K10 *K10 *K10 *K10},
    {"Ebit", K10 *K10 *K10 *K10 *K10 *K10},
    {"Kibit", K2},
    {"Mibit", K2 *K2},
    {"Gibit", K2 *K2 *K2},
    {"Tibit", K2 *K2 *K2 *K2},
    {"Pibit", K2 *K2 *K2 *K2 *K2},
    {"Eibit", K2 *K2 *K2 *K2 *K2 *K2},
    {NULL, 0},
};

char *
grammar_quote(const char *v)
{
    GString *out = g_string_new("\"");
    for (const char *at = v != NULL ? v : ""; *at != '\0'; at++) {
        switch (*at) {
        case '"':
        case '\\':
            g_string_append_c(out, '\\');
            g_string_append_c(out, *at);
            break;
        case '\n':
            g_string_append(out, "\\n");
            break;
        case '\t':
            g_string_append(out, "\\t");
            break;
        default:
            if ((guchar) *at < 0x20 || *at == 0x7f) {
                g_string_append_printf(out, "\\x%02x", (guchar) *at);
            } else {
                g_string_append_c(out, *at);
            }
        }
    }
    g_string_append_c(out, '"');
    return g_string_free(out, FALSE);
}

/* INVALID with a text that ends in the quoted value. */
static bool
refuse(GError **error, const char *text, const char *v)
{
    g_autofree char *quoted = grammar_quote(v);
    return haw_fail(error, HAW_INVALID, "%s %s", text, quoted);
}

static bool
only_of(const char *v, const char *also)
{
    for (; *v != '\0'; v++) {
        if (!g_ascii_isalnum(*v) && strchr(also, *v) == NULL) {
            return false;
        }
    }
    return true;
}

static bool
parse_units(const char *v, const Unit *units, gint64 *ret, GError **error)
{
    if (EMPTY(v)) {
        *ret = 0;
        return true;
    }
    size_t digits = strspn(v, "0123456789");
    if (digits == 0) {
        return haw_fail(error, HAW_INVALID, "Invalid value: %s", v);
    }
    errno = 0;
    gint64 number = g_ascii_strtoll(v, NULL, 10);
    if (errno != 0) {
        return haw_fail(error, HAW_INVALID, "Invalid integer: %s", v);
    }
    for (const Unit *unit = units; unit->suffix != NULL; unit++) {
        if (strcmp(unit->suffix, v + digits) == 0) {
            gint64 product;
            if (__builtin_mul_overflow(number, unit->factor, &product)) {
                return haw_fail(error, HAW_INVALID, "Invalid integer: %s", v);
            }
            *ret = product;
            return true;
        }
    }
    return haw_fail(error, HAW_INVALID, "Invalid value: %s", v);
}

bool
grammar_parse_size(const char *v, gint64 *ret_bytes, GError **error)
{
    return parse_units(v, byte_units, ret_bytes, error);
}

bool
grammar_parse_bits(const char *v, gint64 *ret_bits, GError **error)
{
    return parse_units(v, bit_units, ret_bits, error);
}

bool
grammar_size(const char *v, GError **error)
{
    gint64 bytes;
    return grammar_parse_size(v, &bytes, error);
}

bool
grammar_bitsize(const char *v, GError **error)
{
    gint64 bits;
    return grammar_parse_bits(v, &bits, error);
}

bool
grammar_parse_bool(const char *v, bool fallback)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    if (EMPTY(v)) {
        return fallback;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(yes); i++) {
        if (g_ascii_strcasecmp(v, yes[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool
grammar_bool(const char *v, GError **error)
{
    static const char *const no[] = {"false", "0", "no", "off"};
    if (EMPTY(v) || grammar_parse_bool(v, false)) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(no); i++) {
        if (g_ascii_strcasecmp(v, no[i]) == 0) {
            return true;
        }
    }
    return refuse(error, "Invalid value for a boolean", v);
}

/* Base 10 with an optional sign and nothing around it. */
static bool
whole_number(const char *v, gint64 min, gint64 max, gint64 *ret)
{
    const char *digits = v + (*v == '-' || *v == '+');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0') {
        return false;
    }
    errno = 0;
    gint64 number = g_ascii_strtoll(v, NULL, 10);
    if (errno != 0 || number < min || number > max) {
        return false;
    }
    *ret = number;
    return true;
}

bool
grammar_parse_int64(const char *v, gint64 *ret_value, GError **error)
{
    if (EMPTY(v)) {
        *ret_value = 0;
        return true;
    }
    return whole_number(v, G_MININT64, G_MAXINT64, ret_value) ||
           refuse(error, "Invalid value for an integer", v);
}

bool
grammar_int64(const char *v, GError **error)
{
    gint64 number;
    return grammar_parse_int64(v, &number, error);
}

bool
grammar_uint8(const char *v, GError **error)
{
    gint64 number;
    return EMPTY(v) || (*v != '+' && *v != '-' && whole_number(v, 0, 255, &number)) ||
           refuse(error, "Invalid value for an integer", v);
}

bool
grammar_uint32(const char *v, GError **error)
{
    gint64 number;
    if (EMPTY(v) || (*v != '+' && *v != '-' && whole_number(v, 0, G_MAXUINT32, &number))) {
        return true;
    }
    g_autofree char *quoted = grammar_quote(v);
    bool digits = v[strspn(v, "0123456789")] == '\0';
    return haw_fail(error, HAW_INVALID,
                    "Invalid value for uint32 %s: strconv.ParseUint: parsing %s: %s", quoted,
                    quoted, digits ? "value out of range" : "invalid syntax");
}

bool
grammar_priority(const char *v, GError **error)
{
    gint64 number;
    if (EMPTY(v)) {
        return true;
    }
    if (!whole_number(v, G_MININT64, G_MAXINT64, &number)) {
        return refuse(error, "Invalid value for an integer", v);
    }
    if (number < 0 || number > 10) {
        g_autofree char *quoted = grammar_quote(v);
        return haw_fail(error, HAW_INVALID,
                        "Invalid value for a limit %s. Must be between 0 and 10", quoted);
    }
    return true;
}

bool
grammar_percent(const char *v, GError **error)
{
    gint64 number;
    if (EMPTY(v)) {
        return true;
    }
    g_autofree char *digits = g_strdup(v);
    size_t length = strlen(digits);
    if (digits[length - 1] != '%') {
        return haw_fail(error, HAW_INVALID, "Invalid value: %s", v);
    }
    digits[length - 1] = '\0';
    return whole_number(digits, 0, G_MAXINT32, &number) ||
           haw_fail(error, HAW_INVALID, "Invalid value: %s", v);
}

bool
grammar_memory(const char *v, GError **error)
{
    gint64 number = 0;
    if (EMPTY(v)) {
        return true;
    }
    if (g_str_has_suffix(v, "%")) {
        if (!grammar_percent(v, error)) {
            return false;
        }
        return strtoll(v, NULL, 10) != 0 ||
               haw_fail(error, HAW_INVALID, "Memory limit can't be 0%%");
    }
    if (!grammar_parse_size(v, &number, error)) {
        return false;
    }
    return number != 0 || haw_fail(error, HAW_INVALID, "Memory limit can't be 0");
}

bool
grammar_allowance(const char *v, GError **error)
{
    if (EMPTY(v) || g_str_has_suffix(v, "%")) {
        return grammar_percent(v, error);
    }
    g_auto(GStrv) parts = g_strsplit(v, "/", 2);
    for (size_t i = 0; i < 2; i++) {
        gint64 number;
        char *unit = parts[i] != NULL ? strstr(parts[i], "ms") : NULL;
        if (unit == NULL || unit[2] != '\0') {
            return haw_fail(error, HAW_INVALID, "Invalid allowance: %s", v);
        }
        *unit = '\0';
        if (!whole_number(parts[i], 1, G_MAXINT32, &number)) {
            return haw_fail(error, HAW_INVALID, "Invalid allowance: %s", v);
        }
    }
    return true;
}

bool
grammar_ifname(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    if (strlen(v) < 2) {
        return haw_fail(error, HAW_INVALID,
                        "Network interface is too short (minimum 2 characters)");
    }
    if (strlen(v) > 15) {
        return haw_fail(error, HAW_INVALID,
                        "Network interface is too long (maximum 15 characters)");
    }
    return only_of(v, "-_.") ||
           haw_fail(error, HAW_INVALID, "Network interface contains invalid characters");
}

bool
grammar_mac(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    bool good = strlen(v) == 17;
    for (size_t i = 0; good && i < 17; i++) {
        good = i % 3 == 2 ? v[i] == ':' : g_ascii_isxdigit(v[i]);
    }
    return good || haw_fail(error, HAW_INVALID,
                            "Invalid MAC address, must be 6 bytes of hex separated by colons");
}

static bool
in_range(const char *v, gint64 min, gint64 max, const char *bad, const char *out, GError **error)
{
    gint64 number;
    if (EMPTY(v)) {
        return true;
    }
    if (!whole_number(v, G_MININT64, G_MAXINT64, &number)) {
        return refuse(error, bad, v);
    }
    return (number >= min && number <= max) || refuse(error, out, v);
}

bool
grammar_mtu(const char *v, GError **error)
{
    return in_range(v, 1280, 16384, "Invalid MTU", "Out of MTU range (1280-16384)", error);
}

bool
grammar_vlan(const char *v, GError **error)
{
    return in_range(v, 0, 4094, "Invalid VLAN ID", "Out of VLAN ID range (0-4094)", error);
}

bool
grammar_port(const char *v, GError **error)
{
    return in_range(v, 0, 65535, "Invalid port number", "Out of port number range (0-65535)",
                    error);
}

bool
grammar_port_range(const char *v, GError **error)
{
    if (EMPTY(v) || strchr(v, '-') == NULL) {
        return grammar_port(v, error);
    }
    g_auto(GStrv) ends = g_strsplit(v, "-", 2);
    if (*ends[0] == '\0' || *ends[1] == '\0') {
        return refuse(error, "Invalid port range", v);
    }
    if (!grammar_port(ends[0], error) || !grammar_port(ends[1], error)) {
        return false;
    }
    return strtol(ends[0], NULL, 10) < strtol(ends[1], NULL, 10) ||
           haw_fail(error, HAW_INVALID, "Start port %s must be lower than end port %s", ends[0],
                    ends[1]);
}

bool
grammar_hostname(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    size_t length = strlen(v);
    if (length > 63) {
        return haw_fail(error, HAW_INVALID, "Name must be 1-63 characters long");
    }
    if (*v == '-') {
        return haw_fail(error, HAW_INVALID, "Name must not start with \"-\" character");
    }
    if (g_ascii_isdigit(*v)) {
        return haw_fail(error, HAW_INVALID, "Name must not start with a number");
    }
    if (v[length - 1] == '-') {
        return haw_fail(error, HAW_INVALID, "Name must not end with \"-\" character");
    }
    return only_of(v, "-") ||
           haw_fail(error, HAW_INVALID, "Name can only contain alphanumeric and hyphen characters");
}

bool
grammar_device_name(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    if (strlen(v) > 63) {
        return haw_fail(error, HAW_INVALID, "Name must be 1-63 characters long");
    }
    if (*v == '.') {
        return haw_fail(error, HAW_INVALID, "Name must not start with \".\" character");
    }
    return only_of(v, "/.-:_") ||
           haw_fail(error, HAW_INVALID,
                    "Name can only contain alphanumeric, forward slash, dot, colon, hyphen and "
                    "underscore characters");
}

bool
grammar_url_segment(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    size_t bad = strcspn(v, "$?&+\"'`*/");
    if (v[bad] != '\0') {
        return haw_fail(error, HAW_INVALID, "Cannot contain \"%c\"", v[bad]);
    }
    return true;
}

bool
grammar_snapshot_name(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    if (strcmp(v, ".") == 0 || strcmp(v, "..") == 0 || !g_utf8_validate(v, -1, NULL)) {
        return refuse(error, "Invalid snapshot name", v);
    }
    for (const char *at = v; *at != '\0'; at++) {
        if (strchr("/?&+ ", *at) != NULL || (guchar) *at < 0x20) {
            return haw_fail(error, HAW_INVALID, "Snapshot names may not contain \"%c\"",
                            (guchar) *at < 0x20 ? ' ' : *at);
        }
    }
    return strlen(v) <= 255 || haw_fail(error, HAW_INVALID, "Snapshot name is too long");
}

bool
grammar_device_id(const char *v, GError **error)
{
    return EMPTY(v) || (strlen(v) == 4 && v[strspn(v, "0123456789abcdef")] == '\0') ||
           haw_fail(error, HAW_INVALID, "Invalid value, must be four lower case hex characters");
}

bool
grammar_octal(const char *v, GError **error)
{
    return EMPTY(v) || (strlen(v) <= 6 && v[strspn(v, "01234567")] == '\0') ||
           refuse(error, "Invalid value for an octal file mode", v);
}

bool
grammar_kernel_limit(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    g_auto(GStrv) parts = g_strsplit(v, ":", -1);
    bool good = g_strv_length(parts) <= 2;
    for (char **part = parts; good && *part != NULL; part++) {
        good = strcmp(*part, "unlimited") == 0 || (**part != '\0' && strlen(*part) <= 20 &&
                                                   (*part)[strspn(*part, "0123456789")] == '\0');
    }
    return good || refuse(error, "Invalid kernel limit", v);
}

/* "3" or "2-5" into set; false when it is neither, backwards, too large or there already. */
static bool
cpuset_chunk(const char *chunk, GHashTable *set, GError **error)
{
    gint64 low, high;
    g_auto(GStrv) ends = g_strsplit(chunk, "-", 2);
    if (!whole_number(ends[0] != NULL ? ends[0] : "", 0, 65535, &low) ||
        !whole_number(ends[0] != NULL && ends[1] != NULL ? ends[1] : ends[0], low, 65535, &high)) {
        return haw_fail(error, HAW_INVALID, "Invalid cpuset value: %s", chunk);
    }
    for (gint64 cpu = low; cpu <= high; cpu++) {
        if (!g_hash_table_add(set, GINT_TO_POINTER((gint) cpu + 1))) {
            return haw_fail(error, HAW_INVALID, "Cannot define CPU multiple times");
        }
    }
    return true;
}

bool
grammar_cpuset(const char *v, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    if (v[strspn(v, "-,0123456789")] != '\0' || strchr("-,", *v) != NULL ||
        strchr("-,", v[strlen(v) - 1]) != NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid CPU limit syntax");
    }
    g_autoptr(GHashTable) set = g_hash_table_new(NULL, NULL);
    g_auto(GStrv) chunks = g_strsplit(v, ",", -1);
    for (char **chunk = chunks; *chunk != NULL; chunk++) {
        if (!cpuset_chunk(*chunk, set, error)) {
            return false;
        }
    }
    return true;
}

/* The program's name and then its flags: nothing that could name a file or another program. */
bool
grammar_compression(const char *v, GError **error)
{
    static const char *const known[] = {"none", "bzip2", "gzip", "lzma",
                                        "xz",   "zstd",  "pigz", "squashfs"};
    if (EMPTY(v)) {
        return true;
    }
    g_auto(GStrv) words = g_strsplit_set(v, " \t", -1);
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(words[0], known[i]) != 0) {
            continue;
        }
        for (char **word = words + 1; *word != NULL; word++) {
            if (**word != '\0' && (**word != '-' || !only_of(*word, "-="))) {
                return refuse(error, "Invalid compression argument", *word);
            }
        }
        return true;
    }
    return refuse(error, "Invalid compression algorithm", words[0]);
}

char **
grammar_list(const char *v)
{
    GPtrArray *list = g_ptr_array_new();
    g_auto(GStrv) parts = g_strsplit(v != NULL ? v : "", ",", -1);
    for (char **part = parts; *part != NULL; part++) {
        g_strstrip(*part);
        if (**part != '\0') {
            g_ptr_array_add(list, g_strdup(*part));
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(list, FALSE);
}

bool
grammar_each(const char *v, bool (*check)(const char *, GError **), GError **error)
{
    g_auto(GStrv) parts = g_strsplit(v != NULL ? v : "", ",", -1);
    for (char **part = parts; !EMPTY(v) && *part != NULL; part++) {
        g_strstrip(*part);
        if (**part == '\0') {
            return refuse(error, "Empty entry in list", v);
        }
        if (!check(*part, error)) {
            return false;
        }
    }
    return true;
}
