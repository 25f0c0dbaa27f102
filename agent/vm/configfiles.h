/* configfiles.h: the files of the config share that are the same for everyone, and ISO images of it.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct {
    const char *path, *text;
} ConfigFile;
extern const ConfigFile config_files[]; /* ends with a NULL path */

/* An ISO 9660 image (Rock Ridge, Joliet) of path → text and, unless NULL, the agent's program. */
bool configiso_write(const char *path, json_t *files, const char *program, const char *label,
                     GError **error);
