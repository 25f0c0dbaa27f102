/* Datagrams of a relay.
 * R5  A UDP peer is a session with a socket of its own towards the target, so that answers find
 *     their way back; the least recently used makes room, and all end after SESSION_IDLE_S.
 * Called by relay.c. */
#include "agent/inst/relayparts.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SESSIONS_MAX = 4096, SESSION_IDLE_S = 180 };

static guint
session_hash(gconstpointer key)
{
    const Session *session = key;
    const guint8 *bytes = (const guint8 *) &session->peer;
    guint hash = session->listener->index;

    for (socklen_t i = 0; i < session->peer_size; i++) {
        hash = hash * 31 + bytes[i];
    }
    return hash;
}

static gboolean
session_equal(gconstpointer a, gconstpointer b)
{
    const Session *x = a, *y = b;

    return x->listener == y->listener && x->peer_size == y->peer_size &&
           memcmp(&x->peer, &y->peer, x->peer_size) == 0;
}

GHashTable *
relaydgram_table(void)
{
    return g_hash_table_new(session_hash, session_equal);
}

void
relaydgram_end(Relay *relay, Session *session)
{
    g_hash_table_remove(relay->by_peer, session);
    g_queue_unlink(&relay->sessions, &session->link);
    session->end.dead = true;
    close(session->end.fd);
    g_ptr_array_add(relay->graves, session);
}

static void
session_touch(Relay *relay, Session *session)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    session->used = now.tv_sec;
    g_queue_unlink(&relay->sessions, &session->link);
    g_queue_push_tail_link(&relay->sessions, &session->link);
}

static Session *
session_of(Relay *relay, Listener *listener, const struct sockaddr_storage *peer, socklen_t size)
{
    Session key = {.listener = listener, .peer_size = size};
    bool connecting = false;
    Session *session;

    memcpy(&key.peer, peer, size);
    session = g_hash_table_lookup(relay->by_peer, &key);
    if (session != NULL) {
        return session;
    }
    if (relay->sessions.length >= SESSIONS_MAX) {
        relaydgram_end(relay, g_queue_peek_head(&relay->sessions));
    }
    int fd = relay_connect(relay, listener->index, &connecting);
    if (fd < 0) {
        return NULL;
    }
    session = g_new0(Session, 1);
    *session = key;
    session->end = (End){.kind = END_SESSION, .fd = fd, .owner = session};
    session->relay = relay;
    session->link.data = session;
    g_queue_push_tail_link(&relay->sessions, &session->link);
    g_hash_table_add(relay->by_peer, session);
    relay_watch(relay, &session->end, EPOLLIN);
    return session;
}

void
relaydgram_take(Relay *relay, Listener *listener)
{
    for (int i = 0; i < RELAY_ACCEPT_TURNS; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof(peer);
        ssize_t n = recvfrom(listener->end.fd, relay->packet, RELAY_DATAGRAM_MAX, 0,
                             (struct sockaddr *) &peer, &size);
        if (n < 0) {
            return;
        }
        Session *session = session_of(relay, listener, &peer, size);
        if (session != NULL) {
            session_touch(relay, session);
            (void) send(session->end.fd, relay->packet, (size_t) n, MSG_NOSIGNAL);
        }
    }
}

void
relaydgram_answer(Relay *relay, Session *session)
{
    for (int i = 0; i < RELAY_ACCEPT_TURNS; i++) {
        ssize_t n = recv(session->end.fd, relay->packet, RELAY_DATAGRAM_MAX, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n < 0 || (n == 0 && relay->connect->kind != PROXYADDR_UDP)) {
            relaydgram_end(relay, session); /* refused, or a stream's end */
            return;
        }
        session_touch(relay, session);
        (void) sendto(session->listener->end.fd, relay->packet, (size_t) n, MSG_NOSIGNAL,
                      (struct sockaddr *) &session->peer, session->peer_size);
    }
}

void
relaydgram_expire(Relay *relay)
{
    struct timespec now;
    Session *oldest;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    while ((oldest = g_queue_peek_head(&relay->sessions)) != NULL &&
           now.tv_sec - oldest->used > SESSION_IDLE_S) {
        relaydgram_end(relay, oldest);
    }
}
