/* The config share, as LXD makes it, so that images that were built for LXD find what they look for:
 *   hawser-guest, lxd-agent     the same static program by both names
 *   install.sh                  installs the units into a guest that has none
 *   systemd/, udev/             the units: they mount the share, copy it to /run/lxd_agent, start the agent
 *   cloud-init/                 NoCloud's meta-data, user-data, vendor-data, network-config
 *   nics/NAME                   with agent.nic_config: what an interface is to be called
 *   files/N, files/list         templates of the image as rendered for this start, and where they belong
 *   agent.conf, agent-mounts.json
 * Z1  It is written into a new directory that then takes the old one's place: a guest that boots while it is
 *     written sees one or the other. QEMU shares the path, read-only.
 * Z2  user-data may hold secrets: the directory is root's alone (0500), and so is what it becomes inside.
 * The files' contents are in configfiles.c. Called by guestvm.c (start) and diskvm.c (ISO images). */
#include "agent/vm/configshare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inst/record.h"
#include "agent/inst/template.h"
#include "agent/vm/configfiles.h"
#include "agent/vm/vmuser.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/keys.h"

#define CONFIG_CLOUD_EMPTY "#cloud-config\n{}\n"

/* ---- what is in it ---- */

static const char *
either(Inst *inst, const char *key, const char *old)
{
    const char *text = inst_get(inst, key);

    return text != NULL && *text != '\0' ? text : inst_get(inst, old);
}

json_t *
configshare_cloud_init(Inst *inst)
{
    const char *user = either(inst, "cloud-init.user-data", "user.user-data");
    const char *vendor = either(inst, "cloud-init.vendor-data", "user.vendor-data");
    const char *network = either(inst, "cloud-init.network-config", "user.network-config");
    const char *id = inst_get(inst, "volatile.cloud-init.instance-id");
    const char *more = inst_get(inst, "user.meta-data");
    g_autofree char *meta = g_strdup_printf(
        "instance-id: %s\nlocal-hostname: %s\n%s%s", id != NULL ? id : inst_name(inst),
        inst_name(inst), more != NULL ? more : "",
        more != NULL && !g_str_has_suffix(more, "\n") ? "\n" : "");
    json_t *files = json_pack("{s:s,s:s,s:s}", "meta-data", meta, "user-data",
                              user != NULL ? user : CONFIG_CLOUD_EMPTY, "vendor-data",
                              vendor != NULL ? vendor : CONFIG_CLOUD_EMPTY);

    if (network != NULL && *network != '\0') {
        json_object_set_new(files, "network-config", json_string(network));
    }
    return files;
}

static char *
nic_text(Inst *inst, const char *device, json_t *config)
{
    json_t *own = record_volatile_of(inst->config, device);
    const char *mac = keys_get(config, "hwaddr"), *name = keys_get(config, "name");
    const char *mtu = keys_get(config, "mtu");
    mac = mac != NULL ? mac : keys_get(own, "hwaddr");
    json_t *nic = json_pack("{s:s,s:s,s:s,s:I}", "device_name", device, "nic_name",
                            name != NULL ? name : device, "mac_address", mac != NULL ? mac : "",
                            "mtu", (json_int_t) (mtu != NULL ? g_ascii_strtoll(mtu, NULL, 10) : 0));
    char *text = json_dumps(nic, JSON_COMPACT);
    json_decref(nic);
    json_decref(own);
    return text;
}

static void
add_text(json_t *files, const char *path, const char *text)
{
    json_object_set_new(files, path, json_string(text));
}

static void
add_nics(Inst *inst, json_t *files)
{
    const char *device;
    json_t *config;

    if (!inst_get_bool(inst, "agent.nic_config", false)) {
        return;
    }
    json_object_foreach (inst->expanded_devices, device, config) {
        if (g_strcmp0(keys_get(config, "type"), "nic") == 0) {
            g_autofree char *path = g_strdup_printf("nics/%s", device);
            char *text = nic_text(inst, device, config);
            add_text(files, path, text);
            free(text);
        }
    }
}

/* "N create|always PATH" a line, for a guest that reads no JSON. */
static void
add_templates(json_t *templates, json_t *files)
{
    size_t i;
    json_t *one;
    g_autoptr(GString) list = g_string_new(NULL);

    json_array_foreach (templates, i, one) {
        g_autofree char *name = g_strdup_printf("files/%zu", i);
        const char *path = keys_get(one, "path");
        if (strchr(path, '\n') != NULL) {
            continue;
        }
        json_object_set(files, name, json_object_get(one, "text"));
        g_string_append_printf(
            list, "%zu %s %s\n", i,
            json_is_true(json_object_get(one, "create_only")) ? "create" : "always", path);
    }
    if (list->len > 0) {
        add_text(files, "files/list", list->str);
    }
}

