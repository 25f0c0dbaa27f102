/* liveqemu.h: what a live move asks of the two QEMUs, in QMP.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/vm/vm.h"

/* ---- both ---- */
/* Capabilities and limits of a migration whose memory travels beside it; 'source' also stops before the
 * switch. 'native': by QEMU's own stream, memory included. */
bool liveqemu_prepare(Qmp *qmp, bool source, bool native, GError **error);
/* Capabilities (NULL at the end), on or off. */
bool liveqemu_set(Qmp *qmp, const char *const *names, bool on, GError **error);
/* Parameters of a migration (stolen). */
bool liveqemu_tune(Qmp *qmp, json_t *parameters, GError **error);
/* Until query-migrate says 'status'; FAILED with QEMU's words when it fails or is cancelled. */
bool liveqemu_await(Qmp *qmp, const char *status, gint64 wait_ms, GCancellable *cancel,
                    GError **error);
/* Hands 'fd' (borrowed) over and migrates to it, or from it. */
bool liveqemu_migrate(Qmp *qmp, const char *command, int fd, GError **error);

/* ---- source ---- */
/* The balloon holds some of the guest's memory: pages of it may be punched at any time. */
bool liveqemu_ballooned(Qmp *qmp, gint64 memory_bytes);
/* Starts to mirror the disk of block node 'node' to the NBD server behind the abstract unix socket 'name'. */
bool liveqemu_mirror(Qmp *qmp, const char *node, const char *name, gint64 bandwidth,
                     GError **error);
/* Until every mirror has all; 'tell' gets bytes done and in all, and must not yield. */
typedef void (*LiveqemuTell)(gint64 done, gint64 total, void *data);
bool liveqemu_mirrors_ready(Qmp *qmp, LiveqemuTell tell, void *data, GCancellable *cancel,
                            GError **error);
/* The guest stands still: the mirrors end, with all in the target. */
bool liveqemu_mirrors_end(Qmp *qmp, GError **error);
/* As if nothing had been: migration and mirrors cancelled, the guest runs. Repeats safely. */
bool liveqemu_undo(Qmp *qmp, GError **error);

/* ---- target ---- */
/* Serves block nodes (NULL at the end) for writing; ret_fds[i] is connected to nodes[i], the caller's. */
bool liveqemu_serve(Qmp *qmp, const char *const *nodes, int *ret_fds, GError **error);
bool liveqemu_serve_end(Qmp *qmp, GError **error);
