/* Id maps: LXD's rules for who gets which ids, and its form of writing them down.
 * M1  A container that is not isolated has the host's whole range; isolated ones have pieces that
 *     do not overlap each other, the first one 65536 above the range's base.
 * M2  raw.idmap cuts holes: a later entry wins over the inside ids it names. A host id that is in the
 *     map already cannot be given twice: two ids inside would own the same files.
 * M3  Shifting touches an entry once and changes nothing that the old map does not know, so that
 *     a run that was cut short can be repeated.
 * Called by start.c; the shift on a worker thread. */
#include "agent/inst/idmap.h"
#include "base/fd.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEFAULT_BASE   1000000
#define DEFAULT_COUNT  1000000000
#define ISOLATED_COUNT 65536
#define XATTR_MAX      65536

/* ---- as text ---- */

json_t *
idmap_to_json(const GArray *map)
{
    json_t *list = json_array();
    for (guint i = 0; i < map->len; i++) {
        const IdmapEntry *e = &g_array_index(map, IdmapEntry, i);
        json_array_append_new(list,
                              json_pack("{s:b,s:b,s:I,s:I,s:I}", "Isuid", e->uid, "Isgid", e->gid,
                                        "Hostid", (json_int_t) e->host, "Nsid",
                                        (json_int_t) e->inside, "Maprange", (json_int_t) e->count));
    }
    return list;
}

char *
idmap_to_text(const GArray *map)
{
    json_t *list = idmap_to_json(map);
    char *dump = json_dumps(list, JSON_COMPACT);
    char *text = g_strdup(dump);
    free(dump);
    json_decref(list);
    return text;
}

GArray *
idmap_from_text(const char *text, GError **error)
{
    g_autoptr(GArray) map = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    if (text == NULL || *text == '\0') {
        return g_steal_pointer(&map);
    }
    json_t *list = json_loads(text, 0, NULL);
    size_t i;
    json_t *item;
    bool ok = json_is_array(list);
    json_array_foreach (list, i, item) {
        int uid = 0, gid = 0;
        json_int_t host, inside, count;
        ok = ok && json_unpack(item, "{s:b,s:b,s:I,s:I,s:I}", "Isuid", &uid, "Isgid", &gid,
                               "Hostid", &host, "Nsid", &inside, "Maprange", &count) == 0;
        if (ok) {
            IdmapEntry entry = {uid != 0, gid != 0, host, inside, count};
            g_array_append_val(map, entry);
        }
    }
    json_decref(list);
    if (!ok) {
        haw_fail(error, HAW_CORRUPT, "Invalid id map \"%s\"", text);
        return NULL;
    }
    return g_steal_pointer(&map);
}

/* ---- the host's range ---- */

static bool
subid_of_root(const char *path, IdmapRange *ret_range)
{
    g_autofree char *text = fd_read_file(path, 1024 * 1024, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    bool found = false;
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, ":", 3);
        if (g_strv_length(fields) != 3 ||
            (strcmp(fields[0], "root") != 0 && strcmp(fields[0], "0") != 0)) {
            continue;
        }
        IdmapRange range = {g_ascii_strtoll(fields[1], NULL, 10),
                            g_ascii_strtoll(fields[2], NULL, 10)};
        if (range.count >= ISOLATED_COUNT && (!found || range.count > ret_range->count)) {
            *ret_range = range;
            found = true;
        }
    }
    return found;
}

IdmapRange
idmap_host_range(const char *subuid_path, const char *subgid_path, const char *uid_map_path)
{
    IdmapRange uids, gids, range = {DEFAULT_BASE, DEFAULT_COUNT};
    if (subid_of_root(subuid_path, &uids) && subid_of_root(subgid_path, &gids)) {
        gint64 base = MAX(uids.base, gids.base);
        gint64 end = MIN(uids.base + uids.count, gids.base + gids.count);
        if (end - base >= ISOLATED_COUNT) {
            return (IdmapRange){base, end - base};
        }
    }
    g_autofree char *text = fd_read_file(uid_map_path, 65536, NULL, NULL);
    gint64 inside, outside, count;
    if (text != NULL &&
        sscanf(text, "%" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, &inside,
               &outside, &count) == 3 &&
        inside + count < range.base + range.count) {
        /* We are in a user namespace: the upper half, or what is above our own first 65536 ids. */
        range.base =
            inside + count > range.base + ISOLATED_COUNT ? range.base : inside + ISOLATED_COUNT;
        range.count = MAX(0, inside + count - range.base);
    }
    return range;
}

