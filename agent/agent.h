/* agent.h: the root object of hawserd: what every module is handed, borrowed for the process's life.
 * Threads: main loop only. */
#pragma once
#include "base/error.h"
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
typedef struct InstTable InstTable;   /* inst/inst.h */

typedef struct Agent {
    char *dir;   /* /var/lib/hawser: unix.socket, database/, containers/, images/, storage-pools/, … */
    char *exe;   /* our own binary, for 'hawserd fork…' helpers */
    char *group; /* of the unix socket, NULL for root's */
    bool debug;
    bool ready;         /* start-up is complete */
    bool shutting_down; /* new changes are answered with 503 */

    /* Owned; made in this order by agent_new(), freed in the opposite one. */
    Db *db;
    EventHub *events;
    OpTable *ops;
    Settings *settings;
    Trust *trust;
    PoolTable *pools;
    ImageTable *images;
    NetTable *networks;
    InstTable *instances;
    Server *server;
} Agent;

/* "<dir>/<format…>"; caller frees. */
char *agent_path(const Agent *agent, const char *format, ...) G_GNUC_PRINTF(2, 3);
