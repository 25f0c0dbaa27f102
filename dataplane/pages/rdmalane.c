/* RDMA as a byte stream: SEND and RECV of a reliable connection between buffers of our own.
 * R1  Only bounce buffers are registered, never the guest's memory: registering pins, and pinning fills holes.
 * R2  A message is sent when the other side has a buffer for it. Immediate data of each message say how many
 *     were taken back since the last one; where nothing else is to be sent, an empty message does. Some buffers
 *     are kept for those, so they never wait.
 * R3  An end of the local stream travels as an empty message with END, behind all of its bytes.
 * R4  The other side's death shows on the TCP connection that the lane was agreed on, which stays open: of a broken
 *     RDMA connection a side that only receives hears nothing.
 * Called by rdmaoffer.c, in a process of its own. */
#include "dataplane/pages/rdmalane.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    BUFFER = 128 * 1024,
    SENDS = 16,
    RECVS = 32,
    KEPT = 4,     /* R2 */
    NOTE = SENDS, /* the number of an empty message */
    BACKLOG = 64,
    RETRIES = 7,
    LINGER_MS = 1000, /* for what is still on its way when the other side has gone */
};
#define IMM_END ((guint32) 1 << 31)

struct hello {
    guint8 token[RDMALANE_TOKEN_BYTES];
    guint8 slot;
};

struct piece {
    guint buffer, bytes, done;
};

struct RdmaLane {
    struct rdma_cm_id *id;
    guint8 *memory; /* SENDS, then RECVS buffers */
    struct ibv_mr *region;
    guint free[SENDS], n_free;
    guint credits, owed, notes; /* notes: empty messages under way */
    struct piece arrived[RECVS];
    guint first, n_arrived;
    bool local_end, end_sent, peer_end, end_told, broken;
};

struct RdmaDoor {
    struct rdma_cm_id *id;
};

static bool
fail(GError **error, const char *what)
{
    return haw_fail_errno(error, errno, "RDMA: %s", what);
}

/* ---- making one ---- */

static bool
post_receive(RdmaLane *lane, guint buffer)
{
    return rdma_post_recv(lane->id, (void *) (gsize) buffer,
                          lane->memory + (gsize) (SENDS + buffer) * BUFFER, BUFFER,
                          lane->region) == 0;
}

/* Takes the connection's identifier. */
static RdmaLane *
lane_new(struct rdma_cm_id *id, GError **error)
{
    g_autoptr(RdmaLane) lane = g_new0(RdmaLane, 1);
    lane->id = id;
    lane->credits = RECVS - KEPT;
    for (guint i = 0; i < SENDS; i++) {
        lane->free[lane->n_free++] = i;
    }
    void *memory = mmap(NULL, (gsize) (SENDS + RECVS) * BUFFER, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fail(error, "memory for its buffers");
        return NULL;
    }
    lane->memory = memory;
    lane->region = rdma_reg_msgs(id, memory, (gsize) (SENDS + RECVS) * BUFFER); /* R1 */
    if (lane->region == NULL) {
        fail(error, "registering its buffers");
        return NULL;
    }
    for (guint i = 0; i < RECVS; i++) {
        if (!post_receive(lane, i)) {
            fail(error, "posting a buffer");
            return NULL;
        }
    }
    return g_steal_pointer(&lane);
}

void
rdmalane_free(RdmaLane *lane)
{
    if (lane != NULL) {
        rdma_disconnect(lane->id);
        if (lane->region != NULL) {
            rdma_dereg_mr(lane->region);
        }
        rdma_destroy_ep(lane->id);
        if (lane->memory != NULL) {
            munmap(lane->memory, (gsize) (SENDS + RECVS) * BUFFER);
        }
        g_free(lane);
    }
}

static struct rdma_cm_id *
endpoint(const struct sockaddr *address, bool passive, GError **error)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    struct rdma_addrinfo hints = {.ai_port_space = RDMA_PS_TCP,
                                  .ai_flags = RAI_NUMERICHOST | (passive ? RAI_PASSIVE : 0)};
    struct rdma_addrinfo *found = NULL;
    struct ibv_qp_init_attr queues = {
        .cap = {.max_send_wr = SENDS + KEPT,
                .max_recv_wr = RECVS,
                .max_send_sge = 1,
                .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC,
    };
    struct rdma_cm_id *id = NULL;
    socklen_t size =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
        rdma_getaddrinfo(host, port, &hints, &found) != 0) {
        fail(error, "the address");
        return NULL;
    }
    if (rdma_create_ep(&id, found, NULL, &queues) != 0) {
        fail(error, passive ? "no device has this address" : "no device leads there");
        id = NULL;
    }
    rdma_freeaddrinfo(found);
    return id;
}

