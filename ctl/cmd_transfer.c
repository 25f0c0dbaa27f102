/* Images as files: import, export, and building them here.
 * F1  An import of two files (metadata and rootfs) is one request: the server sees both or none.
 * F2  'image build' leaves nothing behind but the image: its working folder goes, whatever happens. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/formdata.h"
#include "ctl/interrupt.h"
#include "ctl/out.h"
#include "ctl/progress.h"
#include "ctl/wait.h"

/* What an import is made of. */
typedef struct {
    const char *files[2]; /* borrow; the second may be NULL */
    json_t *properties;   /* borrows */
    char *const *aliases; /* borrows */
    bool is_public, is_vm;
} Import;

static char *
properties_header(const json_t *properties)
{
    GString *text = g_string_new("X-LXD-properties: ");
    const char *key, *separator = "";
    json_t *value;
    json_object_foreach ((json_t *) properties, key, value) {
        g_autofree char *escaped_key = g_uri_escape_string(key, NULL, FALSE);
        g_autofree char *escaped = g_uri_escape_string(json_string_value(value), NULL, FALSE);
        g_string_append_printf(text, "%s%s=%s", separator, escaped_key, escaped);
        separator = "&";
    }
    return g_string_free(text, FALSE);
}

static json_t *
send_files(Ctl *ctl, Rest *rest, const Import *import, GError **error)
{
    g_autofree char *properties = properties_header(import->properties);
    g_autofree char *base = g_path_get_basename(import->files[0]);
    g_autofree char *filename = g_strconcat("X-LXD-filename: ", base, NULL);
    g_autoptr(Progress) progress = progress_new(ctl, "Importing");
    json_t *operation = NULL;
    const char *headers[] = {properties, import->is_public ? "X-LXD-public: 1" : "X-LXD-public: 0",
                             filename, "Content-Type: application/octet-stream", NULL};
    RestRaw raw = {.method = "POST",
                   .path = "/1.0/images",
                   .headers = headers,
                   .fd_body = -1,
                   .progress = progress_transfer,
                   .progress_data = progress};
    haw_autofd int fd = -1;
    if (import->files[1] != NULL) { /* F1 */
        headers[2] = NULL;
        raw.part_names[0] = "metadata";
        raw.part_names[1] = import->is_vm ? "rootfs.img" : "rootfs";
        raw.part_paths[0] = import->files[0];
        raw.part_paths[1] = import->files[1];
    } else {
        fd = open(import->files[0], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            haw_fail_errno(error, errno, "open '%s'", import->files[0]);
            return NULL;
        }
        raw.fd_body = fd;
        raw.is_upload = true;
    }
    return rest_raw(rest, &raw, NULL, &operation, NULL, error) ? operation : NULL;
}

/* Points the aliases at an image; one that exists elsewhere is moved. */
static bool
set_aliases(Rest *rest, char *const *aliases, const char *fingerprint, bool move, GError **error)
{
    for (; *aliases != NULL; aliases++) {
        g_autofree char *path = rest_path("/1.0/images/aliases/%s", *aliases);
        g_autoptr(json_t) old = move ? rest_get(rest, path, NULL) : NULL;
        g_autoptr(json_t) body =
            json_pack("{ss ss ss}", "name", *aliases, "target", fingerprint, "description", "");
        bool ok = old != NULL ? rest_do(rest, "PUT", path, body, error)
                              : rest_do(rest, "POST", "/1.0/images/aliases", body, error);
        if (!ok) {
            return haw_push(error, "alias '%s'", *aliases);
        }
    }
    return true;
}

static bool
import_files(Ctl *ctl, Rest *rest, const Import *import, bool move_aliases, char **ret_fingerprint,
             GError **error)
{
    g_autoptr(json_t) operation = send_files(ctl, rest, import, error);
    g_autoptr(json_t) end =
        operation != NULL ? wait_operation(ctl, rest, operation, "Importing", error) : NULL;
    if (end == NULL) {
        return false;
    }
    *ret_fingerprint = g_strdup(out_get(json_object_get(end, "metadata"), "fingerprint"));
    return set_aliases(rest, import->aliases, *ret_fingerprint, move_aliases, error);
}

