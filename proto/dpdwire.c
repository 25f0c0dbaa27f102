/* Frames between agent and hawser-dpd.
 * W1  A message is 8 bytes of header (magic, version of the layout, whether the frame goes on) and at
 *     most DPDWIRE_PART_BYTES; a frame is at most DPDWIRE_FRAME_BYTES, however its parts claim.
 * W2  What the peer sends is never trusted: a frame that is no such thing ends the connection, and a
 *     descriptor that nobody asked for is closed.
 * W3  Frames are sent whole: a second fiber waits until the first has sent its last part.
 * The frame's own version is agreed in the two Hello frames; this layout has not changed so far. */
#include "proto/dpdwire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"

enum { MAGIC = 0x48445031, LAYOUT = 1, FLAG_MORE = 1 }; /* "HDP1" */

struct header {
    guint32 magic_be;
    guint16 layout_be, flags_be;
};

struct DpdJoiner {
    GByteArray *parts; /* owned: of the frame that is not complete */
};

struct DpdWire {
    int fd;            /* owned */
    DpdJoiner *joiner; /* owned */
    FiberLock sending; /* W3 */
    char *buffer;      /* owned: of the message that is received */
};

guint
dpdwire_agree(guint lowest, guint highest, guint their_lowest, guint their_highest)
{
    guint version = MIN(highest, their_highest);
    return version >= lowest && version >= their_lowest ? version : 0;
}

void
dpdwire_hello(Dpd__Hello *ret_hello, Dpd__Frame *ret_frame)
{
    dpd__hello__init(ret_hello);
    dpd__frame__init(ret_frame);
    ret_hello->lowest = DPDWIRE_LOWEST;
    ret_hello->highest = DPDWIRE_HIGHEST;
    ret_hello->software = (char *) (guintptr) HAWSER_VERSION;
    ret_frame->body_case = DPD__FRAME__BODY_HELLO;
    ret_frame->hello = ret_hello;
}

/* ---- bytes to frames ---- */

DpdJoiner *
dpdjoiner_new(void)
{
    DpdJoiner *joiner = g_new0(DpdJoiner, 1);
    joiner->parts = g_byte_array_new();
    return joiner;
}

void
dpdjoiner_free(DpdJoiner *joiner)
{
    if (joiner != NULL) {
        g_byte_array_unref(joiner->parts);
        g_free(joiner);
    }
}

void
dpdwire_frame_free(Dpd__Frame *frame)
{
    if (frame != NULL) {
        dpd__frame__free_unpacked(frame, NULL);
    }
}

bool
dpdjoiner_feed(DpdJoiner *joiner, const void *bytes, size_t size, Dpd__Frame **ret_frame,
               GError **error)
{
    struct header header;
    if (size < sizeof(header)) {
        return haw_fail(error, HAW_INVALID, "a message of %zu bytes is none of dpd's", size);
    }
    memcpy(&header, bytes, sizeof(header));
    guint flags = GUINT16_FROM_BE(header.flags_be);
    if (GUINT32_FROM_BE(header.magic_be) != MAGIC || GUINT16_FROM_BE(header.layout_be) != LAYOUT ||
        (flags & ~(guint) FLAG_MORE) != 0) {
        return haw_fail(error, HAW_INVALID, "a message with a foreign header");
    }
    size_t part = size - sizeof(header);
    if (part > DPDWIRE_PART_BYTES || joiner->parts->len + part > DPDWIRE_FRAME_BYTES) { /* W1 */
        return haw_fail(error, HAW_INVALID, "a frame of more than %d bytes", DPDWIRE_FRAME_BYTES);
    }
    g_byte_array_append(joiner->parts, (const guint8 *) bytes + sizeof(header), (guint) part);
    if ((flags & FLAG_MORE) != 0) {
        /* An empty part that goes on would let a peer keep us busy for nothing. */
        *ret_frame = NULL;
        return part > 0 || haw_fail(error, HAW_INVALID, "an empty part of a frame");
    }
    Dpd__Frame *frame = dpd__frame__unpack(NULL, joiner->parts->len, joiner->parts->data);
    g_byte_array_unref(joiner->parts); /* not kept at the size of the largest */
    joiner->parts = g_byte_array_new();
    /* A body that we do not know is of a later release: whoever is asked for it can say so. */
    if (frame == NULL ||
        (frame->body_case == DPD__FRAME__BODY__NOT_SET && frame->base.n_unknown_fields == 0)) {
        dpdwire_frame_free(frame);
        return haw_fail(error, HAW_INVALID, "bytes that are no frame of dpd's");
    }
    *ret_frame = frame;
    return true;
}

