/* movemux.h: the state socket of a live move: messages between the two agents, and streams of bytes beside
 * them (disks' NBD, devices' state, pages where the hosts can't reach each other).
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/ws.h"
#include <jansson.h>

typedef struct MoveMux MoveMux;
enum {
    MOVEMUX_DISK = 1, /* and on: one a disk */
    MOVEMUX_DEVICES = 16,
    MOVEMUX_PAGES = 17, /* and on: one a channel */
    MOVEMUX_STREAMS = 81,
};

/* Takes the socket. */
MoveMux *movemux_new(Ws **ws);
/* Ends all streams: their descriptors see the end. Yields. */
void movemux_free(MoveMux *mux);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MoveMux, movemux_free)

/* 'message' is stolen. UNAVAILABLE once the other side has gone. Yields. */
bool movemux_send(MoveMux *mux, json_t *message, GError **error);
/* The next message that has the member 'what'; others before it are dropped, but one with "failed" (a text)
 * is the other side's error. A new reference. TIMEOUT, UNAVAILABLE, CANCELLED. Yields. */
json_t *movemux_recv(MoveMux *mux, const char *what, gint64 wait_ms, GCancellable *cancel,
                     GError **error);
/* A connected socket for stream 'number', the caller's: what is written to it comes out at the other side's
 * of the same number. Once a number. */
int movemux_open(MoveMux *mux, guint number, GError **error);
/* The same with the descriptor *fd (taken) as the other end: for what is a socket already. */
bool movemux_attach(MoveMux *mux, guint number, int *fd, GError **error);
/* The same for a process that connects by itself: the first connection of 'pid' to the abstract unix name
 * *ret_name (caller frees), and then no other. */
bool movemux_door(MoveMux *mux, guint number, pid_t pid, char **ret_name, GError **error);
/* Tells the other side how many bytes have been written to stream 'number' so far. Yields. */
void movemux_mark(MoveMux *mux, guint number);
/* The other side's last mark of 'number'; false before there is one. It is known here before any byte behind it. */
bool movemux_marked(const MoveMux *mux, guint number, guint64 *ret_bytes);
/* False once the other side has gone, or was silent for MOVEMUX_SILENCE_MS. */
bool movemux_alive(const MoveMux *mux);
