/* The agent: makes its parts in order, brings them up, takes them down.
 * A1  One agent a state directory: an flock on <dir>/hawserd.lock, which the kernel drops with us.
 * A2  The unix socket answers from the first moment; what needs the rest gets 503 until 'ready'.
 * A3  Parts are started in the order of 'starters': each may lean on those above it.
 * A4  A plain end leaves instances, bridges and mounts as they are; the next start adopts them. */
#include "agent/agent.h"

#include "agent/api/event.h"
#include "agent/api/hardware.h"
#include "agent/api/info.h"
#include "agent/api/internal.h"
#include "agent/api/operation.h"
#include "agent/api/resources.h"
#include "agent/api/server.h"
#include "agent/api/settings.h"
#include "agent/api/warning.h"
#include "agent/auth/project.h"
#include "agent/auth/trust.h"
#include "agent/dpd/dpdclient.h"
#include "agent/dpd/pollwish.h"
#include "agent/net/fastzone.h"
#include "agent/image/image.h"
#include "agent/inst/console.h"
#include "agent/inst/devlxd.h"
#include "agent/inst/intercept.h"
#include "agent/inst/recover.h"
#include "agent/inst/exec.h"
#include "agent/vm/guestvm.h"
#include "agent/inst/files.h"
#include "agent/inst/inst.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/instmeta.h"
#include "agent/inst/logs.h"
#include "agent/metrics/metrics.h"
#include "agent/move/livedecide.h"
#include "agent/net/network.h"
#include "agent/net/zone.h"
#include "agent/net/zone_server.h"
#include "agent/ovn/ovn.h"
#include "agent/state/db.h"
#include "agent/store/ownvol.h"
#include "agent/store/pool.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define SETTLE_MS 2000

struct life {
    Agent *agent;
    int socket_fd;
    AgentDone done;
    void *data;
};

static int lock_fd = -1;
static struct life life;

char *
agent_path(const Agent *agent, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *tail = g_strdup_vprintf(format, args);
    va_end(args);
    return g_build_filename(agent->dir, tail, NULL);
}

/* ---- coming up ---- */

static const struct {
    const char *path;
    mode_t mode;
} directories[] = {
    {"backups", 0700},   {"containers", 0711},    {"database", 0700},         {"devices", 0711},
    {"devlxd", 0755},    {"disks", 0700},         {"images", 0700},           {"logs", 0700},
    {"networks", 0711},  {"run", 0711},           {"security", 0700},         {"shmounts", 0711},
    {"snapshots", 0700}, {"storage-pools", 0711}, {"virtual-machines", 0711},
};

static bool
make_directories(Agent *agent, GError **error)
{
    if (!fd_mkdir_p(agent->dir, 0711, error)) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(directories); i++) {
        g_autofree char *path = agent_path(agent, "%s", directories[i].path);
        if (!fd_mkdir_p(path, directories[i].mode, error)) {
            return false;
        }
    }
    return true;
}

/* A1 */
static bool
take_lock(Agent *agent, GError **error)
{
    g_autofree char *path = agent_path(agent, "hawserd.lock");
    lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
        fd_close(&lock_fd);
        return haw_fail(error, HAW_BUSY, "another hawserd runs in '%s'", agent->dir);
    }
    return true;
}

static bool
start_settings(Agent *agent, GError **error)
{
    agent->settings = settings_load(agent, error);
    return agent->settings != NULL;
}

static bool
start_trust(Agent *agent, GError **error)
{
    agent->trust = trust_load(agent, error);
    return agent->trust != NULL;
}

static bool
start_socket(Agent *agent, GError **error)
{
    static const Route *const tables[] = {
        certificate_routes, console_routes,  event_routes,       exec_routes,
        dataplane_routes,   files_routes,    forward_routes,     hardware_routes,
        image_alias_routes, image_routes,    info_routes,        instance_routes,
        instbackup_routes,  instmeta_routes, internal_routes,    logs_routes,
        metrics_routes,     netacl_routes,   network_routes,     operation_routes,
        ovn_routes,         pool_routes,     profile_routes,     project_routes,
        resource_routes,    volume_routes,   warning_routes,     balancer_routes,
        peer_routes,        zone_routes,     zone_record_routes, livedecide_routes,
        recover_routes,
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        server_add_routes(agent->server, tables[i]);
    }
    int fd = life.socket_fd;
    life.socket_fd = -1;
    return server_listen_unix(agent->server, fd, error);
}