/* Path → text; a path that ends in "/" is a directory. */
static json_t *
all_files(Inst *inst, json_t *mounts, json_t *templates)
{
    json_t *files = json_object(), *cloud = configshare_cloud_init(inst), *value;
    char *mounts_text = json_dumps(mounts, JSON_INDENT(1));
    const char *name;

    for (const ConfigFile *file = config_files; file->path != NULL; file++) {
        add_text(files, file->path, file->text);
    }
    json_object_foreach (cloud, name, value) {
        g_autofree char *path = g_strdup_printf("cloud-init/%s", name);
        json_object_set(files, path, value);
    }
    add_text(files, "agent.conf",
             inst_get_bool(inst, "security.devlxd", true) ? "devlxd: true\n" : "devlxd: false\n");
    add_text(files, "agent-mounts.json", mounts_text != NULL ? mounts_text : "[]");
    add_nics(inst, files);
    add_templates(templates, files);
    free(mounts_text);
    json_decref(cloud);
    return files;
}

/* ---- the program ---- */

/* Beside an installed hawserd, or in the tree where it was built. */
static char *
find_program(Agent *agent)
{
    g_autofree char *dir = g_path_get_dirname(agent->exe);
    const char *asked = g_getenv("HAWSER_GUEST");
    const char *const places[] = {asked != NULL ? asked : HAWSER_LIBEXEC "/hawser-guest",
                                  "../libexec/hawser/hawser-guest", "../guest/hawser-guest",
                                  HAWSER_LIBEXEC "/hawser-guest"};

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path =
            places[i][0] == '/' ? g_strdup(places[i]) : g_build_filename(dir, places[i], NULL);
        if (access(path, R_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

/* ---- writing ---- */

struct job {
    char *program; /* NULL: there is none */
    json_t *files; /* ours alone */
    char *path;
    uid_t owner;
    bool iso, cloud_only, ok;
    GError *error;
};

static bool
write_file(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    bool script = strstr(name, ".sh") != NULL || strstr(name, "-setup") != NULL;
    mode_t mode = script ? 0500 : 0400;

    if (!fd_mkdir_p(parent, 0500, error)) {
        return false;
    }
    haw_autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return fd >= 0 ? fd_write_all(fd, text, strlen(text), path, error)
                   : haw_fail_errno(error, errno, "make '%s'", path);
}

static bool
copy_program(const char *program, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "hawser-guest", NULL);
    g_autofree char *other = g_build_filename(dir, "lxd-agent", NULL);
    size_t size = 0;
    g_autofree char *bytes = fd_read_file(program, 64 * 1024 * 1024, &size, error);
    haw_autofd int fd =
        bytes != NULL ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500) : -1;

    if (bytes == NULL) {
        return false;
    }
    if (fd < 0) {
        return haw_fail_errno(error, errno, "make '%s'", path);
    }
    return fd_write_all(fd, bytes, size, path, error) &&
           (link(path, other) == 0 || haw_fail_errno(error, errno, "make '%s'", other));
}

static bool
fill(const struct job *job, const char *dir, GError **error)
{
    const char *name;
    json_t *value;

    if (!fd_mkdir_p(dir, 0500, error)) {
        return false;
    }
    json_object_foreach (job->files, name, value) {
        if (!write_file(dir, name, json_string_value(value), error)) {
            return false;
        }
    }
    return job->program == NULL || copy_program(job->program, dir, error);
}

/* Z1 */
static bool
replace(const struct job *job, GError **error)
{
    g_autofree char *fresh = g_strdup_printf("%s.new", job->path);

    if (!fd_remove_tree(fresh, error) || !fill(job, fresh, error) ||
        !vmuser_give_tree(job->owner, fresh, error) || !fd_remove_tree(job->path, error)) {
        return false;
    }
    return rename(fresh, job->path) == 0 ||
           haw_fail_errno(error, errno, "put '%s' into place", job->path);
}

static void
job_run(void *data)
{
    struct job *job = data;

    job->ok = job->iso ? configiso_write(job->path, job->files, job->program,
                                         job->cloud_only ? "cidata" : "config", &job->error)
                       : replace(job, &job->error);
}

static bool
run(Inst *inst, struct job *job, GError **error)
{
    fiber_run(job_run, job);
    if (!job->ok) {
        g_propagate_prefixed_error(error, job->error,
                                   "Write the configuration of \"%s\": ", inst_name(inst));
    }
    json_decref(job->files);
    g_free(job->program);
    return job->ok;
}

bool
configshare_write(Inst *inst, const char *mount, json_t *mounts, char **ret_path, GError **error)
{
    g_autofree char *path = g_build_filename(mount, "config", NULL);
    const char *trigger = inst_get(inst, "volatile.apply_template");
    json_auto_t *templates = template_collect(inst, mount, trigger, error);
    struct job job = {.path = path, .owner = vmuser_of(inst)};

    if (templates == NULL) {
        return haw_push(error, "Failed to run templates");
    }
    job.program = find_program(inst->agent);
    job.files = all_files(inst, mounts, templates);
    if (!run(inst, &job, error)) {
        return false;
    }
    *ret_path = g_steal_pointer(&path);
    return true;
}

bool
configshare_iso(Inst *inst, bool cloud_only, const char *path, GError **error)
{
    g_autofree char *copy = g_strdup(path);
    json_t *none = json_array();
    struct job job = {.program = cloud_only ? NULL : find_program(inst->agent),
                      .files =
                          cloud_only ? configshare_cloud_init(inst) : all_files(inst, none, none),
                      .path = copy,
                      .iso = true,
                      .cloud_only = cloud_only};

    json_decref(none);
    return run(inst, &job, error);
}
