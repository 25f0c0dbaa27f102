/* Archives into directories.
 * A1  tar is read by libarchive on a worker, with only the formats and filters that images use
 *     (no iso9660, no external programs); what it yields goes through sink.c, which holds the walls.
 * A2  squashfs is unpacked by unsquashfs, since libarchive can't; the tree is checked afterwards.
 * A3  Decompression runs on a thread of its own, ahead of the one that makes the files, joined by a
 *     pipe: with two cores an image is unpacked in the time of the slower half.
 * A4  Names are taken as UTF-8 by the worker's own locale, whatever the daemon's is.
 * Called by image.c, and by backups of instances.  Main loop, fibers. */
#include "agent/image/archive.h"

#include "agent/image/sink.h"
#include "agent/image/archive_lib.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES (256 * 1024)
#define PIPE_BYTES  (1024 * 1024)

/* libarchive's source: a file, read by offset so that its owner's offset stays, or a pipe. */
struct source {
    int fd;
    bool pipe;
    gint64 offset;
    Meter *meter;
    guint8 *block;
};

static la_ssize_t
source_read(struct archive *in, void *data, const void **ret_block)
{
    struct source *source = data;
    if (meter_cancelled(source->meter)) {
        archive_set_error(in, ECANCELED, "cancelled");
        return -1;
    }
    ssize_t n;
    do {
        n = source->pipe ? read(source->fd, source->block, BLOCK_BYTES)
                         : pread(source->fd, source->block, BLOCK_BYTES, source->offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        archive_set_error(in, errno, "read: %s", g_strerror(errno));
        return -1;
    }
    source->offset += n;
    meter_add(source->meter, n);
    *ret_block = source->block;
    return n;
}

static la_int64_t
source_skip(struct archive *in, void *data, la_int64_t bytes)
{
    struct source *source = data;
    source->offset += bytes;
    meter_add(source->meter, bytes);
    return bytes;
}

/* A1. raw: the decompressed bytes as one entry, whatever they are. */
static struct archive *
source_open(struct source *source, bool raw, GError **error)
{
    struct archive *in = archive_read_new();
    archive_read_support_filter_gzip(in);
    archive_read_support_filter_bzip2(in);
    archive_read_support_filter_xz(in);
    archive_read_support_filter_lzma(in);
    archive_read_support_filter_zstd(in);
    if (raw) {
        archive_read_support_format_raw(in);
    } else {
        archive_read_support_format_tar(in);
    }
    archive_read_set_read_callback(in, source_read);
    if (!source->pipe) {
        archive_read_set_skip_callback(in, source_skip);
    }
    archive_read_set_callback_data(in, source);
    if (archive_read_open1(in) != ARCHIVE_OK) {
        haw_fail(error, HAW_CORRUPT, "Unsupported archive: %s", archive_error_string(in));
        archive_read_free(in);
        return NULL;
    }
    return in;
}

/* The next entry: 1, the end: 0, an error: -1. */
static int
source_next(struct archive *in, struct archive_entry **ret_entry, GError **error)
{
    int status = archive_read_next_header(in, ret_entry);
    if (status == ARCHIVE_EOF) {
        return 0;
    }
    if (status < ARCHIVE_WARN) {
        bool cancelled = archive_errno(in) == ECANCELED;
        haw_fail(error, cancelled ? HAW_CANCELLED : HAW_CORRUPT, "Broken archive: %s",
                 archive_error_string(in));
        return -1;
    }
    return 1;
}

/* ---- a job ---- */
struct job {
    const ArchiveUnpack *spec; /* borrowed: the fiber waits */
    bool ok;
    GError *error;
    guint64 skipped;
};

/* 'name' without spec->prefix, or NULL when the entry isn't wanted. Borrowed from 'name'. */
static const char *
wanted(const ArchiveUnpack *spec, const char *name)
{
    if (spec->prefix != NULL) {
        size_t size = strlen(spec->prefix);
        if (strncmp(name, spec->prefix, size) != 0 || (name[size] != '/' && name[size] != '\0')) {
            return NULL;
        }
        name += name[size] == '/' ? size + 1 : size;
    }
    if (spec->only == NULL || *name == '\0') {
        return spec->only == NULL ? name : NULL;
    }
    for (int i = 0; spec->only[i] != NULL; i++) {
        size_t size = strlen(spec->only[i]);
        if (strncmp(name, spec->only[i], size) == 0 && (name[size] == '/' || name[size] == '\0')) {
            return name;
        }
    }
    return NULL;
}

static bool
unpack_entry(const ArchiveUnpack *spec, Sink *sink, struct archive *in, struct archive_entry *entry,
             GError **error)
{
    g_autofree char *clean = sink_clean_name(archive_entry_pathname(entry), error);
    if (clean == NULL) {
        return false;
    }
    const char *name = wanted(spec, clean);
    if (name == NULL) {
        return true;
    }

    g_autofree char *clean_link = NULL;
    const char *link = NULL;
    if (archive_entry_hardlink(entry) != NULL) {
        clean_link = sink_clean_name(archive_entry_hardlink(entry), error);
        if (clean_link == NULL) {
            return false;
        }
        link = wanted(spec, clean_link);
        if (link == NULL || *link == '\0' || *name == '\0') {
            return haw_fail(error, HAW_INVALID, "archive entry \"%s\": link to \"%s\" leads out",
                            clean, clean_link);
        }
    }
    return sink_write(sink, in, entry, name, link, error);
}

static bool
unpack_all(struct job *job, struct archive *in, int root_fd, GError **error)
{
    g_autoptr(Sink) sink = sink_new(root_fd, job->spec->idmap);
    struct archive_entry *entry;
    int more;
    while ((more = source_next(in, &entry, error)) > 0) {
        if (!unpack_entry(job->spec, sink, in, entry, error)) {
            return false;
        }
    }
    job->skipped = sink_skipped(sink);
    return more == 0 && sink_finish(sink, error);
}

/* A4 */
static locale_t
names_are_utf8(void)
{
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
    return utf8 == (locale_t) 0 ? (locale_t) 0 : uselocale(utf8);
}

static void
names_are_as_before(locale_t before)
{
    if (before != (locale_t) 0) {
        locale_t utf8 = uselocale(before);
        freelocale(utf8);
    }
}

/* ---- A3: the thread that decompresses ---- */
struct ahead {
    struct source source; /* the archive */
    int out;              /* the pipe's end for writing, closed by the thread */
    GError *error;        /* read after the thread was joined */
};

static bool
decompress(struct ahead *ahead, struct archive *in)
{
    struct archive_entry *entry;
    const void *block;
    size_t size;
    la_int64_t offset;
    int status = archive_read_next_header(in, &entry);
    while (status >= ARCHIVE_WARN && status != ARCHIVE_EOF) {
        status = archive_read_data_block(in, &block, &size, &offset);
        if (status < ARCHIVE_WARN || status == ARCHIVE_EOF) {
            break;
        }
        for (size_t done = 0; done < size;) {
            ssize_t n = write(ahead->out, (const char *) block + done, size - done);
            if (n < 0 && errno != EINTR) {
                return true; /* The reader has had enough: it tells why. */
            }
            done += n > 0 ? (size_t) n : 0;
        }
    }
    if (status == ARCHIVE_EOF) {
        return true;
    }
    bool cancelled = archive_errno(in) == ECANCELED;
    return haw_fail(&ahead->error, cancelled ? HAW_CANCELLED : HAW_CORRUPT, "Broken archive: %s",
                    archive_error_string(in));
}

static gpointer
run_ahead(gpointer data)
{
    struct ahead *ahead = data;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    g_autofree guint8 *block = g_malloc(BLOCK_BYTES);
    ahead->source.block = block;
    struct archive *in = source_open(&ahead->source, true, &ahead->error);
    if (in != NULL) {
        decompress(ahead, in);
        archive_read_free(in);
    }
    fd_close(&ahead->out);
    return NULL;
}

/* ---- the worker ---- */
static void
unpack_from(struct job *job, struct source *source, GError **error)
{
    g_autofree guint8 *block = g_malloc(BLOCK_BYTES);
    source->block = block;
    haw_autofd int root_fd = open(job->spec->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        job->ok = haw_fail_errno(error, errno, "open '%s'", job->spec->dir);
        return;
    }
    struct archive *in = source_open(source, false, error);
    job->ok = in != NULL && unpack_all(job, in, root_fd, error);
    /* What follows the end of the tar is padding; read it, so that a broken stream shows. */
    while (job->ok && source->pipe && source_read(in, source, &(const void *){NULL}) > 0) {
    }
    if (in != NULL) {
        archive_read_free(in);
    }
}

static bool
unpack_with_ahead(struct job *job)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return haw_fail_errno(&job->error, errno, "make a pipe");
    }
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
    struct ahead ahead = {.source = {.fd = job->spec->fd, .meter = job->spec->meter},
                          .out = ends[1]};
    struct source source = {.fd = ends[0], .pipe = true};
    g_autoptr(GError) problem = NULL;
    GThread *thread = g_thread_new("decompress", run_ahead, &ahead);
    unpack_from(job, &source, &problem);
    fd_close(&ends[0]);
    g_thread_join(thread);

    if (ahead.error != NULL) { /* It is the cause of what the reader met. */
        job->error = ahead.error;
        job->ok = false;
    } else if (problem != NULL) {
        job->error = g_steal_pointer(&problem);
    }
    return job->ok;
}

