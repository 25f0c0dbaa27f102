/* Instances: making them, their states, their snapshots.
 * A1  Several names are worked on at the same time, and each failure is its own line; the status is
 *     that of the first.
 * Not here: list (cmd_list.c), exec and console (cmd_exec.c), copy and move (cmd_copy.c). */
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/out.h"
#include "ctl/wait.h"

char *
cmd_instance_path(const char *name)
{
    const char *slash = strchr(name, '/');
    if (slash == NULL) {
        return rest_path("/1.0/instances/%s", name);
    }
    g_autofree char *instance = g_strndup(name, (gsize) (slash - name));
    return rest_path("/1.0/instances/%s/snapshots/%s", instance, slash + 1);
}

/* The devices of the profiles that the instance will have, later ones winning. */
static json_t *
profile_devices(Rest *rest, const json_t *profiles, GError **error)
{
    g_autoptr(json_t) devices = json_object();
    g_autoptr(json_t) standard = json_pack("[s]", "default");
    size_t index;
    json_t *name;
    json_array_foreach (profiles != NULL ? profiles : standard, index, name) {
        g_autofree char *path = rest_path("/1.0/profiles/%s", json_string_value(name));
        g_autoptr(json_t) profile = rest_get(rest, path, error);
        if (profile == NULL) {
            haw_push(error, "profile '%s'", json_string_value(name));
            return NULL;
        }
        json_t *own = json_object_get(profile, "devices");
        json_object_update(devices, json_is_object(own) ? own : devices);
    }
    return g_steal_pointer(&devices);
}

/* The device as the instance will have it, to be changed: its own, a profile's copy, or empty. */
static json_t *
own_device(json_t *devices, const json_t *inherited, const char *name)
{
    json_t *device = json_object_get(devices, name);
    if (device == NULL) {
        const json_t *from = json_object_get(inherited, name);
        device = from != NULL ? json_deep_copy(from) : json_object();
        json_object_set_new(devices, name, device);
    }
    return device;
}

/* "-d root,size=10GiB" */
static bool
add_device_option(json_t *devices, const json_t *inherited, const char *text, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    if (words[0] == NULL || words[1] == NULL) {
        return haw_fail(error, HAW_INVALID, "'%s' is not of the form device,key=value", text);
    }
    json_t *device = own_device(devices, inherited, words[0]);
    for (char **word = words + 1; *word != NULL; word++) {
        char *one[] = {*word, NULL};
        if (!entity_parse_settings(one, device, error)) {
            return false;
        }
    }
    return true;
}

static void
add_storage_option(json_t *devices, const json_t *inherited, const char *pool)
{
    const char *root = "root", *name;
    json_t *device;
    json_object_foreach ((json_t *) inherited, name, device) {
        if (strcmp(out_get(device, "type"), "disk") == 0 &&
            strcmp(out_get(device, "path"), "/") == 0) {
            root = name;
        }
    }
    device = own_device(devices, inherited, root);
    json_object_set_new(device, "type", json_string("disk"));
    json_object_set_new(device, "path", json_string("/"));
    json_object_set_new(device, "pool", json_string(pool));
}

static bool
add_network_option(Rest *rest, json_t *devices, const char *network, GError **error)
{
    g_autofree char *path = rest_path("/1.0/networks/%s", network);
    g_autoptr(json_t) found = rest_get(rest, path, error);
    if (found == NULL) {
        return haw_push(error, "network '%s'", network);
    }
    bool managed = json_is_true(json_object_get(found, "managed"));
    bool bridge = strcmp(out_get(found, "type"), "bridge") == 0;
    json_t *device =
        managed ? json_pack("{ss ss ss}", "type", "nic", "name", "eth0", "network", network)
                : json_pack("{ss ss ss ss}", "type", "nic", "name", "eth0", "parent", network,
                            "nictype", bridge ? "bridged" : "macvlan");
    json_object_set_new(devices, "eth0", device);
    return true;
}

