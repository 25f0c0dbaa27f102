/* asked.h: what an OPEN asks for, as C strings. Threads: the guest's only one. */
#pragma once
#include "proto/guestwire.h"
#include <stdbool.h>
#include <sys/types.h>

struct asked {
    enum guestwire_kind kind;
    char **argv, **env; /* end with NULL */
    size_t argc, envc;
    char *text[GUESTWIRE_TAG_COUNT]; /* the last of each other field */
};
/* False when the bytes make no sense. */
bool asked_read(struct asked *asked, const uint8_t *bytes, size_t size);
void asked_done(struct asked *asked);
/* A field as a number, or the fallback. */
long long asked_number(const struct asked *asked, enum guestwire_tag tag, int base,
                       long long fallback);
