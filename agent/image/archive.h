/* archive.h: archives (tar with any of our compressions, squashfs) into directories and back.
 * What strangers send is unpacked so that nothing outside the directory can be touched.
 * Threads: main loop, inside fibers; the work itself runs on a worker or in a child. All Yield. */
#pragma once
#include "agent/image/meter.h"
#include <jansson.h>

/* ---- out of archives ---- */
typedef struct {
    int fd;             /* of the archive, seekable, borrowed; read from its start */
    const char *dir;    /* exists; nothing outside is touched */
    const char *prefix; /* "backup/container": only what is below it, without it. NULL: all */
    const char *const
        *only; /* names at the top that are taken, others are passed over. NULL: all */
    json_t
        *idmap;   /* as InstRoot's: container ids in the archive become host ids. NULL: unchanged */
    Meter *meter; /* counts bytes of the archive; may be NULL */
} ArchiveUnpack;

/* Keeps numeric owners, modes, times, user.* and security.capability attributes, POSIX ACLs, hard
 * links and holes. Entries that are passed over, with a count in the log: sockets, device nodes
 * below dev/ that aren't the harmless ones. INVALID for an absolute name, "..", a way out through a
 * link, a device node elsewhere; CORRUPT for a broken archive; CANCELLED. On failure the directory
 * has an unspecified part of the content: the caller removes it. */
bool archive_unpack(const ArchiveUnpack *spec, GError **error);

/* One small file of a tar; caller frees, NUL added behind. NULL with NOT_FOUND when there is none.
 * *ret_root (may be NULL) tells what else was seen: "container" for rootfs/, "virtual-machine" for
 * rootfs.img, NULL for neither; static. */
char *archive_read_member(int fd, const char *name, size_t max_bytes, size_t *ret_size,
                          const char **ret_root, GError **error);
/* ".tar.xz", ".squashfs", …, by the first bytes; NULL when it is no archive of ours. Static. */
const char *archive_extension(int fd);

/* ---- into archives ---- */
typedef struct {
    const char *name; /* in the archive: "metadata.yaml", "rootfs" */
    const char *path; /* file or directory on disk. NULL: 'bytes' is the file's content */
    const void *bytes;
    size_t size;
    json_t *idmap; /* host ids on disk become container ids. NULL: unchanged */
} ArchiveMember;

/* Writes a tar of the members to fd. compression: "gzip", "bzip2", "xz", "lzma", "zstd", "none", with
 * a level if wanted ("zstd -3"). UNSUPPORTED for another. Ids that the map hasn't get 65534. */
bool archive_pack(int fd, const ArchiveMember *members, size_t count, const char *compression,
                  Meter *meter, GError **error);
bool archive_compression_known(const char *compression, GError **error);
