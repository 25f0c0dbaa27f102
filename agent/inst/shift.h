/* shift.h: ids inside an instance and on the host, by the map that LXD keeps as JSON
 * ([{"Isuid","Isgid","Hostid","Nsid","Maprange"}…]). Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <sys/types.h>

typedef enum { SHIFT_UID, SHIFT_GID } ShiftKind;
#define SHIFT_NONE ((gint64) -1)

/* An empty or NULL map is the identity. SHIFT_NONE when the id is not mapped. */
gint64 shift_to_host(json_t *idmap, ShiftKind kind, gint64 inside);
gint64 shift_from_host(json_t *idmap, ShiftKind kind, gint64 host);
/* The map of a running process from /proc/PID/{uid,gid}_map, as an array like the above; empty for
 * a process of the initial user namespace. Never NULL. */
json_t *shift_of_pid(pid_t pid);
