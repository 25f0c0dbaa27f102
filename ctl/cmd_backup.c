/* Backups of instances and volumes as files, and instances as images.
 * B1  A download is written beside its target and renamed when it is complete: a file of that name
 *     is a whole one.
 * B2  The server's copy of a backup is deleted afterwards, also when the download failed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/progress.h"
#include "ctl/wait.h"

/* B1 */
bool
cmd_backup_download(Ctl *ctl, Rest *rest, const char *path, const char *target, const char *label,
                    GError **error)
{
    if (strcmp(target, "-") == 0) {
        RestRaw raw = {
            .method = "GET", .path = path, .is_download = true, .fd_save = STDOUT_FILENO};
        return rest_raw(rest, &raw, NULL, NULL, NULL, error);
    }
    g_autofree char *part = g_strconcat(target, ".part", NULL);
    haw_autofd int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create '%s'", part);
    }
    g_autoptr(Progress) progress = progress_new(ctl, label);
    RestRaw raw = {.method = "GET",
                   .path = path,
                   .is_download = true,
                   .fd_save = fd,
                   .progress = progress_transfer,
                   .progress_data = progress};
    if (!rest_raw(rest, &raw, NULL, NULL, NULL, error)) {
        unlink(part);
        return false;
    }
    if (fsync(fd) != 0 || rename(part, target) != 0) {
        haw_fail_errno(error, errno, "write '%s'", target);
        unlink(part);
        return false;
    }
    return true;
}

static json_t *
backup_body(Ctl *ctl)
{
    json_t *body = json_pack("{ss sb sb}", "name", "", "optimized_storage",
                             (int) ctl_flag(ctl, "optimized-storage"), "instance_only",
                             (int) ctl_flag(ctl, "instance-only"));
    json_object_set_new(body, "volume_only", json_boolean(ctl_flag(ctl, "volume-only")));
    if (ctl_option(ctl, "compression") != NULL) {
        json_object_set_new(body, "compression_algorithm",
                            json_string(ctl_option(ctl, "compression")));
    }
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autoptr(GDateTime) tomorrow = g_date_time_add_days(now, 1);
    g_autofree char *expiry = g_date_time_format(tomorrow, "%Y-%m-%dT%H:%M:%SZ");
    json_object_set_new(body, "expires_at", json_string(expiry)); /* B2, were we killed */
    return body;
}

/* Makes a backup at 'list' ("…/backups"), fetches it, deletes it. */
static bool
export_backup(Ctl *ctl, Rest *rest, const char *list, const char *target, GError **error)
{
    g_autoptr(json_t) body = backup_body(ctl);
    g_autoptr(json_t) operation = rest_call(rest, "POST", list, body, NULL, error);
    g_autoptr(json_t) end =
        operation != NULL ? wait_operation(ctl, rest, operation, "Backing up", error) : NULL;
    if (end == NULL) {
        return false;
    }
    g_autofree char *name = wait_resource(end, "backups");
    if (name == NULL) {
        return haw_fail(error, HAW_FAILED, "the server does not name the backup");
    }
    g_autofree char *item = rest_path("/%s", name);
    g_autofree char *path = g_strconcat(list, item, NULL);
    g_autofree char *file = g_strconcat(path, "/export", NULL);
    bool ok = cmd_backup_download(ctl, rest, file, target, "Exporting", error);
    wait_call(ctl, rest, "DELETE", path, NULL, NULL, NULL); /* B2 */
    if (ok && strcmp(target, "-") != 0) {
        g_printerr("Exported to '%s'.\n", target);
    }
    return ok;
}

bool
cmd_backup_export(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *fallback = g_strconcat(name, ".tar.gz", NULL);
    const char *target = ctl_arg(ctl, 1) != NULL ? ctl_arg(ctl, 1) : fallback;
    g_autofree char *list = rest_path("/1.0/instances/%s/backups", name);
    return export_backup(ctl, rest, list, target, error) || haw_push(error, "export '%s'", name);
}

bool
cmd_backup_export_volume(Ctl *ctl, GError **error)
{
    const char *pool = NULL, *volume = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &pool, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *fallback = g_strconcat(volume, ".tar.gz", NULL);
    const char *target = ctl_arg(ctl, 2) != NULL ? ctl_arg(ctl, 2) : fallback;
    g_autofree char *list =
        rest_path("/1.0/storage-pools/%s/volumes/custom/%s/backups", pool, volume);
    return export_backup(ctl, rest, list, target, error) ||
           haw_push(error, "export volume '%s/%s'", pool, volume);
}

/* Uploads 'file' ("-": stdin) to 'path' and waits. */
static bool
import_backup(Ctl *ctl, Rest *rest, const char *path, const char *file, const char *name,
              GError **error)
{
    bool from_stdin = strcmp(file, "-") == 0;
    haw_autofd int fd = from_stdin ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", file);
    }
    g_autofree char *pool = ctl_option(ctl, "storage") != NULL
                                ? g_strconcat("X-LXD-pool: ", ctl_option(ctl, "storage"), NULL)
                                : NULL;
    g_autofree char *named = name != NULL ? g_strconcat("X-LXD-name: ", name, NULL) : NULL;
    const char *headers[4] = {"Content-Type: application/octet-stream"};
    int count = 1;
    if (pool != NULL) {
        headers[count++] = pool;
    }
    if (named != NULL) {
        headers[count++] = named;
    }
    g_autoptr(json_t) operation = NULL;
    g_autoptr(Progress) progress = progress_new(ctl, "Importing");
    RestRaw raw = {.method = "POST",
                   .path = path,
                   .headers = headers,
                   .fd_body = fd,
                   .is_upload = true,
                   .progress = progress_transfer,
                   .progress_data = progress};
    bool sent = rest_raw(rest, &raw, NULL, &operation, NULL, error);
    g_clear_pointer(&progress, progress_free);
    if (!sent) {
        return false;
    }
    g_autoptr(json_t) end = wait_operation(ctl, rest, operation, "Importing", error);
    return end != NULL;
}

