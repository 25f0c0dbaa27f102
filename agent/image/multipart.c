/* multipart/form-data (RFC 7578) in a file.
 * The file is mapped and searched for boundary lines; contents are never copied, they are told as
 * ranges of the file, since they are root filesystems. Bodies come from strangers: a part needs its
 * closing boundary, headers are at most 8 KiB a part.
 * Called by intake.c for uploads and for answers of other servers. */
#include "agent/image/multipart.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PARTS_MAX   16
#define HEADERS_MAX 8192

static void
part_free(gpointer data)
{
    MultipartPart *part = data;
    g_free(part->name);
    g_free(part->filename);
    g_free(part);
}

/* The value of key="value" (or key=value) in a header's parameters; NULL when absent. */
static char *
parameter(const char *header, const char *key)
{
    size_t key_size = strlen(key);
    const char *at = header;
    while ((at = strchr(at, ';')) != NULL) {
        at++;
        at += strspn(at, " \t");
        if (g_ascii_strncasecmp(at, key, key_size) != 0 || at[key_size] != '=') {
            continue;
        }
        at += key_size + 1;
        if (*at != '"') {
            return g_strndup(at, strcspn(at, "; \t\r\n"));
        }
        g_autoptr(GString) value = g_string_new(NULL);
        for (at++; *at != '\0' && *at != '"'; at++) {
            if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) {
                at++;
            }
            g_string_append_c(value, *at);
        }
        return g_string_free(g_steal_pointer(&value), FALSE);
    }
    return NULL;
}

char *
multipart_boundary(const char *content_type)
{
    static const char kind[] = "multipart/form-data";
    if (content_type == NULL || g_ascii_strncasecmp(content_type, kind, strlen(kind)) != 0) {
        return NULL;
    }
    g_autofree char *boundary = parameter(content_type, "boundary");
    if (boundary == NULL || *boundary == '\0' || strlen(boundary) > 200) {
        return NULL;
    }
    return g_steal_pointer(&boundary);
}

static MultipartPart *
parse_headers(const char *text, size_t size)
{
    g_autofree char *copy = g_strndup(text, size);
    g_auto(GStrv) lines = g_strsplit(copy, "\r\n", -1);
    MultipartPart *part = g_new0(MultipartPart, 1);
    for (int i = 0; lines[i] != NULL; i++) {
        static const char wanted[] = "content-disposition:";
        if (g_ascii_strncasecmp(lines[i], wanted, strlen(wanted)) == 0) {
            g_free(part->name);
            g_free(part->filename);
            part->name = parameter(lines[i], "name");
            part->filename = parameter(lines[i], "filename");
        }
    }
    part->name = part->name != NULL ? part->name : g_strdup("");
    part->filename = part->filename != NULL ? part->filename : g_strdup("");
    return part;
}

/* From behind a boundary line to the next one. *at moves behind that. False: not well formed. */
static bool
next_part(const char *bytes, size_t size, const char *line, size_t *at, GPtrArray *parts,
          bool *ret_last)
{
    size_t head = MIN(size - *at, HEADERS_MAX);
    const char *blank = memmem(bytes + *at, head, "\r\n\r\n", 4);
    if (blank == NULL) {
        return false;
    }
    const char *content = blank + 4;
    /* The line break belongs to the boundary; an empty content shares it with the headers. */
    const char *from = blank + 2;
    const char *end = memmem(from, size - (size_t) (from - bytes), line, strlen(line));
    if (end == NULL || parts->len >= PARTS_MAX) {
        return false;
    }
    const char *after = end + strlen(line);
    size_t left = size - (size_t) (after - bytes);
    bool last = left >= 2 && memcmp(after, "--", 2) == 0;
    if (!last && (left < 2 || memcmp(after, "\r\n", 2) != 0)) {
        return false;
    }

    MultipartPart *part = parse_headers(bytes + *at, (size_t) (blank - bytes) - *at);
    part->offset = content - bytes;
    part->size = end > content ? end - content : 0;
    g_ptr_array_add(parts, part);
    *at = (size_t) (after + 2 - bytes);
    *ret_last = last;
    return true;
}

static bool
parse(const char *bytes, size_t size, const char *boundary, GPtrArray *parts, GError **error)
{
    g_autofree char *line = g_strconcat("\r\n--", boundary, NULL);
    const char *first = line + 2; /* At the start there is no line break before it. */
    size_t at = strlen(first);
    if (size < at + 2 || memcmp(bytes, first, at) != 0 || memcmp(bytes + at, "\r\n", 2) != 0) {
        return haw_fail(error, HAW_INVALID, "Invalid multipart body");
    }
    at += 2;
    bool last = false;
    while (!last) {
        if (!next_part(bytes, size, line, &at, parts, &last)) {
            return haw_fail(error, HAW_INVALID, "Invalid multipart body: it is cut short");
        }
    }
    return true;
}

GPtrArray *
multipart_parse(int fd, const char *boundary, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0) {
        haw_fail(error, HAW_INVALID, "Invalid multipart body: it is empty");
        return NULL;
    }
    size_t size = (size_t) st.st_size;
    char *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        haw_fail_errno(error, errno, "map the multipart body");
        return NULL;
    }
    madvise(bytes, size, MADV_SEQUENTIAL);
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(part_free);
    bool ok = parse(bytes, size, boundary, parts, error);
    munmap(bytes, size);
    return ok ? g_steal_pointer(&parts) : NULL;
}