/* -p, --no-profiles, -c, -d, -s, -n, -e and -t into the body of a POST. */
static bool
add_options(Ctl *ctl, Rest *rest, json_t *body, GError **error)
{
    json_t *config = json_object_get(body, "config"), *devices = json_object_get(body, "devices");
    char *const *profiles = ctl_option_all(ctl, "profile");
    if (ctl_flag(ctl, "no-profiles") || profiles[0] != NULL) {
        json_t *list = json_array();
        for (; !ctl_flag(ctl, "no-profiles") && *profiles != NULL; profiles++) {
            json_array_append_new(list, json_string(*profiles));
        }
        json_object_set_new(body, "profiles", list);
    }
    if (!entity_parse_settings(ctl_option_all(ctl, "config"), config, error)) {
        return false;
    }

    const char *pool = ctl_option(ctl, "storage"), *network = ctl_option(ctl, "network");
    char *const *changes = ctl_option_all(ctl, "device");
    g_autoptr(json_t) inherited = NULL;
    if (pool != NULL || changes[0] != NULL) {
        inherited = profile_devices(rest, json_object_get(body, "profiles"), error);
        if (inherited == NULL) {
            return false;
        }
    }
    if (pool != NULL) {
        add_storage_option(devices, inherited, pool);
    }
    if (network != NULL && !add_network_option(rest, devices, network, error)) {
        return false;
    }
    for (; *changes != NULL; changes++) {
        if (!add_device_option(devices, inherited, *changes, error)) {
            return false;
        }
    }
    if (ctl_flag(ctl, "ephemeral")) {
        json_object_set_new(body, "ephemeral", json_true());
    }
    if (ctl_option(ctl, "type") != NULL) {
        json_object_set_new(body, "instance_type", json_string(ctl_option(ctl, "type")));
    }
    return true;
}

/* What stdin says about the instance, as 'config show' prints it. */
static bool
add_stdin(json_t *body, GError **error)
{
    g_autoptr(json_t) given = edit_maybe_stdin(error);
    if (given == NULL) {
        return false;
    }
    if (json_is_null(given)) {
        return true;
    }
    if (!json_is_object(given)) {
        return haw_fail(error, HAW_INVALID, "stdin: a map of keys and values is expected");
    }
    static const char *const keys[] = {"config",      "devices",      "profiles", "ephemeral",
                                       "description", "architecture", NULL};
    for (const char *const *key = keys; *key != NULL; key++) {
        json_t *value = json_object_get(given, *key);
        if (value != NULL && !json_is_null(value)) {
            json_object_set(body, *key, value);
        }
    }
    return true;
}

/* Creates; *ret_name is what the server called it. */
static bool
create(Ctl *ctl, Rest **ret_rest, char **ret_name, GError **error)
{
    bool empty = ctl_flag(ctl, "empty");
    const char *image = empty ? NULL : ctl_arg(ctl, 0);
    const char *target = ctl_arg(ctl, empty ? 0 : 1), *name = "";
    if (!empty && image == NULL) {
        return haw_fail(error, HAW_INVALID, "an image is missing (or --empty)");
    }
    Rest *rest = ctl_server(ctl, target, &name, error);
    g_autoptr(json_t) source = NULL;
    if (rest == NULL) {
        return false;
    }
    source = empty ? json_pack("{ss}", "type", "none") : cmd_image_source(ctl, rest, image, error);
    if (source == NULL) {
        return haw_push(error, "image '%s'", image);
    }
    g_autoptr(json_t) body = json_pack("{ss ss sO s{} s{}}", "name", name, "type",
                                       ctl_flag(ctl, "vm") ? "virtual-machine" : "container",
                                       "source", source, "config", "devices");
    if (!add_stdin(body, error) || !add_options(ctl, rest, body, error)) {
        return false;
    }

    g_autofree char *label = g_strdup_printf("Creating %s", *name != '\0' ? name : "instance");
    g_autoptr(json_t) operation = rest_call(rest, "POST", "/1.0/instances", body, NULL, error);
    g_autoptr(json_t) end =
        operation != NULL ? wait_operation(ctl, rest, operation, label, error) : NULL;
    if (end == NULL) {
        return haw_push(error, "create '%s'", *name != '\0' ? name : image);
    }
    *ret_name = *name != '\0' ? g_strdup(name) : wait_resource(end, "instances");
    *ret_rest = rest;
    if (*name == '\0' && *ret_name != NULL) {
        g_printerr("Instance name is: %s\n", *ret_name);
    }
    return *ret_name != NULL || haw_fail(error, HAW_FAILED, "the server did not name the instance");
}

