/* A framing scanner before the parser: it finds where an object ends by counting brackets outside
 * strings, so that the parser sees each byte once, however small the pieces are that a socket gives.
 * S1  Bytes before 'seen' have been scanned; 'start' is where the object begins that is being scanned.
 * S2  Between objects only white space is accepted. */
#include "proto/jsonscan.h"

#include <string.h>

enum { DEPTH_MOST = 64, KEEP_BYTES = 1024 * 1024 };

struct JsonScan {
    GByteArray *buffer;
    size_t start, seen; /* S1 */
    size_t max_bytes;
    guint depth;
    bool in_string, escaped;
};

JsonScan *
jsonscan_new(size_t max_bytes)
{
    JsonScan *scan = g_new0(JsonScan, 1);
    scan->buffer = g_byte_array_new();
    scan->max_bytes = max_bytes;
    return scan;
}

void
jsonscan_free(JsonScan *scan)
{
    if (scan != NULL) {
        g_byte_array_unref(scan->buffer);
        g_free(scan);
    }
}

void
jsonscan_feed(JsonScan *scan, const void *bytes, size_t size)
{
    /* What was parsed is dropped here, not for each object: a move of the rest costs. */
    if (scan->start == scan->buffer->len && scan->start > KEEP_BYTES) {
        g_byte_array_unref(scan->buffer); /* the first dump was large, what follows is not */
        scan->buffer = g_byte_array_new();
        scan->start = scan->seen = 0;
    } else if (scan->start > 0) {
        g_byte_array_remove_range(scan->buffer, 0, (guint) scan->start);
        scan->seen -= scan->start;
        scan->start = 0;
    }
    g_byte_array_append(scan->buffer, bytes, (guint) size);
}

/* One byte inside an object: true when it ends there. */
static bool
ends_at(JsonScan *scan, guint8 byte)
{
    if (scan->in_string) {
        if (scan->escaped) {
            scan->escaped = false;
        } else if (byte == '\\') {
            scan->escaped = true;
        } else if (byte == '"') {
            scan->in_string = false;
        }
        return false;
    }
    switch (byte) {
    case '"':
        scan->in_string = true;
        return false;
    case '{':
    case '[':
        scan->depth++;
        return false;
    case '}':
    case ']':
        return --scan->depth == 0;
    default:
        return false;
    }
}

/* S2 */
static bool
skip_blanks(JsonScan *scan, GError **error)
{
    const guint8 *data = scan->buffer->data;
    while (scan->seen < scan->buffer->len && strchr(" \t\r\n", data[scan->seen]) != NULL &&
           data[scan->seen] != '\0') {
        scan->seen++;
    }
    scan->start = scan->seen;
    if (scan->seen < scan->buffer->len && data[scan->seen] != '{') {
        return haw_fail(error, HAW_CORRUPT, "JSON stream: an object was expected, not byte 0x%02x",
                        data[scan->seen]);
    }
    return true;
}

static bool
parse(JsonScan *scan, json_t **ret_object, GError **error)
{
    json_error_t why;
    *ret_object = json_loadb((const char *) scan->buffer->data + scan->start,
                             scan->seen - scan->start, 0, &why);
    scan->start = scan->seen;
    return *ret_object != NULL || haw_fail(error, HAW_CORRUPT, "JSON stream: %s", why.text);
}

bool
jsonscan_next(JsonScan *scan, json_t **ret_object, GError **error)
{
    *ret_object = NULL;
    if (scan->depth == 0 && !skip_blanks(scan, error)) {
        return false;
    }
    while (scan->seen < scan->buffer->len) {
        guint8 byte = scan->buffer->data[scan->seen++];
        if (ends_at(scan, byte)) {
            return parse(scan, ret_object, error);
        }
        if (scan->depth > DEPTH_MOST) {
            return haw_fail(error, HAW_LIMIT, "JSON stream: deeper than %d", DEPTH_MOST);
        }
    }
    if (scan->seen - scan->start > scan->max_bytes) {
        return haw_fail(error, HAW_LIMIT, "JSON stream: an object of more than %zu bytes",
                        scan->max_bytes);
    }
    return true;
}
