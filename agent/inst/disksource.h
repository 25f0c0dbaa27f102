/* disksource.h: what a disk device shows the container: a host's path or a custom volume, opened.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/devtype.h"

typedef struct {
    char *path; /* NULL: not there and not required */
    int fd;     /* owned; what 'path' was when the project's rules allowed it, -1 without rules */
    bool file;  /* or a block device: no directory */
    bool block; /* as disksource_open_path() found it */
    bool idmap; /* mounted through the container's map */
} Disksource;

#define DISKSOURCE_NONE ((Disksource){.fd = -1})

void disksource_clear(Disksource *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Disksource, disksource_clear)

bool disksource_is_custom(const Device *device);
/* Its strings are borrowed from the device and the project. */
Vol disksource_volume(Agent *agent, const char *project, const Device *device);
/* Whether the instance may not start without it. */
bool disksource_required(const Device *device);
/* Mounts what has to be mounted; disksource_release() undoes it. */
bool disksource_open(Agent *agent, const Device *device, Disksource *source, GError **error);
/* A host's path, if the project's rules allow it, and nothing mounted: a block device stays one. */
bool disksource_open_path(Agent *agent, const Device *device, Disksource *source, GError **error);
/* Notes that the device's custom volume is mounted: by whoever mounted it without disksource_open(). */
void disksource_hold(const Device *device);
void disksource_release(Agent *agent, const Device *device);
/* After a restart of the agent: the instance runs, so its volume is in use. */
void disksource_adopt(Agent *agent, const Device *device);
/* Binds the source below devices/, and makes that its path. */
bool disksource_place(Agent *agent, const Device *device, Disksource *source, GError **error);
bool disksource_remove_place(Agent *agent, const Device *device, GError **error);
