/* How an image's files come in.
 * I1  A file gets its final name (its fingerprint) only when it is complete, hashed, looked into
 *     and on disk; the row follows at once, under image_files_lock().
 * I2  Everything else in images/ has a name beginning with INTAKE_PREFIX and goes when its Intake
 *     does; after a crash image_table_start() removes it.
 * I3  The fingerprint is SHA-256 over the one file, or over the metadata's bytes followed by the
 *     root's, as LXD's.
 * I4  Projects share files: the first row brings them, the last one takes them along.
 * Called by image_api.c (uploads), remote.c and streams.c (downloads), publish.c. */
#include "agent/image/intake.h"

#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/image/image.h"
#include "agent/image/metadata.h"
#include "agent/image/multipart.h"
#include "agent/image/qcow.h"
#include "agent/state/images.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTAKE_PREFIX "hawser_build_"
#define DIGEST_BYTES  32
#define COPY_BYTES    (1024 * 1024)

struct part {
    char *path; /* temporary; NULL when there is no such file (any more) */
    int fd;
};

struct Intake {
    Agent *agent; /* borrowed */
    struct part meta, rootfs;
    char *type, *filename;
    char fingerprint[2 * DIGEST_BYTES + 1];
    gint64 size;
    json_t *image; /* owned; after intake_inspect() */
};

Intake *
intake_new(Agent *agent)
{
    Intake *intake = g_new0(Intake, 1);
    intake->agent = agent;
    intake->meta.fd = intake->rootfs.fd = -1;
    return intake;
}

static void
part_done(struct part *part)
{
    fd_close(&part->fd);
    if (part->path != NULL) {
        unlink(part->path);
        g_clear_pointer(&part->path, g_free);
    }
}

void
intake_free(Intake *intake)
{
    if (intake == NULL) {
        return;
    }
    part_done(&intake->meta);
    part_done(&intake->rootfs);
    g_free(intake->type);
    g_free(intake->filename);
    json_decref(intake->image);
    g_free(intake);
}

char *
image_file(Agent *agent, const char *fingerprint, bool rootfs)
{
    return agent_path(agent, "images/%s%s", fingerprint, rootfs ? ".rootfs" : "");
}

char *
intake_scratch_path(Agent *agent)
{
    g_autofree char *secret = ids_secret(8);
    return agent_path(agent, "images/" INTAKE_PREFIX "%s", secret);
}

static int
part_fd(Intake *intake, struct part *part, GError **error)
{
    if (part->fd >= 0) {
        return part->fd;
    }
    g_autofree char *path = intake_scratch_path(intake->agent);
    part->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (part->fd < 0) {
        haw_fail_errno(error, errno, "create '%s'", path);
        return -1;
    }
    part->path = g_steal_pointer(&path);
    return part->fd;
}

int
intake_meta_fd(Intake *intake, GError **error)
{
    return part_fd(intake, &intake->meta, error);
}

int
intake_rootfs_fd(Intake *intake, GError **error)
{
    return part_fd(intake, &intake->rootfs, error);
}

void
intake_set_type(Intake *intake, const char *type)
{
    g_free(intake->type);
    intake->type = g_strdup(type);
}

void
intake_set_filename(Intake *intake, const char *filename)
{
    g_free(intake->filename);
    intake->filename = g_strdup(filename);
}

/* ---- bodies ---- */
struct copy {
    int from, to;
    gint64 offset, size; /* size -1: to the end */
    char *boundary;      /* of multipart: only the parts are found */
    GPtrArray *parts;
    bool ok;
    GError *error;
};

static bool
copy_some(struct copy *copy, gint64 *left)
{
    loff_t offset = copy->offset;
    size_t want = *left < 0 ? COPY_BYTES : (size_t) MIN(*left, COPY_BYTES);
    ssize_t n = copy_file_range(copy->from, &offset, copy->to, NULL, want, 0);
    if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
        g_autofree char *bytes = g_malloc(want);
        n = pread(copy->from, bytes, want, copy->offset);
        if (n > 0 && !fd_write_all(copy->to, bytes, (size_t) n, "image", &copy->error)) {
            return false;
        }
    }
    if (n < 0) {
        return haw_fail_errno(&copy->error, errno, "write image");
    }
    if (n == 0 && *left > 0) {
        return haw_fail(&copy->error, HAW_CORRUPT, "image: cut short");
    }
    copy->offset += n;
    *left = n == 0 ? 0 : *left < 0 ? -1 : *left - n;
    return true;
}

static void
copy_body(void *data)
{
    struct copy *copy = data;
    gint64 left = copy->size;
    copy->ok = true;
    while (copy->ok && left != 0) {
        copy->ok = copy_some(copy, &left);
    }
}

static void
find_parts(void *data)
{
    struct copy *copy = data;
    copy->parts = multipart_parse(copy->from, copy->boundary, &copy->error);
}

