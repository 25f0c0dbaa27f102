/* POST /1.0/instances: a body becomes a row, and an operation that fills it.
 * What can be known at once is answered at once (a bad name, an unknown image); what depends on rows
 * and volumes fails the operation, as with LXD. Each request is a fiber. */
#include "agent/api/instances.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/image/image.h"
#include "agent/inst/create.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/plug.h"
#include "agent/move/moveinst.h"
#include "base/ids.h"
#include "proto/keys.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

struct post {
    InstRow *row;
    json_t *source; /* of the body; a reference */
    json_t *image;  /* as found already; may be NULL */
    bool want_profiles;
    bool any_type; /* the request names none */
    /* copy */
    Inst *from;
    char *from_snap;
    bool instance_only, refresh, start;
    bool pull; /* migration: we dial the source */
    bool live; /* migration: it goes on running */
};

static void
post_free(void *data)
{
    struct post *post = data;
    inst_row_free(post->row);
    json_decref(post->source);
    json_decref(post->image);
    inst_unref(post->from);
    g_free(post->from_snap);
    g_free(post);
}

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- the operation ---- */

static void
replace(json_t **place, json_t *value)
{
    json_decref(*place);
    *place = value;
}

/* What an image brings: its properties as keys, its profiles, its architecture. */
static void
take_image(struct post *post, json_t *image)
{
    json_t *config = json_copy(post->row->config), *value;
    const char *key, *fingerprint = text_of(image, "fingerprint");
    json_object_foreach (json_object_get(image, "properties"), key, value) {
        g_autofree char *name = g_strdup_printf("image.%s", key);
        if (json_is_string(value) && *json_string_value(value) != '\0') {
            json_object_set(config, name, value);
        }
    }
    json_object_set_new(config, "volatile.base_image", json_string(fingerprint));
    replace(&post->row->config, config);
    if (post->want_profiles) {
        json_t *profiles = json_object_get(image, "profiles");
        replace(&post->row->profiles,
                json_is_array(profiles) ? json_incref(profiles) : json_pack("[s]", "default"));
    }
    if (*post->row->architecture == '\0' && *text_of(image, "architecture") != '\0') {
        g_free(post->row->architecture);
        post->row->architecture = g_strdup(text_of(image, "architecture"));
    }
}

static void
default_architecture(InstRow *row)
{
    struct utsname names;
    if (*row->architecture == '\0' && uname(&names) == 0) {
        g_free(row->architecture);
        row->architecture = g_strdup(names.machine);
    }
}

static Inst *
new_record(Operation *op, struct post *post, GError **error)
{
    default_architecture(post->row);
    const Key *known = keys_find(keys_server, "images.default_architecture");
    if (!known->check(post->row->architecture, error)) {
        return NULL;
    }
    const char *type = text_of(post->source, "type");
    bool find_root = g_strcmp0(type, "image") != 0 && g_strcmp0(type, "none") != 0;
    Inst *inst = create_record(op_agent(op), &post->row, find_root, error);
    if (inst != NULL) {
        inst_lifecycle(inst, op_caller(op), "instance-created");
    }
    return inst;
}

static bool
done(Operation *op, struct post *post, Inst *inst, bool ok, GError **error)
{
    if (!ok) {
        create_abort(inst);
        return false;
    }
    return !post->start || lifecycle_start(inst, op_caller(op), error);
}

static bool
image_op(Operation *op, void *data, GError **error)
{
    struct post *post = data;
    Agent *agent = op_agent(op);
    if (post->image == NULL) {
        post->image = image_resolve(agent->images, op, post->row->project, post->source,
                                    post->row->type, error);
        if (post->image == NULL) {
            return false;
        }
    }
    const char *type = text_of(post->image, "type");
    if (strcmp(type, post->row->type) != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Requested image's type \"%s\" doesn't match instance type \"%s\"", type,
                        post->row->type);
    }
    g_autofree char *fingerprint = g_strdup(text_of(post->image, "fingerprint"));
    take_image(post, post->image);
    g_autoptr(Inst) inst = new_record(op, post, error);
    return inst != NULL &&
           done(op, post, inst, create_from_image(inst, op, fingerprint, error), error);
}

static bool
none_op(Operation *op, void *data, GError **error)
{
    struct post *post = data;
    g_autoptr(Inst) inst = new_record(op, post, error);
    return inst != NULL && done(op, post, inst, create_empty(inst, error), error);
}

