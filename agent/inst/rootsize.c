/* The size of the root disk: a quota for a container, the image's size for a virtual machine.
 * Z1  A disk in use can't grow under QEMU: volatile.<device>.apply_quota says that it has to at the next
 *     start, as LXD has it.
 * Called by change.c and by a virtual machine's start (vm/vmboot.c). */
#include "agent/inst/rootsize.h"

#include "agent/inst/plug.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static bool
apply(Inst *inst, const char *size, GError **error)
{
    Vol vol;
    gint64 bytes = 0;
    return (size == NULL || grammar_parse_size(size, &bytes, error)) &&
           inst_volume(inst, &vol, error) && vol_set_quota(inst->agent->pools, &vol, bytes, error);
}

bool
rootsize_change(Inst *inst, json_t *from, json_t *to, json_t *changes, GError **error)
{
    const char *name;
    json_t *old = plug_root(from, &name, NULL), *new = plug_root(to, &name, NULL);
    const char *before = old != NULL ? keys_get(old, "size") : NULL;
    const char *after = new != NULL ? keys_get(new, "size") : NULL;
    g_autoptr(GError) local = NULL;
    if (new == NULL || g_strcmp0(before, after) == 0 || apply(inst, after, &local)) {
        return true;
    }
    if (haw_code(local) == HAW_BUSY && inst->pid != 0) { /* Z1 */
        g_autofree char *key = g_strdup_printf("volatile.%s.apply_quota", name);
        json_object_set_new(changes, key, json_string("true"));
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool
rootsize_settle(Inst *inst, json_t *changes, GError **error)
{
    const char *name;
    json_t *root = plug_root(inst->expanded_devices, &name, error);
    if (root == NULL) {
        return false;
    }
    g_autofree char *key = g_strdup_printf("volatile.%s.apply_quota", name);
    if (!inst_get_bool(inst, key, false)) {
        return true;
    }
    if (!apply(inst, keys_get(root, "size"), error)) {
        return haw_push(error, "Failed applying the size of the root disk");
    }
    json_object_set_new(changes, key, json_null());
    return true;
}