bool
cmd_backup_import(Ctl *ctl, GError **error)
{
    bool led = ctl_leads_with_remote(ctl);
    Rest *rest = ctl_server(ctl, led ? ctl_arg(ctl, 0) : NULL, NULL, error);
    const char *file = ctl_arg(ctl, led ? 1 : 0), *name = ctl_arg(ctl, led ? 2 : 1);
    if (rest == NULL) {
        return false;
    }
    if (file == NULL) {
        return haw_fail(error, HAW_INVALID, "<backup-file> is missing");
    }
    return import_backup(ctl, rest, "/1.0/instances", file, name, error) ||
           haw_push(error, "import '%s'", file);
}

bool
cmd_backup_import_volume(Ctl *ctl, GError **error)
{
    const char *pool = NULL, *file = ctl_arg(ctl, 1), *name = ctl_arg(ctl, 2);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &pool, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *base = g_path_get_basename(file);
    base[strcspn(base, ".")] = '\0';
    g_autofree char *path = rest_path("/1.0/storage-pools/%s/volumes/custom", pool);
    return import_backup(ctl, rest, path, file, name != NULL ? name : base, error) ||
           haw_push(error, "import '%s'", file);
}

/* A running instance cannot be published: --force stops it meanwhile. */
static bool
stop_for_publish(Ctl *ctl, Rest *rest, const char *name, bool *ret_stopped, GError **error)
{
    g_autofree char *path = cmd_instance_path(name);
    g_autoptr(json_t) instance = rest_get(rest, path, error);
    if (instance == NULL) {
        return false;
    }
    bool running = strcmp(out_get(instance, "status"), "Running") == 0;
    if (!running || strchr(name, '/') != NULL) {
        return true;
    }
    if (!ctl_flag(ctl, "force")) {
        return haw_fail(error, HAW_CONFLICT,
                        "the instance is running (stop it first, use --force, or publish a "
                        "snapshot)");
    }
    if (json_is_true(json_object_get(instance, "ephemeral"))) {
        return haw_fail(error, HAW_CONFLICT, "an ephemeral instance is gone once it is stopped");
    }
    g_autofree char *state = rest_path("/1.0/instances/%s/state", name);
    g_autoptr(json_t) body = json_pack("{ss si sb}", "action", "stop", "timeout", -1, "force", 1);
    *ret_stopped = true;
    return wait_call(ctl, rest, "PUT", state, body, "Stopping", error);
}

static json_t *
publish_body(Ctl *ctl, const char *name, int first_property, GError **error)
{
    g_autoptr(json_t) properties = json_object(), aliases = json_array();
    if (!entity_parse_settings(ctl_args_from(ctl, first_property), properties, error)) {
        return NULL;
    }
    for (char *const *alias = ctl_option_all(ctl, "alias"); *alias != NULL; alias++) {
        json_array_append_new(aliases, json_pack("{ss}", "name", *alias));
    }
    json_t *body =
        json_pack("{s{ss ss} sb sO sO}", "source", "type",
                  strchr(name, '/') != NULL ? "snapshot" : "instance", "name", name, "public",
                  (int) ctl_flag(ctl, "public"), "properties", properties, "aliases", aliases);
    static const struct {
        const char *option, *key;
    } texts[] = {{"compression", "compression_algorithm"}, {"expire", "expires_at"}};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (ctl_option(ctl, texts[i].option) != NULL) {
            json_object_set_new(body, texts[i].key, json_string(ctl_option(ctl, texts[i].option)));
        }
    }
    return body;
}

bool
cmd_backup_publish(Ctl *ctl, GError **error)
{
    const char *name = NULL, *second = ctl_arg(ctl, 1);
    bool to_remote = second != NULL && g_str_has_suffix(second, ":");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    if (to_remote && ctl_server(ctl, second, NULL, error) != rest) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "publish on the instance's own server, then 'hawser image copy'");
    }
    bool stopped = false;
    g_autoptr(json_t) body = publish_body(ctl, name, to_remote ? 2 : 1, error);
    if (body == NULL || !stop_for_publish(ctl, rest, name, &stopped, error)) {
        return haw_push(error, "publish '%s'", name);
    }
    g_autoptr(json_t) operation = rest_call(rest, "POST", "/1.0/images", body, NULL, error);
    g_autoptr(json_t) end =
        operation != NULL ? wait_operation(ctl, rest, operation, "Publishing", error) : NULL;
    if (stopped) {
        g_autofree char *state = rest_path("/1.0/instances/%s/state", name);
        g_autoptr(json_t) start = json_pack("{ss si}", "action", "start", "timeout", -1);
        wait_call(ctl, rest, "PUT", state, start, "Starting", end != NULL ? error : NULL);
    }
    if (end == NULL || (error != NULL && *error != NULL)) {
        return haw_push(error, "publish '%s'", name);
    }
    printf("Instance published with fingerprint: %s\n",
           out_get(json_object_get(end, "metadata"), "fingerprint"));
    return true;
}