RdmaLane *
rdmalane_connect(const struct sockaddr *address, const guint8 *token, guint8 slot, GError **error)
{
    struct rdma_cm_id *id = endpoint(address, false, error);
    g_autoptr(RdmaLane) lane = id != NULL ? lane_new(id, error) : NULL;
    struct hello hello = {.slot = slot};
    memcpy(hello.token, token, sizeof hello.token);
    struct rdma_conn_param param = {.private_data = &hello,
                                    .private_data_len = sizeof hello,
                                    .retry_count = RETRIES,
                                    .rnr_retry_count = RETRIES};
    if (lane != NULL && rdma_connect(lane->id, &param) != 0) {
        fail(error, "connecting");
        return NULL;
    }
    return g_steal_pointer(&lane);
}

RdmaDoor *
rdmalane_listen(const struct sockaddr *address, guint n, guint16 *ret_port, GError **error)
{
    struct rdma_cm_id *id = endpoint(address, true, error);
    if (id == NULL) {
        return NULL;
    }
    RdmaDoor *door = g_new0(RdmaDoor, 1);
    door->id = id;
    if (rdma_listen(id, (int) MIN(n, BACKLOG)) != 0) {
        fail(error, "listening");
        rdmalane_close_door(door);
        return NULL;
    }
    *ret_port = ntohs(rdma_get_src_port(id));
    return door;
}

void
rdmalane_close_door(RdmaDoor *door)
{
    if (door != NULL) {
        rdma_destroy_ep(door->id);
        g_free(door);
    }
}

static bool
is_ours(const struct rdma_cm_id *id, const guint8 *token, guint8 *ret_slot)
{
    const struct rdma_conn_param *param = &id->event->param.conn;
    struct hello hello;
    guint8 differs = 0;
    if (param->private_data_len < sizeof hello) { /* the kernel may pad it */
        return false;
    }
    memcpy(&hello, param->private_data, sizeof hello);
    for (int i = 0; i < RDMALANE_TOKEN_BYTES; i++) {
        differs |= (guint8) (hello.token[i] ^ token[i]);
    }
    *ret_slot = hello.slot;
    return differs == 0;
}

RdmaLane *
rdmalane_accept(RdmaDoor *door, const guint8 *token, guint8 *ret_slot, GError **error)
{
    for (;;) {
        struct rdma_cm_id *id = NULL;
        struct rdma_conn_param param = {.rnr_retry_count = RETRIES};
        if (rdma_get_request(door->id, &id) != 0) {
            fail(error, "waiting for a connection");
            return NULL;
        }
        if (!is_ours(id, token, ret_slot)) {
            rdma_reject(id, NULL, 0);
            rdma_destroy_ep(id);
            continue;
        }
        g_autoptr(RdmaLane) lane = lane_new(id, error);
        if (lane != NULL && rdma_accept(id, &param) != 0) {
            fail(error, "taking a connection");
            return NULL;
        }
        return g_steal_pointer(&lane);
    }
}

/* ---- the pump ---- */

static void
post(RdmaLane *lane, guint number, guint bytes, guint32 flags)
{
    struct ibv_sge part = {.addr = (guint64) (gsize) (lane->memory + (gsize) number * BUFFER),
                           .length = bytes,
                           .lkey = lane->region->lkey};
    struct ibv_send_wr send = {.wr_id = number,
                               .sg_list = &part,
                               .num_sge = bytes > 0,
                               .opcode = IBV_WR_SEND_WITH_IMM,
                               .send_flags = IBV_SEND_SIGNALED,
                               .imm_data = htonl(lane->owed | flags)};
    struct ibv_send_wr *bad;
    lane->owed = 0;
    lane->broken = ibv_post_send(lane->id->qp, &send, &bad) != 0 || lane->broken;
}

static bool
may_send(const RdmaLane *lane)
{
    return lane->n_free > 0 && lane->credits > 0 && !lane->local_end && !lane->broken;
}

static void
read_local(RdmaLane *lane, int local)
{
    while (may_send(lane)) {
        guint number = lane->free[lane->n_free - 1];
        ssize_t got = recv(local, lane->memory + (gsize) number * BUFFER, BUFFER, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            lane->local_end = true;
            return;
        }
        lane->n_free--;
        lane->credits--;
        post(lane, number, (guint) got, 0);
    }
}

