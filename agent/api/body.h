/* body.h: parts of request bodies, checked for their types with the words of LXD's decoder.
 * 'type' is Go's name of the whole, for the message: "ProfilesPost". Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* The body must be an object. */
bool body_object(json_t *body, const char *type, GError **error);
/* A text; "" when it is absent or null, borrowed. */
bool body_text(json_t *body, const char *type, const char *field, const char **ret, GError **error);
/* {name: text}; a new reference, {} when it is absent or null. */
bool body_map(json_t *body, const char *type, const char *field, json_t **ret, GError **error);
/* {name: {name: text}}, as above. */
bool body_maps(json_t *body, const char *type, const char *field, json_t **ret, GError **error);
