/* Packets of SFTP: taken apart and put together.
 * A cursor cannot leave its packet: what is too short sets 'bad' and yields zeros (S2). Ids in answers
 * are the container's. Called by sftp.c, sftphandle.c and sftpname.c. */
#include "sftp/sftpwire.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int64_t
sftpwire_id_on_disk(const SftpIds *ids, bool group, uint32_t id)
{
    return ids != NULL ? ids->on_disk(ids->data, group, id) : id;
}

/* Nobody inside has an id that is not mapped. */
static uint32_t
id_of_disk(const SftpIds *ids, bool group, uint32_t id)
{
    int64_t found = ids != NULL ? ids->of_disk(ids->data, group, id) : id;

    return found == SFTP_NO_ID ? 65534 : (uint32_t) found;
}

/* ---- reading a packet (S2) ---- */

uint32_t
sftpwire_u32(Cursor *cursor)
{
    if (cursor->end - cursor->at < 4) {
        cursor->bad = true;
        return 0;
    }
    const uint8_t *p = cursor->at;
    cursor->at += 4;
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

uint64_t
sftpwire_u64(Cursor *cursor)
{
    uint64_t high = sftpwire_u32(cursor);

    return high << 32 | sftpwire_u32(cursor);
}

const uint8_t *
sftpwire_bytes(Cursor *cursor, uint32_t *ret_size)
{
    uint32_t size = sftpwire_u32(cursor);

    if (cursor->bad || (size_t) (cursor->end - cursor->at) < size) {
        cursor->bad = true;
        *ret_size = 0;
        return NULL;
    }
    const uint8_t *bytes = cursor->at;
    cursor->at += size;
    *ret_size = size;
    return bytes;
}

/* A path in the caller's buffer of PATH_MAX; bad when it is too long or holds a NUL. */
const char *
sftpwire_path(Cursor *cursor, char *buf)
{
    uint32_t size;
    const uint8_t *bytes = sftpwire_bytes(cursor, &size);

    if (bytes == NULL || size >= PATH_MAX || memchr(bytes, '\0', size) != NULL) {
        cursor->bad = true;
        buf[0] = '\0';
        return buf;
    }
    memcpy(buf, bytes, size);
    buf[size] = '\0';
    return buf;
}

Attrs
sftpwire_attrs(Cursor *cursor)
{
    Attrs attrs = {.flags = sftpwire_u32(cursor)};

    if ((attrs.flags & ATTR_SIZE) != 0) {
        attrs.size = sftpwire_u64(cursor);
    }
    if ((attrs.flags & ATTR_IDS) != 0) {
        attrs.uid = sftpwire_u32(cursor);
        attrs.gid = sftpwire_u32(cursor);
    }
    if ((attrs.flags & ATTR_MODE) != 0) {
        attrs.mode = sftpwire_u32(cursor);
    }
    if ((attrs.flags & ATTR_TIMES) != 0) {
        attrs.atime = sftpwire_u32(cursor);
        attrs.mtime = sftpwire_u32(cursor);
    }
    return attrs; /* extended pairs, if any, are left unread at the packet's end */
}

/* ---- writing an answer ---- */

void
sftpwire_resize(SftpOut *out, size_t size)
{
    if (size > out->room) {
        size_t room = size > out->room * 2 ? size : out->room * 2;
        uint8_t *grown = realloc(out->data, room);
        if (grown == NULL) {
            abort();
        }
        out->data = grown;
        out->room = room;
    }
    if (size > out->len) {
        memset(out->data + out->len, 0, size - out->len);
    }
    out->len = size;
}

void
sftpwire_append(SftpOut *out, const void *bytes, size_t size)
{
    size_t at = out->len;

    sftpwire_resize(out, at + size);
    if (size > 0) {
        memcpy(out->data + at, bytes, size);
    }
}

void
sftpwire_free(SftpOut *out)
{
    free(out->data);
    *out = (SftpOut){0};
}

void
sftpwire_put_u32(SftpOut *out, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t) (value >> 24), (uint8_t) (value >> 16), (uint8_t) (value >> 8),
                        (uint8_t) value};

    sftpwire_append(out, bytes, 4);
}

void
sftpwire_put_u64(SftpOut *out, uint64_t value)
{
    sftpwire_put_u32(out, (uint32_t) (value >> 32));
    sftpwire_put_u32(out, (uint32_t) value);
}

void
sftpwire_put_text(SftpOut *out, const char *text)
{
    sftpwire_put_u32(out, (uint32_t) strlen(text));
    sftpwire_append(out, text, strlen(text));
}

size_t
sftpwire_begin(SftpOut *out, uint8_t type, uint32_t id)
{
    size_t start = out->len;

    sftpwire_put_u32(out, 0);
    sftpwire_append(out, &type, 1);
    sftpwire_put_u32(out, id);
    return start;
}

void
sftpwire_end(SftpOut *out, size_t start)
{
    uint32_t size = (uint32_t) (out->len - start - 4);

    out->data[start] = (uint8_t) (size >> 24);
    out->data[start + 1] = (uint8_t) (size >> 16);
    out->data[start + 2] = (uint8_t) (size >> 8);
    out->data[start + 3] = (uint8_t) size;
}

void
sftpwire_status(SftpOut *out, uint32_t id, uint32_t code, const char *text)
{
    size_t start = sftpwire_begin(out, FXP_STATUS, id);

    sftpwire_put_u32(out, code);
    sftpwire_put_text(out, text);
    sftpwire_put_text(out, "en");
    sftpwire_end(out, start);
}

/* The outcome of a call that sets errno. */
void
sftpwire_result(SftpOut *out, uint32_t id, bool ok)
{
    int err = errno;
    uint32_t code = ok                                   ? FX_OK
                    : err == ENOENT || err == ENOTDIR    ? FX_NO_SUCH_FILE
                    : err == EACCES || err == EPERM      ? FX_DENIED
                    : err == ENOSYS || err == EOPNOTSUPP ? FX_UNSUPPORTED
                                                         : FX_FAILURE;

    sftpwire_status(out, id, code, ok ? "Success" : strerror(err));
}

void
sftpwire_put_attrs(const SftpIds *ids, SftpOut *out, const struct stat *st)
{
    sftpwire_put_u32(out, ATTR_SIZE | ATTR_IDS | ATTR_MODE | ATTR_TIMES);
    sftpwire_put_u64(out, (uint64_t) st->st_size);
    sftpwire_put_u32(out, id_of_disk(ids, false, st->st_uid));
    sftpwire_put_u32(out, id_of_disk(ids, true, st->st_gid));
    sftpwire_put_u32(out, st->st_mode);
    sftpwire_put_u32(out, (uint32_t) st->st_atim.tv_sec);
    sftpwire_put_u32(out, (uint32_t) st->st_mtim.tv_sec);
}

void
sftpwire_stat(const SftpIds *ids, SftpOut *out, uint32_t id, int status, const struct stat *st)
{
    if (status < 0) {
        sftpwire_result(out, id, false);
        return;
    }
    size_t start = sftpwire_begin(out, FXP_ATTRS, id);
    sftpwire_put_attrs(ids, out, st);
    sftpwire_end(out, start);
}
