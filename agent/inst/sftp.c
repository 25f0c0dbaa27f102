/* SFTP version 3 (draft-ietf-secsh-filexfer-02), as OpenSSH and Go's pkg/sftp speak it, with the
 * extensions posix-rename, hardlink, fsync and statvfs of openssh.com.
 * S1  Every name goes through confine.h; nothing is opened outside the root.
 * S2  A packet is read through a cursor that cannot leave it; what is too short is a bad message,
 *     and the session goes on. Only a wrong first packet or an absurd length ends it.
 * S3  Bounded: SFTP_PACKET_MAX a packet, SFTP_READ_MAX a read, SFTP_HANDLES_MAX open files.
 * S4  Answers leave in the order of the requests, collected while more requests are already here.
 * Caller: forkfile.c, in a process confined by enter.h. */
#include "agent/inst/sftp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/inst/confine.h"
#include "agent/inst/shift.h"

#define SFTP_PACKET_MAX  (256 * 1024 + 1024)
#define SFTP_READ_MAX    (256 * 1024)
#define SFTP_HANDLES_MAX 1024
#define SFTP_NAMES_MAX   100 /* a READDIR answer */
#define SFTP_INPUT       (1024 * 1024)

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

typedef struct {
    int fd;   /* -1: free */
    DIR *dir; /* owns fd when set */
    bool append;
} Handle;

struct Sftp {
    int root; /* borrowed */
    json_t *idmap;
    bool started;
    GArray *handles; /* Handle */
};

/* ---- reading a packet (S2) ---- */

typedef struct {
    const guint8 *at, *end;
    bool bad;
} Cursor;

static guint32
take_u32(Cursor *cursor)
{
    if (cursor->end - cursor->at < 4) {
        cursor->bad = true;
        return 0;
    }
    const guint8 *p = cursor->at;
    cursor->at += 4;
    return (guint32) p[0] << 24 | (guint32) p[1] << 16 | (guint32) p[2] << 8 | p[3];
}

static guint64
take_u64(Cursor *cursor)
{
    guint64 high = take_u32(cursor);

    return high << 32 | take_u32(cursor);
}

static const guint8 *
take_bytes(Cursor *cursor, guint32 *ret_size)
{
    guint32 size = take_u32(cursor);

    if (cursor->bad || (gsize) (cursor->end - cursor->at) < size) {
        cursor->bad = true;
        *ret_size = 0;
        return NULL;
    }
    const guint8 *bytes = cursor->at;
    cursor->at += size;
    *ret_size = size;
    return bytes;
}

/* A path in the caller's buffer of PATH_MAX; bad when it is too long or holds a NUL. */
static const char *
take_path(Cursor *cursor, char *buf)
{
    guint32 size;
    const guint8 *bytes = take_bytes(cursor, &size);

    if (bytes == NULL || size >= PATH_MAX || memchr(bytes, '\0', size) != NULL) {
        cursor->bad = true;
        buf[0] = '\0';
        return buf;
    }
    memcpy(buf, bytes, size);
    buf[size] = '\0';
    return buf;
}

typedef struct {
    guint32 flags, uid, gid, mode, atime, mtime;
    guint64 size;
} Attrs;

static Attrs
take_attrs(Cursor *cursor)
{
    Attrs attrs = {.flags = take_u32(cursor)};

    if ((attrs.flags & ATTR_SIZE) != 0) {
        attrs.size = take_u64(cursor);
    }
    if ((attrs.flags & ATTR_IDS) != 0) {
        attrs.uid = take_u32(cursor);
        attrs.gid = take_u32(cursor);
    }
    if ((attrs.flags & ATTR_MODE) != 0) {
        attrs.mode = take_u32(cursor);
    }
    if ((attrs.flags & ATTR_TIMES) != 0) {
        attrs.atime = take_u32(cursor);
        attrs.mtime = take_u32(cursor);
    }
    return attrs; /* extended pairs, if any, are left unread at the packet's end */
}

/* ---- writing an answer ---- */

static void
put_u32(GByteArray *out, guint32 value)
{
    guint8 bytes[4] = {(guint8) (value >> 24), (guint8) (value >> 16), (guint8) (value >> 8),
                       (guint8) value};

    g_byte_array_append(out, bytes, 4);
}

