/* Preparing a PF: VFs and eswitch mode, in the order that its driver wants.
 * R1  Nothing is changed when it is so already, so it may run at every boot.
 * R2  VFs go only when nobody has one: neither another namespace, vfio-pci, a vDPA device, nor a claim.
 * R3  What was asked last for a PF is kept by its address: names are given later in a boot.
 * Called by the agent's REST (a person asked) and at boot (a person had asked). */
#include "hw/prepare.h"

#include <string.h>

#include "base/fd.h"

enum { NETDEV_WAIT_MS = 5000, FILE_MAX = 1024 * 1024 };

/* What drivers insist on. */
static const struct quirk {
    const char *driver;
    bool mode_first; /* the mode can't be changed while there are VFs */
    bool unbind_vfs; /* the mode can't be changed while VFs have drivers */
} quirks[] = {
    {"ice", true, false},         {"i40e", true, false},       {"mlx5_core", false, true},
    {"hawser-sim", false, false}, {"netdevsim", false, false},
};

static const struct quirk *
quirk_of(const struct hw_pf *pf)
{
    static const struct quirk none = {"", false, false};
    for (size_t i = 0; i < G_N_ELEMENTS(quirks); i++) {
        if (strcmp(quirks[i].driver, pf->driver) == 0) {
            return &quirks[i];
        }
    }
    return &none;
}

static const struct hw_pf *
find(const HwInventory *inventory, const char *name, GError **error)
{
    const struct hw_pf *pf = hw_find_pf(inventory, name);
    if (pf == NULL) {
        haw_fail(error, HAW_NOT_FOUND,
                 "there is no PF '%s' (`hawser hw list` shows those that there are)", name);
    }
    return pf;
}

/* R2: false, naming the first VF that somebody has. */
static bool
check_unused(const HwInventory *inventory, const struct hw_pf *pf, const char *const *claimed,
             GError **error)
{
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        if (hw_pf_at(inventory, vf->pf) != pf) {
            continue;
        }
        const struct hw_vdpa_mgmt *mgmt = hw_find_vdpa_mgmt(inventory, vf->dev);
        const char *who = NULL;
        for (guint j = 0; mgmt != NULL && j < inventory->vdpas->len && who == NULL; j++) {
            who = strcmp(hw_vdpa_at(inventory, j)->mgmt, mgmt->handle) == 0
                      ? hw_vdpa_at(inventory, j)->name
                      : NULL;
        }
        if (claimed != NULL && g_strv_contains(claimed, vf->dev)) {
            who = "an instance's NIC";
        } else if (strcmp(vf->driver, "vfio-pci") == 0) {
            who = "vfio-pci";
        } else if (vf->netdev[0] == '\0' && vf->driver[0] != '\0' &&
                   strcmp(pf->bus, "netdevsim") != 0) {
            who = "another network namespace";
        }
        if (who != NULL) {
            return haw_fail(error, HAW_CONFLICT,
                            "VF %u of '%s' ('%s') is in use by %s: stop what uses the VFs first",
                            vf->vf, pf->netdev, vf->dev, who);
        }
    }
    return true;
}

/* After a change the inventory is looked at again, as all in it may be new. Some drivers make the PF's own
 * interface anew when the mode changes: that is waited for. */
static bool
again(HwBackend *hw, HwInventory **inventory, const char *name, const struct hw_pf **pf,
      GError **error)
{
    g_autofree char *dev = g_strdup(name);
    gint64 deadline_us = g_get_monotonic_time() + NETDEV_WAIT_MS * 1000;
    for (;;) {
        g_clear_pointer(inventory, hw_inventory_free);
        *inventory = hw_inventory(hw, error);
        *pf = *inventory != NULL ? find(*inventory, dev, error) : NULL;
        if (*pf == NULL || (*pf)->netdev[0] != '\0' || g_get_monotonic_time() > deadline_us) {
            return *pf != NULL;
        }
        g_usleep(50 * 1000);
    }
}

struct work {
    HwBackend *hw;
    HwInventory *inventory; /* owned */
    const struct hw_pf *pf; /* borrowed from it */
    json_t *steps;
};