static void
unpack_tar(void *data)
{
    struct job *job = data;
    if (!archive_lib_load(&job->error)) {
        return;
    }
    locale_t before = names_are_utf8();
    const char *extension = archive_extension(job->spec->fd);
    if (extension != NULL && strcmp(extension, ".tar") != 0) {
        unpack_with_ahead(job);
    } else {
        struct source source = {.fd = job->spec->fd, .meter = job->spec->meter};
        unpack_from(job, &source, &job->error);
    }
    names_are_as_before(before);
}

/* ---- A2 ---- */
static void
check_tree(void *data)
{
    struct job *job = data;
    haw_autofd int root_fd = open(job->spec->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        job->ok = haw_fail_errno(&job->error, errno, "open '%s'", job->spec->dir);
        return;
    }
    job->ok = sink_check_tree(root_fd, &job->skipped, &job->error);
}

static bool
unpack_squashfs(struct job *job)
{
    if (job->spec->prefix != NULL || job->spec->only != NULL || job->spec->idmap != NULL) {
        return haw_fail(&job->error, HAW_UNSUPPORTED, "A squashfs can only be unpacked as a whole");
    }
    const char *const argv[] = {"unsquashfs", "-f",           "-n",         "-q",
                                "-d",         job->spec->dir, "/dev/stdin", NULL};
    /* It reopens its standard input by name, so the offset doesn't matter. */
    ProcSpec proc = {.argv = argv,
                     .fd_in = job->spec->fd,
                     .fd_out = -1,
                     .cancel = meter_cancel(job->spec->meter)};
    if (!proc_run(&proc, NULL, &job->error)) {
        return haw_push(&job->error, "unpack squashfs");
    }
    fiber_run(check_tree, job);
    return job->ok;
}