/* ---- choosing ---- */

static int
by_base(const void *a, const void *b)
{
    const IdmapRange *first = a, *second = b;
    return first->base < second->base ? -1 : first->base > second->base;
}

/* M1: the first gap that is wide enough. */
static bool
find_gap(IdmapRange host, const GArray *taken, gint64 count, gint64 *ret_base)
{
    gint64 at = host.base + ISOLATED_COUNT;
    g_autoptr(GArray) sorted = g_array_new(FALSE, FALSE, sizeof(IdmapRange));
    if (taken != NULL && taken->len > 0) {
        g_array_append_vals(sorted, taken->data, taken->len);
    }
    g_array_sort(sorted, by_base);
    for (guint i = 0; i < sorted->len; i++) {
        const IdmapRange *other = &g_array_index(sorted, IdmapRange, i);
        if (other->base - at >= count) {
            break;
        }
        at = MAX(at, other->base + other->count);
    }
    if (at + count > host.base + host.count) {
        return false;
    }
    *ret_base = at;
    return true;
}

static void
append(GArray *map, bool uid, bool gid, gint64 host, gint64 inside, gint64 count)
{
    if (count > 0) {
        IdmapEntry entry = {uid, gid, host, inside, count};
        g_array_append_val(map, entry);
    }
}

GArray *
idmap_choose(json_t *config, IdmapRange host, const GArray *taken, GError **error)
{
    g_autoptr(GArray) map = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    if (keys_get_bool(config, "security.privileged", false)) {
        return g_steal_pointer(&map);
    }
    gint64 base = host.base, count = host.count;
    if (keys_get_bool(config, "security.idmap.isolated", false)) {
        const char *size = keys_get(config, "security.idmap.size");
        const char *fixed = keys_get(config, "security.idmap.base");
        count = size != NULL && strcmp(size, "auto") != 0 ? g_ascii_strtoll(size, NULL, 10)
                                                          : ISOLATED_COUNT;
        if (fixed != NULL) {
            base = g_ascii_strtoll(fixed, NULL, 10);
        } else if (!find_gap(host, taken, count, &base)) {
            haw_fail(error, HAW_LIMIT, "Not enough uid/gid available for the container");
            return NULL;
        }
    } else {
        const char *size = keys_get(config, "security.idmap.size");
        gint64 wanted = size != NULL ? g_ascii_strtoll(size, NULL, 10) : 0;
        count = wanted > 0 ? MIN(wanted, count) : count;
    }
    if (count < 1) {
        haw_fail(error, HAW_LIMIT, "Not enough uid/gid available for the container");
        return NULL;
    }
    append(map, true, false, base, 0, count);
    append(map, false, true, base, 0, count);
    const char *raw = keys_get(config, "raw.idmap");
    if (raw != NULL && !idmap_add_raw(map, raw, error)) {
        return NULL;
    }
    return g_steal_pointer(&map);
}

static bool
overlap(gint64 a, gint64 a_count, gint64 b, gint64 b_count)
{
    return a < b + b_count && b < a + a_count;
}