static bool
import_url(Ctl *ctl, Rest *rest, const Import *import, GError **error)
{
    g_autoptr(json_t) aliases = json_array();
    for (char *const *alias = import->aliases; *alias != NULL; alias++) {
        json_array_append_new(aliases, json_pack("{ss}", "name", *alias));
    }
    g_autoptr(json_t) body = json_pack(
        "{s{ss ss ss} sO sO sb}", "source", "type", "url", "mode", "pull", "url", import->files[0],
        "properties", import->properties, "aliases", aliases, "public", (int) import->is_public);
    return wait_call(ctl, rest, "POST", "/1.0/images", body, "Importing", error);
}

/* <tarball>|<URL> [<rootfs>] [<remote>:] [key=value…] in any sensible order. */
bool
cmd_transfer_import(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) properties = json_object();
    Import import = {.files = {ctl_arg(ctl, 0)},
                     .properties = properties,
                     .aliases = ctl_option_all(ctl, "alias"),
                     .is_public = ctl_flag(ctl, "public"),
                     .is_vm = ctl_flag(ctl, "vm")};
    const char *remote = NULL;
    for (int i = 1; i < ctl_arg_count(ctl); i++) {
        const char *arg = ctl_arg(ctl, i);
        char *one[] = {(char *) arg, NULL};
        if (g_str_has_suffix(arg, ":")) {
            remote = arg;
        } else if (access(arg, F_OK) == 0 || strchr(arg, '=') == NULL) {
            import.files[1] = arg;
        } else if (!entity_parse_settings(one, properties, error)) {
            return false;
        }
    }
    Rest *rest = ctl_server(ctl, remote, NULL, error);
    if (rest == NULL) {
        return false;
    }
    if (g_str_has_prefix(import.files[0], "https://")) {
        return import_url(ctl, rest, &import, error) ||
               haw_push(error, "import '%s'", import.files[0]);
    }
    if (g_file_test(import.files[0], G_FILE_TEST_IS_DIR)) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "'%s' is a folder (pack it: 'tar -C %s -cJf image.tar.xz .')",
                        import.files[0], import.files[0]);
    }
    g_autofree char *fingerprint = NULL;
    if (!import_files(ctl, rest, &import, false, &fingerprint, error)) {
        return haw_push(error, "import '%s'", import.files[0]);
    }
    printf("Image imported with fingerprint: %s\n", fingerprint);
    return true;
}

/* Gives the downloaded body 'part' its name or names below 'target'. */
static bool
place_export(const char *part, GHashTable *headers, const char *target, const char *fingerprint,
             GError **error)
{
    g_autofree char *boundary = formdata_boundary(g_hash_table_lookup(headers, "content-type"));
    bool folder = g_file_test(target, G_FILE_TEST_IS_DIR);
    if (boundary != NULL) {
        haw_autofd int fd = open(part, O_RDONLY | O_CLOEXEC);
        g_auto(GStrv) names = NULL;
        g_autofree char *parent = folder ? g_strdup(target) : g_path_get_dirname(target);
        if (!formdata_split(fd, boundary, parent, &names, error)) {
            return false;
        }
        for (int i = 0; !folder && i < 2 && names[i] != NULL; i++) { /* NAME and NAME.root */
            g_autofree char *from = g_build_filename(parent, names[i], NULL);
            g_autofree char *to = g_strconcat(target, i == 0 ? "" : ".root", NULL);
            if (rename(from, to) != 0) {
                return haw_fail_errno(error, errno, "write '%s'", to);
            }
        }
        return true;
    }
    g_autofree char *named = formdata_filename(g_hash_table_lookup(headers, "content-disposition"));
    g_autofree char *inside = g_build_filename(target, named != NULL ? named : fingerprint, NULL);
    const char *suffix = named != NULL && strchr(named, '.') != NULL ? strchr(named, '.') : "";
    g_autofree char *beside =
        strchr(target, '.') != NULL ? g_strdup(target) : g_strconcat(target, suffix, NULL);
    const char *to = folder ? inside : beside;
    return rename(part, to) == 0 || haw_fail_errno(error, errno, "write '%s'", to);
}