bool
archive_unpack(const ArchiveUnpack *spec, GError **error)
{
    struct job job = {.spec = spec};
    const char *extension = archive_extension(spec->fd);
    struct stat st;
    if (fstat(spec->fd, &st) == 0) {
        meter_set_total(spec->meter, st.st_size);
    }

    if (g_strcmp0(extension, ".squashfs") == 0) {
        job.ok = unpack_squashfs(&job);
    } else {
        fiber_run(unpack_tar, &job);
    }
    if (!job.ok) {
        g_propagate_error(error, job.error);
        return false;
    }
    if (job.skipped > 0) {
        haw_warn("archive.entries_skipped", KS("dir", spec->dir), KU("count", job.skipped));
    }
    return true;
}

/* ---- looking inside ---- */
struct member_job {
    int fd;
    const char *name;
    size_t max_bytes;
    char *bytes; /* given to the caller */
    size_t size;
    const char *root;
    GError *error;
};

static bool
read_member(struct member_job *job, struct archive *in, gint64 size)
{
    if (size < 0 || (guint64) size > job->max_bytes) {
        return haw_fail(&job->error, HAW_LIMIT, "\"%s\" in the archive is too large", job->name);
    }
    job->bytes = g_malloc0((gsize) size + 1);
    la_ssize_t n = archive_read_data(in, job->bytes, (size_t) size);
    if (n != size) {
        g_clear_pointer(&job->bytes, g_free);
        return haw_fail(&job->error, HAW_CORRUPT, "\"%s\" in the archive: %s", job->name,
                        n < 0 ? archive_error_string(in) : "cut short");
    }
    job->size = (size_t) size;
    return true;
}

