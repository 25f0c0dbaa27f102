/* Optimized backups, in LXD's form: backup/optimized_header.yaml lists the subvolumes; each one's stream is
 * backup/container.bin or backup/snapshots/SNAP.bin, with "_" and its path behind for one that was made
 * inside ("-" for "/", "--" for "-").
 * O1  A tar wants to know sizes first, so streams are files for a moment: below 'dir' when one is made,
 *     in .new of the pool when it comes back, where a crash's leftovers are removed.
 * O2  Ids stay as they are on disk: the backup's config says by which map they are to be read.
 * O3  What comes back is a stranger's: the list is checked (subvols.c T3), names of streams are made from it,
 *     never taken from the archive, and only plain files are read.
 * Called by instbackup.c and instimport.c. Containers on btrfs only. */
#include "agent/inst/optimized.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/state/inst_rows.h"
#include "agent/store/shelf.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/proc.h"
#include "proto/grammar.h"
#include "proto/yaml.h"

#define HEADER     "backup/optimized_header.yaml"
#define HEADER_MAX (16 * 1024 * 1024)

struct Optimized {
    char *dir; /* owns, with what is in it */
    char *header;
    GArray *members;  /* ArchiveMember */
    GPtrArray *texts; /* theirs */
};

struct OptimizedIn {
    char *dir; /* owns, with what is in it */
    SubvolsIn *streams;
};

bool
optimized_can(PoolTable *pools, const Vol *vol)
{
    return vol->type == VOL_CONTAINER && g_strcmp0(pool_driver(pools, vol->pool), "btrfs") == 0;
}

/* The stream's name below backup/; caller frees. */
static char *
stream_name(const SubvolsLine *line)
{
    g_autoptr(GString) name = g_string_new(*line->snap != '\0' ? "snapshots/" : "container");
    g_string_append(name, line->snap);
    if (strcmp(line->path, "/") != 0) {
        g_string_append_c(name, '_');
        for (const char *at = line->path + 1; *at != '\0'; at++) {
            g_string_append(name, *at == '-' ? "--" : *at == '/' ? "-" : (char[]){*at, '\0'});
        }
    }
    g_string_append(name, ".bin");
    return g_string_free(g_steal_pointer(&name), FALSE);
}

/* ---- making ---- */

static void
add_member(Optimized *made, char *name, char *path)
{
    const ArchiveMember member = {.name = name, .path = path};
    g_ptr_array_add(made->texts, name);
    g_ptr_array_add(made->texts, path);
    g_array_append_val(made->members, member);
}

static bool
write_stream(const SubvolsLine *line, const char *at, const char *parent, void *data,
             GError **error)
{
    Optimized *made = data;
    g_autofree char *name = stream_name(line);
    g_autofree char *path = g_strdup_printf("%s/%u", made->dir, made->members->len);
    const char *whole[] = {"btrfs", "send", "-q", at, NULL};
    const char *differing[] = {"btrfs", "send", "-q", "-p", parent, at, NULL};
    haw_autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", path);
    }
    const ProcSpec spec = {.argv = parent != NULL ? differing : whole, .fd_in = -1, .fd_out = fd};
    if (!proc_run(&spec, NULL, error)) {
        return haw_push(error, "Send '%s'", at);
    }
    add_member(made, g_strconcat("backup/", name, NULL), g_steal_pointer(&path));
    return true;
}

Optimized *
optimized_make(PoolTable *pools, const Vol *vol, GPtrArray *snaps, const char *dir, GError **error)
{
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(Optimized) made = g_new0(Optimized, 1);
    g_autofree char *place = g_build_filename(dir, ".streams-XXXXXX", NULL);
    made->members = g_array_new(FALSE, TRUE, sizeof(ArchiveMember));
    made->texts = g_ptr_array_new_with_free_func(g_free);
    if (mkdtemp(place) == NULL) {
        haw_fail_errno(error, errno, "create a directory in '%s'", dir);
        return NULL;
    }
    made->dir = g_steal_pointer(&place); /* O1 */
    json_auto_t *lines = subvols_lines(pools, vol, snaps != NULL ? snaps : none, error);
    if (lines == NULL) {
        return NULL;
    }
    made->header = yaml_from_json(lines);
    const ArchiveMember header = {
        .name = HEADER, .bytes = made->header, .size = strlen(made->header)};
    g_array_append_val(made->members, header);
    if (!subvols_send_to(pools, vol, snaps != NULL ? snaps : none, lines, write_stream, made,
                         error)) {
        return NULL;
    }
    return g_steal_pointer(&made);
}