static void
put_u64(GByteArray *out, guint64 value)
{
    put_u32(out, (guint32) (value >> 32));
    put_u32(out, (guint32) value);
}

static void
put_text(GByteArray *out, const char *text)
{
    put_u32(out, (guint32) strlen(text));
    g_byte_array_append(out, (const guint8 *) text, (guint) strlen(text));
}

static guint
answer_begin(GByteArray *out, guint8 type, guint32 id)
{
    guint start = out->len;

    put_u32(out, 0);
    g_byte_array_append(out, &type, 1);
    put_u32(out, id);
    return start;
}

static void
answer_end(GByteArray *out, guint start)
{
    guint32 size = out->len - start - 4;

    out->data[start] = (guint8) (size >> 24);
    out->data[start + 1] = (guint8) (size >> 16);
    out->data[start + 2] = (guint8) (size >> 8);
    out->data[start + 3] = (guint8) size;
}

static void
answer_status(GByteArray *out, guint32 id, guint32 code, const char *text)
{
    guint start = answer_begin(out, FXP_STATUS, id);

    put_u32(out, code);
    put_text(out, text);
    put_text(out, "en");
    answer_end(out, start);
}

/* The outcome of a call that sets errno. */
static void
answer_result(GByteArray *out, guint32 id, bool ok)
{
    int err = errno;
    guint32 code = ok                                   ? FX_OK
                   : err == ENOENT || err == ENOTDIR    ? FX_NO_SUCH_FILE
                   : err == EACCES || err == EPERM      ? FX_DENIED
                   : err == ENOSYS || err == EOPNOTSUPP ? FX_UNSUPPORTED
                                                        : FX_FAILURE;

    answer_status(out, id, code, ok ? "Success" : g_strerror(err));
}

static void
put_attrs(Sftp *sftp, GByteArray *out, const struct stat *st)
{
    gint64 uid = shift_from_host(sftp->idmap, SHIFT_UID, st->st_uid);
    gint64 gid = shift_from_host(sftp->idmap, SHIFT_GID, st->st_gid);

    put_u32(out, ATTR_SIZE | ATTR_IDS | ATTR_MODE | ATTR_TIMES);
    put_u64(out, (guint64) st->st_size);
    put_u32(out, uid == SHIFT_NONE ? 65534 : (guint32) uid);
    put_u32(out, gid == SHIFT_NONE ? 65534 : (guint32) gid);
    put_u32(out, st->st_mode);
    put_u32(out, (guint32) st->st_atim.tv_sec);
    put_u32(out, (guint32) st->st_mtim.tv_sec);
}

static void
answer_stat(Sftp *sftp, GByteArray *out, guint32 id, int status, const struct stat *st)
{
    if (status < 0) {
        answer_result(out, id, false);
        return;
    }
    guint start = answer_begin(out, FXP_ATTRS, id);
    put_attrs(sftp, out, st);
    answer_end(out, start);
}

/* ---- handles ---- */

static void
handle_new(Sftp *sftp, GByteArray *out, guint32 id, Handle handle)
{
    guint index = 0;
    char name[16];

    while (index < sftp->handles->len && g_array_index(sftp->handles, Handle, index).fd >= 0) {
        index++;
    }
    if (index >= SFTP_HANDLES_MAX) { /* S3 */
        if (handle.dir != NULL) {
            closedir(handle.dir);
        } else {
            close(handle.fd);
        }
        answer_status(out, id, FX_FAILURE, "Too many open files");
        return;
    }
    if (index == sftp->handles->len) {
        g_array_append_val(sftp->handles, handle);
    } else {
        g_array_index(sftp->handles, Handle, index) = handle;
    }
    guint start = answer_begin(out, FXP_HANDLE, id);
    g_snprintf(name, sizeof(name), "%u", index);
    put_text(out, name);
    answer_end(out, start);
}

static Handle *
take_handle(Sftp *sftp, Cursor *cursor)
{
    guint32 size, index = 0;
    const guint8 *bytes = take_bytes(cursor, &size);

    if (bytes == NULL || size == 0 || size > 4) {
        return NULL;
    }
    for (guint32 i = 0; i < size; i++) {
        if (!g_ascii_isdigit(bytes[i])) {
            return NULL;
        }
        index = index * 10 + (bytes[i] - '0');
    }
    if (index >= sftp->handles->len) {
        return NULL;
    }
    Handle *handle = &g_array_index(sftp->handles, Handle, index);
    return handle->fd >= 0 ? handle : NULL;
}

