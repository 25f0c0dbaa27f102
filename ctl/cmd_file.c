/* hawser file: files of instances, over the files API.
 * P1  What is pulled is written beside its target and renamed: an interrupted pull leaves no half
 *     file under the name.
 * P2  A name that the instance sends is one path element: it cannot lead out of the target folder. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/out.h"
#include "ctl/progress.h"
#include "ctl/stream.h"

enum { DEPTH_MAX = 128 };

/* "[<remote>:]<instance>/<path>" */
typedef struct {
    Rest *rest;     /* borrows */
    char *instance; /* owns */
    char *path;     /* owns; begins with "/" */
} Place;

static void
place_done(Place *place)
{
    g_free(place->instance);
    g_free(place->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_done)

static bool
pick(Ctl *ctl, const char *arg, Place *ret_place, GError **error)
{
    const char *text = NULL;
    Place place = {.rest = ctl_server(ctl, arg, &text, error)};
    if (place.rest == NULL) {
        return false;
    }
    const char *slash = strchr(text, '/');
    if (slash == NULL || slash == text) {
        return haw_fail(error, HAW_INVALID, "'%s' is not of the form instance/path", arg);
    }
    place.instance = g_strndup(text, (gsize) (slash - text));
    place.path = g_strdup(slash);
    *ret_place = place;
    return true;
}

static char *
files_path(const Place *place, const char *path)
{
    return rest_path("/1.0/instances/%s/files?path=%s", place->instance, path);
}

static bool
fail_place(const Place *place, const char *path, GError **error)
{
    return haw_push(error, "'%s%s'", place->instance, path);
}

static char *
join(const char *folder, const char *name)
{
    return g_str_has_suffix(folder, "/") ? g_strconcat(folder, name, NULL)
                                         : g_strconcat(folder, "/", name, NULL);
}

/* What an answer's headers say of the file. */
typedef struct {
    bool is_folder, is_link;
    mode_t mode;
} Kind;

static Kind
kind_of(GHashTable *headers)
{
    const char *type = g_hash_table_lookup(headers, "x-lxd-type");
    const char *mode = g_hash_table_lookup(headers, "x-lxd-mode");
    return (Kind){.is_folder = g_strcmp0(type, "directory") == 0,
                  .is_link = g_strcmp0(type, "symlink") == 0,
                  .mode = mode != NULL ? (mode_t) strtoul(mode, NULL, 8) & 0777 : 0644};
}

static bool pull_one(Ctl *ctl, const Place *place, const char *path, const char *to, int depth,
                     GError **error);

/* P2 */
static bool
pull_entries(Ctl *ctl, const Place *place, const char *path, const char *to, const char *part,
             int depth, GError **error)
{
    g_autofree char *text = fd_read_file(part, 64 * 1024 * 1024, NULL, error);
    g_autoptr(json_t) root = text != NULL ? json_loads(text, 0, NULL) : NULL;
    size_t index;
    json_t *entry;
    if (text == NULL || depth > DEPTH_MAX) {
        return text != NULL ? haw_fail(error, HAW_LIMIT, "nested too deeply") : false;
    }
    json_array_foreach (json_object_get(root, "metadata"), index, entry) {
        const char *name = json_string_value(entry);
        if (name == NULL || *name == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0) {
            return haw_fail(error, HAW_CORRUPT, "the server sends a bad file name");
        }
        g_autofree char *from = join(path, name), *into = g_build_filename(to, name, NULL);
        if (!pull_one(ctl, place, from, into, depth + 1, error)) {
            return false;
        }
    }
    return true;
}

static bool
place_pulled(Ctl *ctl, const Place *place, const char *path, const char *to, const char *part,
             Kind kind, int depth, GError **error)
{
    if (kind.is_folder) {
        if (!ctl_flag(ctl, "recursive")) {
            return haw_fail(error, HAW_INVALID, "it is a folder (use --recursive)");
        }
        return fd_mkdir_p(to, 0755, error) &&
               pull_entries(ctl, place, path, to, part, depth, error);
    }
    if (kind.is_link) {
        g_autofree char *target = fd_read_file(part, 64 * 1024, NULL, error);
        if (target == NULL) {
            return false;
        }
        g_strchomp(target);
        unlink(to);
        return symlink(target, to) == 0 || haw_fail_errno(error, errno, "link '%s'", to);
    }
    return (chmod(part, kind.mode) == 0 && rename(part, to) == 0) || /* P1 */
           haw_fail_errno(error, errno, "write '%s'", to);
}

/* 'to' is the target's own name, or "-". */
static bool
pull_one(Ctl *ctl, const Place *place, const char *path, const char *to, int depth, GError **error)
{
    g_autofree char *url = files_path(place, path);
    g_autofree char *label = g_strdup_printf("Pulling %s%s", place->instance, path);
    g_autoptr(Progress) progress = progress_new(ctl, label);
    g_autoptr(GHashTable) headers = NULL;
    RestRaw raw = {.method = "GET",
                   .path = url,
                   .is_download = true,
                   .fd_save = STDOUT_FILENO,
                   .progress = progress_transfer,
                   .progress_data = progress};
    if (strcmp(to, "-") == 0) {
        return rest_raw(place->rest, &raw, &headers, NULL, NULL, error) ||
               fail_place(place, path, error);
    }
    g_autofree char *part = g_strconcat(to, ".hawser-part", NULL);
    haw_autofd int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", part);
    }
    raw.fd_save = fd;
    bool ok = rest_raw(place->rest, &raw, &headers, NULL, NULL, error) &&
              place_pulled(ctl, place, path, to, part, kind_of(headers), depth, error);
    unlink(part);
    return ok || (depth == 0 ? fail_place(place, path, error) : false);
}

