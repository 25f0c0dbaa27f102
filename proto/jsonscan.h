/* jsonscan.h: JSON objects out of a stream of bytes, one after the other, each byte looked at once.
 * Threads: any, one at a time. The bytes are a stranger's: size and depth are bounded. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct JsonScan JsonScan;
JsonScan *jsonscan_new(size_t max_bytes /* of one object */);
void jsonscan_free(JsonScan *scan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonScan, jsonscan_free)

void jsonscan_feed(JsonScan *scan, const void *bytes, size_t size);
/* The next whole object into *ret_object as a new reference, or NULL there while it is not complete.
 * CORRUPT when the stream is no sequence of objects, LIMIT when one is too large or too deep: nothing
 * more can be read then. */
bool jsonscan_next(JsonScan *scan, json_t **ret_object, GError **error);
