/* vmlayout.h: the shape of a VM's machine: all that a second QEMU needs to be the same one, as JSON.
 * {"machine","accel","cpu","memory","page_bytes","cpus","cpus_max","ports","firmware","vsock",
 *  "devices": {"eth0": {"port": 3, "queues": 1}, "root": {"scsi": 0}}}.  Threads: any, one at a time. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* Ports beyond those of the devices that it starts with: for what is plugged in later. Few, since a machine's state takes longer
 * to load with each (a live move's pause: near a millisecond). */
enum { VMLAYOUT_SPARE = 8, VMLAYOUT_PORTS_MAX = 64, VMLAYOUT_SCSI_MAX = 255 };
#define VMLAYOUT_MEMORY (G_GINT64_CONSTANT(1) << 30) /* LXD's default */

typedef struct {
    const char *accel;                  /* "kvm", "tcg" */
    gint64 host_memory, hugepage_bytes; /* hugepage_bytes 0: the host has none */
    int host_cpus;
    bool vsock;
} VmlayoutHost;

/* From an expanded config, for so many devices that want a port; a new reference. INVALID, or UNSUPPORTED for what the
 * host lacks. */
json_t *vmlayout_new(json_t *config, size_t devices, const VmlayoutHost *host, GError **error);
/* Looks at one that came from elsewhere: sizes and numbers in bounds. CORRUPT. */
bool vmlayout_check(json_t *layout, GError **error);
/* The number of CPUs of a limits.cpu value: a count, or the size of a set; 1 for NULL. */
int vmlayout_cpus(const char *limit);
/* The place of a device: the one it has, else the lowest free one, which it has from now on. -1 with
 * LIMIT when none is free. */
int vmlayout_port(json_t *layout, const char *device, GError **error);
int vmlayout_scsi(json_t *layout, const char *device, GError **error);
void vmlayout_forget(json_t *layout, const char *device);
/* A number of a device's place ("queues"); -1 when there is none. */
int vmlayout_get(json_t *layout, const char *device, const char *key);
void vmlayout_set(json_t *layout, const char *device, const char *key, int value);