/* M2 */
static bool
add_entry(GArray *map, IdmapEntry entry, GError **error)
{
    g_autoptr(GArray) kept = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    for (guint i = 0; i < map->len; i++) {
        IdmapEntry old = g_array_index(map, IdmapEntry, i);
        bool same_kind = old.uid == entry.uid && old.gid == entry.gid;
        if (same_kind && overlap(old.host, old.count, entry.host, entry.count)) {
            return haw_fail(error, HAW_INVALID, "Host id is in the range of subids");
        }
        if (!same_kind || !overlap(old.inside, old.count, entry.inside, entry.count)) {
            g_array_append_val(kept, old);
            continue;
        }
        gint64 left = entry.inside - old.inside;
        gint64 skip = entry.inside + entry.count - old.inside;
        append(kept, old.uid, old.gid, old.host, old.inside, left);
        append(kept, old.uid, old.gid, old.host + skip, old.inside + skip, old.count - skip);
    }
    g_array_set_size(map, 0);
    if (kept->len > 0) {
        g_array_append_vals(map, kept->data, kept->len);
    }
    g_array_append_val(map, entry);
    return true;
}

static bool
parse_range(const char *text, gint64 *ret_start, gint64 *ret_count)
{
    char *end;
    if (!g_ascii_isdigit(*text)) {
        return false;
    }
    gint64 start = g_ascii_strtoll(text, &end, 10), last = start;
    if (*end == '-') {
        if (!g_ascii_isdigit(end[1])) {
            return false;
        }
        last = g_ascii_strtoll(end + 1, &end, 10);
    }
    if (*end != '\0' || last < start || last > G_MAXUINT32 - 1) {
        return false;
    }
    *ret_start = start;
    *ret_count = last - start + 1;
    return true;
}

bool
idmap_add_raw(GArray *map, const char *lines, GError **error)
{
    g_auto(GStrv) list = g_strsplit(lines, "\n", -1);
    for (char **line = list; *line != NULL; line++) {
        g_strstrip(*line);
        if (**line == '\0') {
            continue;
        }
        char kind[8], host[32], inside[32], rest[2];
        IdmapEntry entry = {0};
        gint64 count = 0;
        if (sscanf(*line, "%7s %31s %31s %1s", kind, host, inside, rest) != 3 ||
            !parse_range(host, &entry.host, &entry.count) ||
            !parse_range(inside, &entry.inside, &count) || count != entry.count) {
            return haw_fail(error, HAW_INVALID, "Invalid raw.idmap line: %s", *line);
        }
        bool both = strcmp(kind, "both") == 0;
        if (!both && strcmp(kind, "uid") != 0 && strcmp(kind, "gid") != 0) {
            return haw_fail(error, HAW_INVALID, "Invalid raw.idmap line: %s", *line);
        }
        if (both || kind[0] == 'u') {
            entry.uid = true, entry.gid = false;
            if (!add_entry(map, entry, error)) {
                return false;
            }
        }
        if (both || kind[0] == 'g') {
            entry.uid = false, entry.gid = true;
            if (!add_entry(map, entry, error)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- looking up ---- */

gint64
idmap_to_host(const GArray *map, bool uid, gint64 inside)
{
    for (guint i = 0; i < map->len; i++) {
        const IdmapEntry *e = &g_array_index(map, IdmapEntry, i);
        if ((uid ? e->uid : e->gid) && inside >= e->inside && inside < e->inside + e->count) {
            return e->host + (inside - e->inside);
        }
    }
    return map->len == 0 ? inside : -1;
}

gint64
idmap_to_inside(const GArray *map, bool uid, gint64 host)
{
    for (guint i = 0; i < map->len; i++) {
        const IdmapEntry *e = &g_array_index(map, IdmapEntry, i);
        if ((uid ? e->uid : e->gid) && host >= e->host && host < e->host + e->count) {
            return e->inside + (host - e->host);
        }
    }
    return map->len == 0 ? host : -1;
}

bool
idmap_equal(const GArray *a, const GArray *b)
{
    if (a->len != b->len) {
        return false;
    }
    for (guint i = 0; i < a->len; i++) {
        const IdmapEntry *x = &g_array_index(a, IdmapEntry, i);
        const IdmapEntry *y = &g_array_index(b, IdmapEntry, i);
        if (x->uid != y->uid || x->gid != y->gid || x->host != y->host || x->inside != y->inside ||
            x->count != y->count) {
            return false;
        }
    }
    return true;
}