bool
cmd_file_pull(Ctl *ctl, GError **error)
{
    int last = ctl_arg_count(ctl) - 1;
    const char *target = ctl_arg(ctl, last);
    bool is_stdout = strcmp(target, "-") == 0;
    if (ctl_flag(ctl, "create-dirs") && !is_stdout) {
        g_autofree char *folder = g_str_has_suffix(target, "/") || last > 1
                                      ? g_strdup(target)
                                      : g_path_get_dirname(target);
        if (!fd_mkdir_p(folder, 0755, error)) {
            return false;
        }
    }
    bool folder = g_file_test(target, G_FILE_TEST_IS_DIR);
    if (last > 1 && !folder && !is_stdout) {
        return haw_fail(error, HAW_INVALID, "'%s' is no folder for several files", target);
    }
    for (int i = 0; i < last; i++) {
        g_auto(Place) place = {0};
        if (!pick(ctl, ctl_arg(ctl, i), &place, error)) {
            return false;
        }
        g_autofree char *base = g_path_get_basename(place.path);
        g_autofree char *inside = g_build_filename(target, base, NULL);
        if (!pull_one(ctl, &place, place.path, folder ? inside : target, 0, error)) {
            return false;
        }
    }
    return true;
}

/* Who and how a pushed file shall be. */
typedef struct {
    gint64 uid, gid, mode; /* -1: not said */
} Owner;

