/* relayparts.h: what the rooms of a Relay share: relay.c (the loop), relaystream.c, relaydgram.c.
 * Threads: the relay's only one. */
#pragma once
#include "agent/inst/relay.h"
#include <sys/socket.h>
#include <time.h>

enum { RELAY_PIPES_KEPT = 64, RELAY_ACCEPT_TURNS = 64, RELAY_DATAGRAM_MAX = 65536 };

typedef enum { END_LISTENER, END_STREAM, END_SESSION, END_QUIT } EndKind;

/* What an epoll event points to. */
typedef struct {
    EndKind kind;
    int fd;
    void *owner; /* the struct that contains it, as its first member's owner */
    bool dead;
} End;

typedef struct {
    End end;
    guint index;
} Listener;

/* One direction of a stream connection. */
typedef struct {
    int pipe[2];    /* -1 in copy mode */
    guint8 *buffer; /* copy mode: one side is a datagram socket */
    size_t offset, pending;
    bool eof, shut;
} Dir;

typedef struct {
    End ends[2]; /* client, target */
    Dir dirs[2]; /* from ends[i] to the other */
    bool connecting, copy, queued, dead;
} Conn;

typedef struct {
    End end;
    Relay *relay;
    Listener *listener;
    struct sockaddr_storage peer;
    socklen_t peer_size;
    time_t used;
    GList link; /* in relay->sessions, least recently used first */
} Session;

struct Relay {
    const ProxyAddr *listen, *connect; /* borrowed */
    bool proxy_protocol;
    int epoll;
    GPtrArray *listeners; /* owns */
    bool resting;         /* R4 */
    GQueue *ready;        /* Conns with work left (R1) */
    GHashTable *conns;    /* owns */
    GHashTable *by_peer;  /* Session → itself, by listener and peer */
    GQueue sessions;      /* owns */
    GPtrArray *graves;    /* freed after the batch (R3) */
    int pipes[RELAY_PIPES_KEPT][2];
    guint pipe_count;
    guint8 *packet;
};

/* ---- relay.c ---- */
/* A socket on its way to the target (its address by 'index'), or -1. */
int relay_connect(Relay *relay, guint index, bool *ret_connecting);
void relay_watch(Relay *relay, End *end, guint32 events);

/* ---- relaystream.c ---- */
void relaystream_accept(Relay *relay, Listener *listener);
/* Moves what can be moved, as far as a turn goes. */
void relaystream_work(Relay *relay, Conn *conn);
/* Closes; relaystream_free() follows after the batch (R3). */
void relaystream_end(Relay *relay, Conn *conn);
void relaystream_free(Relay *relay, Conn *conn);

/* ---- relaydgram.c ---- */
/* The table of sessions by listener and peer. */
GHashTable *relaydgram_table(void);
void relaydgram_take(Relay *relay, Listener *listener);
void relaydgram_answer(Relay *relay, Session *session);
void relaydgram_expire(Relay *relay);
void relaydgram_end(Relay *relay, Session *session);