GBytes *
dpdwire_pack(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    guint8 *bytes = g_malloc(size + 1);
    protobuf_c_message_pack(message, bytes);
    return g_bytes_new_take(bytes, size);
}

void *
dpdwire_dup(const ProtobufCMessage *message)
{
    g_autoptr(GBytes) packed = dpdwire_pack(message);
    size_t size;
    const guint8 *bytes = g_bytes_get_data(packed, &size);
    return protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
}

GPtrArray *
dpdwire_split(const Dpd__Frame *frame, GError **error)
{
    size_t size = dpd__frame__get_packed_size(frame);
    if (size > DPDWIRE_FRAME_BYTES) {
        haw_fail(error, HAW_LIMIT, "a frame of %zu bytes is too large for dpd's socket", size);
        return NULL;
    }
    g_autoptr(GBytes) whole = dpdwire_pack(&frame->base);
    const guint8 *packed = g_bytes_get_data(whole, NULL);
    GPtrArray *parts = g_ptr_array_new_with_free_func((GDestroyNotify) g_bytes_unref);
    size_t at = 0;
    do {
        size_t part = MIN(size - at, (size_t) DPDWIRE_PART_BYTES);
        bool more = at + part < size;
        struct header header = {.magic_be = GUINT32_TO_BE(MAGIC),
                                .layout_be = GUINT16_TO_BE(LAYOUT),
                                .flags_be = GUINT16_TO_BE(more ? FLAG_MORE : 0)};
        guint8 *message = g_malloc(sizeof(header) + part);
        memcpy(message, &header, sizeof(header));
        memcpy(message + sizeof(header), packed + at, part);
        g_ptr_array_add(parts, g_bytes_new_take(message, sizeof(header) + part));
        at += part;
    } while (at < size);
    return parts;
}

/* ---- connections ---- */

DpdWire *
dpdwire_new(int *fd)
{
    DpdWire *wire = g_new0(DpdWire, 1);
    wire->fd = fd_steal(fd);
    wire->joiner = dpdjoiner_new();
    wire->buffer = g_malloc(sizeof(struct header) + DPDWIRE_PART_BYTES);
    return wire;
}

void
dpdwire_free(DpdWire *wire)
{
    if (wire != NULL) {
        fd_close(&wire->fd);
        dpdjoiner_free(wire->joiner);
        g_free(wire->buffer);
        g_free(wire);
    }
}

DpdWire *
dpdwire_connect(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        haw_fail(error, HAW_INVALID, "the path '%s' is too long for a socket", path);
        return NULL;
    }
    haw_autofd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
        int err = errno;
        haw_fail_errno(error, err, "connect to hawser-dpd at '%s'", path);
        if (err == ECONNREFUSED || err == EAGAIN) {
            haw_recode(error, HAW_UNAVAILABLE);
        }
        return NULL;
    }
    return dpdwire_new(&fd);
}