static bool
push_request(const Place *place, const char *path, const char *type, const Owner *owner, int fd,
             const char *text, Progress *progress, GError **error)
{
    g_autofree char *url = files_path(place, path);
    char *headers[4] = {0};
    const char *list[8] = {0};
    int count = 0;
    list[count++] = "Content-Type: application/octet-stream";
    headers[0] = g_strdup_printf("X-LXD-type: %s", type);
    list[count++] = headers[0];
    if (owner->uid >= 0) {
        headers[1] = g_strdup_printf("X-LXD-uid: %" G_GINT64_FORMAT, owner->uid);
        list[count++] = headers[1];
    }
    if (owner->gid >= 0) {
        headers[2] = g_strdup_printf("X-LXD-gid: %" G_GINT64_FORMAT, owner->gid);
        list[count++] = headers[2];
    }
    if (owner->mode >= 0) {
        headers[3] = g_strdup_printf("X-LXD-mode: %04o", (unsigned) owner->mode);
        list[count++] = headers[3];
    }
    list[count++] = "X-LXD-write: overwrite";
    RestRaw raw = {.method = "POST",
                   .path = url,
                   .headers = list,
                   .fd_body = fd,
                   .is_upload = fd >= 0,
                   .bytes = text,
                   .size = text != NULL ? strlen(text) : 0,
                   .progress = progress != NULL ? progress_transfer : NULL,
                   .progress_data = progress};
    bool ok = rest_raw(place->rest, &raw, NULL, NULL, NULL, error);
    for (size_t i = 0; i < G_N_ELEMENTS(headers); i++) {
        g_free(headers[i]);
    }
    return ok;
}

/* Makes what is missing of a folder and those above it. */
static bool
ensure_folder(const Place *place, const char *path, const Owner *owner, GError **error)
{
    for (const char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        g_autofree char *part = g_strndup(path, (gsize) (at - path));
        g_autofree char *url = files_path(place, part);
        g_autoptr(GHashTable) headers = NULL;
        RestRaw raw = {.method = "GET", .path = url};
        bool there = rest_raw(place->rest, &raw, &headers, NULL, NULL, NULL);
        if (!there && *part != '\0' &&
            !push_request(place, part, "directory", owner, -1, "", NULL, error)) {
            return fail_place(place, part, error);
        }
        if (*at == '\0') {
            return true;
        }
    }
}

static bool push_one(Ctl *ctl, const Place *place, const char *from, const char *path,
                     const Owner *wanted, int depth, GError **error);

static bool
push_folder(Ctl *ctl, const Place *place, const char *from, const char *path, const Owner *wanted,
            const Owner *own, int depth, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (!ctl_flag(ctl, "recursive") || depth > DEPTH_MAX) {
        return haw_fail(error, HAW_INVALID, "'%s' is a folder (use --recursive)", from);
    }
    if (!push_request(place, path, "directory", own, -1, "", NULL, &why) &&
        strstr(why->message, "exist") == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        return fail_place(place, path, error);
    }
    g_autoptr(GDir) dir = g_dir_open(from, 0, NULL);
    const char *name;
    if (dir == NULL) {
        return haw_fail(error, HAW_DENIED, "'%s' cannot be read", from);
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *inner = g_build_filename(from, name, NULL), *to = join(path, name);
        if (!push_one(ctl, place, inner, to, wanted, depth + 1, error)) {
            return false;
        }
    }
    return true;
}

/* What the options do not say comes from the file itself when a tree is pushed. */
static Owner
owner_of(const Owner *wanted, const struct stat *st, bool recursive)
{
    return (Owner){.uid = wanted->uid >= 0 ? wanted->uid : (recursive ? (gint64) st->st_uid : -1),
                   .gid = wanted->gid >= 0 ? wanted->gid : (recursive ? (gint64) st->st_gid : -1),
                   .mode = wanted->mode >= 0 ? wanted->mode : (gint64) (st->st_mode & 07777)};
}

static bool
push_one(Ctl *ctl, const Place *place, const char *from, const char *path, const Owner *wanted,
         int depth, GError **error)
{
    struct stat st;
    bool is_stdin = strcmp(from, "-") == 0, recursive = ctl_flag(ctl, "recursive");
    if (!is_stdin && (recursive ? lstat(from, &st) : stat(from, &st)) != 0) {
        return haw_fail_errno(error, errno, "open '%s'", from);
    }
    Owner own = is_stdin ? *wanted : owner_of(wanted, &st, recursive);
    if (!is_stdin && S_ISDIR(st.st_mode)) {
        return push_folder(ctl, place, from, path, wanted, &own, depth, error);
    }
    if (!is_stdin && S_ISLNK(st.st_mode)) {
        g_autofree char *target = g_file_read_link(from, NULL);
        return (target != NULL &&
                push_request(place, path, "symlink", &own, -1, target, NULL, error)) ||
               fail_place(place, path, error);
    }
    haw_autofd int fd = is_stdin ? dup(STDIN_FILENO) : open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", from);
    }
    g_autofree char *label = g_strdup_printf("Pushing %s", from);
    g_autoptr(Progress) progress = progress_new(ctl, label);
    return push_request(place, path, "file", &own, fd, NULL, progress, error) ||
           fail_place(place, path, error);
}

