/* Directories into archives.
 * K1  Entries of a directory come sorted by name, so equal trees give equal archives.
 * K2  Ids are the container's; an id outside the map becomes 65534.
 * K3  A file with several names is stored once, then as hard links.
 * K4  Holes, ACLs and user.* / security.capability attributes go along; sockets don't.
 * K5  A file that shrinks while it is read is filled up with zeros: the archive stays readable.
 * Called through archive_pack() by publish.c and by backups; the work is done on a worker. */
#include "agent/image/archive.h"

#include "agent/image/acl.h"
#include "agent/image/archive_lib.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/grammar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BLOCK_BYTES (1024 * 1024)
#define DEPTH_MAX   1024

struct job {
    int fd;                       /* borrowed */
    const ArchiveMember *members; /* borrowed: the fiber waits */
    size_t count;
    const char *compression;
    Meter *meter; /* borrowed; may be NULL */

    struct archive *out;
    json_t *idmap;     /* of the member being written, borrowed */
    GHashTable *links; /* K3: "dev:ino" → first name */
    guint8 *block;
    GError *error;
    bool ok;
};

static const struct {
    const char *name;
    int filter;          /* libarchive's code of it */
    const char *options; /* of libarchive, "" for none */
} compressions[] = {
    {"gzip", ARCHIVE_FILTER_GZIP, ""},   {"pigz", ARCHIVE_FILTER_GZIP, ""},
    {"bzip2", ARCHIVE_FILTER_BZIP2, ""}, {"xz", ARCHIVE_FILTER_XZ, "xz:threads=0"},
    {"lzma", ARCHIVE_FILTER_LZMA, ""},   {"zstd", ARCHIVE_FILTER_ZSTD, "zstd:threads=2"},
    {"none", ARCHIVE_FILTER_NONE, ""},
};

/* The row of "zstd -3", and its level, -1 when none is given. */
static bool
parse_compression(const char *text, size_t *ret_row, int *ret_level, GError **error)
{
    g_auto(GStrv) words = g_strsplit_set(text != NULL ? text : "", " \t", -1);
    int level = -1;
    size_t row = G_N_ELEMENTS(compressions);
    for (size_t i = 0; words[0] != NULL && i < G_N_ELEMENTS(compressions); i++) {
        if (strcmp(words[0], compressions[i].name) == 0) {
            row = i;
        }
    }
    for (int i = 1; words[0] != NULL && words[i] != NULL; i++) {
        char *end = NULL;
        if (*words[i] == '\0') {
            continue;
        }
        if (strcmp(words[i], "--best") == 0 || strcmp(words[i], "--fast") == 0) {
            level = words[i][2] == 'b' ? 9 : 1;
            continue;
        }
        if (strcmp(words[i], "--rsyncable") == 0) {
            continue; /* changes how well rsync finds what two archives share, and nothing else */
        }
        if (words[i][0] != '-' || !g_ascii_isdigit(words[i][1])) {
            return haw_fail(error, HAW_INVALID, "Invalid compression option \"%s\"", words[i]);
        }
        level = (int) g_ascii_strtoull(words[i] + 1, &end, 10);
        if (*end != '\0' || level > 22) {
            return haw_fail(error, HAW_INVALID, "Invalid compression level \"%s\"", words[i]);
        }
    }
    if (row == G_N_ELEMENTS(compressions)) {
        return haw_fail(error, HAW_INVALID, "Unsupported compression algorithm \"%s\"", text);
    }
    *ret_row = row;
    *ret_level = level;
    return true;
}

bool
archive_compression_known(const char *compression, GError **error)
{
    size_t row;
    int level;
    return parse_compression(compression, &row, &level, error);
}