bool
cmd_transfer_export(Ctl *ctl, GError **error)
{
    const char *name = NULL, *target = ctl_arg(ctl, 1) != NULL ? ctl_arg(ctl, 1) : ".";
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autofree char *fingerprint = rest != NULL ? cmd_image_fingerprint(rest, name, error) : NULL;
    if (fingerprint == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/images/%s/export", fingerprint);
    bool folder = g_file_test(target, G_FILE_TEST_IS_DIR);
    g_autofree char *parent = folder ? g_strdup(target) : g_path_get_dirname(target);
    g_autofree char *part = g_strdup_printf("%s/.hawser-%.12s.part", parent, fingerprint);
    haw_autofd int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", part);
    }
    g_autoptr(Progress) progress = progress_new(ctl, "Exporting");
    g_autoptr(GHashTable) headers = NULL;
    RestRaw raw = {.method = "GET",
                   .path = path,
                   .is_download = true,
                   .fd_save = fd,
                   .progress = progress_transfer,
                   .progress_data = progress};
    bool ok = rest_raw(rest, &raw, &headers, NULL, NULL, error) &&
              place_export(part, headers, target, fingerprint, error);
    unlink(part);
    return ok || haw_push(error, "export image '%s'", name);
}

/* What was downloaded into 'part', as the files of an import. */
static bool
relay_files(const char *folder, const char *part, int fd, GHashTable *headers, char **ret_files,
            GError **error)
{
    g_autofree char *boundary = formdata_boundary(g_hash_table_lookup(headers, "content-type"));
    if (boundary == NULL) {
        ret_files[0] = g_strdup(part);
        return true;
    }
    g_auto(GStrv) names = NULL;
    if (!formdata_split(fd, boundary, folder, &names, error)) {
        return false;
    }
    for (int i = 0; i < 2 && names[i] != NULL; i++) {
        ret_files[i] = g_build_filename(folder, names[i], NULL);
    }
    return true;
}

static bool
relay_through(Ctl *ctl, Rest *from, const char *fingerprint, Rest *into, char *const *aliases,
              const char *folder, GError **error)
{
    g_autofree char *path = rest_path("/1.0/images/%s/export", fingerprint);
    g_autofree char *part = g_build_filename(folder, ".part", NULL);
    g_autofree char *metadata = NULL, *rootfs = NULL, *arrived = NULL;
    haw_autofd int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", part);
    }
    g_autoptr(GHashTable) headers = NULL;
    g_autoptr(Progress) progress = progress_new(ctl, "Fetching");
    RestRaw raw = {.method = "GET",
                   .path = path,
                   .is_download = true,
                   .fd_save = fd,
                   .progress = progress_transfer,
                   .progress_data = progress};
    char *files[2] = {0};
    if (!rest_raw(from, &raw, &headers, NULL, NULL, error) ||
        !relay_files(folder, part, fd, headers, files, error)) {
        return false;
    }
    g_clear_pointer(&progress, progress_free);
    metadata = files[0];
    rootfs = files[1];
    g_autoptr(json_t) none = json_object();
    Import import = {.files = {metadata, rootfs},
                     .properties = none,
                     .aliases = aliases,
                     .is_public = ctl_flag(ctl, "public"),
                     .is_vm = ctl_flag(ctl, "vm")};
    return import_files(ctl, into, &import, false, &arrived, error);
}

bool
cmd_transfer_relay(Ctl *ctl, Rest *from, const char *fingerprint, Rest *into, char *const *aliases,
                   GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("hawser-relay-XXXXXX", NULL);
    if (folder == NULL) {
        return haw_fail(error, HAW_IO, "make a temporary folder");
    }
    bool ok = relay_through(ctl, from, fingerprint, into, aliases, folder, error);
    fd_remove_tree(folder, NULL);
    return ok;
}

/* The builder of a distribution: $HAWSER_LIBEXEC, the installed one, or the source tree's. */
static char *
find_builder(const char *distribution, GError **error)
{
    g_autofree char *name = g_strconcat("build-image-", distribution, NULL);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *beside = self != NULL ? g_path_get_dirname(self) : g_strdup(".");
    g_autofree char *tree = g_build_filename(beside, "..", "..", "scripts", NULL);
    const char *set = g_getenv("HAWSER_LIBEXEC");
    const char *folders[] = {set != NULL ? set : HAWSER_LIBEXEC, tree, HAWSER_LIBEXEC, NULL};
    for (const char **folder = folders; *folder != NULL; folder++) {
        g_autofree char *path = g_build_filename(*folder, name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE)) {
            return g_steal_pointer(&path);
        }
    }
    haw_fail(error, HAW_NOT_FOUND,
             "no builder for '%s': no program '%s' in '%s' (ours are debian/12 and busybox; "
             "HAWSER_LIBEXEC tells where)",
             distribution, name, folders[0]);
    return NULL;
}