static bool
number_option(Ctl *ctl, const char *name, guint base, gint64 *ret_number, GError **error)
{
    const char *text = ctl_option(ctl, name);
    *ret_number = -1;
    return text == NULL || strcmp(text, "-1") == 0 ||
           g_ascii_string_to_signed(text, base, 0, G_MAXUINT32, ret_number, NULL) ||
           haw_fail(error, HAW_INVALID, "--%s takes a number, not '%s'", name, text);
}

static bool
is_remote_folder(const Place *place)
{
    g_autofree char *url = files_path(place, place->path);
    g_autoptr(GHashTable) headers = NULL;
    RestRaw raw = {.method = "GET", .path = url};
    return rest_raw(place->rest, &raw, &headers, NULL, NULL, NULL) && kind_of(headers).is_folder;
}

bool
cmd_file_push(Ctl *ctl, GError **error)
{
    int last = ctl_arg_count(ctl) - 1;
    g_auto(Place) place = {0};
    Owner wanted = {0};
    if (!pick(ctl, ctl_arg(ctl, last), &place, error) ||
        !number_option(ctl, "uid", 10, &wanted.uid, error) ||
        !number_option(ctl, "gid", 10, &wanted.gid, error) ||
        !number_option(ctl, "mode", 8, &wanted.mode, error)) {
        return false;
    }
    bool slash = g_str_has_suffix(place.path, "/");
    if (ctl_flag(ctl, "create-dirs")) {
        g_autofree char *folder =
            slash || last > 1 ? g_strdup(place.path) : g_path_get_dirname(place.path);
        if (g_str_has_suffix(folder, "/") && folder[1] != '\0') {
            folder[strlen(folder) - 1] = '\0';
        }
        Owner plain = {.uid = wanted.uid, .gid = wanted.gid, .mode = 0755};
        if (!ensure_folder(&place, folder, &plain, error)) {
            return false;
        }
    }
    bool folder = slash || last > 1 || is_remote_folder(&place);
    for (int i = 0; i < last; i++) {
        g_autofree char *base = g_path_get_basename(ctl_arg(ctl, i));
        g_autofree char *inside = join(place.path, base);
        if (!push_one(ctl, &place, ctl_arg(ctl, i), folder ? inside : place.path, &wanted, 0,
                      error)) {
            return false;
        }
    }
    return true;
}

bool
cmd_file_delete(Ctl *ctl, GError **error)
{
    for (int i = 0; i < ctl_arg_count(ctl); i++) {
        g_auto(Place) place = {0};
        if (!pick(ctl, ctl_arg(ctl, i), &place, error)) {
            return false;
        }
        g_autofree char *url = files_path(&place, place.path);
        if (!rest_do(place.rest, "DELETE", url, NULL, error)) {
            return fail_place(&place, place.path, error);
        }
    }
    return true;
}