bool
dpdwire_check_peer(const DpdWire *wire, GError **error)
{
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    if (getsockopt(wire->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        return haw_fail_errno(error, errno, "ask who is at the other end");
    }
    return peer.uid == 0 || peer.uid == geteuid() ||
           haw_fail(error, HAW_DENIED,
                    "process %d of user %u may not use hawser-dpd: only root and user %u may",
                    (int) peer.pid, (guint) peer.uid, (guint) geteuid());
}

bool
dpdwire_wait(DpdWire *wire, gint64 wait_ms)
{
    return fiber_wait_fd(wire->fd, G_IO_IN, wait_ms, NULL, NULL);
}

void
dpdwire_finish(DpdWire *wire)
{
    shutdown(wire->fd, SHUT_WR);
}

void
dpdwire_shut(DpdWire *wire)
{
    shutdown(wire->fd, SHUT_RDWR);
}

static bool
send_part(DpdWire *wire, GBytes *part, int fd, GError **error)
{
    gsize size = 0;
    gconstpointer bytes = g_bytes_get_data(part, &size);
    struct iovec vec = {(void *) (guintptr) bytes, size};
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    while (sendmsg(wire->fd, &message, MSG_NOSIGNAL) < 0) {
        if (errno == EAGAIN) {
            if (!fiber_wait_fd(wire->fd, G_IO_OUT, -1, NULL, error)) {
                return false;
            }
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return haw_fail(error, HAW_UNAVAILABLE, "the other end of dpd's socket has gone");
        } else if (errno != EINTR) {
            return haw_fail_errno(error, errno, "send on dpd's socket");
        }
    }
    return true;
}

bool
dpdwire_send(DpdWire *wire, const Dpd__Frame *frame, int fd, GError **error)
{
    g_autoptr(GPtrArray) parts = dpdwire_split(frame, error);
    if (parts == NULL) {
        return false;
    }
    g_auto(FiberHold) hold = fiber_hold(&wire->sending); /* W3 */
    for (guint i = 0; i < parts->len; i++) {
        if (!send_part(wire, parts->pdata[i], i + 1 == parts->len ? fd : -1, error)) {
            return false;
        }
    }
    return true;
}

/* Keeps the one descriptor that is allowed, closes all others. W2 */
static bool
take_fds(struct msghdr *message, int *fd, GError **error)
{
    bool ok = true;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg != NULL;
         cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int one = -1;
            memcpy(&one, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
            if (*fd < 0) {
                *fd = one;
            } else {
                fd_close(&one);
                ok = false;
            }
        }
    }
    return (ok && (message->msg_flags & MSG_CTRUNC) == 0) ||
           haw_fail(error, HAW_INVALID, "more descriptors than a frame may have");
}

static bool
receive_part(DpdWire *wire, size_t *ret_size, int *fd, gint64 wait_ms, GCancellable *cancel,
             GError **error)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(4 * sizeof(int))];
    } control;
    for (;;) {
        struct iovec vec = {wire->buffer, sizeof(struct header) + DPDWIRE_PART_BYTES};
        struct msghdr message = {.msg_iov = &vec,
                                 .msg_iovlen = 1,
                                 .msg_control = control.room,
                                 .msg_controllen = sizeof(control.room)};
        ssize_t got = recvmsg(wire->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(wire->fd, G_IO_IN, wait_ms, cancel, error)) {
                return false;
            }
            continue;
        }
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            return haw_fail(error, HAW_UNAVAILABLE, "the other end of dpd's socket has gone");
        }
        if (got < 0) {
            return haw_fail_errno(error, errno, "receive on dpd's socket");
        }
        if (!take_fds(&message, fd, error)) {
            return false;
        }
        *ret_size = (size_t) got;
        return (message.msg_flags & MSG_TRUNC) == 0 ||
               haw_fail(error, HAW_INVALID, "a message of more than %d bytes", DPDWIRE_PART_BYTES);
    }
}

Dpd__Frame *
dpdwire_receive(DpdWire *wire, int *ret_fd, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    haw_autofd int fd = -1;
    for (;;) {
        size_t size = 0;
        Dpd__Frame *frame = NULL;
        if (!receive_part(wire, &size, &fd, wait_ms, cancel, error) ||
            !dpdjoiner_feed(wire->joiner, wire->buffer, size, &frame, error)) {
            return NULL;
        }
        if (frame != NULL && fd >= 0 && ret_fd == NULL) { /* W2 */
            dpdwire_frame_free(frame);
            haw_fail(error, HAW_INVALID, "a descriptor that nobody asked for");
            return NULL;
        }
        if (frame != NULL) {
            if (ret_fd != NULL) {
                *ret_fd = fd_steal(&fd);
            }
            return frame;
        }
    }
}
