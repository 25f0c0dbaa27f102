/* Packets of SFTP: taken apart and put together.
 * A cursor cannot leave its packet: what is too short sets 'bad' and yields zeros (S2). Ids in answers
 * are the container's. Called by sftp.c, sftphandle.c and sftpname.c. */
#include "agent/inst/sftpwire.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "agent/inst/shift.h"

/* ---- reading a packet (S2) ---- */

guint32
sftpwire_u32(Cursor *cursor)
{
    if (cursor->end - cursor->at < 4) {
        cursor->bad = true;
        return 0;
    }
    const guint8 *p = cursor->at;
    cursor->at += 4;
    return (guint32) p[0] << 24 | (guint32) p[1] << 16 | (guint32) p[2] << 8 | p[3];
}

guint64
sftpwire_u64(Cursor *cursor)
{
    guint64 high = sftpwire_u32(cursor);

    return high << 32 | sftpwire_u32(cursor);
}

const guint8 *
sftpwire_bytes(Cursor *cursor, guint32 *ret_size)
{
    guint32 size = sftpwire_u32(cursor);

    if (cursor->bad || (gsize) (cursor->end - cursor->at) < size) {
        cursor->bad = true;
        *ret_size = 0;
        return NULL;
    }
    const guint8 *bytes = cursor->at;
    cursor->at += size;
    *ret_size = size;
    return bytes;
}

/* A path in the caller's buffer of PATH_MAX; bad when it is too long or holds a NUL. */
const char *
sftpwire_path(Cursor *cursor, char *buf)
{
    guint32 size;
    const guint8 *bytes = sftpwire_bytes(cursor, &size);

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
sftpwire_put_u32(GByteArray *out, guint32 value)
{
    guint8 bytes[4] = {(guint8) (value >> 24), (guint8) (value >> 16), (guint8) (value >> 8),
                       (guint8) value};

    g_byte_array_append(out, bytes, 4);
}

void
sftpwire_put_u64(GByteArray *out, guint64 value)
{
    sftpwire_put_u32(out, (guint32) (value >> 32));
    sftpwire_put_u32(out, (guint32) value);
}

void
sftpwire_put_text(GByteArray *out, const char *text)
{
    sftpwire_put_u32(out, (guint32) strlen(text));
    g_byte_array_append(out, (const guint8 *) text, (guint) strlen(text));
}

guint
sftpwire_begin(GByteArray *out, guint8 type, guint32 id)
{
    guint start = out->len;

    sftpwire_put_u32(out, 0);
    g_byte_array_append(out, &type, 1);
    sftpwire_put_u32(out, id);
    return start;
}

void
sftpwire_end(GByteArray *out, guint start)
{
    guint32 size = out->len - start - 4;

    out->data[start] = (guint8) (size >> 24);
    out->data[start + 1] = (guint8) (size >> 16);
    out->data[start + 2] = (guint8) (size >> 8);
    out->data[start + 3] = (guint8) size;
}

void
sftpwire_status(GByteArray *out, guint32 id, guint32 code, const char *text)
{
    guint start = sftpwire_begin(out, FXP_STATUS, id);

    sftpwire_put_u32(out, code);
    sftpwire_put_text(out, text);
    sftpwire_put_text(out, "en");
    sftpwire_end(out, start);
}

/* The outcome of a call that sets errno. */
void
sftpwire_result(GByteArray *out, guint32 id, bool ok)
{
    int err = errno;
    guint32 code = ok                                   ? FX_OK
                   : err == ENOENT || err == ENOTDIR    ? FX_NO_SUCH_FILE
                   : err == EACCES || err == EPERM      ? FX_DENIED
                   : err == ENOSYS || err == EOPNOTSUPP ? FX_UNSUPPORTED
                                                        : FX_FAILURE;

    sftpwire_status(out, id, code, ok ? "Success" : g_strerror(err));
}

void
sftpwire_put_attrs(json_t *idmap, GByteArray *out, const struct stat *st)
{
    gint64 uid = shift_from_host(idmap, SHIFT_UID, st->st_uid);
    gint64 gid = shift_from_host(idmap, SHIFT_GID, st->st_gid);

    sftpwire_put_u32(out, ATTR_SIZE | ATTR_IDS | ATTR_MODE | ATTR_TIMES);
    sftpwire_put_u64(out, (guint64) st->st_size);
    sftpwire_put_u32(out, uid == SHIFT_NONE ? 65534 : (guint32) uid);
    sftpwire_put_u32(out, gid == SHIFT_NONE ? 65534 : (guint32) gid);
    sftpwire_put_u32(out, st->st_mode);
    sftpwire_put_u32(out, (guint32) st->st_atim.tv_sec);
    sftpwire_put_u32(out, (guint32) st->st_mtim.tv_sec);
}

void
sftpwire_stat(json_t *idmap, GByteArray *out, guint32 id, int status, const struct stat *st)
{
    if (status < 0) {
        sftpwire_result(out, id, false);
        return;
    }
    guint start = sftpwire_begin(out, FXP_ATTRS, id);
    sftpwire_put_attrs(idmap, out, st);
    sftpwire_end(out, start);
}
