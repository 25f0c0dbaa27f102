/* hawser copy and move of instances: on one server, and between two.
 * K1  Between servers "pull" lets the target fetch from the source, "push" lets the source send to
 *     the target, "relay" carries every byte through us: choose by which of them can reach the other.
 * K2  A move deletes the source only after the copy is complete.
 * Not here: volumes (cmd_volume.c), images (cmd_image.c). */
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/interrupt.h"
#include "ctl/out.h"
#include "ctl/wait.h"
#include "ctl/wsclient.h"

enum { RELAY_MAX = 4 };

char *
cmd_copy_address(Rest *rest, GError **error)
{
    if (!rest_is_local(rest)) {
        return g_strdup(rest_remote(rest)->address);
    }
    g_autoptr(json_t) server = rest_get(rest, "/1.0", error);
    const json_t *environment = json_object_get(server, "environment");
    const char *address =
        json_string_value(json_array_get(json_object_get(environment, "addresses"), 0));
    if (server == NULL) {
        return NULL;
    }
    if (address == NULL) {
        haw_fail(error, HAW_CONFLICT,
                 "the local server does not listen on the network (set it: 'hawser config set "
                 "core.https_address=:8443')");
        return NULL;
    }
    return g_strconcat("https://", address, NULL);
}

char *
cmd_copy_certificate(Rest *rest, GError **error)
{
    g_autoptr(json_t) server = rest_get(rest, "/1.0", error);
    if (server == NULL) {
        return NULL;
    }
    return g_strdup(out_get(json_object_get(server, "environment"), "certificate"));
}

/* -p, -c, -d and -e on top of what the source has. */
static bool
apply_options(Ctl *ctl, json_t *body, GError **error)
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
    for (char *const *change = ctl_option_all(ctl, "device"); *change != NULL; change++) {
        g_auto(GStrv) words = g_strsplit(*change, ",", -1);
        json_t *device = json_object_get(devices, words[0] != NULL ? words[0] : "");
        if (words[0] == NULL || words[1] == NULL) {
            return haw_fail(error, HAW_INVALID, "'%s' is not of the form device,key=value",
                            *change);
        }
        if (device == NULL) {
            device = json_object();
            json_object_set_new(devices, words[0], device);
        }
        for (char **word = words + 1; *word != NULL; word++) {
            char *one[] = {*word, NULL};
            if (!entity_parse_settings(one, device, error)) {
                return false;
            }
        }
    }
    return entity_parse_settings(ctl_option_all(ctl, "config"), config, error);
}

/* --storage moves the root disk, wherever it came from. */
static void
apply_storage(Ctl *ctl, const json_t *source, json_t *body)
{
    const char *pool = ctl_option(ctl, "storage"), *name;
    json_t *device, *devices = json_object_get(body, "devices");
    json_object_foreach (json_object_get(source, "expanded_devices"), name, device) {
        if (pool != NULL && strcmp(out_get(device, "type"), "disk") == 0 &&
            strcmp(out_get(device, "path"), "/") == 0) {
            json_t *root = json_deep_copy(device);
            json_object_set_new(root, "pool", json_string(pool));
            json_object_set_new(devices, name, root);
        }
    }
}

/* The body of a POST that makes a copy of 'source', its "source" still to be set; 'same': of an instance that
 * moves, which stays who it is. */
static json_t *
copy_body(Ctl *ctl, const json_t *source, const char *to, bool same, GError **error)
{
    g_autoptr(json_t) body =
        entity_fields(source, "architecture config devices ephemeral profiles description type");
    if (!json_is_object(json_object_get(body, "devices"))) {
        json_object_set_new(body, "devices", json_object());
    }
    json_object_set_new(body, "name", json_string(to));
    json_t *config = json_object_get(body, "config"), *value;
    const char *key;
    void *next;
    json_object_foreach_safe (config, next, key, value) {
        if (!same && g_str_has_prefix(key, "volatile.") &&
            strcmp(key, "volatile.base_image") != 0) {
            json_object_del(config, key);
        }
    }
    if (ctl_flag(ctl, "ephemeral")) {
        json_object_set_new(body, "ephemeral", json_true());
    }
    apply_storage(ctl, source, body);
    return apply_options(ctl, body, error) ? g_steal_pointer(&body) : NULL;
}

