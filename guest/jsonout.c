/* JSON without a tree: keys come in the order they are written. Bytes that are no ASCII are passed
 * on when they are UTF-8, else as '?': the agent's parser takes nothing else.
 * Callers: report.c, metrics and replies of files. */
#include "guest/jsonout.h"

#include <inttypes.h>
#include <string.h>

/* The bytes of the UTF-8 character at 'at'; 0 when it is none. */
static int
utf8_size(const unsigned char *at)
{
    int size = at[0] < 0x80                     ? 1
               : at[0] >= 0xc2 && at[0] <= 0xdf ? 2
               : (at[0] & 0xf0) == 0xe0         ? 3
               : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                : 0;

    for (int i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0; /* overlong, surrogate, or beyond Unicode */
    }
    return size;
}

static void
put_string(FILE *to, const char *text)
{
    const unsigned char *at = (const unsigned char *) text;

    fputc('"', to);
    while (*at != 0) {
        int size = utf8_size(at);
        if (*at == '"' || *at == '\\') {
            fprintf(to, "\\%c", *at);
        } else if (*at < 0x20) {
            fprintf(to, "\\u%04x", *at);
        } else if (size == 0) {
            fputc('?', to);
        } else {
            fwrite(at, 1, (size_t) size, to);
        }
        at += size > 0 ? size : 1;
    }
    fputc('"', to);
}

static void
lead(struct jsonout *out, const char *key)
{
    if (out->more) {
        fputc(',', out->to);
    }
    out->more = 1;
    if (key != NULL) {
        put_string(out->to, key);
        fputc(':', out->to);
    }
}

void
jsonout_open(struct jsonout *out, const char *key, char bracket)
{
    lead(out, key);
    fputc(bracket, out->to);
    out->more = 0;
}

void
jsonout_close(struct jsonout *out, char bracket)
{
    fputc(bracket, out->to);
    out->more = 1;
}

void
jsonout_text(struct jsonout *out, const char *key, const char *text)
{
    lead(out, key);
    put_string(out->to, text);
}

void
jsonout_number(struct jsonout *out, const char *key, int64_t value)
{
    lead(out, key);
    fprintf(out->to, "%" PRId64, value);
}

void
jsonout_real(struct jsonout *out, const char *key, double value)
{
    lead(out, key);
    fprintf(out->to, "%.3f", value);
}