static la_ssize_t
sink_bytes(struct archive *out, void *data, const void *bytes, size_t size)
{
    struct job *job = data;
    if (meter_cancelled(job->meter)) {
        archive_set_error(out, ECANCELED, "cancelled");
        return -1;
    }
    ssize_t n;
    do {
        n = write(job->fd, bytes, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        archive_set_error(out, errno, "%s", g_strerror(errno));
    }
    return n;
}

static bool
fail_write(struct job *job, const char *name)
{
    int err = archive_errno(job->out);
    if (err == ECANCELED) {
        return haw_fail(&job->error, HAW_CANCELLED, "pack \"%s\": cancelled", name);
    }
    return haw_fail(&job->error, HAW_IO, "pack \"%s\": %s", name, archive_error_string(job->out));
}

static bool
put_header(struct job *job, struct archive_entry *entry)
{
    int status = archive_write_header(job->out, entry);
    return status >= ARCHIVE_WARN || fail_write(job, archive_entry_pathname(entry));
}

static bool
put_bytes(struct job *job, const void *bytes, size_t size, const char *name)
{
    const guint8 *at = bytes;
    while (size > 0) {
        la_ssize_t n = archive_write_data(job->out, at, size);
        if (n <= 0) {
            return fail_write(job, name);
        }
        at += n;
        size -= (size_t) n;
    }
    return true;
}

static bool
put_zeros(struct job *job, gint64 count, const char *name)
{
    static const guint8 zeros[65536];
    while (count > 0) {
        size_t n = (size_t) MIN(count, (gint64) sizeof zeros);
        if (!put_bytes(job, zeros, n, name)) {
            return false;
        }
        meter_add(job->meter, (gint64) n);
        count -= (gint64) n;
    }
    return true;
}

/* From 'offset' to 'end'. K5 */
static bool
put_range(struct job *job, int fd, gint64 offset, gint64 end, const char *name)
{
    while (offset < end) {
        size_t want = (size_t) MIN(end - offset, BLOCK_BYTES);
        ssize_t n = pread(fd, job->block, want, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return haw_fail_errno(&job->error, errno, "pack \"%s\": read", name);
        }
        if (n == 0) {
            return put_zeros(job, end - offset, name);
        }
        if (!put_bytes(job, job->block, (size_t) n, name)) {
            return false;
        }
        meter_add(job->meter, n);
        offset += n;
    }
    return true;
}

/* K4: tells the entry where data is. */
static void
note_holes(struct archive_entry *entry, int fd, const struct stat *st)
{
    if ((gint64) st->st_blocks * 512 >= st->st_size) {
        return;
    }
    gint64 at = 0;
    while (at < st->st_size) {
        gint64 data = lseek(fd, at, SEEK_DATA);
        if (data < 0 || data >= st->st_size) {
            break;
        }
        gint64 hole = lseek(fd, data, SEEK_HOLE);
        hole = hole < 0 || hole > st->st_size ? st->st_size : hole;
        archive_entry_sparse_add_entry(entry, data, hole - data);
        at = hole;
    }
    if (archive_entry_sparse_count(entry) == 0) {
        archive_entry_sparse_add_entry(entry, st->st_size, 0);
    }
}

/* A capability with a user namespace's root (version 3) becomes one for any (version 2): in the
 * archive the ids are the container's. */
static void
add_capability(struct job *job, struct archive_entry *entry, const guint8 *value, ssize_t size)
{
    struct vfs_ns_cap_data caps;
    if (job->idmap == NULL || size != (ssize_t) sizeof caps) {
        archive_entry_xattr_add_entry(entry, "security.capability", value, (size_t) size);
        return;
    }
    memcpy(&caps, value, sizeof caps);
    guint32 magic = GUINT32_FROM_LE(caps.magic_etc);
    if ((magic & VFS_CAP_REVISION_MASK) == VFS_CAP_REVISION_3) {
        caps.magic_etc = GUINT32_TO_LE(VFS_CAP_REVISION_2 | (magic & ~VFS_CAP_REVISION_MASK));
    }
    archive_entry_xattr_add_entry(entry, "security.capability", &caps, XATTR_CAPS_SZ_2);
}

static void
add_attribute(struct job *job, struct archive_entry *entry, const char *at, const char *key)
{
    guint8 value[65536];
    ssize_t size = lgetxattr(at, key, value, sizeof value);
    if (size < 0) {
        return;
    }
    if (strcmp(key, "system.posix_acl_access") == 0) {
        acl_to_entry(job->idmap, entry, false, value, (size_t) size);
    } else if (strcmp(key, "system.posix_acl_default") == 0) {
        acl_to_entry(job->idmap, entry, true, value, (size_t) size);
    } else if (strcmp(key, "security.capability") == 0) {
        add_capability(job, entry, value, size);
    } else if (g_str_has_prefix(key, "user.") && !g_str_has_prefix(key, "user.overlay.")) {
        archive_entry_xattr_add_entry(entry, key, value, (size_t) size);
    }
}

static void
add_attributes(struct job *job, struct archive_entry *entry, int dir_fd, const char *base)
{
    char list[16384];
    g_autofree char *at = g_strdup_printf("/proc/self/fd/%d/%s", dir_fd, base);
    ssize_t size = llistxattr(at, list, sizeof list);
    for (ssize_t i = 0; i < size; i += (ssize_t) strlen(list + i) + 1) {
        add_attribute(job, entry, at, list + i);
    }
}

static bool
pack_file(struct job *job, struct archive_entry *entry, int dir_fd, const char *base,
          const char *name, const struct stat *st)
{
    haw_autofd int fd = openat(dir_fd, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return true; /* Gone since its directory was read. */
    }
    if (fd < 0) {
        return haw_fail_errno(&job->error, errno, "pack \"%s\": open", name);
    }
    note_holes(entry, fd, st);
    if (!put_header(job, entry)) {
        return false;
    }

    /* libarchive wants all bytes of a sparse file, and leaves the holes out itself. */
    gint64 at = 0, data, size;
    archive_entry_sparse_reset(entry);
    while (archive_entry_sparse_next(entry, &data, &size) == ARCHIVE_OK) {
        if (!put_zeros(job, data - at, name) || !put_range(job, fd, data, data + size, name)) {
            return false;
        }
        at = data + size;
    }
    if (archive_entry_sparse_count(entry) > 0) {
        return put_zeros(job, st->st_size - at, name);
    }
    return put_range(job, fd, at, st->st_size, name);
}

/* K3: true when the entry has become a link to an earlier one. */
static bool
linked_before(struct job *job, struct archive_entry *entry, const char *name, const struct stat *st)
{
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode)) {
        return false;
    }
    g_autofree char *key = g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT,
                                           (guint64) st->st_dev, (guint64) st->st_ino);
    const char *first = g_hash_table_lookup(job->links, key);
    if (first == NULL) {
        g_hash_table_insert(job->links, g_steal_pointer(&key), g_strdup(name));
        return false;
    }
    archive_entry_set_hardlink(entry, first);
    archive_entry_set_size(entry, 0);
    return true;
}