static bool
handle_close(Handle *handle)
{
    int status = handle->dir != NULL ? closedir(handle->dir) : close(handle->fd);

    *handle = (Handle){.fd = -1};
    return status == 0;
}

/* ---- requests on handles ---- */

static void
do_close(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);

    errno = EBADF;
    answer_result(out, id, handle != NULL && handle_close(handle));
}

static void
do_read(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);
    guint64 offset = take_u64(cursor);
    guint32 size = take_u32(cursor);

    if (cursor->bad || handle == NULL || handle->dir != NULL) {
        answer_status(out, id, cursor->bad ? FX_BAD_MESSAGE : FX_FAILURE, "Bad handle");
        return;
    }
    guint start = answer_begin(out, FXP_DATA, id);
    size = MIN(size, SFTP_READ_MAX);
    put_u32(out, 0);
    guint at = out->len;
    g_byte_array_set_size(out, at + size);
    ssize_t n = pread(handle->fd, out->data + at, size, (off_t) offset);
    if (n <= 0) {
        g_byte_array_set_size(out, start);
        if (n == 0) {
            answer_status(out, id, FX_EOF, "EOF");
        } else {
            answer_result(out, id, false);
        }
        return;
    }
    g_byte_array_set_size(out, at + (guint) n);
    answer_end(out, start);
    out->data[at - 4] = (guint8) (n >> 24);
    out->data[at - 3] = (guint8) (n >> 16);
    out->data[at - 2] = (guint8) (n >> 8);
    out->data[at - 1] = (guint8) n;
}

static void
do_write(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);
    guint64 offset = take_u64(cursor);
    guint32 size;
    const guint8 *bytes = take_bytes(cursor, &size);

    if (cursor->bad || handle == NULL || handle->dir != NULL) {
        answer_status(out, id, cursor->bad ? FX_BAD_MESSAGE : FX_FAILURE, "Bad handle");
        return;
    }
    while (size > 0) {
        ssize_t n = handle->append ? write(handle->fd, bytes, size)
                                   : pwrite(handle->fd, bytes, size, (off_t) offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            answer_result(out, id, false);
            return;
        }
        bytes += n;
        offset += (guint64) n;
        size -= (guint32) n;
    }
    answer_result(out, id, true);
}

static void
do_fstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);
    struct stat st;

    errno = EBADF;
    answer_stat(sftp, out, id, handle != NULL ? fstat(handle->fd, &st) : -1, &st);
}

static const char *
long_name(const struct stat *st, const char *name, char *buf, size_t size)
{
    static const char bits[] = "rwxrwxrwx";
    char mode[11] = "?---------", when[32] = "";
    struct tm tm;

    mode[0] = S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : '-';
    for (int i = 0; i < 9; i++) {
        mode[i + 1] = (st->st_mode & (0400U >> i)) != 0 ? bits[i] : '-';
    }
    if (gmtime_r(&st->st_mtim.tv_sec, &tm) != NULL) {
        strftime(when, sizeof(when), "%b %e %Y", &tm);
    }
    g_snprintf(buf, size, "%s %lu %u %u %lld %s %s", mode, (unsigned long) st->st_nlink, st->st_uid,
               st->st_gid, (long long) st->st_size, when, name);
    return buf;
}

