/* Open files of an SFTP session: a handle is the text of an index into the session's table (S3).
 * Called by sftp.c (dispatch) and sftpname.c (open, setstat). */
#include "agent/inst/sftphandle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/inst/shift.h"

#define SFTP_HANDLES_MAX 1024
#define SFTP_NAMES_MAX   100 /* a READDIR answer */

/* ---- handles ---- */

void
sftphandle_new(Sftp *sftp, GByteArray *out, guint32 id, Handle handle)
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
        sftpwire_status(out, id, FX_FAILURE, "Too many open files");
        return;
    }
    if (index == sftp->handles->len) {
        g_array_append_val(sftp->handles, handle);
    } else {
        g_array_index(sftp->handles, Handle, index) = handle;
    }
    guint start = sftpwire_begin(out, FXP_HANDLE, id);
    g_snprintf(name, sizeof(name), "%u", index);
    sftpwire_put_text(out, name);
    sftpwire_end(out, start);
}

Handle *
sftphandle_take(Sftp *sftp, Cursor *cursor)
{
    guint32 size, index = 0;
    const guint8 *bytes = sftpwire_bytes(cursor, &size);

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

bool
sftphandle_free(Handle *handle)
{
    int status = handle->dir != NULL ? closedir(handle->dir) : close(handle->fd);

    *handle = (Handle){.fd = -1};
    return status == 0;
}

/* ---- requests on handles ---- */

void
sftphandle_close(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);

    errno = EBADF;
    sftpwire_result(out, id, handle != NULL && sftphandle_free(handle));
}

void
sftphandle_read(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    guint64 offset = sftpwire_u64(cursor);
    guint32 size = sftpwire_u32(cursor);

    if (cursor->bad || handle == NULL || handle->dir != NULL) {
        sftpwire_status(out, id, cursor->bad ? FX_BAD_MESSAGE : FX_FAILURE, "Bad handle");
        return;
    }
    guint start = sftpwire_begin(out, FXP_DATA, id);
    size = MIN(size, SFTP_READ_MAX);
    sftpwire_put_u32(out, 0);
    guint at = out->len;
    g_byte_array_set_size(out, at + size);
    ssize_t n = pread(handle->fd, out->data + at, size, (off_t) offset);
    if (n <= 0) {
        g_byte_array_set_size(out, start);
        if (n == 0) {
            sftpwire_status(out, id, FX_EOF, "EOF");
        } else {
            sftpwire_result(out, id, false);
        }
        return;
    }
    g_byte_array_set_size(out, at + (guint) n);
    sftpwire_end(out, start);
    out->data[at - 4] = (guint8) (n >> 24);
    out->data[at - 3] = (guint8) (n >> 16);
    out->data[at - 2] = (guint8) (n >> 8);
    out->data[at - 1] = (guint8) n;
}

void
sftphandle_write(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    guint64 offset = sftpwire_u64(cursor);
    guint32 size;
    const guint8 *bytes = sftpwire_bytes(cursor, &size);

    if (cursor->bad || handle == NULL || handle->dir != NULL) {
        sftpwire_status(out, id, cursor->bad ? FX_BAD_MESSAGE : FX_FAILURE, "Bad handle");
        return;
    }
    while (size > 0) {
        ssize_t n = handle->append ? write(handle->fd, bytes, size)
                                   : pwrite(handle->fd, bytes, size, (off_t) offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            sftpwire_result(out, id, false);
            return;
        }
        bytes += n;
        offset += (guint64) n;
        size -= (guint32) n;
    }
    sftpwire_result(out, id, true);
}

void
sftphandle_fstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    struct stat st;

    errno = EBADF;
    sftpwire_stat(sftp->idmap, out, id, handle != NULL ? fstat(handle->fd, &st) : -1, &st);
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

void
sftphandle_readdir(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    struct dirent *entry;
    guint32 count = 0;
    char line[PATH_MAX];

    if (handle == NULL || handle->dir == NULL) {
        sftpwire_status(out, id, FX_FAILURE, "Bad handle");
        return;
    }
    guint start = sftpwire_begin(out, FXP_NAME, id), at = out->len;
    sftpwire_put_u32(out, 0);
    while (count < SFTP_NAMES_MAX && (entry = readdir(handle->dir)) != NULL) {
        struct stat st;
        if (fstatat(handle->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        sftpwire_put_text(out, entry->d_name);
        sftpwire_put_text(out, long_name(&st, entry->d_name, line, sizeof(line)));
        sftpwire_put_attrs(sftp->idmap, out, &st);
        count++;
    }
    if (count == 0) {
        g_byte_array_set_size(out, start);
        sftpwire_status(out, id, FX_EOF, "EOF");
        return;
    }
    out->data[at + 2] = (guint8) (count >> 8);
    out->data[at + 3] = (guint8) count;
    sftpwire_end(out, start);
}

/* ---- attributes of open files ---- */

bool
sftphandle_set_attrs(Sftp *sftp, const Attrs *attrs, int fd)
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

void
sftphandle_fsetstat(Sftp *sftp, Cursor *cursor, guint32 id, GByteArray *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    Attrs attrs = sftpwire_attrs(cursor);

    errno = EBADF;
    sftpwire_result(
        out, id, !cursor->bad && handle != NULL && sftphandle_set_attrs(sftp, &attrs, handle->fd));
}
