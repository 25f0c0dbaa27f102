/* Info: GET / and GET, PUT, PATCH /1.0: what the server is, and its configuration.
 * I1  A stranger learns the version of the API, its extensions and how to become trusted; a
 *     restricted caller no configuration; only admins see it all.
 * What can't change while we run is made once and shared between replies.
 * Main loop, in fibers. */
#include "agent/api/info.h"

#include "agent/api/event.h"
#include "agent/api/settings.h"
#include "agent/auth/trust.h"
#include "agent/store/pool.h"
#include "base/fd.h"
#include "proto/jsontext.h"
#include "proto/keys.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <lxc/lxccontainer.h>
#include <lxc/version.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static json_t *fixed_environment; /* made at the first use, kept */

static bool
get_root(Request *req, GError **error)
{
    return req_reply(req, json_pack("[s]", "/1.0"));
}

static json_t *
flag(bool on)
{
    return json_string(on ? "true" : "false");
}

static json_t *
kernel_features(void)
{
    guint32 notify = SECCOMP_RET_USER_NOTIF;
    bool listener = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &notify) == 0;
    bool mount_setattr = syscall(SYS_mount_setattr, -1, NULL, 0, NULL, 0) == 0 || errno != ENOSYS;
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "idmapped_mounts", flag(mount_setattr),
                     "netnsid_getifaddrs", flag(true), "seccomp_listener", flag(listener),
                     "seccomp_listener_continue", flag(listener), "shiftfs", flag(false),
                     "uevent_injection", flag(true), "unpriv_fscaps", flag(true));
}

static json_t *
liblxc_features(void)
{
    static const char *const names[] = {
        "cgroup2",
        "core_scheduling",
        "devpts_fd",
        "idmapped_mounts_v2",
        "mount_injection_file",
        "network_gateway_device_route",
        "network_ipvlan",
        "network_l2proxy",
        "network_phys_macvlan_mtu",
        "network_veth_router",
        "pidfd",
        "seccomp_allow_deny_syntax",
        "seccomp_notify",
        "seccomp_proxy_send_notify_fd",
    };
    json_t *features = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        json_object_set_new(features, names[i], flag(lxc_has_api_extension(names[i])));
    }
    return features;
}

/* The value of a line 'NAME="value"' of /etc/os-release; caller frees. */
static char *
os_release(const char *text, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t length = strlen(name);
    for (char **line = lines; *line != NULL; line++) {
        if (strncmp(*line, name, length) == 0 && (*line)[length] == '=') {
            return g_shell_unquote(*line + length + 1, NULL);
        }
    }
    return NULL;
}

static void
add_os(json_t *environment)
{
    g_autofree char *text = fd_read_file("/etc/os-release", 65536, NULL, NULL);
    g_autofree char *name = text != NULL ? os_release(text, "NAME") : NULL;
    g_autofree char *version = text != NULL ? os_release(text, "VERSION_ID") : NULL;
    json_object_set_new(environment, "os_name", json_string(name != NULL ? name : ""));
    json_object_set_new(environment, "os_version", json_string(version != NULL ? version : ""));
}

static json_t *
architectures(const char *machine)
{
    static const struct {
        const char *machine, *also;
    } pairs[] = {{"x86_64", "i686"}, {"aarch64", "armv7l"}, {"ppc64", "ppc"}, {"mips64", "mips"}};
    json_t *list = json_pack("[s]", machine);
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        if (strcmp(pairs[i].machine, machine) == 0) {
            json_array_append_new(list, json_string(pairs[i].also));
        }
    }
    return list;
}

static json_t *
supported_drivers(void)
{
    json_t *list = json_array();
    g_autofree char *mkfs = g_find_program_in_path("mkfs.btrfs");
    if (mkfs != NULL) {
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:b}", "Name", "btrfs", "Version", "1", "Remote", 0));
    }
    json_array_append_new(list,
                          json_pack("{s:s,s:s,s:b}", "Name", "dir", "Version", "1", "Remote", 0));
    json_array_append_new(
        list, json_pack("{s:s,s:s,s:b}", "Name", "overlay", "Version", "1", "Remote", 0));
    return list;
}

/* What stays the same while this process lives; borrowed. */
static json_t *
environment_of(Agent *agent)
{
    struct utsname host;
    if (fixed_environment != NULL) {
        return fixed_environment;
    }
    uname(&host);
    json_t *env =
        json_pack("{s:o,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:s,s:o,s:s,s:b,s:s,s:s,s:i,s:s,s:o}",
                  "architectures", architectures(host.machine), "certificate",
                  trust_server_cert_pem(agent->trust), "certificate_fingerprint",
                  trust_server_fingerprint(agent->trust), "driver", "lxc", "driver_version",
                  lxc_get_version(), "firewall", "nftables", "kernel", host.sysname,
                  "kernel_architecture", host.machine, "kernel_features", kernel_features(),
                  "kernel_version", host.release, "lxc_features", liblxc_features(), "server",
                  "hawser", "server_clustered", 0, "server_event_mode", "full-mesh", "server_name",
                  host.nodename, "server_pid", (int) getpid(), "server_version", HAWSER_VERSION,
                  "storage_supported_drivers", supported_drivers());
    add_os(env);
    fixed_environment = env;
    return env;
}