static void told(struct work *work, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
told(struct work *work, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    json_array_append_new(work->steps, json_string(text));
}

static bool
make_vfs(struct work *work, guint count, GError **error)
{
    if (work->pf->vfs == count) {
        return true;
    }
    guint before = work->pf->vfs;
    g_autofree char *dev = g_strdup(work->pf->dev);
    if (before > 0 && count > 0 &&
        (!hw_set_num_vfs(work->hw, work->pf, 0, error) ||
         !again(work->hw, &work->inventory, dev, &work->pf, error))) {
        return false;
    }
    if (!hw_set_num_vfs(work->hw, work->pf, count, error) ||
        !again(work->hw, &work->inventory, dev, &work->pf, error)) {
        return false;
    }
    told(work, "virtual functions: %u, was %u", count, before);
    return true;
}

/* Takes the VFs from their drivers, or gives them back: 'drivers' are those that they had. */
static bool
bind_vfs(struct work *work, GPtrArray *drivers, bool back, GError **error)
{
    guint at = 0;
    for (guint i = 0; i < work->inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(work->inventory, i);
        if (hw_pf_at(work->inventory, vf->pf) != work->pf) {
            continue;
        }
        if (!back) {
            g_ptr_array_add(drivers, g_strdup(vf->driver));
        }
        const char *driver = at < drivers->len ? g_ptr_array_index(drivers, at) : "";
        at++;
        if (*driver != '\0' && !hw_bind_driver(work->hw, vf->dev, back ? driver : "", error)) {
            return false;
        }
    }
    return true;
}

static bool
set_mode(struct work *work, HwEswitch mode, GError **error)
{
    if (mode == HW_ESWITCH_UNKNOWN || work->pf->eswitch == mode) {
        return true;
    }
    g_autofree char *dev = g_strdup(work->pf->dev);
    g_autoptr(GPtrArray) drivers = g_ptr_array_new_with_free_func(g_free);
    bool unbind = quirk_of(work->pf)->unbind_vfs;
    if (unbind && !bind_vfs(work, drivers, false, error)) {
        return false;
    }
    bool done = hw_set_eswitch(work->hw, work->pf, mode, error);
    /* The VFs get their drivers back even if the mode stayed. */
    if (unbind && !bind_vfs(work, drivers, true, done ? error : NULL)) {
        return false;
    }
    if (!done || !again(work->hw, &work->inventory, dev, &work->pf, error)) {
        return false;
    }
    told(work, "eswitch: %s", hw_eswitch_name(mode));
    return true;
}

/* Flows can go to hardware only with hw-tc-offload; a driver without it switches in software. */
static void
offload(struct work *work)
{
    g_autoptr(GError) why = NULL;
    if (work->pf->eswitch != HW_ESWITCH_SWITCHDEV || work->pf->hw_tc_offload != 0) {
        return;
    }
    if (hw_set_tc_offload(work->hw, work->pf, true, &why)) {
        told(work, "hw-tc-offload: on");
    } else {
        told(work, "hw-tc-offload stays off: %s", why->message);
    }
}

static bool
check(const struct work *work, const struct prepare_want *want, const char *const *claimed,
      GError **error)
{
    const struct hw_pf *pf = work->pf;
    bool mode = want->mode != HW_ESWITCH_UNKNOWN && pf->eswitch != want->mode;
    if (want->vfs > pf->vfs_max) {
        return haw_fail(error, HAW_LIMIT,
                        "'%s' can have %u virtual functions: ask for fewer, or raise the number "
                        "in its firmware",
                        want->pf, pf->vfs_max);
    }
    if (mode && pf->eswitch == HW_ESWITCH_UNKNOWN) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "'%s' ('%s') has no eswitch whose mode can be set: use --mode legacy",
                        want->pf, pf->driver);
    }
    return (pf->vfs == want->vfs && !mode) || check_unused(work->inventory, pf, claimed, error);
}