static void
do_readdir(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);
    struct dirent *entry;
    guint32 count = 0;
    char line[PATH_MAX];

    if (handle == NULL || handle->dir == NULL) {
        answer_status(out, id, FX_FAILURE, "Bad handle");
        return;
    }
    guint start = answer_begin(out, FXP_NAME, id), at = out->len;
    put_u32(out, 0);
    while (count < SFTP_NAMES_MAX && (entry = readdir(handle->dir)) != NULL) {
        struct stat st;
        if (fstatat(handle->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        put_text(out, entry->d_name);
        put_text(out, long_name(&st, entry->d_name, line, sizeof(line)));
        put_attrs(sftp, out, &st);
        count++;
    }
    if (count == 0) {
        g_byte_array_set_size(out, start);
        answer_status(out, id, FX_EOF, "EOF");
        return;
    }
    out->data[at + 2] = (guint8) (count >> 8);
    out->data[at + 3] = (guint8) count;
    answer_end(out, start);
}

/* ---- attributes ---- */

/* On an open file, or (fd O_PATH) on 'name' in the directory 'at', which is no symbolic link. */
static bool
apply_attrs(Sftp *sftp, const Attrs *attrs, int fd)
{
    if ((attrs->flags & ATTR_SIZE) != 0 && ftruncate(fd, (off_t) attrs->size) < 0) {
        return false;
    }
    if ((attrs->flags & ATTR_IDS) != 0) {
        gint64 uid = shift_to_host(sftp->idmap, SHIFT_UID, attrs->uid);
        gint64 gid = shift_to_host(sftp->idmap, SHIFT_GID, attrs->gid);
        if (uid == SHIFT_NONE || gid == SHIFT_NONE) {
            errno = EINVAL;
            return false;
        }
        if (fchownat(fd, "", (uid_t) uid, (gid_t) gid, AT_EMPTY_PATH) < 0) {
            return false;
        }
    }
    if ((attrs->flags & ATTR_MODE) != 0 && fchmod(fd, attrs->mode & 07777) < 0) {
        return false;
    }
    if ((attrs->flags & ATTR_TIMES) != 0) {
        struct timespec times[2] = {{.tv_sec = attrs->atime}, {.tv_sec = attrs->mtime}};
        return futimens(fd, times) == 0;
    }
    return true;
}

static void
do_fsetstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = take_handle(sftp, cursor);
    Attrs attrs = take_attrs(cursor);

    errno = EBADF;
    answer_result(out, id, !cursor->bad && handle != NULL && apply_attrs(sftp, &attrs, handle->fd));
}

/* Devices, sockets and pipes are not opened: mode and times go by their name. */
static bool
apply_attrs_named(Sftp *sftp, const Attrs *attrs, const char *path)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    struct timespec times[2] = {{.tv_sec = attrs->atime}, {.tv_sec = attrs->mtime}};
    int parent = confine_parent(sftp->root, path, buf, &name);
    bool ok = parent >= 0;

    if (ok && (attrs->flags & ATTR_IDS) != 0) {
        gint64 uid = shift_to_host(sftp->idmap, SHIFT_UID, attrs->uid);
        gint64 gid = shift_to_host(sftp->idmap, SHIFT_GID, attrs->gid);
        ok = uid != SHIFT_NONE && gid != SHIFT_NONE &&
             fchownat(parent, name, (uid_t) uid, (gid_t) gid, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (ok && (attrs->flags & ATTR_MODE) != 0) {
        ok = fchmodat(parent, name, attrs->mode & 07777, 0) == 0;
    }
    if (ok && (attrs->flags & ATTR_TIMES) != 0) {
        ok = utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (parent >= 0) {
        close(parent);
    }
    return ok;
}

static void
do_setstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *path = take_path(cursor, buf);
    Attrs attrs = take_attrs(cursor);
    struct stat st;
    bool ok = false;

    if (cursor->bad) {
        answer_status(out, id, FX_BAD_MESSAGE, "Bad message");
        return;
    }
    int fd = confine_open(sftp->root, path, O_PATH, 0);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        bool plain = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
        int flags = (attrs.flags & ATTR_SIZE) != 0 ? O_WRONLY : O_RDONLY;
        int open_fd = plain ? confine_open(sftp->root, path, flags | O_NONBLOCK | O_NOCTTY, 0) : -1;
        ok = plain ? open_fd >= 0 && apply_attrs(sftp, &attrs, open_fd)
                   : apply_attrs_named(sftp, &attrs, path);
        int err = errno;
        if (open_fd >= 0) {
            close(open_fd);
        }
        errno = err;
    }
    answer_result(out, id, ok);
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- requests on names ---- */

static void
do_open(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *path = take_path(cursor, buf);
    guint32 asked = take_u32(cursor);
    Attrs attrs = take_attrs(cursor);
    struct stat st;
    int flags = O_NONBLOCK | O_NOCTTY;

    if (cursor->bad) {
        answer_status(out, id, FX_BAD_MESSAGE, "Bad message");
        return;
    }
    flags |= (asked & OPEN_WRITE) == 0 ? O_RDONLY : (asked & OPEN_READ) != 0 ? O_RDWR : O_WRONLY;
    flags |= (asked & OPEN_CREAT) != 0 ? O_CREAT : 0;
    flags |= (asked & OPEN_EXCL) != 0 ? O_EXCL : 0;
    flags |= (asked & OPEN_TRUNC) != 0 ? O_TRUNC : 0;
    flags |= (asked & OPEN_APPEND) != 0 ? O_APPEND : 0;
    mode_t mode = (attrs.flags & ATTR_MODE) != 0 ? attrs.mode & 07777 : 0644;
    int fd = confine_open(sftp->root, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        close(fd);
        fd = -1;
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
    }
    if (fd < 0) {
        answer_result(out, id, false);
        return;
    }
    handle_new(sftp, out, id, (Handle){.fd = fd, .append = (asked & OPEN_APPEND) != 0});
}

static void
do_opendir(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *path = take_path(cursor, buf);
    int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        answer_result(out, id, false);
        return;
    }
    handle_new(sftp, out, id, (Handle){.fd = fd, .dir = dir});
}

