/* metadata.h: an image's metadata.yaml: architecture, dates, properties, templates.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

#define METADATA_MAX_BYTES (1024 * 1024)

/* {"architecture","creation_date","expiry_date","properties":{…},"templates":{path: {"when":[…],
 * "create_only","template","properties":{…}}}} as REST's ImageMetadata, checked; a new reference.
 * INVALID. */
json_t *metadata_parse(const char *text, size_t size, GError **error);
/* The same, as it stands in metadata.yaml; caller frees. */
char *metadata_format(json_t *metadata);
/* "x86_64" and so on: whether it is an architecture we know, under any of its names ("amd64");
 * the canonical name, static, or NULL. */
const char *metadata_architecture(const char *name);
/* The host's. */
const char *metadata_native_architecture(void);