static json_t *
environment(Request *req, const char *storage)
{
    Agent *agent = req_agent(req);
    json_t *env = json_copy(environment_of(agent));
    GString *versions = g_string_new("");
    g_auto(GStrv) drivers = g_strsplit(storage, " | ", -1);
    for (char **driver = drivers; *driver != NULL; driver++) {
        g_string_append(versions, versions->len > 0 ? " | 1" : "1");
    }
    json_object_set_new(env, "addresses", server_addresses(agent->server));
    json_object_set_new(env, "project", json_string(req_project(req)));
    json_object_set_new(env, "storage", json_string(storage));
    json_object_set_new(env, "storage_version", json_string(versions->str));
    g_string_free(versions, TRUE);
    return env;
}

static json_t *
extensions(void)
{
    static json_t *list; /* made once, kept */
    if (list == NULL) {
        list = json_array();
        for (const char *const *name = info_extensions; *name != NULL; name++) {
            json_array_append_new(list, json_string(*name));
        }
    }
    return json_incref(list);
}

/* What the caller may know, with its ETag in *ret_tag (NULL: none). */
static json_t *
describe(Request *req, const char *storage, char **ret_tag)
{
    Agent *agent = req_agent(req);
    const Caller *caller = req_caller(req);
    bool trusted = caller->kind != CALLER_UNTRUSTED;
    json_t *info = json_pack("{s:o,s:s,s:s,s:s,s:b,s:[s]}", "api_extensions", extensions(),
                             "api_status", "stable", "api_version", "1.0", "auth",
                             trusted ? "trusted" : "untrusted", "public", 0, "auth_methods", "tls");
    *ret_tag = NULL;
    if (!trusted) {
        return info; /* I1 */
    }
    json_t *config = caller->restricted ? json_object() : settings_json(agent->settings);
    *ret_tag = req_etag(config);
    json_object_set_new(info, "config", config);
    json_object_set_new(info, "environment", environment(req, storage));
    json_object_set_new(info, "auth_user_name", json_string(caller->username));
    json_object_set_new(info, "auth_user_method", json_string(caller->protocol));
    return info;
}

/* Every client begins with this request, so the last answer is kept with all that it was made of. */
static struct {
    int kind;
    bool restricted;
    guint64 generation; /* of the settings */
    char *username, *protocol, *project, *storage;
    json_t *addresses;
    GBytes *body; /* NULL: none yet */
    char *tag;
} last;

static bool
is_last(Request *req, const char *storage, const json_t *addresses)
{
    const Caller *caller = req_caller(req);
    return last.body != NULL && last.kind == (int) caller->kind &&
           last.restricted == caller->restricted &&
           last.generation == settings_generation(req_agent(req)->settings) &&
           g_strcmp0(last.username, caller->username) == 0 &&
           g_strcmp0(last.protocol, caller->protocol) == 0 &&
           strcmp(last.project, req_project(req)) == 0 && strcmp(last.storage, storage) == 0 &&
           json_equal(last.addresses, addresses);
}

static void
forget_last(void)
{
    g_free(last.username);
    g_free(last.protocol);
    g_free(last.project);
    g_free(last.storage);
    json_decref(last.addresses);
    g_clear_pointer(&last.body, g_bytes_unref);
    g_free(last.tag);
}

static void
make_last(Request *req, const char *storage, json_t *addresses)
{
    const Caller *caller = req_caller(req);
    GString *text = req_text_new();
    forget_last();
    json_t *described = describe(req, storage, &last.tag);
    jsontext_append(text, described);
    json_decref(described);
    g_string_append(text, "}\n");
    last.body = g_string_free_to_bytes(text);
    last.kind = caller->kind;
    last.restricted = caller->restricted;
    last.generation = settings_generation(req_agent(req)->settings);
    last.username = g_strdup(caller->username);
    last.protocol = g_strdup(caller->protocol);
    last.project = g_strdup(req_project(req));
    last.storage = g_strdup(storage);
    last.addresses = json_incref(addresses);
}

static bool
get(Request *req, GError **error)
{
    g_autofree char *storage = pool_drivers(req_agent(req)->pools);
    json_t *addresses = server_addresses(req_agent(req)->server);
    if (!is_last(req, storage, addresses)) {
        make_last(req, storage, addresses);
    }
    json_decref(addresses);
    const char *const headers[] = {"ETag", last.tag, NULL};
    return req_reply_shared(req, 200, "application/json", last.body,
                            last.tag != NULL ? headers : NULL);
}

static bool
change(Request *req, GError **error)
{
    bool replace = !req_patches(req);
    Agent *agent = req_agent(req);
    json_t *body = req_json(req), *config = json_object_get(body, "config");

    if (!json_is_object(body)) {
        return haw_fail(error, HAW_INVALID,
                        "json: cannot unmarshal %s into Go value of type api.ServerPut",
                        json_is_array(body) ? "array" : "value");
    }
    if (config != NULL && !json_is_object(config) && !json_is_null(config)) {
        return haw_fail(error, HAW_INVALID,
                        "json: cannot unmarshal value into Go struct field ServerPut.config of "
                        "type map[string]interface {}");
    }
    if (!req_check_etag(req, settings_json(agent->settings), error) ||
        !settings_change(agent->settings, config, replace, error)) {
        return false;
    }
    event_lifecycle(agent, NULL, req_caller(req), NULL, "config-updated", "/1.0");
    return req_reply(req, NULL);
}

const Route info_routes[] = {
    {"GET", "/", get_root, ROUTE_UNTRUSTED | ROUTE_EARLY},
    {"GET", "/1.0", get, ROUTE_UNTRUSTED | ROUTE_EARLY | ROUTE_AT_ONCE},
    {"PUT", "/1.0", change, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"PATCH", "/1.0", change, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {NULL},
};