static void
do_stat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *path = take_path(cursor, buf);
    struct stat st;
    int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_PATH, 0);

    answer_stat(sftp, out, id, fd >= 0 ? fstat(fd, &st) : -1, &st);
    if (fd >= 0) {
        close(fd);
    }
}

/* The directory and last name of a path; -1 with errno. */
static int
take_parent(Sftp *sftp, Cursor *cursor, char *buf, const char **ret_name)
{
    char path[PATH_MAX];

    take_path(cursor, path);
    if (cursor->bad) {
        errno = EINVAL;
        return -1;
    }
    return confine_parent(sftp->root, path, buf, ret_name);
}

static void
close_keeping_errno(int fd)
{
    int err = errno;

    if (fd >= 0) {
        close(fd);
    }
    errno = err;
}

static void
do_lstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    struct stat st;
    int parent = take_parent(sftp, cursor, buf, &name);
    int status = parent >= 0 ? fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) : -1;

    close_keeping_errno(parent);
    answer_stat(sftp, out, id, status, &st);
}

static void
do_remove(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out, int flags)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    bool ok = parent >= 0 && unlinkat(parent, name, flags) == 0;

    close_keeping_errno(parent);
    answer_result(out, id, ok);
}

static void
do_mkdir(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    Attrs attrs = take_attrs(cursor);
    mode_t mode = (attrs.flags & ATTR_MODE) != 0 ? attrs.mode & 07777 : 0755;
    bool ok = parent >= 0 && mkdirat(parent, name, mode) == 0;

    close_keeping_errno(parent);
    answer_result(out, id, ok);
}

static void
do_rename(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out, bool replace, bool link)
{
    char buf[PATH_MAX], new_buf[PATH_MAX];
    const char *name = NULL, *new_name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    int new_parent = parent >= 0 ? take_parent(sftp, cursor, new_buf, &new_name) : -1;
    bool ok = new_parent >= 0;

    if (ok && link) {
        ok = linkat(parent, name, new_parent, new_name, 0) == 0;
    } else if (ok) {
        ok = renameat2(parent, name, new_parent, new_name, replace ? 0 : RENAME_NOREPLACE) == 0;
    }
    close_keeping_errno(parent);
    close_keeping_errno(new_parent);
    answer_result(out, id, ok);
}