bool
cmd_instance_init(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *name = NULL;
    return create(ctl, &rest, &name, error);
}

/* The body of PUT .../state for the options of this run. */
static json_t *
state_body(const Ctl *ctl, const char *action)
{
    const char *timeout = ctl_option(ctl, "timeout");
    bool forced = ctl_flag(ctl, "force");
    json_t *body =
        json_pack("{ss sI sb}", "action", action, "timeout",
                  (json_int_t) (timeout != NULL ? g_ascii_strtoll(timeout, NULL, 10) : -1), "force",
                  (int) forced);
    json_object_set_new(body, "stateful", json_boolean(ctl_flag(ctl, "stateful")));
    return body;
}

bool
cmd_instance_launch(Ctl *ctl, GError **error)
{
    Rest *rest = NULL;
    g_autofree char *name = NULL;
    if (!create(ctl, &rest, &name, error)) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s/state", name);
    g_autofree char *label = g_strdup_printf("Starting %s", name);
    g_autoptr(json_t) body = state_body(ctl, "start");
    if (!wait_call(ctl, rest, "PUT", path, body, label, error)) {
        haw_push(error, "start '%s'", name);
        g_autofree char *hint =
            g_strdup_printf("%s (see 'hawser info %s --show-log')", (*error)->message, name);
        g_free((*error)->message);
        (*error)->message = g_steal_pointer(&hint);
        return false;
    }
    return ctl_option(ctl, "console") == NULL || cmd_exec_attach_console(ctl, rest, name, error);
}

/* One of several instances that the same is done to. */
typedef struct {
    Rest *rest;        /* borrows */
    char *name;        /* owns */
    json_t *operation; /* owns; NULL when it failed to start */
} Job;

static void
job_clear(void *data)
{
    Job *job = data;
    g_free(job->name);
    json_decref(job->operation);
}

/* Counts a failure; the first is the run's error, the others are printed now (A1). */
static void
job_failed(const char *verb, const char *name, GError *why, GError **first)
{
    haw_push(&why, "%s '%s'", verb, name);
    if (*first == NULL) {
        *first = why;
        return;
    }
    g_printerr("hawser: %s\n", why->message);
    g_error_free(why);
}

static bool
add_job(Ctl *ctl, GArray *jobs, const char *arg, GError **error)
{
    const char *name = NULL;
    Job job = {.rest = ctl_server(ctl, arg, &name, error)};
    if (job.rest == NULL) {
        return false;
    }
    job.name = g_strdup(name);
    g_array_append_val(jobs, job);
    return true;
}

/* --all: every instance that is in one of the wanted states. */
static bool
add_all_jobs(Ctl *ctl, GArray *jobs, const char *wanted, GError **error)
{
    const char *arg = ctl_arg(ctl, 0);
    if (arg != NULL && !ctl_leads_with_remote(ctl)) {
        return haw_fail(error, HAW_INVALID, "--all goes with a remote only, not with names");
    }
    Rest *rest = ctl_server(ctl, arg, NULL, error);
    g_autoptr(json_t) list =
        rest != NULL ? rest_get(rest, "/1.0/instances?recursion=1", error) : NULL;
    if (list == NULL) {
        return false;
    }
    size_t index;
    json_t *instance;
    json_array_foreach (list, index, instance) {
        if (strstr(wanted, out_get(instance, "status")) != NULL) {
            Job job = {.rest = rest, .name = g_strdup(out_get(instance, "name"))};
            g_array_append_val(jobs, job);
        }
    }
    return true;
}

