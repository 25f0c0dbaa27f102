/* agent.h: the root object of hawserd: what every module is handed, borrowed for the process's life.
 * Threads: main loop only. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>
#include <jansson.h>

typedef struct Db Db;
typedef struct Server Server;         /* api/server.h: listeners and routes */
typedef struct OpTable OpTable;       /* api/operation.h */
typedef struct EventHub EventHub;     /* api/event.h */
typedef struct Settings Settings;     /* api/settings.h: server configuration */
typedef struct Trust Trust;           /* auth/trust.h */
typedef struct PoolTable PoolTable;   /* store/pool.h */
typedef struct ImageTable ImageTable; /* image/image.h */
typedef struct NetTable NetTable;     /* net/network.h */
typedef struct Ovn Ovn;               /* ovn/ovn.h */
typedef struct ZoneServer ZoneServer; /* net/zone_server.h */
typedef struct InstTable InstTable;   /* inst/inst.h */
typedef struct DpdClient DpdClient;   /* dpd/dpdclient.h */
typedef struct FastZones FastZones;   /* net/fastzone.h */

typedef struct Agent {
    char
        *dir; /* /var/lib/hawser: unix.socket, database/, containers/, images/, storage-pools/, … */
    char *exe;   /* the binary of the 'fork…' helpers */
    char *group; /* of the unix socket, NULL for root's */
    bool debug;
    bool ready; /* start-up is complete */
    bool
        autostarted; /* instances that start by themselves have been started: what waitready waits for */
    bool shutting_down;     /* new changes are answered with 503 */
    GCancellable *stopping; /* cancelled when the process is about to end: background fibers pass
                               it to what they wait for, and return */

    /* Owned; made in this order by agent_new(), freed in the opposite one. */
    Db *db;
    EventHub *events;
    OpTable *ops;
    Settings *settings;
    Trust *trust;
    PoolTable *pools;
    ImageTable *images;
    Ovn *ovn;
    DpdClient *dpd;
    FastZones *fast;
    NetTable *networks;
    ZoneServer *zones;
    InstTable *instances;
    Server *server;
} Agent;

typedef struct {
    const char *dir, *group; /* group may be NULL */
    bool debug;
    int socket_fd; /* passed by systemd, else -1 */
} AgentOptions;
/* Makes the directories, takes the lock of the state directory (BUSY when another agent has it),
 * opens the database and begins to start in the background; 'done' is called at the end of the
 * process's life: after a shutdown, or with the error that start-up met. */
typedef void (*AgentDone)(const GError *error, void *data);
Agent *agent_new(const AgentOptions *options, AgentDone done, void *data, GError **error);
/* After 'done': runs the loop until the last reply is sent and the background fibers have ended, 2 s
 * at most. False when some remain: leave with _exit() then, without agent_free(). */
bool agent_settle(Agent *agent);
void agent_free(Agent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Agent, agent_free)
/* Ends the agent: no new requests, running operations get core.shutdown_timeout (none with 'force'),
 * instances are stopped in order when asked (else they live on). Calls 'done'. Yields; a second call
 * is refused with CONFLICT. */
bool agent_shutdown(Agent *agent, bool stop_instances, bool force, GError **error);

/* "<dir>/<format…>"; caller frees. */
char *agent_path(const Agent *agent, const char *format, ...) G_GNUC_PRINTF(2, 3);