static void
do_readlink(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char buf[PATH_MAX], target[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    ssize_t n = parent >= 0 ? readlinkat(parent, name, target, sizeof(target) - 1) : -1;

    close_keeping_errno(parent);
    if (n < 0) {
        answer_result(out, id, false);
        return;
    }
    target[n] = '\0';
    guint start = answer_begin(out, FXP_NAME, id);
    put_u32(out, 1);
    put_text(out, target);
    put_text(out, target);
    put_u32(out, 0);
    answer_end(out, start);
}

/* OpenSSH's order (target first), which pkg/sftp follows, not the draft's. */
static void
do_symlink(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char target[PATH_MAX], buf[PATH_MAX];
    const char *name = NULL;

    take_path(cursor, target);
    int parent = take_parent(sftp, cursor, buf, &name);
    bool ok = !cursor->bad && parent >= 0 && symlinkat(target, parent, name) == 0;
    close_keeping_errno(parent);
    answer_result(out, id, ok);
}

static void
do_realpath(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char path[PATH_MAX];

    take_path(cursor, path);
    if (cursor->bad) {
        answer_status(out, id, FX_BAD_MESSAGE, "Bad message");
        return;
    }
    g_autofree char *clean = g_canonicalize_filename(path, "/");
    guint start = answer_begin(out, FXP_NAME, id);
    put_u32(out, 1);
    put_text(out, clean);
    put_text(out, clean);
    put_u32(out, 0);
    answer_end(out, start);
}

static void
do_statvfs(Sftp *sftp, guint32 id, GByteArray *out, int fd)
{
    struct statvfs fs;

    if (fd < 0 || fstatvfs(fd, &fs) < 0) {
        answer_result(out, id, false);
        return;
    }
    guint start = answer_begin(out, FXP_EXTENDED_REPLY, id);
    const guint64 fields[] = {
        fs.f_bsize,  fs.f_frsize, fs.f_blocks, fs.f_bfree, fs.f_bavail,
        fs.f_files,  fs.f_ffree,  fs.f_favail, fs.f_fsid,  (fs.f_flag & ST_RDONLY) != 0 ? 1 : 0,
        fs.f_namemax};
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        put_u64(out, fields[i]);
    }
    answer_end(out, start);
}

static void
do_extended(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    char name[PATH_MAX], path[PATH_MAX];

    take_path(cursor, name);
    if (g_str_equal(name, "posix-rename@openssh.com")) {
        do_rename(sftp, cursor, id, out, true, false);
    } else if (g_str_equal(name, "hardlink@openssh.com")) {
        do_rename(sftp, cursor, id, out, false, true);
    } else if (g_str_equal(name, "fsync@openssh.com")) {
        Handle *handle = take_handle(sftp, cursor);
        errno = EBADF;
        answer_result(out, id, handle != NULL && fsync(handle->fd) == 0);
    } else if (g_str_equal(name, "statvfs@openssh.com")) {
        take_path(cursor, path);
        int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_PATH, 0);
        do_statvfs(sftp, id, out, fd);
        close_keeping_errno(fd);
    } else if (g_str_equal(name, "fstatvfs@openssh.com")) {
        Handle *handle = take_handle(sftp, cursor);
        do_statvfs(sftp, id, out, handle != NULL ? handle->fd : -1);
    } else {
        answer_status(out, id, FX_UNSUPPORTED, "Unsupported");
    }
}

/* ---- the session ---- */

static void
answer_version(GByteArray *out)
{
    static const char *const extensions[][2] = {
        {"posix-rename@openssh.com", "1"}, {"statvfs@openssh.com", "2"},
        {"fstatvfs@openssh.com", "2"},     {"hardlink@openssh.com", "1"},
        {"fsync@openssh.com", "1"},
    };
    guint start = answer_begin(out, FXP_VERSION, 3);

    for (size_t i = 0; i < G_N_ELEMENTS(extensions); i++) {
        put_text(out, extensions[i][0]);
        put_text(out, extensions[i][1]);
    }
    answer_end(out, start);
}

static void
dispatch(Sftp *sftp, guint8 type, Cursor *cursor, guint32 id, GByteArray *out)
{
    static void (*const calls[])(Sftp *, Cursor *, guint32, GByteArray *) = {
        [FXP_OPEN] = do_open,       [FXP_CLOSE] = do_close,       [FXP_READ] = do_read,
        [FXP_WRITE] = do_write,     [FXP_LSTAT] = do_lstat,       [FXP_FSTAT] = do_fstat,
        [FXP_SETSTAT] = do_setstat, [FXP_FSETSTAT] = do_fsetstat, [FXP_OPENDIR] = do_opendir,
        [FXP_READDIR] = do_readdir, [FXP_MKDIR] = do_mkdir,       [FXP_REALPATH] = do_realpath,
        [FXP_STAT] = do_stat,       [FXP_READLINK] = do_readlink, [FXP_SYMLINK] = do_symlink,
    };

    if (type == FXP_REMOVE || type == FXP_RMDIR) {
        do_remove(sftp, cursor, id, out, type == FXP_RMDIR ? AT_REMOVEDIR : 0);
    } else if (type == FXP_RENAME) {
        do_rename(sftp, cursor, id, out, false, false);
    } else if (type == FXP_EXTENDED) {
        do_extended(sftp, cursor, id, out);
    } else if (type < G_N_ELEMENTS(calls) && calls[type] != NULL) {
        calls[type](sftp, cursor, id, out);
    } else {
        answer_status(out, id, FX_UNSUPPORTED, "Unsupported");
    }
}