static bool
take_range(struct part *part, Intake *intake, int fd, gint64 offset, gint64 size, GError **error)
{
    struct copy copy = {
        .from = fd, .to = part_fd(intake, part, error), .offset = offset, .size = size};
    if (copy.to < 0) {
        return false;
    }
    fiber_run(copy_body, &copy);
    if (!copy.ok) {
        g_propagate_error(error, copy.error);
    }
    return copy.ok;
}

static bool
take_multipart(Intake *intake, int fd, char *boundary, GError **error)
{
    struct copy find = {.from = fd, .boundary = boundary};
    fiber_run(find_parts, &find);
    if (find.parts == NULL) {
        g_propagate_error(error, find.error);
        return false;
    }

    g_autoptr(GPtrArray) parts = find.parts;
    const MultipartPart *meta = parts->len == 2 ? g_ptr_array_index(parts, 0) : NULL;
    const MultipartPart *rootfs = parts->len == 2 ? g_ptr_array_index(parts, 1) : NULL;
    if (meta == NULL || strcmp(meta->name, "metadata") != 0) {
        return haw_fail(error, HAW_INVALID, "Invalid multipart image");
    }
    if (strcmp(rootfs->name, "rootfs") == 0) {
        intake_set_type(intake, "container");
    } else if (strcmp(rootfs->name, "rootfs.img") == 0) {
        intake_set_type(intake, "virtual-machine");
    } else {
        return haw_fail(error, HAW_INVALID, "Invalid multipart image");
    }
    intake_set_filename(intake, rootfs->filename);
    return take_range(&intake->meta, intake, fd, meta->offset, meta->size, error) &&
           take_range(&intake->rootfs, intake, fd, rootfs->offset, rootfs->size, error);
}

bool
intake_take_body(Intake *intake, int fd, const char *content_type, const char *filename,
                 GError **error)
{
    g_autofree char *boundary = multipart_boundary(content_type);
    if (boundary != NULL) {
        return take_multipart(intake, fd, boundary, error);
    }
    if (filename != NULL) {
        intake_set_filename(intake, filename);
    }

    /* A spooled file that is still unnamed, on the same filesystem, only needs a name. */
    g_autofree char *path = intake_scratch_path(intake->agent);
    g_autofree char *magic = g_strdup_printf("/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, magic, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) {
        intake->meta.path = g_steal_pointer(&path);
        intake->meta.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return intake->meta.fd >= 0 || haw_fail_errno(error, errno, "duplicate descriptor");
    }
    return take_range(&intake->meta, intake, fd, 0, -1, error);
}

/* ---- hashing and looking ---- */
struct digest {
    int fds[2];
    Meter *meter;
    gint64 size;
    guint8 bytes[DIGEST_BYTES];
    GError *error;
};

static bool
digest_fd(struct digest *digest, gnutls_hash_hd_t hash, int fd, guint8 *block)
{
    gint64 offset = 0;
    for (;;) {
        ssize_t n = pread(fd, block, COPY_BYTES, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return haw_fail_errno(&digest->error, errno, "read image");
        }
        if (n == 0) {
            break;
        }
        if (meter_cancelled(digest->meter)) {
            return haw_fail(&digest->error, HAW_CANCELLED, "cancelled");
        }
        gnutls_hash(hash, block, (size_t) n);
        offset += n;
    }
    digest->size += offset;
    /* I1: what is about to get its name is on disk. */
    return fsync(fd) == 0 || haw_fail_errno(&digest->error, errno, "write image");
}

static void
digest_all(void *data)
{
    struct digest *digest = data;
    gnutls_hash_hd_t hash;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0) {
        haw_fail(&digest->error, HAW_FAILED, "SHA-256 is not available");
        return;
    }
    g_autofree guint8 *block = g_malloc(COPY_BYTES);
    for (int i = 0; i < 2 && digest->fds[i] >= 0; i++) {
        if (!digest_fd(digest, hash, digest->fds[i], block)) {
            break;
        }
    }
    gnutls_hash_deinit(hash, digest->bytes);
}

static bool
digest(Intake *intake, Meter *meter, GError **error)
{
    struct digest job = {.fds = {intake->meta.fd, intake->rootfs.fd}, .meter = meter};
    fiber_run(digest_all, &job);
    if (job.error != NULL) {
        g_propagate_error(error, job.error);
        return false;
    }
    for (int i = 0; i < DIGEST_BYTES; i++) {
        g_snprintf(intake->fingerprint + 2 * i, 3, "%02x", job.bytes[i]);
    }
    intake->size = job.size;
    return true;
}

static void
set_seconds(json_t *image, const char *key, json_t *seconds)
{
    g_autofree char *text = clock_format(json_integer_value(seconds) * G_USEC_PER_SEC);
    json_object_set_new(image, key, json_string(text));
}

