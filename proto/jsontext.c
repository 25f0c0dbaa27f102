/* JSON text: what the agent says to its clients.
 * Jansson's own writer hashes the address of every object on its way down, to find values that contain
 * themselves, and decodes every character; of a list of a thousand instances that is nearly all the time.
 * J1  The text is jansson's, byte for byte, members in their order: tests compare.
 * J2  A value is a tree: all of ours are made by parsing or packing, which can't make a circle.
 * Called by api/request.c and inst/show.c; any thread. */
#include "proto/jsontext.h"

#include <string.h>

/* What stands behind the backslash; 'u' for four digits, 0 for what stays as it is. */
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n', 'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

void
jsontext_append_string(GString *out, const char *text, size_t size)
{
    size_t plain = 0;
    g_string_append_c(out, '"');
    for (size_t i = 0; i < size; i++) {
        char escape = escapes[(guint8) text[i]];
        if (escape == 0) {
            continue;
        }
        g_string_append_len(out, text + plain, (gssize) (i - plain));
        plain = i + 1;
        if (escape == 'u') {
            g_string_append_printf(out, "\\u%04X", (guint) (guint8) text[i]);
        } else {
            const char pair[] = {'\\', escape};
            g_string_append_len(out, pair, 2);
        }
    }
    g_string_append_len(out, text + plain, (gssize) (size - plain));
    g_string_append_c(out, '"');
}

static void
append_integer(GString *out, json_int_t value)
{
    char digits[24], *at = digits + sizeof digits;
    guint64 rest = value < 0 ? -(guint64) value : (guint64) value;
    do {
        *--at = (char) ('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) {
        *--at = '-';
    }
    g_string_append_len(out, at, digits + sizeof digits - at);
}

/* Seldom, and full of rules: jansson's. */
static void
append_real(GString *out, const json_t *value)
{
    char text[64];
    size_t size = json_dumpb(value, text, sizeof text, JSON_ENCODE_ANY);
    g_string_append_len(out, text, (gssize) MIN(size, sizeof text));
}

static void
append_object(GString *out, const json_t *object)
{
    char before = '{';
    json_t *shared = (json_t *) object; /* jansson's iterators change nothing */
    for (void *at = json_object_iter(shared); at != NULL; at = json_object_iter_next(shared, at)) {
        const char *name = json_object_iter_key(at);
        g_string_append_c(out, before);
        jsontext_append_string(out, name, strlen(name));
        g_string_append_c(out, ':');
        jsontext_append(out, json_object_iter_value(at));
        before = ',';
    }
    g_string_append(out, before == '{' ? "{}" : "}");
}

static void
append_array(GString *out, const json_t *array)
{
    size_t count = json_array_size(array);
    g_string_append_c(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            g_string_append_c(out, ',');
        }
        jsontext_append(out, json_array_get(array, i));
    }
    g_string_append_c(out, ']');
}

void
jsontext_append(GString *out, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        append_object(out, value);
        break;
    case JSON_ARRAY:
        append_array(out, value);
        break;
    case JSON_STRING:
        jsontext_append_string(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        append_integer(out, json_integer_value(value));
        break;
    case JSON_REAL:
        append_real(out, value);
        break;
    default:
        g_string_append(out, json_is_true(value)    ? "true"
                             : json_is_false(value) ? "false"
                                                    : "null");
    }
}