/* Debian's releases by number; a name stands for itself. */
static const char *
suite_of(const char *release)
{
    static const struct {
        const char *number, *name;
    } releases[] = {{"11", "bullseye"}, {"12", "bookworm"}, {"13", "trixie"}};
    for (size_t i = 0; i < G_N_ELEMENTS(releases); i++) {
        if (strcmp(releases[i].number, release) == 0) {
            return releases[i].name;
        }
    }
    return release;
}

static bool
run_builder(Ctl *ctl, const char *builder, const char *release, const char *output, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (void *) builder);
    if (release != NULL) {
        g_ptr_array_add(argv, (void *) "--suite");
        g_ptr_array_add(argv, (void *) suite_of(release));
    }
    static const char *const passed[] = {"mirror", "include", NULL};
    for (const char *const *name = passed; *name != NULL; name++) {
        if (ctl_option(ctl, *name) != NULL) {
            g_ptr_array_add(argv,
                            (void *) (strcmp(*name, "mirror") == 0 ? "--mirror" : "--include"));
            g_ptr_array_add(argv, (void *) ctl_option(ctl, *name));
        }
    }
    if (ctl_flag(ctl, "minimal")) {
        g_ptr_array_add(argv, (void *) "--minimal");
    }
    if (ctl_flag(ctl, "vm")) {
        g_ptr_array_add(argv, (void *) "--vm");
    }
    g_ptr_array_add(argv, (void *) output);
    g_ptr_array_add(argv, NULL);

    /* What the builder says is talk: its stdout goes to our stderr. A copy, since GLib closes in the child
     * what it is given. */
    haw_autofd int talk = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    GSpawnFlags quiet = ctl_flag(ctl, "quiet") ? G_SPAWN_STDOUT_TO_DEV_NULL : 0;
    int status = 0;
    GError *why = NULL;
    GPid child = 0;
    if (!g_spawn_async_with_fds(NULL, (char **) argv->pdata, NULL,
                                G_SPAWN_DO_NOT_REAP_CHILD | quiet, NULL, NULL, &child, -1,
                                quiet ? -1 : talk, -1, &why)) {
        haw_adopt(error, HAW_FAILED, why);
        return haw_push(error, "'%s'", builder);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!g_spawn_check_wait_status(status, &why)) {
        haw_adopt(error, interrupt_seen() ? HAW_CANCELLED : HAW_FAILED, why);
        return haw_push(error, "'%s'", builder);
    }
    return true;
}

bool
cmd_transfer_build(Ctl *ctl, GError **error)
{
    g_auto(GStrv) words = g_strsplit(ctl_arg(ctl, 0), "/", 2);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 1), NULL, error);
    g_autofree char *builder = rest != NULL ? find_builder(words[0], error) : NULL;
    if (builder == NULL) {
        return false;
    }
    g_autofree char *folder = g_dir_make_tmp("hawser-build-XXXXXX", NULL);
    if (folder == NULL) {
        return haw_fail(error, HAW_IO, "make a temporary folder");
    }
    g_autofree char *output = g_build_filename(folder, "image.tar.zst", NULL);
    g_autoptr(json_t) properties = json_object();
    g_autofree char *fingerprint = NULL;
    g_autofree char *name = g_strconcat(ctl_arg(ctl, 0), ctl_flag(ctl, "vm") ? "-vm" : "", NULL);
    char *const standard[] = {name, NULL};
    char *const *given = ctl_option_all(ctl, "alias");
    Import import = {.files = {output},
                     .properties = properties,
                     .aliases = given[0] != NULL ? given : standard,
                     .is_public = ctl_flag(ctl, "public")};
    bool ok = run_builder(ctl, builder, words[1], output, error) &&
              import_files(ctl, rest, &import, true, &fingerprint, error);
    fd_remove_tree(folder, NULL); /* F2 */
    if (!ok) {
        return haw_push(error, "build '%s'", ctl_arg(ctl, 0));
    }
    printf("Image '%s' built with fingerprint: %s\n", import.aliases[0], fingerprint);
    return true;
}
