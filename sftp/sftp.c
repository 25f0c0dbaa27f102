/* SFTP version 3 (draft-ietf-secsh-filexfer-02), as OpenSSH and Go's pkg/sftp speak it, with the
 * extensions posix-rename, hardlink, fsync and statvfs of openssh.com.
 * S1  Every name goes through confine.h; nothing is opened outside the root.
 * S2  A packet is read through a cursor that cannot leave it; what is too short is a bad message,
 *     and the session goes on. Only a wrong first packet or an absurd length ends it.
 * S3  Bounded: SFTP_PACKET_MAX a packet, SFTP_READ_MAX a read, SFTP_HANDLES_MAX open files.
 * S4  Answers leave in the order of the requests, collected while more requests are already here.
 * Packets are sftpwire.c; requests on open files sftphandle.c, on names sftpname.c.
 * Callers: agent/inst/forkfile.c, in a process confined by enter.h, and hawser-guest. */
#include "sftp/sftp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sftp/sftphandle.h"
#include "sftp/sftpname.h"

#define SFTP_PACKET_MAX (256 * 1024 + 1024)
#define SFTP_INPUT      (1024 * 1024)

/* ---- the session ---- */

static void
answer_version(SftpOut *out)
{
    static const char *const extensions[][2] = {
        {"posix-rename@openssh.com", "1"}, {"statvfs@openssh.com", "2"},
        {"fstatvfs@openssh.com", "2"},     {"hardlink@openssh.com", "1"},
        {"fsync@openssh.com", "1"},
    };
    size_t start = sftpwire_begin(out, FXP_VERSION, 3);

    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        sftpwire_put_text(out, extensions[i][0]);
        sftpwire_put_text(out, extensions[i][1]);
    }
    sftpwire_end(out, start);
}

static void
dispatch(Sftp *sftp, uint8_t type, Cursor *cursor, uint32_t id, SftpOut *out)
{
    static void (*const calls[])(Sftp *, Cursor *, uint32_t, SftpOut *) = {
        [FXP_OPEN] = sftpname_open,       [FXP_CLOSE] = sftphandle_close,
        [FXP_READ] = sftphandle_read,     [FXP_WRITE] = sftphandle_write,
        [FXP_LSTAT] = sftpname_lstat,     [FXP_FSTAT] = sftphandle_fstat,
        [FXP_SETSTAT] = sftpname_setstat, [FXP_FSETSTAT] = sftphandle_fsetstat,
        [FXP_OPENDIR] = sftpname_opendir, [FXP_READDIR] = sftphandle_readdir,
        [FXP_MKDIR] = sftpname_mkdir,     [FXP_REALPATH] = sftpname_realpath,
        [FXP_STAT] = sftpname_stat,       [FXP_READLINK] = sftpname_readlink,
        [FXP_SYMLINK] = sftpname_symlink,
    };

    if (type == FXP_REMOVE || type == FXP_RMDIR) {
        sftpname_remove(sftp, cursor, id, out, type == FXP_RMDIR ? AT_REMOVEDIR : 0);
    } else if (type == FXP_RENAME) {
        sftpname_rename(sftp, cursor, id, out, false, false);
    } else if (type == FXP_EXTENDED) {
        sftpname_extended(sftp, cursor, id, out);
    } else if (type < sizeof(calls) / sizeof(calls[0]) && calls[type] != NULL) {
        calls[type](sftp, cursor, id, out);
    } else {
        sftpwire_status(out, id, FX_UNSUPPORTED, "Unsupported");
    }
}

bool
sftp_packet(Sftp *sftp, const uint8_t *packet, size_t size, SftpOut *reply)
{
    Cursor cursor = {.at = packet + 1, .end = packet + size};

    if (size < 5) {
        return false;
    }
    uint32_t id = sftpwire_u32(&cursor);
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
sftp_new(int root_fd, const SftpIds *ids)
{
    Sftp *sftp = calloc(1, sizeof(*sftp));

    if (sftp == NULL) {
        abort();
    }
    sftp->root = root_fd;
    sftp->ids = ids;
    return sftp;
}

void
sftp_free(Sftp *sftp)
{
    if (sftp == NULL) {
        return;
    }
    for (size_t i = 0; i < sftp->handle_count; i++) {
        if (sftp->handles[i].fd >= 0) {
            sftphandle_free(&sftp->handles[i]);
        }
    }
    free(sftp);
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
flush(int fd, int quit_fd, SftpOut *reply)
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
    sftpwire_resize(reply, 0);
    return true;
}

/* Handles the whole packets at the start of 'input'; *ret_used is how far. */
static bool
handle_input(Sftp *sftp, const uint8_t *input, size_t size, int fd, int quit_fd, SftpOut *reply,
             size_t *ret_used)
{
    size_t used = 0;

    while (size - used >= 4) {
        Cursor cursor = {.at = input + used, .end = input + size};
        uint32_t length = sftpwire_u32(&cursor);
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
sftp_serve(Sftp *sftp, int in, int out, int quit_fd)
{
    static uint8_t input[SFTP_INPUT];
    SftpOut reply = {0};
    size_t have = 0, used = 0;

    for (;;) {
        ssize_t n = read(in, input + have, SFTP_INPUT - have);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            break;
        }
        if (n < 0) {
            if (errno == EAGAIN && !wait_for(in, POLLIN, quit_fd)) {
                break;
            }
            continue;
        }
        have += (size_t) n;
        if (!handle_input(sftp, input, have, out, quit_fd, &reply, &used) ||
            !flush(out, quit_fd, &reply)) { /* S4 */
            break;
        }
        memmove(input, input + used, have - used);
        have -= used;
    }
    sftpwire_free(&reply);
}
