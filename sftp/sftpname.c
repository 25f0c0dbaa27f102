/* Requests on names: every one goes through confine.h, nothing is opened outside the root (S1).
 * Called by sftp.c (dispatch). */
#include "sftp/sftpname.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/confine.h"

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
        int64_t uid = sftpwire_id_on_disk(sftp->ids, false, attrs->uid);
        int64_t gid = sftpwire_id_on_disk(sftp->ids, true, attrs->gid);
        ok = uid != SFTP_NO_ID && gid != SFTP_NO_ID &&
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

void
sftpname_setstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *path = sftpwire_path(cursor, buf);
    Attrs attrs = sftpwire_attrs(cursor);
    struct stat st;
    bool ok = false;

    if (cursor->bad) {
        sftpwire_status(out, id, FX_BAD_MESSAGE, "Bad message");
        return;
    }
    int fd = confine_open(sftp->root, path, O_PATH, 0);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        bool plain = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
        int flags = (attrs.flags & ATTR_SIZE) != 0 ? O_WRONLY : O_RDONLY;
        int open_fd = plain ? confine_open(sftp->root, path, flags | O_NONBLOCK | O_NOCTTY, 0) : -1;
        ok = plain ? open_fd >= 0 && sftphandle_set_attrs(sftp, &attrs, open_fd)
                   : apply_attrs_named(sftp, &attrs, path);
        int err = errno;
        if (open_fd >= 0) {
            close(open_fd);
        }
        errno = err;
    }
    sftpwire_result(out, id, ok);
    if (fd >= 0) {
        close(fd);
    }
}

/* ---- requests on names ---- */

void
sftpname_open(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *path = sftpwire_path(cursor, buf);
    uint32_t asked = sftpwire_u32(cursor);
    Attrs attrs = sftpwire_attrs(cursor);
    struct stat st;
    int flags = O_NONBLOCK | O_NOCTTY;

    if (cursor->bad) {
        sftpwire_status(out, id, FX_BAD_MESSAGE, "Bad message");
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
        sftpwire_result(out, id, false);
        return;
    }
    sftphandle_new(sftp, out, id, (Handle){.fd = fd, .append = (asked & OPEN_APPEND) != 0});
}

void
sftpname_opendir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *path = sftpwire_path(cursor, buf);
    int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        sftpwire_result(out, id, false);
        return;
    }
    sftphandle_new(sftp, out, id, (Handle){.fd = fd, .dir = dir});
}

void
sftpname_stat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *path = sftpwire_path(cursor, buf);
    struct stat st;
    int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_PATH, 0);

    sftpwire_stat(sftp->ids, out, id, fd >= 0 ? fstat(fd, &st) : -1, &st);
    if (fd >= 0) {
        close(fd);
    }
}

/* The directory and last name of a path; -1 with errno. */
static int
take_parent(Sftp *sftp, Cursor *cursor, char *buf, const char **ret_name)
{
    char path[PATH_MAX];

    sftpwire_path(cursor, path);
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

void
sftpname_lstat(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    struct stat st;
    int parent = take_parent(sftp, cursor, buf, &name);
    int status = parent >= 0 ? fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) : -1;

    close_keeping_errno(parent);
    sftpwire_stat(sftp->ids, out, id, status, &st);
}

void
sftpname_remove(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out, int flags)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    bool ok = parent >= 0 && unlinkat(parent, name, flags) == 0;

    close_keeping_errno(parent);
    sftpwire_result(out, id, ok);
}

void
sftpname_mkdir(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    Attrs attrs = sftpwire_attrs(cursor);
    mode_t mode = (attrs.flags & ATTR_MODE) != 0 ? attrs.mode & 07777 : 0755;
    bool ok = parent >= 0 && mkdirat(parent, name, mode) == 0;

    close_keeping_errno(parent);
    sftpwire_result(out, id, ok);
}

void
sftpname_rename(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out, bool replace, bool link)
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
    sftpwire_result(out, id, ok);
}