static void
add_flags(Ctl *ctl, json_t *source)
{
    json_object_set_new(source, "instance_only", json_boolean(ctl_flag(ctl, "instance-only")));
    json_object_set_new(source, "refresh", json_boolean(ctl_flag(ctl, "refresh")));
    json_object_set_new(source, "allow_inconsistent",
                        json_boolean(ctl_flag(ctl, "allow-inconsistent")));
}

/* {"control": secret, …} of an operation's metadata, a new reference. */
static json_t *
secrets_of(const json_t *operation)
{
    json_t *secrets = json_object();
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(operation, "metadata"), key, value) {
        if (json_is_string(value)) {
            json_object_set(secrets, key, value);
        }
    }
    return secrets;
}

static char *
operation_url(Rest *rest, const json_t *operation, GError **error)
{
    g_autofree char *address = cmd_copy_address(rest, error);
    g_autofree char *path = wait_path(operation);
    return address != NULL ? g_strconcat(address, path, NULL) : NULL;
}

typedef struct {
    WsClient *to; /* borrows: the other side's socket */
} RelayEnd;

static void
on_relayed(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    const RelayEnd *end = data;
    if (end->to != NULL && wsclient_is_open(end->to)) {
        wsclient_send(end->to, is_text, bytes, size);
    }
}

static WsClient *
relay_open(Rest *rest, const json_t *operation, const char *secret, RelayEnd *end, GError **error)
{
    g_autofree char *path =
        rest_path("/1.0/operations/%s/websocket?secret=%s", out_get(operation, "id"), secret);
    return wsclient_open(rest, path, on_relayed, end, error);
}