static bool pack_dir(struct job *job, int fd, const char *name, int depth);

static bool
pack_typed(struct job *job, struct archive_entry *entry, int dir_fd, const char *base,
           const char *name, const struct stat *st, int depth)
{
    if (linked_before(job, entry, name, st)) {
        return put_header(job, entry);
    }
    if (S_ISLNK(st->st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(dir_fd, base, target, sizeof target - 1);
        if (n < 0) {
            return haw_fail_errno(&job->error, errno, "pack \"%s\": read link", name);
        }
        target[n] = '\0';
        archive_entry_set_symlink(entry, target);
        archive_entry_set_size(entry, 0);
        return put_header(job, entry);
    }
    if (S_ISREG(st->st_mode)) {
        return pack_file(job, entry, dir_fd, base, name, st);
    }
    archive_entry_set_size(entry, 0);
    if (!put_header(job, entry)) {
        return false;
    }
    if (!S_ISDIR(st->st_mode)) {
        return true;
    }
    haw_autofd int fd = openat(dir_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(&job->error, errno, "pack \"%s\": open", name);
    }
    return pack_dir(job, fd, name, depth + 1);
}

static bool
pack_entry(struct job *job, int dir_fd, const char *base, const char *name, int depth)
{
    struct stat st;
    if (fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT || haw_fail_errno(&job->error, errno, "pack \"%s\"", name);
    }
    if (S_ISSOCK(st.st_mode)) {
        return true;
    }

    struct archive_entry *entry = archive_entry_new();
    archive_entry_copy_stat(entry, &st);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_uid(entry, acl_id_to_container(job->idmap, false, st.st_uid));
    archive_entry_set_gid(entry, acl_id_to_container(job->idmap, true, st.st_gid));
    if (!S_ISLNK(st.st_mode)) {
        add_attributes(job, entry, dir_fd, base);
    }
    bool ok = pack_typed(job, entry, dir_fd, base, name, &st, depth);
    archive_entry_free(entry);
    return ok;
}

static int
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* K1 */
static bool
pack_dir(struct job *job, int fd, const char *name, int depth)
{
    if (depth > DEPTH_MAX) {
        return haw_fail(&job->error, HAW_LIMIT, "pack \"%s\": directories are too deep", name);
    }
    DIR *dir = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (dir == NULL) {
        return haw_fail_errno(&job->error, errno, "pack \"%s\": read", name);
    }
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    struct dirent *found;
    while ((found = readdir(dir)) != NULL) {
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            g_ptr_array_add(names, g_strdup(found->d_name));
        }
    }
    closedir(dir);
    g_ptr_array_sort(names, by_name);

    for (guint i = 0; i < names->len; i++) {
        const char *base = g_ptr_array_index(names, i);
        g_autofree char *full = g_strconcat(name, "/", base, NULL);
        if (!pack_entry(job, fd, base, full, depth)) {
            return false;
        }
    }
    return true;
}

