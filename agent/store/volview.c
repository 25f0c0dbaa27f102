/* Views of volumes.
 * Y1  A driver that clones in an instant (btrfs) shows a read-only clone; one that layers (overlay) a
 *     read-only mount of the layers; others the volume itself, which changes under a running instance.
 * Y2  Clones and mount points lie in .new, so a crash leaves them to the next start.
 * Main loop, inside fibers. */
#include "agent/store/volview.h"

#include "agent/store/work.h"
#include "base/ids.h"

#include <string.h>

static bool
clones(const Pool *pool, const Vol *vol)
{
    return vol->snap == NULL && strcmp(pool->driver->name, "btrfs") == 0;
}

bool
volview_open(PoolTable *table, const Vol *vol, VolView *ret, GError **error)
{
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0}, temp = {0};
    shelf_place(pool, vol, &place);
    shelf_new_place(pool, &place, &temp);
    VolView view = {.pool = pool};
    if (clones(pool, vol)) {
        if (!work_clone(pool->driver, &place, &temp, NULL, error) ||
            !work_seal(pool->driver, &temp, true, error)) {
            work_remove(pool->driver, &temp, NULL);
            return false;
        }
        view.cloned = true;
        view.path = g_steal_pointer(&temp.path);
    } else if (pool->driver->view != NULL) {
        if (!work_view(pool->driver, &place, temp.path, error)) {
            return false;
        }
        view.viewed = true;
        view.path = g_steal_pointer(&temp.path);
    } else {
        view.path = g_steal_pointer(&place.path);
    }
    *ret = view;
    return true;
}

void
volview_close(VolView *view)
{
    if (view->cloned) {
        DriverVol temp = {.pool_path = view->pool->path, .path = view->path};
        work_remove(view->pool->driver, &temp, NULL);
    } else if (view->viewed) {
        work_unview(view->path);
    }
    g_clear_pointer(&view->path, g_free);
    view->cloned = view->viewed = false;
}

bool
volview_moves(PoolTable *table, const Vol *vol)
{
    Pool *pool = shelf_pool(table, vol->pool, false, NULL);
    return pool != NULL && vol->snap == NULL && !clones(pool, vol);
}