/* Stops as soon as both questions are answered: large archives begin with their metadata. */
static void
look_for_member(void *data)
{
    struct member_job *job = data;
    if (!archive_lib_load(&job->error)) {
        return;
    }
    locale_t before = names_are_utf8();
    g_autofree guint8 *block = g_malloc(BLOCK_BYTES);
    struct source source = {.fd = job->fd, .block = block};
    struct archive *in = source_open(&source, false, &job->error);
    struct archive_entry *entry;
    while (in != NULL && (job->bytes == NULL || job->root == NULL) &&
           source_next(in, &entry, &job->error) > 0) {
        g_autofree char *name = sink_clean_name(archive_entry_pathname(entry), &job->error);
        if (name == NULL) {
            break;
        }
        if (strcmp(name, job->name) == 0 && job->bytes == NULL &&
            archive_entry_filetype(entry) == AE_IFREG) {
            if (!read_member(job, in, archive_entry_size(entry))) {
                break;
            }
        } else if (strcmp(name, "rootfs.img") == 0) {
            job->root = "virtual-machine";
        } else if (strcmp(name, "rootfs") == 0 || g_str_has_prefix(name, "rootfs/")) {
            job->root = "container";
        }
    }
    if (in != NULL) {
        archive_read_free(in);
    }
    names_are_as_before(before);
}

char *
archive_read_member(int fd, const char *name, size_t max_bytes, size_t *ret_size,
                    const char **ret_root, GError **error)
{
    struct member_job job = {.fd = fd, .name = name, .max_bytes = max_bytes};
    fiber_run(look_for_member, &job);
    if (job.error != NULL) {
        g_free(job.bytes);
        g_propagate_error(error, job.error);
        return NULL;
    }
    if (job.bytes == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "The archive has no \"%s\"", name);
        return NULL;
    }
    if (ret_size != NULL) {
        *ret_size = job.size;
    }
    if (ret_root != NULL) {
        *ret_root = job.root;
    }
    return job.bytes;
}

const char *
archive_extension(int fd)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t size;
        const char *extension;
    } kinds[] = {
        {0, "BZh", 3, ".tar.bz2"},
        {0, "\x1f\x8b", 2, ".tar.gz"},
        {0,
         "\xfd"
         "7zXZ",
         5, ".tar.xz"},
        {0, "\x5d\x00\x00", 3, ".tar.lzma"},
        {0, "\x28\xb5\x2f\xfd", 4, ".tar.zst"},
        {0, "hsqs", 4, ".squashfs"},
        {0, "QFI\xfb", 4, ".qcow2"},
        {257, "ustar", 5, ".tar"},
    };
    char head[512] = {0};
    ssize_t n = pread(fd, head, sizeof head, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (n >= (ssize_t) (kinds[i].at + kinds[i].size) &&
            memcmp(head + kinds[i].at, kinds[i].bytes, kinds[i].size) == 0) {
            return kinds[i].extension;
        }
    }
    return NULL;
}
