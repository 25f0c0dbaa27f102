/* Owners of files in a custom volume, on disk, brought to what a container sees: LXD's rules.
 * O1  "volatile.idmap.last" of a volume says which map its files have on disk; none and [] are ids as they are. Files
 *     change before the key, and a shift may be repeated (idmap.c, M3).
 * O2  With security.shifted the ids on disk are plain, and each container mounts the volume through its own map.
 * O3  Without, they are the container's: so a container with another map is refused while others have the volume.
 *     One that never ran has no map yet, and does not count.
 * Called by disksource.c with the volume mounted. Main loop, inside a fiber; the walk is a worker's. */
#include "agent/inst/diskshift.h"

#include "agent/inst/idmap.h"
#include "agent/inst/inst.h"
#include "agent/store/wire.h"
#include "base/crash.h"
#include "base/fiber.h"
#include "proto/keys.h"

#include <string.h>

#define LAST "volatile.idmap.last"
#define NEXT "volatile.idmap.next"

/* The map that a container has, or will have at its next start; NULL for one that never ran. */
static GArray *
map_of(Inst *inst)
{
    const char *current = inst_pid(inst) > 0 ? inst_get(inst, "volatile.idmap.current") : NULL;
    const char *text = current != NULL ? current : inst_get(inst, NEXT);
    return text != NULL ? idmap_from_text(text, NULL) : NULL;
}

/* O3 */
static bool
others_agree(Agent *agent, const Device *device, const Vol *vol, const GArray *want, GError **error)
{
    g_autoptr(GPtrArray) users = wire_users(agent->pools, vol);
    for (guint i = 0; i < users->len; i++) {
        Inst *other = users->pdata[i];
        if (inst_id(other) == inst_id(device->inst) || strcmp(inst_type(other), "container") != 0) {
            continue;
        }
        g_autoptr(GArray) theirs = map_of(other);
        if (theirs != NULL && !idmap_equal(theirs, want)) {
            return haw_fail(
                error, HAW_FAILED,
                "Idmaps of container \"%s\" and storage volume \"%s\" are not identical: "
                "security.shifted=true on the volume shows it to each with ids of its own",
                inst_name(other), vol->name);
        }
    }
    return true;
}

struct walk {
    const char *path;
    const GArray *from, *to;
    GError *error;
};

static void
walk_run(void *data)
{
    struct walk *walk = data;
    idmap_shift_tree(walk->path, walk->from, walk->to, &walk->error);
}

bool
diskshift(Agent *agent, const Device *device, const Vol *vol, const char *path, json_t *config,
          bool plain, GError **error)
{
    json_auto_t *ours = plain ? json_array() : devtype_idmap(device);
    g_autofree char *text = json_dumps(ours, JSON_COMPACT);
    g_autoptr(GArray) want = idmap_from_text(text, error);
    g_autoptr(GArray) last =
        want != NULL ? idmap_from_text(json_string_value(json_object_get(config, LAST)), error)
                     : NULL;
    if (last == NULL) {
        return false;
    }
    if (idmap_equal(last, want)) {
        return true;
    }
    bool shared = plain && keys_get_bool(config, "security.shifted", false);
    if (!shared && !others_agree(agent, device, vol, want, error)) {
        return false;
    }
    struct walk walk = {.path = path, .from = last, .to = want};
    fiber_run(walk_run, &walk);
    if (walk.error != NULL) {
        g_propagate_prefixed_error(error, walk.error, "Failed to shift volume \"%s\": ", vol->name);
        return false;
    }
    crash_point("volume");
    return vol_set_config_key(agent->pools, vol, LAST, text, error) && /* O1 */
           vol_set_config_key(agent->pools, vol, NEXT, text, error);
}