static bool
look(Intake *intake, GError **error)
{
    size_t size;
    gint64 disk = 0;
    const char *root = NULL;
    g_autofree char *text = archive_read_member(intake->meta.fd, "metadata.yaml",
                                                METADATA_MAX_BYTES, &size, &root, error);
    if (text == NULL) {
        if (error != NULL && haw_code(*error) == HAW_NOT_FOUND) {
            g_clear_error(error);
            haw_fail(error, HAW_INVALID, "Metadata tarball is missing metadata.yaml");
        }
        return false;
    }
    json_auto_t *metadata = metadata_parse(text, size, error);
    if (metadata == NULL) {
        return false;
    }
    if (intake->rootfs.fd < 0) {
        if (root == NULL) {
            return haw_fail(error, HAW_INVALID, "Image is missing a rootfs");
        }
        intake_set_type(intake, root);
    } else if (g_strcmp0(intake->type, "container") == 0 &&
               (archive_extension(intake->rootfs.fd) == NULL ||
                strcmp(archive_extension(intake->rootfs.fd), ".qcow2") == 0)) {
        return haw_fail(error, HAW_INVALID, "Unsupported compression of the root filesystem");
    } else if (g_strcmp0(intake->type, "virtual-machine") == 0 &&
               !qcow_check(intake->rootfs.fd, &disk, error)) {
        return false;
    }

    intake->image =
        json_pack("{s:s,s:s,s:I,s:b,s:b,s:b,s:O,s:s,s:O,s:n}", "fingerprint", intake->fingerprint,
                  "filename", intake->filename != NULL ? intake->filename : "", "size",
                  (json_int_t) intake->size, "public", 0, "cached", 0, "auto_update", 0,
                  "architecture", json_object_get(metadata, "architecture"), "type",
                  intake->type != NULL ? intake->type : "container", "properties",
                  json_object_get(metadata, "properties"), "profiles");
    set_seconds(intake->image, "created_at", json_object_get(metadata, "creation_date"));
    set_seconds(intake->image, "expires_at", json_object_get(metadata, "expiry_date"));
    return true;
}

bool
intake_inspect(Intake *intake, Meter *meter, const char *expected, GError **error)
{
    if (intake->meta.fd < 0) {
        return haw_fail(error, HAW_INVALID, "The image has no file");
    }
    if (!digest(intake, meter, error)) {
        return false;
    }
    if (expected != NULL && *expected != '\0' && strcmp(expected, intake->fingerprint) != 0) {
        return haw_fail(error, HAW_INVALID, "fingerprints don't match, got %s expected %s",
                        intake->fingerprint, expected);
    }
    return look(intake, error);
}

json_t *
intake_image(Intake *intake)
{
    return intake->image;
}

const char *
intake_fingerprint(Intake *intake)
{
    return intake->fingerprint;
}

/* ---- I1: permanent ---- */
struct row_job {
    const char *project;
    json_t *image;
    gint64 count;
};

static bool
count_rows(DbTx *tx, void *data, GError **error)
{
    struct row_job *job = data;
    const char *fingerprint = json_string_value(json_object_get(job->image, "fingerprint"));
    return images_count(tx, fingerprint, &job->count, error);
}

static bool
insert_row(DbTx *tx, void *data, GError **error)
{
    struct row_job *job = data;
    return images_insert(tx, job->project, job->image, error);
}

static bool
make_permanent(struct part *part, const char *path, GError **error)
{
    if (part->path == NULL) {
        return true;
    }
    if (rename(part->path, path) < 0) {
        return haw_fail_errno(error, errno, "rename '%s'", part->path);
    }
    g_clear_pointer(&part->path, g_free);
    return true;
}

static void
sync_dir(void *data)
{
    Agent *agent = data;
    g_autofree char *dir = agent_path(agent, "images");
    haw_autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
    }
}

bool
intake_commit(Intake *intake, const char *project, GError **error)
{
    Agent *agent = intake->agent;
    struct row_job job = {.project = project, .image = intake->image};
    g_autofree char *meta = image_file(agent, intake->fingerprint, false);
    g_autofree char *rootfs = image_file(agent, intake->fingerprint, true);

    g_auto(FiberHold) hold = fiber_hold(image_files_lock(agent->images));
    if (!project_allow_image(agent, project, intake->size, error)) {
        return false;
    }
    if (!db_read(agent->db, count_rows, &job, error)) {
        return false;
    }
    if (job.count > 0) { /* I4 */
        return db_write(agent->db, insert_row, &job, error);
    }

    crash_point("image");
    bool ok = make_permanent(&intake->rootfs, rootfs, error);
    crash_point("image");
    ok = ok && make_permanent(&intake->meta, meta, error);
    if (ok) {
        fiber_run(sync_dir, agent);
        crash_point("image");
        ok = db_write(agent->db, insert_row, &job, error);
    }
    if (!ok) {
        unlink(meta);
        unlink(rootfs);
    }
    return ok;
}
