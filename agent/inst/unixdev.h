/* unixdev.h: device nodes of the host, made for a container. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/devtype.h"

typedef struct {
    char kind; /* 'c' or 'b' */
    unsigned major_no, minor_no;
    const char *path; /* in the container */
} UnixdevNode;

/* Makes the node under <dir>/devices/NAME/ with the device's mode, uid and gid; then, with 'lxc',
 * appends what the container's configuration needs, else puts it into the running container. */
bool unixdev_add(Agent *agent, const Device *device, const UnixdevNode *node, json_t *lxc,
                 GError **error);
/* Removes one node (of a running container, too); not there is success. */
bool unixdev_remove(Agent *agent, const Device *device, const UnixdevNode *node, GError **error);
/* Removes all nodes of the device: from disk, and from the container while it runs. */
bool unixdev_remove_all(Agent *agent, const Device *device, GError **error);
