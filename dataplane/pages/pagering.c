/* The ring.
 * R1  An operation's memory outlives it: pagering_drain() ends all of them before it returns, also the
 *     notices of zero-copy sends.
 * Called by pagesource.c and pagesink.c. */
#include "dataplane/pages/pagering.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

struct PageRing {
    struct io_uring uring;
    guint busy;    /* operations whose result is to come */
    guint notices; /* zero-copy sends whose buffer the kernel still holds */
    struct page_op leash;
    int leash_fd;
    bool pulled, loose;
};

PageRing *
pagering_new(guint entries, GError **error)
{
    PageRing *ring = g_new0(PageRing, 1);
    int status = io_uring_queue_init(entries, &ring->uring, IORING_SETUP_CLAMP);
    if (status < 0) {
        haw_fail_errno(error, -status, "io_uring");
        g_free(ring);
        return NULL;
    }
    return ring;
}

void
pagering_free(PageRing *ring)
{
    if (ring != NULL) {
        pagering_drain(ring);
        io_uring_queue_exit(&ring->uring);
        g_free(ring);
    }
}

struct io_uring_sqe *
pagering_take(PageRing *ring, struct page_op *op)
{
    struct io_uring_sqe *sqe;
    while ((sqe = io_uring_get_sqe(&ring->uring)) == NULL) {
        io_uring_submit(&ring->uring);
    }
    memset(sqe, 0, sizeof(*sqe));
    io_uring_sqe_set_data(sqe, op);
    op->busy = true;
    ring->busy++;
    return sqe;
}

static void
reap(PageRing *ring, struct io_uring_cqe *cqe)
{
    struct page_op *op = io_uring_cqe_get_data(cqe);
    int result = cqe->res;
    unsigned flags = cqe->flags;
    io_uring_cqe_seen(&ring->uring, cqe);
    if ((flags & IORING_CQE_F_NOTIF) != 0) {
        ring->notices--;
        return;
    }
    if ((flags & IORING_CQE_F_MORE) != 0) {
        ring->notices++;
    }
    if (op != NULL) {
        ring->busy--;
        op->busy = false;
        op->done(op, result);
    }
}

bool
pagering_turn(PageRing *ring, gint64 wait_ms, GError **error)
{
    struct __kernel_timespec limit = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    struct io_uring_cqe *cqe;
    int status = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &limit, NULL);
    if (status == -ETIME) {
        return haw_fail(error, HAW_TIMEOUT, "nothing moved for %d s", (int) (wait_ms / 1000));
    }
    if (status < 0 && status != -EINTR && status != -EAGAIN && status != -EBUSY) {
        return haw_fail_errno(error, -status, "io_uring");
    }
    while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
        reap(ring, cqe);
    }
    return !ring->pulled || haw_fail(error, HAW_CANCELLED, "the migration was cancelled");
}

static void
watch_leash(PageRing *ring)
{
    io_uring_prep_poll_add(pagering_take(ring, &ring->leash), ring->leash_fd, POLLIN);
}

static void
on_leash(struct page_op *op, int result)
{
    PageRing *ring = (PageRing *) ((char *) op - G_STRUCT_OFFSET(PageRing, leash));
    struct pollfd look = {.fd = ring->leash_fd, .events = POLLIN};
    char byte;
    ring->pulled = poll(&look, 1, 0) == 1;
    if (ring->loose && recv(ring->leash_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
        ring->pulled = false;   /* there is nobody who could still pull */
    } else if (!ring->pulled) { /* what came was read by somebody else */
        watch_leash(ring);
    }
}

void
pagering_leash(PageRing *ring, int fd)
{
    ring->leash.done = on_leash;
    ring->leash_fd = fd;
    watch_leash(ring);
}

void
pagering_loosen(PageRing *ring)
{
    ring->loose = true;
}

bool
pagering_advance(struct msghdr *message, size_t bytes)
{
    while (message->msg_iovlen > 0 && bytes >= message->msg_iov->iov_len) {
        bytes -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (message->msg_iovlen > 0) {
        message->msg_iov->iov_base = (guint8 *) message->msg_iov->iov_base + bytes;
        message->msg_iov->iov_len -= bytes;
    }
    return message->msg_iovlen > 0;
}

static void
ignore(struct page_op *op, int result)
{
}

void
pagering_drain(PageRing *ring)
{
    struct page_op cancel = {.done = ignore};
    if (ring->busy > 0) {
        struct io_uring_sqe *sqe = pagering_take(ring, &cancel);
        io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
    }
    while (ring->busy > 0 || ring->notices > 0) { /* R1 */
        struct __kernel_timespec limit = {1, 0};
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &limit, NULL);
        while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
            struct page_op *op = io_uring_cqe_get_data(cqe);
            bool notice = (cqe->flags & IORING_CQE_F_NOTIF) != 0;
            bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
            io_uring_cqe_seen(&ring->uring, cqe);
            ring->notices -= notice;
            ring->notices += more;
            if (!notice && op != NULL) {
                op->busy = false; /* its owner is going: nobody is told */
                ring->busy--;
            }
        }
    }
}