/* The source's local maps below those of the request; of its volatile keys only two travel. */
static void
inherit(struct post *post, json_t *config, json_t *devices, json_t *profiles)
{
    json_t *own = json_object(), *all = json_copy(devices), *value;
    const char *key;
    json_object_foreach (config, key, value) {
        if (!g_str_has_prefix(key, "volatile.") || strcmp(key, "volatile.base_image") == 0 ||
            strcmp(key, "volatile.last_state.idmap") == 0) {
            json_object_set(own, key, value);
        }
    }
    json_object_update(own, post->row->config);
    json_object_update(all, post->row->devices);
    replace(&post->row->config, own);
    replace(&post->row->devices, all);
    if (post->want_profiles) {
        replace(&post->row->profiles, json_incref(profiles));
    }
}

static bool
copy_op(Operation *op, void *data, GError **error)
{
    struct post *post = data;
    Inst *from = post->from;
    g_autoptr(SnapRow) snap = NULL;
    g_autoptr(Inst) existing =
        inst_find(op_agent(op)->instances, post->row->project, post->row->name, NULL);
    if (post->refresh && existing != NULL) {
        return create_refresh(existing, op, from, post->instance_only, error);
    }
    if (post->from_snap != NULL) {
        snap = record_snapshot(from, post->from_snap, error);
        if (snap == NULL) {
            return false;
        }
    }
    inherit(post, snap != NULL ? snap->config : from->config,
            snap != NULL ? snap->devices : from->devices,
            snap != NULL ? snap->profiles : from->profiles);
    g_free(post->row->architecture);
    post->row->architecture = g_strdup(from->architecture);
    g_autoptr(Inst) inst = new_record(op, post, error);
    return inst != NULL &&
           done(op, post, inst,
                create_copy(inst, op, from, post->from_snap, post->instance_only, error), error);
}

/* From another server. The row is made before the sockets: a name that is taken fails first. */
static bool
migration_op(Operation *op, void *data, GError **error)
{
    struct post *post = data;
    MoveIn in = {.instance_only = post->instance_only,
                 .refresh = post->refresh,
                 .live = post->live,
                 .peer = post->pull ? post->source : NULL};
    g_autoptr(Inst) existing =
        inst_find(op_agent(op)->instances, post->row->project, post->row->name, NULL);
    if (post->refresh && existing != NULL) {
        in.inst = existing;
        return moveinst_receive(op, &in, error);
    }
    in.refresh = false;
    g_autoptr(Inst) inst = new_record(op, post, error);
    in.inst = inst;
    bool ok = inst != NULL && moveinst_receive(op, &in, error);
    if (inst != NULL && !ok && !inst->unfinished) {
        return false; /* a live move that broke after its guest had run here: there is no other any more */
    }
    return inst != NULL && done(op, post, inst, ok, error);
}

/* ---- the request ---- */

static void
set_default(json_t *config, const char *key, char *value /* stolen */)
{
    if (keys_get(config, key) == NULL) {
        json_object_set_new(config, key, json_string(value));
    }
    g_free(value);
}

/* "c2-m4": two CPUs and four GiB, for limits that are not set; "c0.5" is half of one's time. */
static bool
apply_instance_type(json_t *config, const char *type, GError **error)
{
    double cpus = 0, gib = 0;
    g_auto(GStrv) fields = g_strsplit(type, "-", -1);
    if (*type == '\0') {
        return true;
    }
    for (char **field = fields; *field != NULL; field++) {
        char *end = NULL;
        double number = g_ascii_strtod(**field != '\0' ? *field + 1 : "", &end);
        bool good = **field != '\0' && g_ascii_isdigit((*field)[1]) && *end == '\0' && number > 0 &&
                    number < 1e6 && (**field == 'c' || **field == 'm');
        if (!good) {
            return haw_fail(error, HAW_INVALID, "Unknown instance type \"%s\"", type);
        }
        *(**field == 'c' ? &cpus : &gib) = number;
    }
    if (cpus > 0) {
        int whole = (int) cpus + (cpus > (int) cpus ? 1 : 0), percent = (int) (cpus * 100 / whole);
        set_default(config, "limits.cpu", g_strdup_printf("%d", whole));
        if (percent < 100) {
            set_default(config, "limits.cpu.allowance", g_strdup_printf("%d%%", percent));
        }
    }
    if (gib > 0) {
        set_default(config, "limits.memory", g_strdup_printf("%dMB", (int) (gib * 1024)));
    }
    return true;
}

static bool
check_profiles(Agent *agent, InstRow *row, GError **error)
{
    size_t i;
    json_t *name;
    json_array_foreach (row->profiles, i, name) {
        json_t *profile = profile_load(agent, row->project, json_string_value(name), NULL);
        if (profile == NULL) {
            return haw_fail(error, HAW_FAILED, "Requested profile \"%s\" doesn't exist",
                            json_string_value(name));
        }
        json_decref(profile);
    }
    return true;
}

