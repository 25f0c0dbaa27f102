/* stream.h: bytes to and from a server below HTTP: a unix socket, or TCP with TLS.
 * Threads: the one thread of the program. The descriptor does not block; callers poll. */
#pragma once
#include "base/error.h"
#include "ctl/rest.h"
#include <sys/types.h>

#define STREAM_AGAIN (-2)

typedef struct Stream Stream;
/* To the server of 'rest', with the user's certificate and the pin of its remote. */
Stream *stream_open(Rest *rest, GError **error);
/* To anybody, without a certificate; ret_pem gets the one it shows, which nobody has checked. */
Stream *stream_open_unchecked(const char *https_url, char **ret_pem, GError **error);
/* Over a descriptor that is connected already, which it takes (tests, and the two above). */
Stream *stream_take_fd(int fd);
void stream_free(Stream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stream, stream_free)

int stream_fd(const Stream *stream);
/* Bytes that a poll() does not see: decrypted or put back. */
bool stream_pending(const Stream *stream);
/* Count of bytes, 0 at the end, STREAM_AGAIN, or -1 with the error. */
ssize_t stream_read(Stream *stream, void *bytes, size_t size, GError **error);
ssize_t stream_write(Stream *stream, const void *bytes, size_t size, GError **error);
/* Waits until all is gone. */
bool stream_write_all(Stream *stream, const void *bytes, size_t size, GError **error);
/* Sends "GET path" with 'upgrade' ("websocket", "sftp") and reads the answer's head: true when it
 * is 101, with what follows left to be read; else the server's text. 'extra' (may be NULL): more
 * header lines, each with its CRLF. ret_head (may be NULL): the answer's lines; caller frees. */
bool stream_upgrade(Stream *stream, const char *path, const char *upgrade, const char *extra,
                    char **ret_head, GError **error);