const ArchiveMember *
optimized_members(const Optimized *made, size_t *ret_count)
{
    *ret_count = made->members->len;
    return (const ArchiveMember *) (void *) made->members->data;
}

void
optimized_free(Optimized *made)
{
    if (made != NULL) {
        if (made->dir != NULL) {
            fd_remove_tree(made->dir, NULL);
        }
        g_free(made->dir);
        g_free(made->header);
        g_array_unref(made->members);
        g_ptr_array_unref(made->texts);
        g_free(made);
    }
}

/* ---- the way back ---- */

/* O3 */
static bool
read_stream(const SubvolsLine *line, const char *dir, void *data, GError **error)
{
    const OptimizedIn *in = data;
    g_autofree char *name = stream_name(line);
    g_autofree char *path = g_build_filename(in->dir, name, NULL);
    const char *argv[] = {"btrfs", "receive", "-q", "-e", dir, NULL};
    struct stat st;
    haw_autofd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    haw_autofd int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return haw_fail(error, HAW_INVALID, "The backup has no stream \"backup/%s\"", name);
    }
    const ProcSpec spec = {.argv = argv, .fd_in = fd, .fd_out = null};
    return proc_run(&spec, NULL, error) || haw_push(error, "Receive \"backup/%s\"", name);
}

/* Backups of old have streams of the volume and its snapshots only, and no header. */
static json_t *
lines_of_old(json_t *snaps)
{
    json_t *lines = json_array(), *name;
    size_t i;
    json_array_foreach (snaps, i, name) {
        const char *text = json_string_value(name);
        json_array_append_new(lines, json_pack("{s:s,s:s,s:b}", "path", "/", "snapshot",
                                               text != NULL ? text : "", "readonly", 1));
    }
    json_array_append_new(lines,
                          json_pack("{s:s,s:s,s:b}", "path", "/", "snapshot", "", "readonly", 0));
    return json_pack("{s:o}", "subvolumes", lines);
}

static json_t *
read_lines(int fd, json_t *snaps, GError **error)
{
    static const char *const texts[] = {"path", "snapshot", NULL};
    size_t size = 0;
    g_autoptr(GError) none = NULL;
    g_autofree char *text = archive_read_member(fd, HEADER, HEADER_MAX, &size, NULL, &none);
    json_t *item;
    size_t i;
    if (text == NULL) {
        return lines_of_old(snaps);
    }
    json_t *lines = yaml_to_json(text, size, texts, error);
    json_array_foreach (json_object_get(lines, "subvolumes"), i, item) {
        const char *snap = json_string_value(json_object_get(item, "snapshot"));
        if (snap != NULL && *snap != '\0' && !grammar_snapshot_name(snap, error)) {
            json_decref(lines);
            return NULL;
        }
    }
    return lines;
}

OptimizedIn *
optimized_open(PoolTable *pools, const Vol *vol, int archive_fd, json_t *snaps, Meter *meter,
               GError **error)
{
    g_autoptr(OptimizedIn) in = g_new0(OptimizedIn, 1);
    g_autofree char *id = ids_uuid();
    json_auto_t *lines = read_lines(archive_fd, snaps, error);
    Pool *pool = lines != NULL ? shelf_pool(pools, vol->pool, true, error) : NULL;
    if (pool == NULL) {
        return NULL;
    }
    if (!optimized_can(pools, vol)) {
        haw_fail(error, HAW_INVALID,
                 "Optimized backup storage driver \"btrfs\" differs from the target storage pool "
                 "driver \"%s\"",
                 pool->row->driver);
        return NULL;
    }
    g_autofree char *dir = g_build_filename(pool->new_dir, id, NULL);
    if (mkdir(dir, 0700) < 0) {
        haw_fail_errno(error, errno, "create '%s'", dir);
        return NULL;
    }
    in->dir = g_steal_pointer(&dir);
    const ArchiveUnpack spec = {
        .fd = archive_fd, .dir = in->dir, .prefix = "backup", .meter = meter};
    if (!archive_unpack(&spec, error)) {
        return NULL;
    }
    in->streams = subvols_in_from(pools, vol, lines, read_stream, in, error);
    return in->streams != NULL ? g_steal_pointer(&in) : NULL;
}

SubvolsIn *
optimized_streams(OptimizedIn *in)
{
    return in->streams;
}

void
optimized_close(OptimizedIn *in)
{
    if (in != NULL) {
        subvols_in_free(in->streams);
        if (in->dir != NULL) {
            fd_remove_tree(in->dir, NULL);
        }
        g_free(in->dir);
        g_free(in);
    }
}