static bool
parse_maps(struct post *post, json_t *body, GError **error)
{
    InstRow *row = post->row;
    g_autoptr(GError) local = NULL;
    row->config = instances_string_map(json_object_get(body, "config"), "config", error);
    row->devices =
        row->config != NULL ? instances_device_map(json_object_get(body, "devices"), error) : NULL;
    if (row->devices == NULL) {
        return false;
    }
    row->profiles = instances_profiles(json_object_get(body, "profiles"), &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    post->want_profiles = row->profiles == NULL;
    if (post->want_profiles) {
        row->profiles = json_pack("[s]", "default");
    }
    return apply_instance_type(row->config, text_of(body, "instance_type"), error);
}

static bool
parse_row(Request *req, struct post *post, json_t *body, GError **error)
{
    const char *type = text_of(body, "type"), *name = text_of(body, "name");
    InstRow *row = g_new0(InstRow, 1);
    post->row = row;
    row->project = g_strdup(req_project(req));
    post->any_type = *type == '\0';
    row->type = g_strdup(!post->any_type ? type : "container");
    row->architecture = g_strdup(text_of(body, "architecture"));
    row->description = g_strdup(text_of(body, "description"));
    row->ephemeral = json_is_true(json_object_get(body, "ephemeral"));
    row->stateful = json_is_true(json_object_get(body, "stateful"));
    if (strcmp(row->type, "container") != 0 && strcmp(row->type, "virtual-machine") != 0) {
        return haw_fail(error, HAW_INVALID, "Invalid instance type");
    }
    do {
        g_free(row->name);
        row->name = *name != '\0' ? g_strdup(name) : ids_petname();
        g_autoptr(Inst) taken = inst_find(req_agent(req)->instances, row->project, row->name, NULL);
        if (taken == NULL) {
            break;
        }
    } while (*name == '\0');
    return instances_check_name(row->name, error) && parse_maps(post, body, error);
}

/* A local image that is not there is a 404 at once. */
static bool
parse_image(Request *req, struct post *post, GError **error)
{
    const char *alias = text_of(post->source, "alias");
    const char *fingerprint = text_of(post->source, "fingerprint");
    if (*text_of(post->source, "server") != '\0' || (*alias == '\0' && *fingerprint == '\0')) {
        return true;
    }
    g_autoptr(GError) local = NULL;
    post->image = image_find(req_agent(req)->images, req_project(req),
                             *alias != '\0' ? alias : fingerprint, &local);
    if (post->image == NULL) {
        if (haw_code(local) == HAW_NOT_FOUND && *alias != '\0') {
            return haw_fail(error, HAW_NOT_FOUND, "Image alias not found");
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}

static bool
parse_copy(Request *req, struct post *post, GError **error)
{
    const char *source = text_of(post->source, "source"), *slash = strchr(source, '/');
    const char *project = text_of(post->source, "project");
    if (*source == '\0') {
        return haw_fail(error, HAW_INVALID, "Must specify a source instance");
    }
    if (!caller_may_project(req_caller(req), *project != '\0' ? project : req_project(req))) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    g_autofree char *name =
        slash != NULL ? g_strndup(source, (gsize) (slash - source)) : g_strdup(source);
    post->from_snap = slash != NULL ? g_strdup(slash + 1) : NULL;
    post->from = inst_find(req_agent(req)->instances, *project != '\0' ? project : req_project(req),
                           name, error);
    post->instance_only = json_is_true(json_object_get(post->source, "instance_only")) ||
                          json_is_true(json_object_get(post->source, "container_only"));
    post->refresh = json_is_true(json_object_get(post->source, "refresh"));
    if (post->from != NULL && post->any_type) {
        g_free(post->row->type);
        post->row->type = g_strdup(inst_type(post->from));
    }
    return post->from != NULL &&
           (strcmp(post->row->type, inst_type(post->from)) == 0 ||
            haw_fail(error, HAW_INVALID,
                     "Instance type should not be specified or should match source type"));
}

/* The pool that the profiles (or, without one there, the server's only pool) give a root disk; caller
 * frees. */
static char *
usual_pool(Agent *agent, const InstRow *row)
{
    json_auto_t *none = json_object(), *config = NULL, *devices = NULL;
    const char *name;
    if (!record_expand(agent, row->project, row->profiles, none, none, &config, &devices, NULL)) {
        return NULL;
    }
    json_t *root = plug_root(devices, &name, NULL);
    const char *pool = root != NULL ? keys_get(root, "pool") : NULL;
    return pool != NULL ? g_strdup(pool) : pool_only(agent->pools);
}

/* A root disk comes with the name of the source's pool, which this server need not have. */
static void
find_root_pool(Agent *agent, InstRow *row)
{
    const char *name;
    json_t *device;
    json_object_foreach (row->devices, name, device) {
        const char *pool = keys_get(device, "pool");
        bool root = g_strcmp0(keys_get(device, "type"), "disk") == 0 &&
                    g_strcmp0(keys_get(device, "path"), "/") == 0;
        if (root && (pool == NULL || !pool_exists(agent->pools, pool))) {
            g_autofree char *usual = usual_pool(agent, row);
            if (usual != NULL) {
                json_object_set_new(device, "pool", json_string(usual));
            }
        }
    }
}

static bool
parse_migration(Request *req, struct post *post, GError **error)
{
    const char *mode = text_of(post->source, "mode");
    post->pull = *mode == '\0' || strcmp(mode, "pull") == 0;
    post->instance_only = json_is_true(json_object_get(post->source, "instance_only")) ||
                          json_is_true(json_object_get(post->source, "container_only"));
    post->refresh = json_is_true(json_object_get(post->source, "refresh"));
    if (!post->pull && strcmp(mode, "push") != 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "Mode '%s' not implemented", mode);
    }
    post->live = json_is_true(json_object_get(post->source, "live")) && !post->refresh &&
                 strcmp(post->row->type, "virtual-machine") == 0;
    if (post->pull && !moveconn_check_peer(post->source, post->live, error)) {
        return false;
    }
    find_root_pool(req_agent(req), post->row);
    const char *image = text_of(post->source, "base_image");
    if (*image != '\0' && keys_get(post->row->config, "volatile.base_image") == NULL) {
        json_object_set_new(post->row->config, "volatile.base_image", json_string(image));
    }
    g_autoptr(Inst) taken =
        inst_find(req_agent(req)->instances, post->row->project, post->row->name, NULL);
    if (taken != NULL && !post->refresh) {
        return haw_fail(error, HAW_EXISTS, "Instance \"%s\" already exists", post->row->name);
    }
    return taken == NULL || inst_pid(taken) == 0 ||
           haw_fail(error, HAW_INVALID, "Cannot refresh a running instance");
}

static const struct {
    const char *name;
    bool (*parse)(Request *req, struct post *post, GError **error);
    OpFn run;
} sources[] = {
    {"image", parse_image, image_op},
    {"copy", parse_copy, copy_op},
    {"none", NULL, none_op},
    {"migration", parse_migration, migration_op},
};

bool
instance_post(Request *req, GError **error)
{
    json_t *body = req_json(req);
    if (req_body_fd(req) >= 0) {
        return instbackup_import(req, error);
    }
    if (req_query(req, "target") != NULL && *req_query(req, "target") != '\0') {
        return haw_fail(error, HAW_INVALID, "Target only allowed when clustered");
    }
    struct post *post = g_new0(struct post, 1);
    post->source = json_incref(json_object_get(body, "source"));
    post->start = json_is_true(json_object_get(body, "start"));
    const char *source = text_of(post->source, "type");
    size_t at = 0;
    while (at < G_N_ELEMENTS(sources) && strcmp(sources[at].name, source) != 0) {
        at++;
    }
    bool ok = parse_row(req, post, body, error);
    if (ok && at == G_N_ELEMENTS(sources)) {
        ok = haw_fail(error, HAW_INVALID, "Unknown source type %s", source);
    }
    ok = ok &&
         project_allow_volatile(req_agent(req), req_project(req), post->row->type, post->row->name,
                                NULL, json_object_get(body, "config"), error) &&
         (sources[at].parse == NULL || sources[at].parse(req, post, error)) &&
         (post->want_profiles || check_profiles(req_agent(req), post->row, error));
    if (!ok) {
        post_free(post);
        return false;
    }
    bool awaits = sources[at].run == migration_op && !post->pull;
    json_auto_t *secrets = awaits ? moveconn_secrets(post->live) : NULL;
    g_autofree char *url = g_strdup_printf("/1.0/instances/%s", post->row->name);
    bool vm = strcmp(post->row->type, "virtual-machine") == 0;
    const char *kind = vm ? "virtual-machines" : "containers";
    g_autofree char *twin = g_strdup_printf("/1.0/%s/%s", kind, post->row->name);
    return op_reply(req,
                    (OpSpec){.class = awaits ? OP_WEBSOCKET : OP_TASK,
                             .description = "Creating instance",
                             .project = req_project(req),
                             .resources = json_pack("{s:[s],s:[s]}", "instances", url, kind, twin),
                             .metadata = json_copy(secrets),
                             .fds = json_incref(secrets),
                             .cancellable = true,
                             .fn = sources[at].run,
                             .data = post,
                             .free_data = post_free});
}
