/* sftp.h: an SFTP version 3 server below one directory.
 * Threads: the only one of `hawserd forksftp`; tests call sftp_packet() directly. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct Sftp Sftp;

/* root_fd (O_PATH) is borrowed; 'idmap' (may be NULL) tells how ids on disk are read. */
Sftp *sftp_new(int root_fd, json_t *idmap);
void sftp_free(Sftp *sftp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sftp, sftp_free)
/* One packet without its length; appends the answer with its length. False when the session has to
 * end: it was no SFTP. */
bool sftp_packet(Sftp *sftp, const guint8 *packet, size_t size, GByteArray *reply);
/* Serves a stream until its end, or until quit_fd (-1: none) becomes readable. */
void sftp_serve(Sftp *sftp, int fd, int quit_fd);
