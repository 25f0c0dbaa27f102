/* sftpwire.h: the packets of SFTP version 3: numbers, a cursor over a request, the pieces of an answer.
 * Threads: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Answers, gathered. Begins as {0}. */
typedef struct {
    uint8_t *data;
    size_t len, room;
} SftpOut;
/* Grows or cuts; aborts without memory. Bytes that are new are zero. */
void sftpwire_resize(SftpOut *out, size_t size);
void sftpwire_append(SftpOut *out, const void *bytes, size_t size);
void sftpwire_free(SftpOut *out);

/* How ids on the disk are those of the session. */
#define SFTP_NO_ID ((int64_t) -1)
typedef struct {
    int64_t (*on_disk)(void *data, bool group, uint32_t id); /* SFTP_NO_ID: there is none */
    int64_t (*of_disk)(void *data, bool group, uint32_t id);
    void *data;
} SftpIds;
/* NULL 'ids' are the identity. */
int64_t sftpwire_id_on_disk(const SftpIds *ids, bool group, uint32_t id);

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
    const uint8_t *at, *end;
    bool bad;
} Cursor;

typedef struct {
    uint32_t flags, uid, gid, mode, atime, mtime;
    uint64_t size;
} Attrs;

uint32_t sftpwire_u32(Cursor *cursor);
uint64_t sftpwire_u64(Cursor *cursor);
const uint8_t *sftpwire_bytes(Cursor *cursor, uint32_t *ret_size);
/* Into the caller's buffer of PATH_MAX; bad when it is too long or holds a NUL. */
const char *sftpwire_path(Cursor *cursor, char *buf);
Attrs sftpwire_attrs(Cursor *cursor);
void sftpwire_put_u32(SftpOut *out, uint32_t value);
void sftpwire_put_u64(SftpOut *out, uint64_t value);
void sftpwire_put_text(SftpOut *out, const char *text);
/* An answer: its place from begin() is filled in by end(). */
size_t sftpwire_begin(SftpOut *out, uint8_t type, uint32_t id);
void sftpwire_end(SftpOut *out, size_t start);
void sftpwire_status(SftpOut *out, uint32_t id, uint32_t code, const char *text);
/* The outcome of a call that sets errno. */
void sftpwire_result(SftpOut *out, uint32_t id, bool ok);
void sftpwire_put_attrs(const SftpIds *ids, SftpOut *out, const struct stat *st);
void sftpwire_stat(const SftpIds *ids, SftpOut *out, uint32_t id, int status,
                   const struct stat *st);
