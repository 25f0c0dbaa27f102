/* multipart/form-data, read from a mapped file.
 * M1  Nothing is written outside of 'folder', whatever the parts call themselves.
 * Called by cmd_transfer.c. */
#include "ctl/formdata.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

enum { PARTS_MAX = 8, HEAD_MAX = 8192 };

/* The value of key="…" or key=… in a header; caller frees. */
static char *
parameter(const char *header, const char *key)
{
    g_autofree char *mark = g_strconcat(key, "=", NULL);
    const char *at = header;
    while ((at = strstr(at, mark)) != NULL && at > header && at[-1] != ' ' && at[-1] != ';') {
        at++;
    }
    if (at == NULL) {
        return NULL;
    }
    at += strlen(mark);
    return *at == '"' ? g_strndup(at + 1, strcspn(at + 1, "\""))
                      : g_strndup(at, strcspn(at, "; \r\n"));
}

char *
formdata_boundary(const char *content_type)
{
    if (content_type == NULL || !g_str_has_prefix(content_type, "multipart/form-data")) {
        return NULL;
    }
    g_autofree char *boundary = parameter(content_type, "boundary");
    return boundary != NULL && *boundary != '\0' ? g_steal_pointer(&boundary) : NULL;
}

/* M1 */
char *
formdata_filename(const char *disposition)
{
    g_autofree char *name = disposition != NULL ? parameter(disposition, "filename") : NULL;
    const char *slash = name != NULL ? strrchr(name, '/') : NULL;
    const char *base = slash != NULL ? slash + 1 : name;
    if (base == NULL || *base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        return NULL;
    }
    return g_strdup(base);
}

typedef struct {
    const char *at, *end;
    char *mark; /* owns: "\r\n--boundary" */
} Cursor;

static const char *
find_mark(const Cursor *cursor)
{
    return memmem(cursor->at, (size_t) (cursor->end - cursor->at), cursor->mark,
                  strlen(cursor->mark));
}

/* One part: its head, then its bytes up to the next mark. */
static bool
take_part(Cursor *cursor, const char *folder, GPtrArray *names, GError **error)
{
    const char *head_end =
        memmem(cursor->at, MIN((size_t) (cursor->end - cursor->at), HEAD_MAX), "\r\n\r\n", 4);
    if (head_end == NULL) {
        return haw_fail(error, HAW_CORRUPT, "a part without a head");
    }
    g_autofree char *head = g_strndup(cursor->at, (gsize) (head_end - cursor->at));
    g_autofree char *name = formdata_filename(head);
    cursor->at = head_end + 4;
    const char *end = find_mark(cursor);
    if (name == NULL || end == NULL || names->len >= PARTS_MAX) {
        return haw_fail(error, HAW_CORRUPT, "a part without a name or an end");
    }
    g_autofree char *path = g_build_filename(folder, name, NULL);
    haw_autofd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", path);
    }
    if (!fd_write_all(fd, cursor->at, (size_t) (end - cursor->at), path, error)) {
        return false;
    }
    g_ptr_array_add(names, g_steal_pointer(&name));
    cursor->at = end + strlen(cursor->mark);
    return true;
}

static bool
split(Cursor *cursor, const char *folder, GPtrArray *names, GError **error)
{
    const char *first = find_mark(cursor);
    size_t bare = strlen(cursor->mark) - 2;
    if ((size_t) (cursor->end - cursor->at) >= bare &&
        memcmp(cursor->at, cursor->mark + 2, bare) == 0) {
        cursor->at += bare; /* the first mark needs no line end before it */
    } else if (first != NULL) {
        cursor->at = first + strlen(cursor->mark);
    } else {
        return haw_fail(error, HAW_CORRUPT, "no part");
    }
    while (cursor->end - cursor->at >= 2 && memcmp(cursor->at, "--", 2) != 0) {
        if (!take_part(cursor, folder, names, error)) {
            return false;
        }
    }
    return names->len > 0 || haw_fail(error, HAW_CORRUPT, "no part");
}

bool
formdata_split(int fd, const char *boundary, const char *folder, char ***ret_names, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size == 0) {
        return haw_fail(error, HAW_CORRUPT, "an empty multipart body");
    }
    char *bytes = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return haw_fail_errno(error, errno, "map a multipart body");
    }
    Cursor cursor = {
        .at = bytes, .end = bytes + st.st_size, .mark = g_strconcat("\r\n--", boundary, NULL)};
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    bool ok = split(&cursor, folder, names, error);
    munmap(bytes, (size_t) st.st_size);
    g_free(cursor.mark);
    if (!ok) {
        g_ptr_array_unref(names);
        return false;
    }
    g_ptr_array_set_free_func(names, NULL);
    g_ptr_array_add(names, NULL);
    *ret_names = (char **) g_ptr_array_free(names, FALSE);
    return true;
}
