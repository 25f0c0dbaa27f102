/* sftp.h: an SFTP version 3 server below one directory. Plain C: it runs in `hawserd forksftp` and in
 * hawser-guest. Threads: the process's only one; tests call sftp_packet() directly. */
#pragma once
#include "sftp/sftpwire.h"

typedef struct Sftp Sftp;

/* root_fd (O_PATH) and 'ids' (may be NULL: as they are) are borrowed. Aborts without memory. */
Sftp *sftp_new(int root_fd, const SftpIds *ids);
void sftp_free(Sftp *sftp);
/* One packet without its length; appends the answer with its length. False when the session has to
 * end: it was no SFTP. */
bool sftp_packet(Sftp *sftp, const uint8_t *packet, size_t size, SftpOut *reply);
/* Serves a stream (the same descriptor twice, or two) until its end, or until quit_fd (-1: none) becomes readable. */
void sftp_serve(Sftp *sftp, int in, int out, int quit_fd);
