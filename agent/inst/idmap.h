/* idmap.h: which ids of the host stand for the ids inside a container.
 * Threads: idmap_shift_tree() on a worker; the rest any. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>
#include <jansson.h>

typedef struct {
    bool uid, gid;
    gint64 host, inside, count;
} IdmapEntry;

/* [{"Isuid","Isgid","Hostid","Nsid","Maprange"}…], LXD's form in volatile.idmap.*; new references. */
json_t *idmap_to_json(const GArray *map);
/* NULL and "" give an empty map. CORRUPT when it is no such list. Caller unrefs. */
GArray *idmap_from_text(const char *text, GError **error);
char *idmap_to_text(const GArray *map);

/* What root may hand out: /etc/subuid and /etc/subgid (files given for tests), else 1000000 and a
 * thousand million, cut to what our own user namespace has. */
typedef struct {
    gint64 base, count;
} IdmapRange;
IdmapRange idmap_host_range(const char *subuid_path, const char *subgid_path,
                            const char *uid_map_path);

/* LIMIT "Not enough uid/gid available for the container". 'taken' has the ranges (IdmapRange) of the
 * other isolated instances, in any order. Empty map for a privileged one. */
GArray *idmap_choose(json_t *config, IdmapRange host, const GArray *taken, GError **error);
/* "both 1000 2000-2009" lines onto the map; INVALID "Invalid raw.idmap line: …", and for a host id that
 * the map has already. */
bool idmap_add_raw(GArray *map, const char *lines, GError **error);

/* The id on the host, -1 when it has none; and the way back. */
gint64 idmap_to_host(const GArray *map, bool uid, gint64 inside);
gint64 idmap_to_inside(const GArray *map, bool uid, gint64 host);
bool idmap_equal(const GArray *a, const GArray *b);

/* Changes the owners below 'path' from those that 'from' gives to those that 'to' gives, with file
 * capabilities and ACLs. What is in neither map stays. Blocks: run it on a worker. */
bool idmap_shift_tree(const char *path, const GArray *from, const GArray *to, GError **error);
