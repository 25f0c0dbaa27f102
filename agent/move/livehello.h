/* livehello.h: what a source says of the guest that it moves, as the first message of a live move, and what stands
 * in the way of it. Pure; threads: any. */
#pragma once
#include "agent/move/lanes.h"
#include "base/error.h"
#include <jansson.h>

enum { LIVEHELLO_VERSION = 3, LIVEHELLO_KEY = 32 };

struct live_hello {
    char *uuid, *secret; /* of the move */
    char *cpu; /* features of the CPU that the guest sees as its own; "" when it is emulated */
    guint8 key[LIVEHELLO_KEY], token[LANES_TOKEN];
    bool sealed; /* the key is one */
    bool native; /* memory goes by QEMU's own migration */
    bool marks;  /* the source marks where devices' state begins: movemux_mark() */
    gint64 memory;
    guint channels;
    /* Owned. The layout of the machine, names of block nodes (the root disk's first) and their sizes, what keeps it the same machine, where the source can be
     * asked and by which certificate, what stands in the way there. */
    json_t *layout, *disks, *sizes, *identity, *urls, *certificate, *blockers;
};

/* The message; the caller's. */
json_t *livehello_make(const struct live_hello *hello);
/* Takes a message apart: sizes, numbers and kinds are those that can be. UNSUPPORTED for another version, INVALID. */
bool livehello_read(json_t *message, struct live_hello *ret_hello, GError **error);
/* Frees what it holds, and wipes the key. */
void livehello_done(struct live_hello *hello);

/* One more reason, to an array. */
void livehello_block(json_t *blockers, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* UNSUPPORTED with all reasons of both at once. */
bool livehello_check(json_t *source, json_t *target, GError **error);
