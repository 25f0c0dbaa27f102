/* pagecrypt.h: AES-256-GCM over the frames of one direction of one channel.
 * RFC 5116; keys live for one migration. Threads: one at a time. */
#pragma once
#include "dataplane/pages/pageframe.h"
#include <sys/uio.h>

typedef struct PageCrypt PageCrypt;
enum { PAGECRYPT_KEY_BYTES = 32 };
enum pagecrypt_way { PAGECRYPT_TO_SINK, PAGECRYPT_TO_SOURCE };

/* The nonce is (channel, way, sequence): a sequence number is used once, and only upwards. */
PageCrypt *pagecrypt_new(const guint8 key[PAGECRYPT_KEY_BYTES], guint channel,
                         enum pagecrypt_way way, GError **error);
void pagecrypt_free(PageCrypt *crypt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageCrypt, pagecrypt_free)

/* The parts, in order, sealed into out (their size + FRAME_TAG_BYTES). Each byte of the parts is read
 * once: they may be memory that changes. 'table' is authenticated, not hidden. */
bool pagecrypt_seal(PageCrypt *crypt, guint64 sequence, const void *table, size_t table_bytes,
                    const struct iovec *parts, int n_parts, guint8 *out, GError **error);
/* Opens the parts in place. CORRUPT when the tag does not fit: their bytes are garbage then. */
bool pagecrypt_open(PageCrypt *crypt, guint64 sequence, const void *table, size_t table_bytes,
                    const struct iovec *parts, int n_parts, guint8 tag[FRAME_TAG_BYTES],
                    GError **error);
