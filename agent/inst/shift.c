/* Id maps: pure arithmetic over the JSON list of ranges.
 * Called by devices (nodes made on the host for a guest's id), files and exec. */
#include "agent/inst/shift.h"

#include <stdbool.h>
#include <stdio.h>

static gint64
shift(json_t *idmap, ShiftKind kind, gint64 id, const char *from, const char *to)
{
    size_t i;
    json_t *range;

    if (json_array_size(idmap) == 0) {
        return id;
    }
    json_array_foreach (idmap, i, range) {
        if (!json_is_true(json_object_get(range, kind == SHIFT_UID ? "Isuid" : "Isgid"))) {
            continue;
        }
        gint64 first = json_integer_value(json_object_get(range, from));
        gint64 count = json_integer_value(json_object_get(range, "Maprange"));
        if (id >= first && id - first < count) {
            return json_integer_value(json_object_get(range, to)) + (id - first);
        }
    }
    return SHIFT_NONE;
}

gint64
shift_to_host(json_t *idmap, ShiftKind kind, gint64 inside)
{
    return shift(idmap, kind, inside, "Nsid", "Hostid");
}

gint64
shift_from_host(json_t *idmap, ShiftKind kind, gint64 host)
{
    return shift(idmap, kind, host, "Hostid", "Nsid");
}

/* True when the file is the identity over all ids, as in the initial namespace. */
static bool
add_ranges(json_t *idmap, pid_t pid, const char *file, bool uid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int) pid, file);
    FILE *stream = fopen(path, "re");
    unsigned int nsid, hostid, count;
    bool whole = false;

    if (stream == NULL) {
        return true;
    }
    while (fscanf(stream, "%u %u %u", &nsid, &hostid, &count) == 3) {
        whole = whole || (nsid == 0 && hostid == 0 && count == G_MAXUINT32);
        json_array_append_new(idmap, json_pack("{s:b,s:b,s:I,s:I,s:I}", "Isuid", uid, "Isgid", !uid,
                                               "Hostid", (json_int_t) hostid, "Nsid",
                                               (json_int_t) nsid, "Maprange", (json_int_t) count));
    }
    fclose(stream);
    return whole;
}

json_t *
shift_of_pid(pid_t pid)
{
    json_t *idmap = json_array();
    bool whole = add_ranges(idmap, pid, "uid_map", true);

    whole = add_ranges(idmap, pid, "gid_map", false) && whole;
    if (whole) {
        json_array_clear(idmap);
    }
    return idmap;
}