bool
sftp_packet(Sftp *sftp, const guint8 *packet, size_t size, GByteArray *reply)
{
    Cursor cursor = {.at = packet + 1, .end = packet + size};

    if (size < 5) {
        return false;
    }
    guint32 id = take_u32(&cursor);
    if (!sftp->started) {
        sftp->started = packet[0] == FXP_INIT;
        if (sftp->started) {
            answer_version(reply);
        }
        return sftp->started;
    }
    dispatch(sftp, packet[0], &cursor, id, reply);
    return true;
}

Sftp *
sftp_new(int root_fd, json_t *idmap)
{
    Sftp *sftp = g_new0(Sftp, 1);

    sftp->root = root_fd;
    sftp->idmap = json_incref(idmap);
    sftp->handles = g_array_new(FALSE, FALSE, sizeof(Handle));
    return sftp;
}

void
sftp_free(Sftp *sftp)
{
    if (sftp == NULL) {
        return;
    }
    for (guint i = 0; i < sftp->handles->len; i++) {
        Handle *handle = &g_array_index(sftp->handles, Handle, i);
        if (handle->fd >= 0) {
            handle_close(handle);
        }
    }
    g_array_unref(sftp->handles);
    json_decref(sftp->idmap);
    g_free(sftp);
}

static bool
wait_for(int fd, short events, int quit_fd)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = quit_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    return fds[1].revents == 0;
}

static bool
flush(int fd, int quit_fd, GByteArray *reply)
{
    size_t done = 0;

    while (done < reply->len) {
        ssize_t n = write(fd, reply->data + done, reply->len - done);
        if (n >= 0) {
            done += (size_t) n;
        } else if (errno == EAGAIN ? !wait_for(fd, POLLOUT, quit_fd) : errno != EINTR) {
            return false;
        }
    }
    g_byte_array_set_size(reply, 0);
    return true;
}

/* Handles the whole packets at the start of 'input'; *ret_used is how far. */
static bool
handle_input(Sftp *sftp, const guint8 *input, size_t size, int fd, int quit_fd, GByteArray *reply,
             size_t *ret_used)
{
    size_t used = 0;

    while (size - used >= 4) {
        Cursor cursor = {.at = input + used, .end = input + size};
        guint32 length = take_u32(&cursor);
        if (length > SFTP_PACKET_MAX) {
            return false;
        }
        if (size - used - 4 < length) {
            break;
        }
        if (!sftp_packet(sftp, input + used + 4, length, reply) ||
            (reply->len > SFTP_READ_MAX && !flush(fd, quit_fd, reply))) {
            return false;
        }
        used += 4 + length;
    }
    *ret_used = used;
    return true;
}

void
sftp_serve(Sftp *sftp, int fd, int quit_fd)
{
    g_autofree guint8 *input = g_malloc(SFTP_INPUT);
    g_autoptr(GByteArray) reply = g_byte_array_new();
    size_t have = 0, used = 0;

    for (;;) {
        ssize_t n = read(fd, input + have, SFTP_INPUT - have);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return;
        }
        if (n < 0) {
            if (errno == EAGAIN && !wait_for(fd, POLLIN, quit_fd)) {
                return;
            }
            continue;
        }
        have += (size_t) n;
        if (!handle_input(sftp, input, have, fd, quit_fd, reply, &used) ||
            !flush(fd, quit_fd, reply)) { /* S4 */
            return;
        }
        memmove(input, input + used, have - used);
        have -= used;
    }
}