/* K1: carries every socket of one operation to the same one of the other until all are closed. */
static bool
relay(Rest *from, const json_t *from_op, Rest *into, const json_t *into_op, GError **error)
{
    g_autoptr(json_t) from_secrets = secrets_of(from_op), into_secrets = secrets_of(into_op);
    WsClient *sockets[2 * RELAY_MAX] = {0};
    RelayEnd ends[2 * RELAY_MAX] = {0};
    size_t count = 0;
    const char *key;
    json_t *secret;
    bool ok = true;
    json_object_foreach (from_secrets, key, secret) {
        const char *other = json_string_value(json_object_get(into_secrets, key));
        if (other == NULL || count + 2 > G_N_ELEMENTS(sockets) || !ok) {
            continue;
        }
        sockets[count] = relay_open(from, from_op, json_string_value(secret), &ends[count], error);
        sockets[count + 1] = sockets[count] != NULL
                                 ? relay_open(into, into_op, other, &ends[count + 1], error)
                                 : NULL;
        ok = sockets[count + 1] != NULL;
        ends[count].to = sockets[count + 1];
        ends[count + 1].to = sockets[count];
        count += 2;
    }
    size_t open = count;
    while (ok && open > 0 && !interrupt_seen()) {
        wsclient_poll(sockets, count, -1, 1000, NULL);
        open = 0;
        for (size_t i = 0; i < count; i++) {
            if (wsclient_is_open(sockets[i])) {
                open++;
            } else if (wsclient_is_open(sockets[i ^ 1])) {
                wsclient_close(sockets[i ^ 1]);
                wsclient_pump(sockets[i ^ 1]);
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        wsclient_free(sockets[i]);
    }
    return ok;
}

static bool
transfer_pull(Ctl *ctl, CmdTransfer *t, bool relayed, GError **error)
{
    g_autoptr(json_t) from_op = rest_call(t->from, "POST", t->path, t->migrate, NULL, error);
    json_t *source = json_object_get(t->body, "source");
    if (from_op == NULL) {
        return haw_push(error, "source server");
    }
    if (!relayed) {
        g_autofree char *url = operation_url(t->from, from_op, error);
        g_autofree char *certificate = url != NULL ? cmd_copy_certificate(t->from, error) : NULL;
        if (certificate == NULL) {
            return false;
        }
        g_autoptr(json_t) secrets = secrets_of(from_op);
        json_object_set_new(source, "mode", json_string("pull"));
        json_object_set_new(source, "operation", json_string(url));
        json_object_set_new(source, "certificate", json_string(certificate));
        json_object_set(source, "secrets", secrets);
        return wait_call(ctl, t->into, "POST", t->into_path, t->body, "Copying", error) ||
               haw_push(error, "target server");
    }
    json_object_set_new(source, "mode", json_string("push"));
    g_autoptr(json_t) into_op = rest_call(t->into, "POST", t->into_path, t->body, NULL, error);
    if (into_op == NULL) {
        return haw_push(error, "target server");
    }
    if (!relay(t->from, from_op, t->into, into_op, error)) {
        return false;
    }
    g_autoptr(json_t) end = wait_operation(ctl, t->into, into_op, "Copying", error);
    return end != NULL;
}

static bool
transfer_push(Ctl *ctl, CmdTransfer *t, GError **error)
{
    json_object_set_new(json_object_get(t->body, "source"), "mode", json_string("push"));
    g_autoptr(json_t) into_op = rest_call(t->into, "POST", t->into_path, t->body, NULL, error);
    if (into_op == NULL) {
        return haw_push(error, "target server");
    }
    g_autofree char *url = operation_url(t->into, into_op, error);
    g_autofree char *certificate = url != NULL ? cmd_copy_certificate(t->into, error) : NULL;
    if (certificate == NULL) {
        return false;
    }
    g_autoptr(json_t) secrets = secrets_of(into_op);
    json_object_set_new(
        t->migrate, "target",
        json_pack("{ss sO ss}", "operation", url, "secrets", secrets, "certificate", certificate));
    if (!wait_call(ctl, t->from, "POST", t->path, t->migrate, "Copying", error)) {
        return haw_push(error, "source server");
    }
    g_autoptr(json_t) end = wait_operation(ctl, t->into, into_op, "Copying", error);
    return end != NULL;
}

bool
cmd_copy_transfer(Ctl *ctl, CmdTransfer *t, GError **error)
{
    const char *mode = ctl_option(ctl, "mode");
    if (mode == NULL || strcmp(mode, "pull") == 0 || strcmp(mode, "relay") == 0) {
        return transfer_pull(ctl, t, mode != NULL && strcmp(mode, "relay") == 0, error);
    }
    if (strcmp(mode, "push") == 0) {
        return transfer_push(ctl, t, error);
    }
    return haw_fail(error, HAW_INVALID, "unknown mode '%s' (choose pull, push or relay)", mode);
}

/* The two ends of a copy as the command line names them. */
typedef struct {
    Rest *from, *into;     /* borrow */
    const char *name, *to; /* borrow */
    bool move, live;       /* live: it goes on running, there */
} Ends;

static bool
pick_ends(Ctl *ctl, Ends *ret_ends, GError **error)
{
    Ends ends = {0};
    const char *target = ctl_arg(ctl, 1);
    ends.from = ctl_server(ctl, ctl_arg(ctl, 0), &ends.name, error);
    ends.into = ends.from != NULL ? ctl_server(ctl, target, &ends.to, error) : NULL;
    if (ends.into == NULL) {
        return false;
    }
    if (*ends.to == '\0' && ends.from != ends.into) {
        ends.to = ends.name;
    }
    if (*ends.name == '\0') {
        return haw_fail(error, HAW_INVALID, "<source> needs a name");
    }
    *ret_ends = ends;
    return true;
}

static bool
copy_between(Ctl *ctl, const Ends *ends, json_t *body, GError **error)
{
    bool snapshot = strchr(ends->name, '/') != NULL;
    json_t *source = json_pack("{ss sb}", "type", "migration", "live", (int) ends->live);
    add_flags(ctl, source);
    json_object_set_new(body, "source", source);
    g_autoptr(json_t) migrate = json_pack("{sb sb sb}", "migration", 1, "live", (int) ends->live,
                                          snapshot ? "snapshot" : "instance_only",
                                          (int) (snapshot || ctl_flag(ctl, "instance-only")));
    json_object_set_new(migrate, "allow_inconsistent",
                        json_boolean(ctl_flag(ctl, "allow-inconsistent")));
    CmdTransfer t = {.from = ends->from,
                     .into = ends->into,
                     .path = cmd_instance_path(ends->name),
                     .migrate = migrate,
                     .body = body,
                     .into_path = "/1.0/instances"};
    bool ok = cmd_copy_transfer(ctl, &t, error);
    g_free(t.path);
    return ok;
}

static bool
copy_within(Ctl *ctl, const Ends *ends, json_t *body, GError **error)
{
    json_t *source = json_pack("{ss ss}", "type", "copy", "source", ends->name);
    const char *target_project = ctl_option(ctl, "target-project");
    add_flags(ctl, source);
    json_object_set_new(body, "source", source);
    g_autofree char *path = g_strdup("/1.0/instances");
    if (target_project != NULL) {
        json_object_set_new(source, "project", json_string(rest_project(ends->from)));
        g_free(path);
        path = rest_path("/1.0/instances?project=%s", target_project);
    }
    g_autoptr(json_t) operation = rest_call(ends->into, "POST", path, body, NULL, error);
    g_autoptr(json_t) end =
        operation != NULL ? wait_operation(ctl, ends->into, operation, "Copying", error) : NULL;
    if (end != NULL && *ends->to == '\0') {
        g_autofree char *name = wait_resource(end, "instances");
        g_printerr("Instance name is: %s\n", name != NULL ? name : "");
    }
    return end != NULL;
}

/* A virtual machine that runs moves without stopping; a container can't. A copy of one that is made for that
 * goes on from the same state. */
static bool
goes_live(Ctl *ctl, const Ends *ends, const json_t *instance)
{
    const char *stateful =
        out_get(json_object_get(instance, "expanded_config"), "migration.stateful");
    bool asked = ends->move || (ends->from != ends->into && strcmp(stateful, "true") == 0);
    return asked && !ctl_flag(ctl, "stateless") && !ctl_flag(ctl, "refresh") &&
           strcmp(out_get(instance, "type"), "virtual-machine") == 0 &&
           strcmp(out_get(instance, "status"), "Stopped") != 0;
}

static bool
copy(Ctl *ctl, Ends *ends, GError **error)
{
    g_autofree char *path = cmd_instance_path(ends->name);
    g_autoptr(json_t) instance = rest_get(ends->from, path, error);
    if (instance == NULL) {
        return false;
    }
    if (*out_get(instance, "type") == '\0') { /* a snapshot does not say it */
        json_object_set_new(instance, "type", json_string("container"));
    }
    g_autoptr(json_t) body = copy_body(ctl, instance, ends->to, ends->move, error);
    if (body == NULL) {
        return false;
    }
    ends->live = goes_live(ctl, ends, instance);
    return ends->from == ends->into ? copy_within(ctl, ends, body, error)
                                    : copy_between(ctl, ends, body, error);
}

bool
cmd_copy_instance(Ctl *ctl, GError **error)
{
    Ends ends = {0};
    return pick_ends(ctl, &ends, error) &&
           (copy(ctl, &ends, error) || haw_push(error, "copy '%s'", ends.name));
}

/* A rename, or a move to another pool or project, done by the server itself. */
static bool
move_within(Ctl *ctl, const Ends *ends, GError **error)
{
    const char *pool = ctl_option(ctl, "storage"), *project = ctl_option(ctl, "target-project");
    const char *to = *ends->to != '\0' ? ends->to : ends->name;
    g_autofree char *path = cmd_instance_path(ends->name);
    if (strchr(ends->name, '/') != NULL && strchr(to, '/') != NULL) {
        to = strchr(to, '/') + 1;
    }
    g_autoptr(json_t) body = json_pack("{ss}", "name", to);
    if (pool != NULL || project != NULL) {
        json_object_set_new(body, "migration", json_true());
        json_object_set_new(body, "instance_only", json_boolean(ctl_flag(ctl, "instance-only")));
    }
    if (pool != NULL) {
        json_object_set_new(body, "pool", json_string(pool));
    }
    if (project != NULL) {
        json_object_set_new(body, "project", json_string(project));
    }
    return wait_call(ctl, ends->from, "POST", path, body, "Moving", error);
}

bool
cmd_copy_move(Ctl *ctl, GError **error)
{
    Ends ends = {0};
    if (!pick_ends(ctl, &ends, error)) {
        return false;
    }
    ends.move = true;
    if (ends.from == ends.into) {
        return move_within(ctl, &ends, error) || haw_push(error, "move '%s'", ends.name);
    }
    g_autofree char *path = cmd_instance_path(ends.name);
    return (copy(ctl, &ends, error) &&
            wait_call(ctl, ends.from, "DELETE", path, NULL, "Deleting", error)) || /* K2 */
           haw_push(error, "move '%s'", ends.name);
}
