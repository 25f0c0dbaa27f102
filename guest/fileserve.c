/* Files: one request a child. A reply is a u32 of its size and JSON: {"error", "errno"} or what was
 * asked for; a file's content follows it.
 * B1  uid, gid and mode are applied to what is new only, as LXD does.
 * B2  A reply of "put" is sent when the content is on its way to the disk, not before.
 * Runs in the session's child (errand.c); standard input and output are its streams. */
#include "guest/errand.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/jsonout.h"

#define FILESERVE_BYTES 65536

struct reply {
    char *text;
    size_t size;
    struct jsonout out;
};

static bool
write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        at += n > 0 ? n : 0;
        size -= n > 0 ? (size_t) n : 0;
    }
    return true;
}

static void
reply_begin(struct reply *reply)
{
    reply->out = (struct jsonout){.to = open_memstream(&reply->text, &reply->size)};
    if (reply->out.to == NULL) {
        _exit(1);
    }
    jsonout_open(&reply->out, NULL, '{');
}

static int
reply_send(struct reply *reply)
{
    uint8_t head[4];

    jsonout_close(&reply->out, '}');
    fclose(reply->out.to);
    guestwire_put_u32(head, (uint32_t) reply->size);
    bool ok = write_all(1, head, sizeof(head)) && write_all(1, reply->text, reply->size);
    free(reply->text);
    return ok ? 0 : 1;
}

static int
reply_failure(int err, const char *what, const char *path)
{
    struct reply reply = {0};
    char text[PATH_MAX + 256];

    snprintf(text, sizeof(text), "%s '%s': %s", what, path, strerror(err));
    reply_begin(&reply);
    jsonout_text(&reply.out, "error", text);
    jsonout_number(&reply.out, "errno", err);
    return reply_send(&reply);
}

static const char *
path_of(const struct asked *asked)
{
    const char *path = asked->text[GUESTWIRE_PATH];

    return path != NULL && path[0] == '/' ? path : "/";
}

/* ---- get ---- */

static void
describe(struct jsonout *out, const struct stat *st)
{
    jsonout_text(out, "type",
                 S_ISDIR(st->st_mode)   ? "directory"
                 : S_ISLNK(st->st_mode) ? "symlink"
                                        : "file");
    jsonout_number(out, "uid", st->st_uid);
    jsonout_number(out, "gid", st->st_gid);
    jsonout_number(out, "mode", st->st_mode & 07777);
    jsonout_number(out, "size", st->st_size);
    jsonout_number(out, "mtime", st->st_mtim.tv_sec);
    jsonout_number(out, "mtime_ns", st->st_mtim.tv_nsec);
}

static int
get_directory(const char *path, const struct stat *st)
{
    struct reply reply = {0};
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (dir == NULL) {
        return reply_failure(errno, "open", path);
    }
    reply_begin(&reply);
    describe(&reply.out, st);
    jsonout_open(&reply.out, "names", '[');
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            jsonout_text(&reply.out, NULL, entry->d_name);
        }
    }
    closedir(dir);
    jsonout_close(&reply.out, ']');
    return reply_send(&reply);
}

static int
get_file(const char *path)
{
    static char bytes[FILESERVE_BYTES];
    struct reply reply = {0};
    struct stat now;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0 || fstat(fd, &now) < 0) {
        return reply_failure(errno, "open", path);
    }
    if (!S_ISREG(now.st_mode)) {
        return reply_failure(EINVAL, "read", path);
    }
    reply_begin(&reply);
    describe(&reply.out, &now);
    if (reply_send(&reply) != 0) {
        return 1;
    }
    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        if (!write_all(1, bytes, (size_t) n)) {
            return 1;
        }
    }
    return n < 0 ? 1 : 0; /* a cut content: the agent looks at our exit status */
}