static bool
pack_bytes(struct job *job, const ArchiveMember *member)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, member->name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, g_get_real_time() / G_USEC_PER_SEC, 0);
    archive_entry_set_size(entry, (la_int64_t) member->size);
    bool ok = put_header(job, entry) && put_bytes(job, member->bytes, member->size, member->name);
    archive_entry_free(entry);
    return ok;
}

static bool
pack_member(struct job *job, const ArchiveMember *member)
{
    if (member->path == NULL) {
        return pack_bytes(job, member);
    }
    g_autofree char *dir = g_path_get_dirname(member->path);
    g_autofree char *base = g_path_get_basename(member->path);
    haw_autofd int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return haw_fail_errno(&job->error, errno, "open '%s'", dir);
    }
    if (faccessat(dir_fd, base, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        return haw_fail_errno(&job->error, errno, "pack '%s'", member->path);
    }
    job->idmap = member->idmap;
    bool ok = pack_entry(job, dir_fd, base, member->name, 0);
    job->idmap = NULL;
    return ok;
}

static bool
open_output(struct job *job)
{
    size_t row;
    int level;
    if (!parse_compression(job->compression, &row, &level, &job->error)) {
        return false;
    }
    archive_write_set_format_pax_restricted(job->out);
    archive_write_set_bytes_in_last_block(job->out, 1);
    if (archive_write_add_filter(job->out, compressions[row].filter) < ARCHIVE_WARN) {
        return haw_fail(&job->error, HAW_UNSUPPORTED, "%s", archive_error_string(job->out));
    }
    archive_write_set_options(job->out, compressions[row].options);
    if (level >= 0) {
        const char *filter =
            strcmp(compressions[row].name, "pigz") == 0 ? "gzip" : compressions[row].name;
        g_autofree char *text = g_strdup_printf("%d", level);
        if (archive_write_set_filter_option(job->out, filter, "compression-level", text) !=
            ARCHIVE_OK) {
            return haw_fail(&job->error, HAW_INVALID, "Invalid compression level \"%d\"", level);
        }
    }
    return archive_write_open2(job->out, job, NULL, sink_bytes, NULL, NULL) == ARCHIVE_OK ||
           fail_write(job, "archive");
}

static void
pack_all(void *data)
{
    struct job *job = data;
    if (!archive_lib_load(&job->error)) {
        return;
    }
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
    locale_t before = uselocale(utf8);
    job->out = archive_write_new();
    job->links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    job->block = g_malloc(BLOCK_BYTES);

    job->ok = open_output(job);
    for (size_t i = 0; job->ok && i < job->count; i++) {
        job->ok = pack_member(job, &job->members[i]);
    }
    if (job->ok && archive_write_close(job->out) != ARCHIVE_OK) {
        job->ok = fail_write(job, "archive");
    }
    if (!job->ok) {
        archive_write_fail(job->out);
    }
    archive_write_free(job->out);
    g_hash_table_unref(job->links);
    g_free(job->block);
    uselocale(before);
    if (utf8 != (locale_t) 0) {
        freelocale(utf8);
    }
}

bool
archive_pack(int fd, const ArchiveMember *members, size_t count, const char *compression,
             Meter *meter, GError **error)
{
    struct job job = {
        .fd = fd, .members = members, .count = count, .compression = compression, .meter = meter};
    fiber_run(pack_all, &job);
    if (!job.ok) {
        g_propagate_error(error, job.error);
    }
    return job.ok;
}
