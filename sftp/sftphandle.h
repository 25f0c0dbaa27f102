/* sftphandle.h: a session's open files and directories, and the requests on them.
 * Threads: the session's only one. Each request appends its one answer to 'out'. */
#pragma once
#include "sftp/sftp.h"
#include "sftp/sftpwire.h"
#include <dirent.h>

#define SFTP_READ_MAX    (256 * 1024) /* a READ answer */
#define SFTP_HANDLES_MAX 1024

typedef struct {
    int fd;   /* -1: free */
    DIR *dir; /* owns fd when set */
    bool append;
} Handle;

struct Sftp {
    int root;           /* borrowed */
    const SftpIds *ids; /* borrowed */
    bool started;
    Handle handles[SFTP_HANDLES_MAX];
    size_t handle_count; /* those behind were never used */
};

/* Takes what 'handle' holds. */
void sftphandle_new(Sftp *sftp, SftpOut *out, uint32_t id, Handle handle);
/* Borrowed; NULL for what is no open handle. */
Handle *sftphandle_take(Sftp *sftp, Cursor *cursor);
bool sftphandle_free(Handle *handle);
void sftphandle_close(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftphandle_read(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftphandle_write(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftphandle_fstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
void sftphandle_readdir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
bool sftphandle_set_attrs(Sftp *sftp, const Attrs *attrs, int fd);
void sftphandle_fsetstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out);
