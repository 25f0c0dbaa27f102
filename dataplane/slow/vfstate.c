/* Virtual functions as text.
 * V1  What was taken and written comes back the same: each field that is set is in the text.
 * V2  A text of a later version may have more in it; one that lacks the function's names is CORRUPT. */
#include "dataplane/slow/vfstate.h"

#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct field {
    const char *name;
    enum { TEXT, NUMBER, COUNT, WIDE } kind;
    size_t offset, size;
};
#define TEXT_FIELD(name, member)                                                                   \
    {                                                                                              \
        name, TEXT, offsetof(VfState, member), sizeof(((VfState *) 0)->member)                     \
    }
#define FIELD(name, kind, member)                                                                  \
    {                                                                                              \
        name, kind, offsetof(VfState, member), 0                                                   \
    }

static const struct field fields[] = {
    TEXT_FIELD("dev", dev),
    TEXT_FIELD("pf", pf),
    TEXT_FIELD("pf_netdev", pf_netdev),
    FIELD("vf", COUNT, vf),
    TEXT_FIELD("driver", driver),
    TEXT_FIELD("netdev", netdev),
    TEXT_FIELD("mac", mac),
    FIELD("mtu", COUNT, mtu),
    FIELD("up", NUMBER, up),
    FIELD("checksum", NUMBER, checksum),
    TEXT_FIELD("vf_mac", props.mac),
    FIELD("vlan", NUMBER, props.vlan),
    FIELD("qos", NUMBER, props.qos),
    FIELD("spoofchk", NUMBER, props.spoofchk),
    FIELD("trust", NUMBER, props.trust),
    FIELD("min_mbps", WIDE, props.min_mbps),
    FIELD("max_mbps", WIDE, props.max_mbps),
    FIELD("link_state", NUMBER, props.link_state),
    TEXT_FIELD("switch_id", key.switch_id),
    FIELD("controller", COUNT, key.controller),
    FIELD("switch_pf", COUNT, key.pf),
    FIELD("switch_vf", COUNT, key.vf),
    TEXT_FIELD("rep", rep),
    FIELD("rep_mtu", COUNT, rep_mtu),
    FIELD("rep_up", NUMBER, rep_up),
    FIELD("rep_checksum", NUMBER, rep_checksum),
};

void
vfstate_take(const HwInventory *inventory, const struct hw_vf *vf, VfState *ret)
{
    const struct hw_pf *pf = hw_pf_at(inventory, vf->pf);
    const struct hw_rep *rep = hw_rep_of(inventory, vf);
    VfState state = {.vf = vf->vf,
                     .mtu = vf->mtu,
                     .up = vf->netdev[0] != '\0' ? vf->up : -1,
                     .props = vf->props,
                     .rep_up = -1,
                     .checksum = -1,
                     .rep_checksum = -1};
    g_strlcpy(state.pf, pf->dev, sizeof(state.pf));
    g_strlcpy(state.pf_netdev, pf->netdev, sizeof(state.pf_netdev));
    g_strlcpy(state.dev, vf->dev, sizeof(state.dev));
    g_strlcpy(state.driver, vf->driver, sizeof(state.driver));
    g_strlcpy(state.netdev, vf->netdev, sizeof(state.netdev));
    g_strlcpy(state.mac, vf->netdev_mac, sizeof(state.mac));
    if (rep != NULL) {
        state.key = rep->key;
        g_strlcpy(state.rep, rep->netdev, sizeof(state.rep));
    } else if (pf->eswitch == HW_ESWITCH_SWITCHDEV) {
        /* It may come late: this is where it will be. */
        state.key = (struct hw_port_key){.pf = pf->number, .vf = vf->vf};
        g_strlcpy(state.key.switch_id, pf->switch_id, sizeof(state.key.switch_id));
    }
    *ret = state;
}

char *
vfstate_text(const VfState *state)
{
    json_t *map = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        const char *at = (const char *) state + fields[i].offset;
        json_t *value = fields[i].kind == TEXT     ? json_string(at)
                        : fields[i].kind == NUMBER ? json_integer(*(const int *) (const void *) at)
                        : fields[i].kind == COUNT
                            ? json_integer(*(const guint *) (const void *) at)
                            : json_integer(*(const gint64 *) (const void *) at);
        json_object_set_new(map, fields[i].name, value);
    }
    char *dumped = json_dumps(map, JSON_COMPACT);
    char *text = g_strdup(dumped);
    free(dumped);
    json_decref(map);
    return text;
}

bool
vfstate_parse(const char *text, VfState *ret, GError **error)
{
    json_t *map = text != NULL ? json_loads(text, 0, NULL) : NULL;
    VfState state = {.up = -1, .checksum = -1, .rep_up = -1, .rep_checksum = -1};
    hw_vf_props_none(&state.props);
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        char *at = (char *) &state + fields[i].offset;
        json_t *value = json_object_get(map, fields[i].name);
        if (fields[i].kind == TEXT && json_is_string(value)) {
            g_strlcpy(at, json_string_value(value), fields[i].size);
        } else if (fields[i].kind == NUMBER && json_is_integer(value)) {
            *(int *) (void *) at = (int) json_integer_value(value);
        } else if (fields[i].kind == COUNT && json_is_integer(value)) {
            *(guint *) (void *) at = (guint) json_integer_value(value);
        } else if (fields[i].kind == WIDE && json_is_integer(value)) {
            *(gint64 *) (void *) at = json_integer_value(value);
        }
    }
    json_decref(map);
    if (state.dev[0] == '\0' || state.pf[0] == '\0') { /* V2 */
        return haw_fail(error, HAW_CORRUPT, "the ledger's record of a virtual function is damaged");
    }
    *ret = state;
    return true;
}

static bool
differ(gint64 want, gint64 found)
{
    return want >= 0 && want != found;
}

bool
vfstate_differ(const struct hw_vf_props *want, const struct hw_vf_props *found,
               struct hw_vf_props *ret_change)
{
    bool any = false;
    hw_vf_props_none(ret_change);
    if (want->mac[0] != '\0' && g_ascii_strcasecmp(want->mac, found->mac) != 0) {
        memcpy(ret_change->mac, want->mac, sizeof(want->mac));
        any = true;
    }
    /* Both are set by one request. */
    if (differ(want->vlan, found->vlan) || differ(want->qos, found->qos)) {
        ret_change->vlan = want->vlan >= 0 ? want->vlan : found->vlan;
        ret_change->qos = want->qos >= 0 ? want->qos : found->qos;
        any = true;
    }
    if (differ(want->spoofchk, found->spoofchk)) {
        ret_change->spoofchk = want->spoofchk;
        any = true;
    }
    if (differ(want->trust, found->trust)) {
        ret_change->trust = want->trust;
        any = true;
    }
    if (differ(want->min_mbps, found->min_mbps) || differ(want->max_mbps, found->max_mbps)) {
        ret_change->min_mbps = want->min_mbps >= 0 ? want->min_mbps : found->min_mbps;
        ret_change->max_mbps = want->max_mbps >= 0 ? want->max_mbps : found->max_mbps;
        any = true;
    }
    if (differ(want->link_state, found->link_state)) {
        ret_change->link_state = want->link_state;
        any = true;
    }
    return any;
}
