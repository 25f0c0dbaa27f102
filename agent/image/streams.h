/* streams.h: simplestreams: which product and version an alias means, and its files.
 * Threads: main loop, inside fibers; streams_pick() on any. */
#pragma once
#include "agent/image/remote.h"

typedef struct {
    char *fingerprint;           /* SHA-256 of the metadata's bytes, then the root's */
    char *meta_path, *root_path; /* below the server's URL */
    gint64 meta_size, root_size;
    char *type;         /* "container" */
    char *architecture; /* ours */
    char *version;
    json_t *properties; /* as the server tells them; owned */
    gint64 created_at;  /* microseconds */
} StreamsItem;
void streams_item_clear(StreamsItem *item);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StreamsItem, streams_item_clear)

/* Among the products of one products file: by fingerprint (or a prefix of 12 at least) or alias, for
 * our architecture ("alias/amd64" names another). False: no such image. */
bool streams_pick(json_t *products, const char *name, const char *type, StreamsItem *ret_item);
/* Reads the server's index and products. Yields. */
bool streams_find(Agent *agent, const RemoteSource *source, const char *name, StreamsItem *ret_item,
                  GError **error);