int
fileserve_get(const struct asked *asked)
{
    const char *path = path_of(asked);
    struct reply reply = {0};
    char target[PATH_MAX];
    struct stat st;
    ssize_t n = 0;

    if (lstat(path, &st) < 0) {
        return reply_failure(errno, "stat", path);
    }
    bool head = asked->text[GUESTWIRE_HEAD_ONLY] != NULL;
    if (!head && S_ISDIR(st.st_mode)) {
        return get_directory(path, &st);
    }
    if (!head && !S_ISLNK(st.st_mode)) {
        return get_file(path);
    }
    if (!head && (n = readlink(path, target, sizeof(target) - 1)) < 0) {
        return reply_failure(errno, "read link", path);
    }
    reply_begin(&reply);
    describe(&reply.out, &st);
    if (!head) {
        target[n] = '\0';
        jsonout_text(&reply.out, "target", target);
    }
    return reply_send(&reply);
}

/* ---- put ---- */

static int
reply_empty(void)
{
    struct reply reply = {0};

    reply_begin(&reply);
    return reply_send(&reply);
}

/* The file to write, new or found; -1 with errno. */
static int
put_open(const char *path, bool append, bool *ret_fresh)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;

    *ret_fresh = fd >= 0;
    if (fd >= 0 || errno != EEXIST) {
        return fd;
    }
    fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (append ? O_APPEND : 0));
    if (fd < 0 && errno == ENOENT) { /* a symbolic link to what is not there yet */
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        *ret_fresh = fd >= 0;
        return fd;
    }
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    if (fd >= 0 && !append && ftruncate(fd, 0) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int
put_file(const struct asked *asked, const char *path, uid_t uid, gid_t gid, long long mode)
{
    static char bytes[FILESERVE_BYTES];
    bool fresh;
    int fd = put_open(path, asked->text[GUESTWIRE_APPEND] != NULL, &fresh);
    ssize_t n;

    if (fd < 0) {
        return reply_failure(errno, "open", path);
    }
    while ((n = read(0, bytes, sizeof(bytes))) > 0) {
        if (!write_all(fd, bytes, (size_t) n)) {
            return reply_failure(errno, "write", path);
        }
    }
    if (fresh && (fchown(fd, uid, gid) < 0 || fchmod(fd, (mode_t) (mode >= 0 ? mode : 0644)) < 0)) {
        return reply_failure(errno, "set the owner of", path); /* B1 */
    }
    return close(fd) < 0 ? reply_failure(errno, "write", path) : reply_empty(); /* B2 */
}

static int
put_directory(const char *path, uid_t uid, gid_t gid, long long mode)
{
    struct stat st;

    if (mkdir(path, 0700) < 0) {
        int err = errno;
        if (err == EEXIST && stat(path, &st) == 0) {
            return S_ISDIR(st.st_mode) ? reply_empty()
                                       : reply_failure(ENOTDIR, "make directory", path);
        }
        return reply_failure(err, "make directory", path);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, (mode_t) (mode >= 0 ? mode : 0750)) < 0) {
        return reply_failure(errno, "make directory", path);
    }
    return reply_empty();
}

static int
put_symlink(const struct asked *asked, const char *path, uid_t uid, gid_t gid)
{
    const char *target = asked->text[GUESTWIRE_TARGET];
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
        unlink(path);
    }
    if (symlink(target != NULL ? target : "", path) < 0 || lchown(path, uid, gid) < 0) {
        return reply_failure(errno, "make symbolic link", path);
    }
    return reply_empty();
}

int
fileserve_put(const struct asked *asked)
{
    const char *path = path_of(asked), *type = asked->text[GUESTWIRE_TYPE];
    uid_t uid = (uid_t) asked_number(asked, GUESTWIRE_UID, 10, 0);
    gid_t gid = (gid_t) asked_number(asked, GUESTWIRE_GID, 10, 0);
    long long mode = asked_number(asked, GUESTWIRE_MODE, 10, -1);

    mode = mode >= 0 ? mode & 07777 : -1;
    umask(0);
    if (type != NULL && strcmp(type, "directory") == 0) {
        return put_directory(path, uid, gid, mode);
    }
    if (type != NULL && strcmp(type, "symlink") == 0) {
        return put_symlink(asked, path, uid, gid);
    }
    return put_file(asked, path, uid, gid, mode);
}

int
fileserve_delete(const struct asked *asked)
{
    const char *path = path_of(asked);
    struct stat st;

    if (lstat(path, &st) < 0 || (S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path)) < 0) {
        return reply_failure(errno, "remove", path);
    }
    return reply_empty();
}
