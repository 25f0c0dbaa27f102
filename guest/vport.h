/* vport.h: the virtio-serial port at whose other end the agent is.
 * Threads: the guest's only one. */
#pragma once

/* Opens the port for reading and writing, without waiting on either; -1 while there is none. 'path' (NULL:
 * looked for) is a device, or a unix socket to connect to. */
int vport_open(const char *path);