static bool
start_pools(Agent *agent, GError **error)
{
    return pool_table_start(agent->pools, error) && ownvol_start(agent, error);
}

static bool
start_images(Agent *agent, GError **error)
{
    return image_table_start(agent->images, error);
}

static bool
apply_filter(Agent *agent, const char *key, const char *value, GError **error)
{
    fastzone_refresh(agent);
    return true;
}

static bool
start_networks(Agent *agent, GError **error)
{
    settings_on_change(agent->settings, "network.ovn.filter", apply_filter);
    pollwish_start(agent);
    return net_table_start(agent->networks, error);
}

static bool
start_instances(Agent *agent, GError **error)
{
    if (!inst_table_start(agent->instances, error)) {
        return false;
    }
    net_table_adopt(agent->networks); /* before anyone may stop one of them */
    return true;
}

static bool
apply_https_address(Agent *agent, const char *key, const char *value, GError **error)
{
    return server_listen_tls(agent->server, SERVER_HTTPS, value, error) ||
           haw_push(error, "Cannot listen on network HTTPS socket \"%s\"", value);
}

static bool
apply_metrics_address(Agent *agent, const char *key, const char *value, GError **error)
{
    return server_listen_tls(agent->server, SERVER_METRICS, value, error) ||
           haw_push(error, "Cannot listen on metrics socket \"%s\"", value);
}

static void
start_dns(Agent *agent)
{
    static const char key[] = "core.dns_address";
    g_autoptr(GError) why = NULL;
    if (!zone_server_listen(agent, key, settings_get(agent->settings, key), &why)) {
        haw_warn("zone.listen_failed", KS("why", why->message)); /* the address may come back */
    }
}

static bool
start_https(Agent *agent, GError **error)
{
    g_autoptr(GError) why = NULL;
    settings_on_change(agent->settings, "core.dns_address", zone_server_listen);
    settings_on_change(agent->settings, "core.https_address", apply_https_address);
    settings_on_change(agent->settings, "core.metrics_address", apply_metrics_address);
    start_dns(agent);
    const char *address = settings_get(agent->settings, "core.https_address");
    if (!server_listen_tls(agent->server, SERVER_HTTPS, address, &why)) {
        /* The address may come back, and the socket must stay reachable to change it. */
        haw_warn("api.https_failed", KS("address", address), KS("why", why->message));
    }
    g_clear_error(&why);
    address = settings_get(agent->settings, "core.metrics_address");
    if (!server_listen_tls(agent->server, SERVER_METRICS, address, &why)) {
        haw_warn("api.metrics_failed", KS("address", address), KS("why", why->message));
    }
    return true;
}

/* A3 */
static const struct {
    const char *what;
    bool (*start)(Agent *agent, GError **error);
} starters[] = {
    {"settings", start_settings},
    {"certificates", start_trust},
    {"unix socket", start_socket},
    {"storage", start_pools},
    {"images", start_images},
    {"ovn", ovn_start},
    {"networks", start_networks},
    {"guest socket", devlxd_start},
    {"system calls", intercept_start},
    {"instances", start_instances},
    {"https", start_https},
};

static void
start_up(void *data)
{
    Agent *agent = data;
    gint64 began = clock_mono_us();
    g_autoptr(GError) error = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(starters); i++) {
        if (!starters[i].start(agent, &error)) {
            haw_push(&error, "start %s", starters[i].what);
            life.done(error, life.data);
            return;
        }
    }
    agent->ready = true;
    service_notify("READY=1");
    haw_info("agent.ready", KS("dir", agent->dir), KS("version", HAWSER_VERSION),
             KI("took_ms", (clock_mono_us() - began) / 1000));
}

