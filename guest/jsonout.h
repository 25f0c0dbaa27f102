/* jsonout.h: JSON, written straight to a stream; the caller opens and closes what it opens.
 * Threads: the guest's only one. */
#pragma once
#include <stdint.h>
#include <stdio.h>

struct jsonout {
    FILE *to;
    int more; /* something stands before, at this level */
};
/* Each takes the key, NULL inside an array. */
void jsonout_open(struct jsonout *out, const char *key, char bracket);
void jsonout_close(struct jsonout *out, char bracket);
void jsonout_text(struct jsonout *out, const char *key, const char *text);
void jsonout_number(struct jsonout *out, const char *key, int64_t value);
void jsonout_real(struct jsonout *out, const char *key, double value);
