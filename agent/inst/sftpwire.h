/* sftpwire.h: the packets of SFTP version 3: numbers, a cursor over a request, the pieces of an answer.
 * Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/stat.h>

enum {
    FXP_INIT = 1,
    FXP_VERSION = 2,
    FXP_OPEN = 3,
    FXP_CLOSE = 4,
    FXP_READ = 5,
    FXP_WRITE = 6,
    FXP_LSTAT = 7,
    FXP_FSTAT = 8,
    FXP_SETSTAT = 9,
    FXP_FSETSTAT = 10,
    FXP_OPENDIR = 11,
    FXP_READDIR = 12,
    FXP_REMOVE = 13,
    FXP_MKDIR = 14,
    FXP_RMDIR = 15,
    FXP_REALPATH = 16,
    FXP_STAT = 17,
    FXP_RENAME = 18,
    FXP_READLINK = 19,
    FXP_SYMLINK = 20,
    FXP_STATUS = 101,
    FXP_HANDLE = 102,
    FXP_DATA = 103,
    FXP_NAME = 104,
    FXP_ATTRS = 105,
    FXP_EXTENDED = 200,
    FXP_EXTENDED_REPLY = 201,
};

enum { FX_OK, FX_EOF, FX_NO_SUCH_FILE, FX_DENIED, FX_FAILURE, FX_BAD_MESSAGE, FX_UNSUPPORTED = 8 };

enum { ATTR_SIZE = 1, ATTR_IDS = 2, ATTR_MODE = 4, ATTR_TIMES = 8 };
enum {
    OPEN_READ = 1,
    OPEN_WRITE = 2,
    OPEN_APPEND = 4,
    OPEN_CREAT = 8,
    OPEN_TRUNC = 16,
    OPEN_EXCL = 32
};

/* What is left of a packet; 'bad' once something was taken that wasn't there. */
typedef struct {
    const guint8 *at, *end;
    bool bad;
} Cursor;

typedef struct {
    guint32 flags, uid, gid, mode, atime, mtime;
    guint64 size;
} Attrs;

guint32 sftpwire_u32(Cursor *cursor);
guint64 sftpwire_u64(Cursor *cursor);
const guint8 *sftpwire_bytes(Cursor *cursor, guint32 *ret_size);
/* Into the caller's buffer of PATH_MAX; bad when it is too long or holds a NUL. */
const char *sftpwire_path(Cursor *cursor, char *buf);
Attrs sftpwire_attrs(Cursor *cursor);
void sftpwire_put_u32(GByteArray *out, guint32 value);
void sftpwire_put_u64(GByteArray *out, guint64 value);
void sftpwire_put_text(GByteArray *out, const char *text);
/* An answer: its place from begin() is filled in by end(). */
guint sftpwire_begin(GByteArray *out, guint8 type, guint32 id);
void sftpwire_end(GByteArray *out, guint start);
void sftpwire_status(GByteArray *out, guint32 id, guint32 code, const char *text);
/* The outcome of a call that sets errno. */
void sftpwire_result(GByteArray *out, guint32 id, bool ok);
void sftpwire_put_attrs(json_t *idmap, GByteArray *out, const struct stat *st);
void sftpwire_stat(json_t *idmap, GByteArray *out, guint32 id, int status, const struct stat *st);
