/* Open files of an SFTP session: a handle is the text of an index into the session's table (S3).
 * Called by sftp.c (dispatch) and sftpname.c (open, setstat). */
#include "sftp/sftphandle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SFTP_NAMES_MAX 100 /* a READDIR answer */

/* ---- handles ---- */

void
sftphandle_new(Sftp *sftp, SftpOut *out, uint32_t id, Handle handle)
{
    unsigned index = 0;
    char name[16];

    while (index < sftp->handle_count && sftp->handles[index].fd >= 0) {
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
    sftp->handles[index] = handle;
    sftp->handle_count += index == sftp->handle_count;
    size_t start = sftpwire_begin(out, FXP_HANDLE, id);
    snprintf(name, sizeof(name), "%u", index);
    sftpwire_put_text(out, name);
    sftpwire_end(out, start);
}

Handle *
sftphandle_take(Sftp *sftp, Cursor *cursor)
{
    uint32_t size, index = 0;
    const uint8_t *bytes = sftpwire_bytes(cursor, &size);

    if (bytes == NULL || size == 0 || size > 4) {
        return NULL;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] < '0' || bytes[i] > '9') {
            return NULL;
        }
        index = index * 10 + (uint32_t) (bytes[i] - '0');
    }
    if (index >= sftp->handle_count) {
        return NULL;
    }
    Handle *handle = &sftp->handles[index];
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
sftphandle_close(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);

    errno = EBADF;
    sftpwire_result(out, id, handle != NULL && sftphandle_free(handle));
}

void
sftphandle_read(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    uint64_t offset = sftpwire_u64(cursor);
    uint32_t size = sftpwire_u32(cursor);

    if (cursor->bad || handle == NULL || handle->dir != NULL) {
        sftpwire_status(out, id, cursor->bad ? FX_BAD_MESSAGE : FX_FAILURE, "Bad handle");
        return;
    }
    size_t start = sftpwire_begin(out, FXP_DATA, id);
    size = size < SFTP_READ_MAX ? size : SFTP_READ_MAX;
    sftpwire_put_u32(out, 0);
    size_t at = out->len;
    sftpwire_resize(out, at + size);
    ssize_t n = pread(handle->fd, out->data + at, size, (off_t) offset);
    if (n <= 0) {
        sftpwire_resize(out, start);
        if (n == 0) {
            sftpwire_status(out, id, FX_EOF, "EOF");
        } else {
            sftpwire_result(out, id, false);
        }
        return;
    }
    sftpwire_resize(out, at + (size_t) n);
    sftpwire_end(out, start);
    out->data[at - 4] = (uint8_t) (n >> 24);
    out->data[at - 3] = (uint8_t) (n >> 16);
    out->data[at - 2] = (uint8_t) (n >> 8);
    out->data[at - 1] = (uint8_t) n;
}

void
sftphandle_write(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    uint64_t offset = sftpwire_u64(cursor);
    uint32_t size;
    const uint8_t *bytes = sftpwire_bytes(cursor, &size);

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
        offset += (uint64_t) n;
        size -= (uint32_t) n;
    }
    sftpwire_result(out, id, true);
}

void
sftphandle_fstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    struct stat st;

    errno = EBADF;
    sftpwire_stat(sftp->ids, out, id, handle != NULL ? fstat(handle->fd, &st) : -1, &st);
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
    snprintf(buf, size, "%s %lu %u %u %lld %s %s", mode, (unsigned long) st->st_nlink, st->st_uid,
             st->st_gid, (long long) st->st_size, when, name);
    return buf;
}

void
sftphandle_readdir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    struct dirent *entry;
    uint32_t count = 0;
    char line[PATH_MAX];

    if (handle == NULL || handle->dir == NULL) {
        sftpwire_status(out, id, FX_FAILURE, "Bad handle");
        return;
    }
    size_t start = sftpwire_begin(out, FXP_NAME, id), at = out->len;
    sftpwire_put_u32(out, 0);
    while (count < SFTP_NAMES_MAX && (entry = readdir(handle->dir)) != NULL) {
        struct stat st;
        if (fstatat(handle->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        sftpwire_put_text(out, entry->d_name);
        sftpwire_put_text(out, long_name(&st, entry->d_name, line, sizeof(line)));
        sftpwire_put_attrs(sftp->ids, out, &st);
        count++;
    }
    if (count == 0) {
        sftpwire_resize(out, start);
        sftpwire_status(out, id, FX_EOF, "EOF");
        return;
    }
    out->data[at + 2] = (uint8_t) (count >> 8);
    out->data[at + 3] = (uint8_t) count;
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
        int64_t uid = sftpwire_id_on_disk(sftp->ids, false, attrs->uid);
        int64_t gid = sftpwire_id_on_disk(sftp->ids, true, attrs->gid);
        if (uid == SFTP_NO_ID || gid == SFTP_NO_ID) {
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
sftphandle_fsetstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    Handle *handle = sftphandle_take(sftp, cursor);
    Attrs attrs = sftpwire_attrs(cursor);

    errno = EBADF;
    sftpwire_result(
        out, id, !cursor->bad && handle != NULL && sftphandle_set_attrs(sftp, &attrs, handle->fd));
}
