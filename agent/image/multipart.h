/* multipart.h: the parts of a multipart/form-data body that lies in a file.
 * Threads: any; reads the file. */
#pragma once
#include "base/error.h"

typedef struct {
    char *name, *filename; /* owned; "" when absent */
    gint64 offset, size;   /* of the content, in the file */
} MultipartPart;

/* The boundary of a Content-Type, or NULL when it is no multipart/form-data; caller frees. */
char *multipart_boundary(const char *content_type);
/* At most 16 parts, in order; elements are MultipartPart. INVALID. */
GPtrArray *multipart_parse(int fd, const char *boundary, GError **error);
