/* The policy of claims.
 * C1  Functions that the host itself uses (their interface is up) are not ours to take.
 * C2  Same NUMA node first, then the least-used PF, then the lowest number: the answer depends on
 *     nothing else.
 * C3  One whose representor is still to come is taken only when there is no other. */
#include "dataplane/slow/claim.h"

#include <string.h>

static bool
is_named(const struct hw_pf *pf, const char *name)
{
    return strcmp(pf->netdev, name) == 0 || strcmp(pf->dev, name) == 0;
}

static bool
is_parent(const struct hw_pf *pf, const char *const *parents)
{
    for (; parents != NULL && *parents != NULL; parents++) {
        if (is_named(pf, *parents)) {
            return true;
        }
    }
    return parents == NULL;
}

static bool
parents_exist(const HwInventory *inventory, const char *const *parents, GError **error)
{
    for (; parents != NULL && *parents != NULL; parents++) {
        bool found = false;
        for (guint i = 0; i < inventory->pfs->len && !found; i++) {
            found = is_named(hw_pf_at(inventory, i), *parents);
        }
        if (!found) {
            return haw_fail(error, HAW_NOT_FOUND,
                            "Parent device \"%s\" is no SR-IOV device of this host: 'hawser hw "
                            "list' shows those that are",
                            *parents);
        }
    }
    return true;
}

/* What a PF has to offer. */
struct offer {
    const struct hw_vf *vf;   /* the first that is free, NULL for none */
    const struct hw_vf *late; /* the first that only lacks its representor (C3) */
    guint held;
    char *why; /* owned: of the first that can't serve */
};

static void
add_offer(const HwInventory *inventory, const struct hw_vf *vf, const struct claim_wish *wish,
          bool is_held, struct offer *offer)
{
    if (is_held) {
        offer->held++;
        return;
    }
    if (offer->vf != NULL) {
        return;
    }
    g_autofree char *why = hw_vf_unfit(inventory, vf, wish->use);
    if (why == NULL && vf->up == 1) { /* C1 */
        why = g_strdup_printf("the host itself uses \"%s\": it is up", vf->netdev);
    }
    if (why == NULL) {
        offer->vf = vf;
        return;
    }
    g_autofree char *lasting = hw_vf_unfit_yet(inventory, vf, wish->use);
    if (offer->late == NULL && lasting == NULL && vf->up != 1) {
        offer->late = vf;
    }
    if (offer->why == NULL) {
        offer->why = g_steal_pointer(&why);
    }
}

/* C2 */
static bool
is_better(const HwInventory *inventory, const struct claim_wish *wish, const struct offer *offers,
          guint one, guint two)
{
    bool near_one = hw_pf_at(inventory, one)->numa == wish->numa;
    bool near_two = hw_pf_at(inventory, two)->numa == wish->numa;
    if (wish->numa >= 0 && near_one != near_two) {
        return near_one;
    }
    return offers[one].held < offers[two].held;
}

static const struct hw_vf *
pick(const HwInventory *inventory, const struct claim_wish *wish, const struct offer *offers,
     bool late)
{
    const struct hw_vf *best = NULL;
    guint best_at = 0;
    for (guint i = 0; i < inventory->pfs->len; i++) {
        const struct hw_vf *vf = late ? offers[i].late : offers[i].vf;
        if (vf != NULL && (best == NULL || is_better(inventory, wish, offers, i, best_at))) {
            best = vf;
            best_at = i;
        }
    }
    return best;
}

static void
explain(const HwInventory *inventory, const struct claim_wish *wish, const struct offer *offers,
        GError **error)
{
    guint held = 0;
    const char *why = NULL;
    g_autoptr(GString) names = g_string_new(NULL);
    for (guint i = 0; i < inventory->pfs->len; i++) {
        const struct hw_pf *pf = hw_pf_at(inventory, i);
        if (is_parent(pf, wish->parents)) {
            held += offers[i].held;
            why = why != NULL ? why : offers[i].why;
            g_string_append_printf(names, "%s\"%s\"", names->len > 0 ? ", " : "",
                                   pf->netdev[0] != '\0' ? pf->netdev : pf->dev);
            if (why == NULL && offers[i].held == 0) {
                g_autofree char *unfit = hw_pf_unfit(inventory, pf, wish->use);
                if (unfit != NULL) {
                    haw_fail(error, HAW_UNSUPPORTED, "%s", unfit);
                    return;
                }
            }
        }
    }
    if (names->len == 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "This host has no SR-IOV device: 'hawser hw doctor' says what is missing");
    } else if (held > 0 && why == NULL) {
        haw_fail(error, HAW_LIMIT,
                 "All virtual functions of sriov device %s are already in use: make more with "
                 "'hawser hw prepare', or stop an instance that holds one",
                 names->str);
    } else if (held > 0) {
        haw_fail(error, HAW_LIMIT,
                 "All virtual functions of sriov device %s are already in use or unusable: %s",
                 names->str, why);
    } else {
        haw_fail(error, HAW_UNSUPPORTED, "No virtual function of sriov device %s can be used: %s",
                 names->str, why != NULL ? why : "it has none; see 'hawser hw prepare'");
    }
}

const struct hw_vf *
claim_choose(const HwInventory *inventory, const struct claim_wish *wish, ClaimHeld held,
             void *data, GError **error)
{
    if (!parents_exist(inventory, wish->parents, error)) {
        return NULL;
    }
    g_autofree struct offer *offers = g_new0(struct offer, inventory->pfs->len + 1);
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        if (is_parent(hw_pf_at(inventory, vf->pf), wish->parents)) {
            add_offer(inventory, vf, wish, held(vf->dev, data), &offers[vf->pf]);
        }
    }
    const struct hw_vf *best = pick(inventory, wish, offers, false);
    best = best != NULL ? best : pick(inventory, wish, offers, true); /* C3 */
    if (best == NULL) {
        explain(inventory, wish, offers, error);
    }
    for (guint i = 0; i < inventory->pfs->len; i++) {
        g_free(offers[i].why);
    }
    return best;
}
