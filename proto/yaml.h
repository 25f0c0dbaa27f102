/* yaml.h: YAML that people edit and images carry, as JSON values and back.
 * Threads: any. Documents may come from strangers: size, depth, nodes and alias copies are bounded. */
#pragma once
#include "base/error.h"
#include <jansson.h>

#define YAML_MAX_BYTES (4 * 1024 * 1024)

/* Keys below which every scalar stays text exactly as written ("limits.cpu: 2" gives "2", nothing
 * gives ""): what LXD keeps in maps of strings. Ends with NULL. */
extern const char *const yaml_text_keys[];

/* One document as a new reference; an empty one is null. Plain scalars become null, bool, integer
 * or real as in YAML 1.1 except below 'text_keys' (NULL: nowhere). INVALID, with the line, for
 * anything else than one document of unique text keys, and LIMIT for a bound that was met. */
json_t *yaml_to_json(const char *text, size_t size, const char *const *text_keys, GError **error);

/* The value as a document in block style, keys in their order; ends with a newline. Caller frees.
 * Strings that would read back as another type are quoted, so the pair of functions is lossless. */
char *yaml_from_json(const json_t *value);
