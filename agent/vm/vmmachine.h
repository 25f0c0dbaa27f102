/* vmmachine.h: QEMU's command line of one VM: what can't be plugged later.
 * Threads: any. */
#pragma once
#include "agent/vm/vmargs.h"
#include <jansson.h>

/* Descriptors are numbers in QEMU; -1: none. All borrowed. */
typedef struct {
    const char *name, *uuid, *generation;
    json_t *layout;
    const char *overrides; /* raw.qemu.conf, may be NULL */
    int qmp_fd, guest_fd;  /* listening sockets */
    int own_dir_fd;        /* where QEMU makes "spice" */
    int memory_fd;
    int code_fd, nvram_fd; /* -1: a BIOS */
    int vsock_fd;          /* /dev/vhost-vsock */
    int tpm_fd;            /* connected to swtpm */
    bool spice;
    gint64 vsock_cid;
    bool incoming;
    json_t *sev; /* {"cbitpos","reduced-phys-bits","policy","dh","session"}; NULL: none */
} VmMachine;

/* The sections, raw.qemu.conf applied. INVALID. */
VmArgs *vmmachine_args(const VmMachine *spec, GError **error);