void
sftpname_readlink(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char buf[PATH_MAX], target[PATH_MAX];
    const char *name = NULL;
    int parent = take_parent(sftp, cursor, buf, &name);
    ssize_t n = parent >= 0 ? readlinkat(parent, name, target, sizeof(target) - 1) : -1;

    close_keeping_errno(parent);
    if (n < 0) {
        sftpwire_result(out, id, false);
        return;
    }
    target[n] = '\0';
    size_t start = sftpwire_begin(out, FXP_NAME, id);
    sftpwire_put_u32(out, 1);
    sftpwire_put_text(out, target);
    sftpwire_put_text(out, target);
    sftpwire_put_u32(out, 0);
    sftpwire_end(out, start);
}

/* OpenSSH's order (target first), which pkg/sftp follows, not the draft's. */
void
sftpname_symlink(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char target[PATH_MAX], buf[PATH_MAX];
    const char *name = NULL;

    sftpwire_path(cursor, target);
    int parent = take_parent(sftp, cursor, buf, &name);
    bool ok = !cursor->bad && parent >= 0 && symlinkat(target, parent, name) == 0;
    close_keeping_errno(parent);
    sftpwire_result(out, id, ok);
}

/* "a//b/../c" becomes "/a/c", by its text alone. 'clean' has a byte more than 'path'. */
static void
canonicalize(const char *path, char *clean)
{
    size_t size = 0;

    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            while (size > 0 && clean[--size] != '/') {
            }
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            clean[size++] = '/';
            memcpy(clean + size, path, part);
            size += part;
        }
        path += part + (path[part] == '/');
    }
    if (size == 0) {
        clean[size++] = '/';
    }
    clean[size] = '\0';
}

void
sftpname_realpath(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char path[PATH_MAX], clean[PATH_MAX + 1];

    sftpwire_path(cursor, path);
    if (cursor->bad) {
        sftpwire_status(out, id, FX_BAD_MESSAGE, "Bad message");
        return;
    }
    canonicalize(path, clean);
    size_t start = sftpwire_begin(out, FXP_NAME, id);
    sftpwire_put_u32(out, 1);
    sftpwire_put_text(out, clean);
    sftpwire_put_text(out, clean);
    sftpwire_put_u32(out, 0);
    sftpwire_end(out, start);
}

void
sftpname_statvfs(Sftp *sftp, uint32_t id, SftpOut *out, int fd)
{
    struct statvfs fs;

    if (fd < 0 || fstatvfs(fd, &fs) < 0) {
        sftpwire_result(out, id, false);
        return;
    }
    size_t start = sftpwire_begin(out, FXP_EXTENDED_REPLY, id);
    const uint64_t fields[] = {
        fs.f_bsize,  fs.f_frsize, fs.f_blocks, fs.f_bfree, fs.f_bavail,
        fs.f_files,  fs.f_ffree,  fs.f_favail, fs.f_fsid,  (fs.f_flag & ST_RDONLY) != 0 ? 1 : 0,
        fs.f_namemax};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        sftpwire_put_u64(out, fields[i]);
    }
    sftpwire_end(out, start);
}

void
sftpname_extended(Sftp *sftp, Cursor *cursor, uint32_t id, SftpOut *out)
{
    char name[PATH_MAX], path[PATH_MAX];

    sftpwire_path(cursor, name);
    if (strcmp(name, "posix-rename@openssh.com") == 0) {
        sftpname_rename(sftp, cursor, id, out, true, false);
    } else if (strcmp(name, "hardlink@openssh.com") == 0) {
        sftpname_rename(sftp, cursor, id, out, false, true);
    } else if (strcmp(name, "fsync@openssh.com") == 0) {
        Handle *handle = sftphandle_take(sftp, cursor);
        errno = EBADF;
        sftpwire_result(out, id, handle != NULL && fsync(handle->fd) == 0);
    } else if (strcmp(name, "statvfs@openssh.com") == 0) {
        sftpwire_path(cursor, path);
        int fd = cursor->bad ? -1 : confine_open(sftp->root, path, O_PATH, 0);
        sftpname_statvfs(sftp, id, out, fd);
        close_keeping_errno(fd);
    } else if (strcmp(name, "fstatvfs@openssh.com") == 0) {
        Handle *handle = sftphandle_take(sftp, cursor);
        sftpname_statvfs(sftp, id, out, handle != NULL ? handle->fd : -1);
    } else {
        sftpwire_status(out, id, FX_UNSUPPORTED, "Unsupported");
    }
}