/* hawserd-fork beside us, else ourselves (forkmain.c says why). */
static char *
helper_path(void)
{
    g_autofree char *own = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *helper = g_strconcat(own, "-fork", NULL);
    return access(helper, X_OK) == 0 ? g_steal_pointer(&helper) : g_steal_pointer(&own);
}

Agent *
agent_new(const AgentOptions *options, AgentDone done, void *data, GError **error)
{
    g_autoptr(Agent) agent = g_new0(Agent, 1);
    agent->dir = g_canonicalize_filename(options->dir, NULL);
    agent->exe = helper_path();
    agent->group = g_strdup(options->group);
    agent->debug = options->debug;
    agent->stopping = g_cancellable_new();
    if (!make_directories(agent, error) || !take_lock(agent, error)) {
        return NULL;
    }
    g_autofree char *path = agent_path(agent, "database/hawser.db");
    agent->db = db_open(path, error);
    if (agent->db == NULL) {
        return NULL;
    }
    agent->events = event_hub_new(agent);
    agent->ops = op_table_new(agent);
    agent->server = server_new(agent);
    agent->pools = pool_table_new(agent);
    agent->images = image_table_new(agent);
    agent->ovn = ovn_new(agent);
    agent->dpd = dpdclient_new(agent);
    agent->fast = fastzone_new(agent);
    agent->networks = net_table_new(agent);
    agent->zones = zone_server_new(agent);
    agent->instances = inst_table_new(agent);
    vm_set_guest(&guestvm);

    life = (struct life){agent, options->socket_fd, done, data};
    fiber_start("start-up", start_up, agent);
    return g_steal_pointer(&agent);
}

/* ---- going down ---- */

bool
agent_shutdown(Agent *agent, bool stop_instances, bool force, GError **error)
{
    if (agent->shutting_down) {
        return haw_fail(error, HAW_CONFLICT, "Shutdown already in progress");
    }
    agent->shutting_down = true;
    service_notify("STOPPING=1");
    haw_info("agent.stopping", KS("instances", stop_instances ? "stop" : "keep"));
    if (agent->ready) {
        if (!force) {
            gint64 minutes = settings_int(agent->settings, "core.shutdown_timeout");
            op_table_drain(agent->ops, minutes * 60 * 1000);
        }
        if (stop_instances) {
            inst_table_stop_all(agent->instances);
            net_table_stop(agent->networks);
            ovn_stop(agent);
            pool_table_stop(agent->pools);
        }
    }
    g_cancellable_cancel(agent->stopping);
    event_hub_close(agent->events);
    life.done(NULL, life.data);
    return true;
}

bool
agent_settle(Agent *agent)
{
    gint64 end_us = clock_mono_us() + SETTLE_MS * 1000;
    server_quiesce(agent->server);
    while ((fiber_count() > 0 || server_busy(agent->server) > 0) && clock_mono_us() < end_us) {
        if (!g_main_context_iteration(NULL, FALSE)) {
            g_usleep(1000);
        }
    }
    if (fiber_count() > 0) {
        g_autofree char *names = fiber_names();
        haw_debug("agent.unsettled", KS("fibers", names));
    }
    return fiber_count() == 0 && server_busy(agent->server) == 0;
}

void
agent_free(Agent *agent)
{
    if (agent == NULL) {
        return;
    }
    server_free(agent->server);
    zone_server_free(agent->zones);
    inst_table_free(agent->instances);
    net_table_free(agent->networks);
    fastzone_free(agent->fast);
    dpdclient_free(agent->dpd);
    ovn_free(agent->ovn);
    image_table_free(agent->images);
    pool_table_free(agent->pools);
    trust_free(agent->trust);
    settings_free(agent->settings);
    op_table_free(agent->ops);
    event_hub_free(agent->events);
    db_close(agent->db);
    g_object_unref(agent->stopping);
    g_free(agent->dir);
    g_free(agent->exe);
    g_free(agent->group);
    g_free(agent);
    fd_close(&lock_fd);
}