static void
write_local(RdmaLane *lane, int local)
{
    while (lane->n_arrived > 0) {
        struct piece *piece = &lane->arrived[lane->first];
        const guint8 *from = lane->memory + (gsize) (SENDS + piece->buffer) * BUFFER;
        ssize_t put = send(local, from + piece->done, piece->bytes - piece->done,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        /* Nobody takes it any more: what comes is dropped, so that the other side is not held back. */
        piece->done = put < 0 ? piece->bytes : piece->done + (guint) put;
        if (piece->done == piece->bytes) {
            lane->broken = !post_receive(lane, piece->buffer) || lane->broken;
            lane->owed++;
            lane->first = (lane->first + 1) % RECVS;
            lane->n_arrived--;
        }
    }
    if (lane->peer_end && !lane->end_told) {
        lane->end_told = true;
        shutdown(local, SHUT_WR);
    }
}

static void
on_arrived(RdmaLane *lane, const struct ibv_wc *done)
{
    guint32 said = ntohl(done->imm_data);
    lane->credits += said & 0xffff;
    lane->peer_end = lane->peer_end || (said & IMM_END) != 0;
    if (done->byte_len == 0 || lane->n_arrived == RECVS || lane->credits > RECVS) {
        lane->broken = lane->n_arrived == RECVS || lane->credits > RECVS ||
                       !post_receive(lane, (guint) done->wr_id) || lane->broken;
        return;
    }
    lane->arrived[(lane->first + lane->n_arrived++) % RECVS] =
        (struct piece){(guint) done->wr_id, done->byte_len, 0};
}

static void
take_completions(RdmaLane *lane)
{
    struct ibv_wc done;
    while (ibv_poll_cq(lane->id->recv_cq, 1, &done) > 0) {
        if (done.status != IBV_WC_SUCCESS) {
            lane->broken = true;
        } else {
            on_arrived(lane, &done);
        }
    }
    while (ibv_poll_cq(lane->id->send_cq, 1, &done) > 0) {
        lane->broken = lane->broken || done.status != IBV_WC_SUCCESS;
        if (done.wr_id == NOTE) {
            lane->notes--;
        } else {
            lane->free[lane->n_free++] = (guint) done.wr_id;
        }
    }
}

/* R2, R3: what is owed, where no bytes take it along. */
static void
send_notes(RdmaLane *lane)
{
    if (lane->broken) {
        return;
    }
    if (lane->local_end && !lane->end_sent) {
        lane->end_sent = true;
        lane->notes++;
        post(lane, NOTE, 0, IMM_END);
    } else if (lane->owed >= RECVS / 4 && lane->notes == 0) {
        lane->notes++;
        post(lane, NOTE, 0, 0);
    }
}

static void
rearm(struct ibv_comp_channel *channel)
{
    struct ibv_cq *queue;
    void *context;
    if (ibv_get_cq_event(channel, &queue, &context) == 0) {
        ibv_ack_cq_events(queue, 1);
    }
}

/* Asks to be told of the next completion, then looks: one that came before is not missed. */
static void
look(RdmaLane *lane)
{
    if (ibv_req_notify_cq(lane->id->recv_cq, 0) != 0 ||
        ibv_req_notify_cq(lane->id->send_cq, 0) != 0) {
        lane->broken = true;
    }
    take_completions(lane);
}

static bool
finished(const RdmaLane *lane)
{
    bool sent = lane->end_sent && lane->n_free == SENDS && lane->notes == 0;
    return (lane->broken && lane->n_arrived == 0) || (sent && lane->end_told);
}

/* Of 'looks': completions twice, the local socket, the leash. */
static int
wait(RdmaLane *lane, struct pollfd looks[4], int wait_ms)
{
    short wanted = (short) ((may_send(lane) ? POLLIN : 0) | (lane->n_arrived > 0 ? POLLOUT : 0));
    looks[2].events = wanted;
    looks[2].fd = wanted != 0 ? looks[2].fd : ~looks[2].fd; /* a hang-up alone is no news */
    int result = poll(looks, 4, wait_ms);
    looks[2].fd = wanted != 0 ? looks[2].fd : ~looks[2].fd;
    if ((looks[0].revents & POLLIN) != 0) {
        rearm(lane->id->recv_cq_channel);
    }
    if ((looks[1].revents & POLLIN) != 0) {
        rearm(lane->id->send_cq_channel);
    }
    return result;
}

void
rdmalane_pump(RdmaLane *lane, int local, int leash)
{
    struct pollfd looks[4] = {{lane->id->recv_cq_channel->fd, POLLIN, 0},
                              {lane->id->send_cq_channel->fd, POLLIN, 0},
                              {local, 0, 0},
                              {leash, POLLRDHUP, 0}};
    gint64 until_us = G_MAXINT64;
    while (!finished(lane) && g_get_monotonic_time() < until_us) {
        look(lane);
        write_local(lane, local);
        read_local(lane, local);
        send_notes(lane);
        if (finished(lane)) {
            break;
        }
        wait(lane, looks, until_us == G_MAXINT64 ? -1 : 50);
        if (looks[3].revents != 0) { /* R4 */
            looks[3].fd = -1;
            until_us = g_get_monotonic_time() + LINGER_MS * 1000;
        }
    }
    shutdown(local, SHUT_RDWR);
}