bool
cmd_file_edit(Ctl *ctl, GError **error)
{
    g_auto(Place) place = {0};
    if (!pick(ctl, ctl_arg(ctl, 0), &place, error)) {
        return false;
    }
    Owner owner = {-1, -1, -1};
    if (edit_is_piped()) {
        return push_request(&place, place.path, "file", &owner, STDIN_FILENO, NULL, NULL, error) ||
               fail_place(&place, place.path, error);
    }
    g_autofree char *url = files_path(&place, place.path);
    g_autoptr(GByteArray) bytes = NULL;
    RestRaw get = {.method = "GET", .path = url};
    if (!rest_raw(place.rest, &get, NULL, NULL, &bytes, error)) {
        return fail_place(&place, place.path, error);
    }
    const char *dot = strrchr(place.path, '.');
    g_autofree char *text = edit_text((const char *) bytes->data, bytes->len,
                                      dot != NULL && strchr(dot, '/') == NULL ? dot : "", error);
    if (text == NULL) {
        return false;
    }
    if (strlen(text) == bytes->len && memcmp(text, bytes->data, bytes->len) == 0) {
        g_printerr("Nothing was changed.\n");
        return true;
    }
    return push_request(&place, place.path, "file", &owner, -1, text, NULL, error) ||
           fail_place(&place, place.path, error);
}

/* Carries bytes between the server's SFTP stream and sshfs until one of them ends. */
static bool
carry(Stream *stream, int fd, GError **error)
{
    char bytes[65536];
    for (;;) {
        struct pollfd fds[] = {{.fd = stream_fd(stream), .events = POLLIN},
                               {.fd = fd, .events = POLLIN}};
        if (!stream_pending(stream) && poll(fds, 2, -1) < 0) {
            return errno == EINTR || haw_fail_errno(error, errno, "wait");
        }
        if (fds[1].revents != 0) {
            ssize_t got = read(fd, bytes, sizeof bytes);
            if (got <= 0) {
                return true;
            }
            if (!stream_write_all(stream, bytes, (size_t) got, error)) {
                return false;
            }
        }
        if (fds[0].revents != 0 || stream_pending(stream)) {
            ssize_t got = stream_read(stream, bytes, sizeof bytes, error);
            if (got == 0 || got == -1) {
                return got == 0;
            }
            if (got > 0 && !fd_write_all(fd, bytes, (size_t) got, "sshfs", error)) {
                return false;
            }
        }
    }
}

static bool
run_sshfs(Stream *stream, const Place *place, const char *target, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return haw_fail_errno(error, errno, "make a socket pair");
    }
    haw_autofd int ours = pair[0], theirs = pair[1];
    g_autofree char *source = g_strdup_printf("hawser:%s", place->path);
    const char *argv[] = {"sshfs", "-f", "-o", "slave", source, target, NULL};
    GPid child = 0;
    GError *why = NULL;
    if (!g_spawn_async_with_fds(NULL, (char **) argv, NULL,
                                G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &child,
                                theirs, theirs, -1, &why)) {
        haw_adopt(error, HAW_NOT_FOUND, why);
        return haw_push(error, "sshfs (apt-get install sshfs)");
    }
    fd_close(&theirs);
    g_printerr("'%s%s' is mounted on '%s'. Press Ctrl-C to unmount.\n", place->instance,
               place->path, target);
    bool ok = carry(stream, ours, error);
    fd_close(&ours);
    int status = 0;
    kill(child, SIGTERM);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return ok;
}

bool
cmd_file_mount(Ctl *ctl, GError **error)
{
    g_auto(Place) place = {0};
    g_autofree char *arg = strchr(ctl_arg(ctl, 0), '/') != NULL
                               ? g_strdup(ctl_arg(ctl, 0))
                               : g_strconcat(ctl_arg(ctl, 0), "/", NULL);
    const char *target = ctl_arg(ctl, 1);
    if (!pick(ctl, arg, &place, error)) {
        return false;
    }
    if (!g_file_test(target, G_FILE_TEST_IS_DIR)) {
        return haw_fail(error, HAW_NOT_FOUND, "'%s' is no folder (make it first)", target);
    }
    g_autoptr(Stream) stream = stream_open(place.rest, error);
    g_autofree char *below = rest_path("/1.0/instances/%s/sftp", place.instance);
    g_autofree char *path = rest_full_path(place.rest, below);
    return stream != NULL && stream_upgrade(stream, path, "sftp", NULL, NULL, error) &&
           (run_sshfs(stream, &place, target, error) || fail_place(&place, place.path, error));
}
