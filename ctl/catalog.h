/* catalog.h: what images a simplestreams server offers.
 * Threads: the one thread of the program. */
#pragma once
#include "base/error.h"
#include "ctl/remotes.h"
#include <jansson.h>

/* The images of a server in the shape that /1.0/images?recursion=1 has; a new reference. */
json_t *catalog_list(const Remote *remote, GError **error);
/* The one with this alias, or whose fingerprint begins so; a new reference. NOT_FOUND. */
json_t *catalog_find(const Remote *remote, const char *name, GError **error);
/* The images of a products file, for catalog_list() and its test; a new reference. */
json_t *catalog_images(const json_t *products);
