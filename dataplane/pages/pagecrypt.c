/* The seal of encrypted streams.
 * E1  A nonce is never used twice under a key: each channel and direction counts its own, and a counter
 *     that does not rise is a bug that ends the migration.
 * E2  The sender seals from the guest's memory into a buffer of its own, as the guest's bytes may not
 *     change and may change under it: what is authenticated is what was sent. */
#include "dataplane/pages/pagecrypt.h"

#include <gnutls/crypto.h>
#include <string.h>

struct PageCrypt {
    gnutls_aead_cipher_hd_t cipher;
    guint8 nonce[12];
    guint64 next; /* the least sequence number that is still free */
};

PageCrypt *
pagecrypt_new(const guint8 key[PAGECRYPT_KEY_BYTES], guint channel, enum pagecrypt_way way,
              GError **error)
{
    g_autoptr(PageCrypt) crypt = g_new0(PageCrypt, 1);
    gnutls_datum_t datum = {(unsigned char *) key, PAGECRYPT_KEY_BYTES};
    int status = gnutls_aead_cipher_init(&crypt->cipher, GNUTLS_CIPHER_AES_256_GCM, &datum);
    if (status != 0) {
        crypt->cipher = NULL;
        haw_fail(error, HAW_FAILED, "AES-256-GCM: %s", gnutls_strerror(status));
        return NULL;
    }
    crypt->nonce[0] = (guint8) channel;
    crypt->nonce[1] = (guint8) (channel >> 8);
    crypt->nonce[2] = (guint8) way;
    return g_steal_pointer(&crypt);
}

void
pagecrypt_free(PageCrypt *crypt)
{
    if (crypt != NULL) {
        if (crypt->cipher != NULL) {
            gnutls_aead_cipher_deinit(crypt->cipher);
        }
        g_free(crypt);
    }
}

/* E1 */
static bool
take_nonce(PageCrypt *crypt, guint64 sequence, GError **error)
{
    if (sequence < crypt->next) {
        return haw_fail(error, HAW_CORRUPT, "page stream: a sequence number came twice");
    }
    crypt->next = sequence + 1;
    guint64 wire = GUINT64_TO_LE(sequence);
    memcpy(crypt->nonce + 4, &wire, sizeof(wire));
    return true;
}

bool
pagecrypt_seal(PageCrypt *crypt, guint64 sequence, const void *table, size_t table_bytes,
               const struct iovec *parts, int n_parts, guint8 *out, GError **error)
{
    giovec_t aad = {(void *) table, table_bytes};
    size_t size = FRAME_TAG_BYTES;
    for (int i = 0; i < n_parts; i++) {
        size += parts[i].iov_len;
    }
    if (!take_nonce(crypt, sequence, error)) {
        return false;
    }
    int status = gnutls_aead_cipher_encryptv(crypt->cipher, crypt->nonce, sizeof(crypt->nonce),
                                             &aad, 1, FRAME_TAG_BYTES, parts, n_parts, out, &size);
    return status == 0 || haw_fail(error, HAW_FAILED, "sealing pages: %s", gnutls_strerror(status));
}

bool
pagecrypt_open(PageCrypt *crypt, guint64 sequence, const void *table, size_t table_bytes,
               const struct iovec *parts, int n_parts, guint8 tag[FRAME_TAG_BYTES], GError **error)
{
    giovec_t aad = {(void *) table, table_bytes};
    if (!take_nonce(crypt, sequence, error)) {
        return false;
    }
    int status = gnutls_aead_cipher_decryptv2(crypt->cipher, crypt->nonce, sizeof(crypt->nonce),
                                              &aad, 1, parts, n_parts, tag, FRAME_TAG_BYTES);
    return status == 0 ||
           haw_fail(error, HAW_CORRUPT, "page stream: a frame's seal is broken or of another key");
}