/* R1 */
static bool
carry_out(struct work *work, const struct prepare_want *want, GError **error)
{
    const struct quirk *quirk = quirk_of(work->pf);
    HwEswitch mode = want->mode;
    if (quirk->mode_first && mode != HW_ESWITCH_UNKNOWN && work->pf->eswitch != mode) {
        if (!make_vfs(work, 0, error) || !set_mode(work, mode, error)) {
            return false;
        }
    }
    if (!make_vfs(work, want->vfs, error) || !set_mode(work, mode, error)) {
        return false;
    }
    offload(work);
    return true;
}

bool
prepare_pf(HwBackend *hw, const struct prepare_want *want, const char *const *claimed,
           json_t **ret_steps, GError **error)
{
    struct work work = {.hw = hw, .inventory = hw_inventory(hw, error), .steps = json_array()};
    work.pf = work.inventory != NULL ? find(work.inventory, want->pf, error) : NULL;
    struct prepare_want plain = *want;
    /* A driver without an eswitch is what legacy means. */
    if (work.pf != NULL && want->mode == HW_ESWITCH_LEGACY &&
        work.pf->eswitch == HW_ESWITCH_UNKNOWN) {
        plain.mode = HW_ESWITCH_UNKNOWN;
    }
    bool done = work.pf != NULL && check(&work, &plain, claimed, error) &&
                (carry_out(&work, &plain, error) || haw_push(error, "prepare '%s'", want->pf));
    hw_inventory_free(work.inventory);
    if (done) {
        *ret_steps = json_incref(work.steps);
    }
    json_decref(work.steps);
    return done;
}

/* {"0000:3b:00.0": {"vfs": 8, "mode": "switchdev"}}; empty without a file. */
static json_t *
load(const char *path, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = fd_read_file(path, FILE_MAX, NULL, &why);
    json_error_t at;
    if (text == NULL && haw_code(why) == HAW_NOT_FOUND) {
        return json_object();
    }
    json_t *all = text != NULL ? json_loads(text, 0, &at) : NULL;
    if (text == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
    } else if (!json_is_object(all)) {
        haw_fail(error, HAW_CORRUPT, "'%s', line %d: %s", path, at.line, at.text);
        json_decref(all);
        all = NULL;
    }
    return all;
}

/* R3 */
bool
prepare_keep(HwBackend *hw, const char *path, const struct prepare_want *want, GError **error)
{
    g_autoptr(HwInventory) inventory = hw_inventory(hw, error);
    const struct hw_pf *pf = inventory != NULL ? find(inventory, want->pf, error) : NULL;
    json_auto_t *all = pf != NULL ? load(path, error) : NULL;
    if (all == NULL) {
        return false;
    }
    if (want->vfs == 0 && want->mode != HW_ESWITCH_SWITCHDEV) {
        json_object_del(all, pf->dev);
    } else {
        json_object_set_new(
            all, pf->dev,
            json_pack("{s:i,s:s}", "vfs", (int) want->vfs, "mode", hw_eswitch_name(want->mode)));
    }
    g_autofree char *text = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS);
    return fd_write_atomic(path, text, strlen(text), 0600, error);
}

bool
prepare_boot(HwBackend *hw, const char *path, GError **error)
{
    json_auto_t *all = load(path, error);
    const char *dev;
    json_t *entry;
    GError *first = NULL;
    if (all == NULL) {
        return false;
    }
    json_object_foreach (all, dev, entry) {
        const char *mode = json_string_value(json_object_get(entry, "mode"));
        struct prepare_want want = {
            .pf = dev,
            .vfs = (guint) CLAMP(json_integer_value(json_object_get(entry, "vfs")), 0, 65535),
            .mode = g_strcmp0(mode, "switchdev") == 0 ? HW_ESWITCH_SWITCHDEV
                    : g_strcmp0(mode, "legacy") == 0  ? HW_ESWITCH_LEGACY
                                                      : HW_ESWITCH_UNKNOWN};
        json_t *steps = NULL;
        prepare_pf(hw, &want, NULL, &steps, first == NULL ? &first : NULL);
        json_decref(steps);
    }
    if (first != NULL) {
        g_propagate_error(error, first);
        return false;
    }
    return true;
}
