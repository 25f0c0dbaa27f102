/* formdata.h: takes a multipart/form-data body apart, as image export sends split images.
 * Threads: any. The bytes are a server's: bounded and checked. */
#pragma once
#include "base/error.h"

/* Splits the file 'fd' (read from its start) into files of 'folder', named by the parts' filenames
 * (their base names only). ret_names: what was made, ends with NULL; caller frees. CORRUPT when it is
 * no such body. */
bool formdata_split(int fd, const char *boundary, const char *folder, char ***ret_names,
                    GError **error);
/* The boundary of a Content-Type, NULL when it is no multipart; caller frees. */
char *formdata_boundary(const char *content_type);
/* The filename of a Content-Disposition, its base name; NULL for none. Caller frees. */
char *formdata_filename(const char *disposition);
