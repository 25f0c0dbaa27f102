/* AF_XDP devices and what their driver forgets. DPDK 22.11 counts a device's users only if it shares its memory, which
 * Debian's build does not: the socket of one that is closed stays open, and the interface busy for ever. Thousands of
 * packets that it gave to the kernel's rings are not asked for again. So:
 * L1  The socket that appeared when the queues were made is closed after the device, if it is still there.
 * L2  One device uses a pool at a time; when that has gone, what its rings held is put back, and the pool waits for
 *     the next device. Pools are never freed: packets of theirs may still be in other devices' queues.
 * L3  What the rings held is told from what is on its way elsewhere by mbuf.port: none since it was allocated, or the
 *     device's since it was received (a callback says so). What is in the pool itself is taken out first, to see it:
 *     there is no cache, so all of it comes.
 * L4  The driver registers a pool's memory with the kernel as if its packets lay side by side, but none of them crosses a page
 *     (mended in DPDK 24.07): the last ones, in pages of 4 KiB near half of all, the kernel takes for strays, and drops
 *     what is received into or sent from them. They stay out of the pool.
 * Called by polldev.c. Not here: packets that were received and sent by one and the same device; instances don't. */
#include "dataplane/poll/pollxdp.h"

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { PACKETS = 8192, PER_BURST = 64, FDS = 4096 };

struct PollXdp {
    struct rte_mempool *pool; /* borrowed: 'waiting' has it afterwards */
    int socket;               /* the driver's; -1: not known */
    ino_t inode;              /* of it: another file may get its number */
    guint8 before[FDS / 8];   /* which descriptors were AF_XDP's sockets already */
};

static GPtrArray *waiting; /* pools without a device; borrowed: DPDK owns them */
static guint made;

/* ---- the socket ---- */

static bool
is_xdp(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_XDP;
}

static void
find_socket(PollXdp *xdp)
{
    for (int fd = 0; fd < FDS && xdp->socket < 0; fd++) {
        struct stat about;
        if (!(xdp->before[fd / 8] & 1 << fd % 8) && is_xdp(fd) && fstat(fd, &about) == 0) {
            xdp->socket = fd;
            xdp->inode = about.st_ino;
        }
    }
}

/* L1 */
static void
close_socket(const PollXdp *xdp)
{
    struct stat about;
    if (xdp->socket >= 0 && is_xdp(xdp->socket) && fstat(xdp->socket, &about) == 0 &&
        about.st_ino == xdp->inode) {
        close(xdp->socket);
    }
}

/* ---- packets ---- */

/* L4: whether the kernel knows the packet's memory. */
static bool
is_registered(const struct rte_mempool *pool, const void *packet)
{
    const struct rte_mempool_memhdr *first = STAILQ_FIRST(&pool->mem_list);
    size_t each = pool->header_size + pool->elt_size + pool->trailer_size;
    uintptr_t from = (uintptr_t) first->addr, at = (uintptr_t) packet - pool->header_size;
    return at >= from && at + each <= from + pool->populated_size * each;
}

static void
put_back(struct rte_mempool *pool, const GPtrArray *packets)
{
    for (guint i = 0; i < packets->len; i += PER_BURST) {
        rte_mempool_put_bulk(pool, packets->pdata + i, MIN(PER_BURST, packets->len - i));
    }
}

/* L4 */
static void
drop_strays(struct rte_mempool *pool)
{
    g_autoptr(GPtrArray) registered = g_ptr_array_new();
    void *packet;
    while (rte_mempool_get(pool, &packet) == 0) {
        if (is_registered(pool, packet)) {
            g_ptr_array_add(registered, packet);
        }
    }
    put_back(pool, registered);
}

static struct rte_mempool *
take_pool(uint16_t room, GError **error)
{
    for (guint i = 0; waiting != NULL && i < waiting->len; i++) {
        if (rte_pktmbuf_data_room_size(waiting->pdata[i]) == room) {
            return g_ptr_array_steal_index_fast(waiting, i);
        }
    }
    g_autofree char *name = g_strdup_printf("haw_xdp%u", made);
    struct rte_mempool *pool =
        rte_pktmbuf_pool_create(name, PACKETS, 0, 0, room, (int) rte_socket_id());
    if (pool == NULL) {
        haw_fail(error, HAW_UNAVAILABLE,
                 "no memory for %d packets (%s): give DPDK more with --memory", PACKETS,
                 rte_strerror(rte_errno));
        return NULL;
    }
    made++;
    drop_strays(pool);
    return pool;
}

static uint16_t
mark(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count, uint16_t most,
     void *user)
{
    (void) queue, (void) most, (void) user;
    for (uint16_t i = 0; i < count; i++) {
        packets[i]->port = port;
    }
    return count;
}

static void
note(struct rte_mempool *pool, void *data, void *packet, unsigned index)
{
    (void) index;
    const struct rte_mbuf *mbuf = packet;
    if (mbuf->port == RTE_MBUF_PORT_INVALID && is_registered(pool, packet)) {
        g_hash_table_add(data, packet);
    }
}

/* L3. What comes home from elsewhere meanwhile is marked, and so not among the lost. */
static void
give_pool(struct rte_mempool *pool)
{
    g_autoptr(GHashTable) lost = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) there = g_ptr_array_new();
    GHashTableIter iter;
    void *packet;
    rte_mempool_obj_iter(pool, note, lost);
    while (there->len < pool->size && rte_mempool_get(pool, &packet) == 0) {
        g_hash_table_remove(lost, packet);
        g_ptr_array_add(there, packet);
    }
    g_hash_table_iter_init(&iter, lost);
    while (g_hash_table_iter_next(&iter, &packet, NULL)) {
        g_ptr_array_add(there, packet);
    }
    put_back(pool, there);
    haw_info("poll.pool", KU("found", g_hash_table_size(lost)), KU("whole", there->len));
    waiting = waiting != NULL ? waiting : g_ptr_array_new();
    g_ptr_array_add(waiting, pool);
}

/* ---- a device's ---- */

PollXdp *
pollxdp_new(uint16_t room, GError **error)
{
    struct rte_mempool *pool = take_pool(room, error);
    if (pool == NULL) {
        return NULL;
    }
    PollXdp *xdp = g_new0(PollXdp, 1);
    xdp->pool = pool;
    xdp->socket = -1;
    for (int fd = 0; fd < FDS; fd++) {
        xdp->before[fd / 8] |= (guint8) (is_xdp(fd) << fd % 8);
    }
    return xdp;
}

struct rte_mempool *
pollxdp_pool(const PollXdp *xdp)
{
    return xdp->pool;
}

bool
pollxdp_watch(PollXdp *xdp, uint16_t port, GError **error)
{
    find_socket(xdp);
    return rte_eth_add_rx_callback(port, 0, mark, NULL) != NULL
               ? true
               : haw_fail_errno(error, rte_errno, "watch what device %u receives", port);
}

void
pollxdp_free(PollXdp *xdp)
{
    if (xdp != NULL) {
        close_socket(xdp);
        give_pool(xdp->pool);
        g_free(xdp);
    }
}