/* "start" of a paused instance means that it shall go on, as lxc has it. */
static const char *
action_for(const Job *job, const char *action)
{
    if (strcmp(action, "start") != 0) {
        return action;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s", job->name);
    g_autoptr(json_t) instance = rest_get(job->rest, path, NULL);
    return strcmp(out_get(instance, "status"), "Frozen") == 0 ? "unfreeze" : action;
}

/* A1: starts all, then waits for all. */
static bool
change_states(Ctl *ctl, const char *action, const char *verb, const char *label,
              const char *all_in_states, GError **error)
{
    g_autoptr(GArray) jobs = g_array_new(FALSE, FALSE, sizeof(Job));
    g_array_set_clear_func(jobs, job_clear);
    GError *first = NULL;
    if (ctl_flag(ctl, "all")) {
        if (!add_all_jobs(ctl, jobs, all_in_states, error)) {
            return false;
        }
    } else if (ctl_arg_count(ctl) == 0) {
        return haw_fail(error, HAW_INVALID, "<instance> is missing (or --all)");
    }
    for (int i = 0; !ctl_flag(ctl, "all") && i < ctl_arg_count(ctl); i++) {
        if (!add_job(ctl, jobs, ctl_arg(ctl, i), error)) {
            return false;
        }
    }

    for (guint i = 0; i < jobs->len; i++) {
        Job *job = &g_array_index(jobs, Job, i);
        GError *why = NULL;
        g_autoptr(json_t) body = state_body(ctl, action_for(job, action));
        g_autofree char *path = rest_path("/1.0/instances/%s/state", job->name);
        job->operation = rest_call(job->rest, "PUT", path, body, NULL, &why);
        if (job->operation == NULL) {
            job_failed(verb, job->name, why, &first);
        }
    }
    for (guint i = 0; i < jobs->len; i++) {
        Job *job = &g_array_index(jobs, Job, i);
        GError *why = NULL;
        if (job->operation == NULL) {
            continue;
        }
        g_autofree char *text = g_strdup_printf("%s %s", label, job->name);
        g_autoptr(json_t) end = wait_operation(ctl, job->rest, job->operation, text, &why);
        if (end == NULL) {
            job_failed(verb, job->name, why, &first);
        }
    }
    if (first == NULL && ctl_option(ctl, "console") != NULL && jobs->len == 1) {
        const Job *job = &g_array_index(jobs, Job, 0);
        return cmd_exec_attach_console(ctl, job->rest, job->name, error);
    }
    if (first != NULL) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

bool
cmd_instance_start(Ctl *ctl, GError **error)
{
    return change_states(ctl, "start", "start", "Starting", "Stopped Frozen", error);
}

bool
cmd_instance_stop(Ctl *ctl, GError **error)
{
    return change_states(ctl, "stop", "stop", "Stopping", "Running Frozen Ready", error);
}

bool
cmd_instance_restart(Ctl *ctl, GError **error)
{
    return change_states(ctl, "restart", "restart", "Restarting", "Running Frozen Ready", error);
}

bool
cmd_instance_pause(Ctl *ctl, GError **error)
{
    return change_states(ctl, "freeze", "pause", "Pausing", "Running Ready", error);
}

bool
cmd_instance_resume(Ctl *ctl, GError **error)
{
    return change_states(ctl, "unfreeze", "resume", "Resuming", "Frozen", error);
}

/* A forced stop for 'delete --force'. */
static bool
stop_if_running(Ctl *ctl, Rest *rest, const char *name, GError **error)
{
    g_autofree char *path = rest_path("/1.0/instances/%s", name);
    g_autofree char *state = rest_path("/1.0/instances/%s/state", name);
    g_autoptr(json_t) instance = rest_get(rest, path, error);
    if (instance == NULL) {
        return false;
    }
    json_int_t status = json_integer_value(json_object_get(instance, "status_code"));
    bool ephemeral = json_is_true(json_object_get(instance, "ephemeral"));
    if (status == 0 || status == 102) {
        return true;
    }
    g_autoptr(json_t) body = json_pack("{ss si sb}", "action", "stop", "timeout", -1, "force", 1);
    if (!wait_call(ctl, rest, "PUT", state, body, "Stopping", error)) {
        return false;
    }
    if (ephemeral) { /* it is gone, or goes now: "not found" is what was wanted */
        return haw_fail(error, HAW_NOT_FOUND, "ephemeral");
    }
    return true;
}

static bool
delete_one(Ctl *ctl, const char *arg, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, arg, &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *question = g_strdup_printf("Delete '%s'?", name);
    if (ctl_flag(ctl, "interactive") && !edit_confirm(question)) {
        return haw_fail(error, HAW_CANCELLED, "not deleted");
    }
    GError *why = NULL;
    if (ctl_flag(ctl, "force") && strchr(name, '/') == NULL &&
        !stop_if_running(ctl, rest, name, &why)) {
        if (strcmp(why->message, "ephemeral") == 0) {
            g_error_free(why);
            return true;
        }
        g_propagate_error(error, why);
        return false;
    }
    g_autofree char *path = cmd_instance_path(name);
    if (wait_call(ctl, rest, "DELETE", path, NULL, "Deleting", &why)) {
        return true;
    }
    if (strstr(why->message, "is running") != NULL) {
        haw_fail(error, HAW_CONFLICT, "%s (stop it first, or use --force)", why->message);
        g_error_free(why);
        return false;
    }
    g_propagate_error(error, why);
    return false;
}

bool
cmd_instance_delete(Ctl *ctl, GError **error)
{
    GError *first = NULL;
    for (int i = 0; i < ctl_arg_count(ctl); i++) {
        GError *why = NULL;
        if (!delete_one(ctl, ctl_arg(ctl, i), &why)) {
            job_failed("delete", ctl_arg(ctl, i), why, &first);
        }
    }
    if (first != NULL) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}

bool
cmd_instance_rename(Ctl *ctl, GError **error)
{
    const char *name = NULL, *to = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    if (strchr(name, '/') != NULL && strchr(to, '/') != NULL) {
        to = strchr(to, '/') + 1;
    }
    g_autofree char *path = cmd_instance_path(name);
    g_autoptr(json_t) body = json_pack("{ss}", "name", to);
    return wait_call(ctl, rest, "POST", path, body, "Renaming", error) ||
           haw_push(error, "rename '%s' to '%s'", name, to);
}

bool
cmd_instance_snapshot(Ctl *ctl, GError **error)
{
    const char *name = NULL, *snapshot = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s/snapshots", name);
    if (ctl_flag(ctl, "reuse") && snapshot != NULL) {
        g_autofree char *old = rest_path("/1.0/instances/%s/snapshots/%s", name, snapshot);
        g_autoptr(json_t) found = rest_get(rest, old, NULL);
        if (found != NULL && !wait_call(ctl, rest, "DELETE", old, NULL, "Deleting", error)) {
            return haw_push(error, "delete '%s/%s'", name, snapshot);
        }
    }
    g_autoptr(json_t) body = json_pack("{ss sb}", "name", snapshot != NULL ? snapshot : "",
                                       "stateful", (int) ctl_flag(ctl, "stateful"));
    if (ctl_flag(ctl, "no-expiry")) {
        json_object_set_new(body, "expires_at", json_string("0001-01-01T00:00:00Z"));
    }
    return wait_call(ctl, rest, "POST", path, body, "Taking a snapshot", error) ||
           haw_push(error, "snapshot '%s'", name);
}

bool
cmd_instance_restore(Ctl *ctl, GError **error)
{
    const char *name = NULL, *snapshot = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/instances/%s", name);
    g_autofree char *full =
        strchr(snapshot, '/') != NULL ? g_strdup(strchr(snapshot, '/') + 1) : g_strdup(snapshot);
    g_autoptr(json_t) body =
        json_pack("{ss sb}", "restore", full, "stateful", (int) ctl_flag(ctl, "stateful"));
    return wait_call(ctl, rest, "PUT", path, body, "Restoring", error) ||
           haw_push(error, "restore '%s' from '%s'", name, full);
}
