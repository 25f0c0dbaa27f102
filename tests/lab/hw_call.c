/* hw_call: calls of hw/backend.h for lab scripts: "hw_call list" prints the inventory; the others change.
 * The backend is $HAWSER_HW's. Exit status: the error's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "hw/backend.h"
#include "hw/sim.h"

static bool
list(HwBackend *hw, char **args, GError **error)
{
    g_autoptr(HwInventory) inventory = hw_inventory(hw, error);
    if (inventory == NULL) {
        return false;
    }
    json_auto_t *json = hw_inventory_json(inventory);
    json_dumpf(json, stdout, JSON_INDENT(1));
    puts("");
    return true;
}

static bool
bind_driver(HwBackend *hw, char **args, GError **error)
{
    return hw_bind_driver(hw, args[0], args[1], error);
}

static bool
vdpa_add(HwBackend *hw, char **args, GError **error)
{
    struct hw_vdpa_new want = {.mgmt = args[0], .name = args[1], .mac = args[2]};
    struct hw_vdpa vdpa;
    if (!hw_add_vdpa(hw, &want, &vdpa, error)) {
        return false;
    }
    puts(vdpa.chardev);
    return true;
}

static bool
vdpa_del(HwBackend *hw, char **args, GError **error)
{
    return hw_del_vdpa(hw, args[0], error);
}

/* MGMT NAME COUNT: made, opened, refused to go, closed, removed, so often. */
static bool
vdpa_cycles(HwBackend *hw, char **args, GError **error)
{
    for (int left = atoi(args[2]); left > 0; left--) {
        g_autoptr(GError) busy = NULL;
        struct hw_vdpa_new want = {.mgmt = args[0], .name = args[1], .mac = "02:00:00:00:00:0a"};
        struct hw_vdpa vdpa;
        if (!hw_add_vdpa(hw, &want, &vdpa, error)) {
            return false;
        }
        haw_autofd int fd = open(vdpa.chardev, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            return haw_fail_errno(error, errno, "open '%s'", vdpa.chardev);
        }
        if (hw_del_vdpa(hw, args[1], &busy) || haw_code(busy) != HAW_BUSY) {
            return haw_fail(error, HAW_BUG, "'%s' was removed under its user", args[1]);
        }
        fd_close(&fd);
        if (!hw_del_vdpa(hw, args[1], error)) {
            return false;
        }
    }
    return true;
}

/* PF VF [mac=…] [vlan=…] [spoofchk=0|1] [trust=0|1] [max_mbps=…] [link_state=0..2] */
static bool
set_vf(HwBackend *hw, char **args, GError **error)
{
    g_autoptr(HwInventory) inventory = hw_inventory(hw, error);
    const struct hw_pf *pf = inventory != NULL ? hw_find_pf(inventory, args[0]) : NULL;
    struct hw_vf_props props;
    hw_vf_props_none(&props);
    if (pf == NULL) {
        return inventory != NULL && haw_fail(error, HAW_NOT_FOUND, "no PF '%s'", args[0]);
    }
    for (char **arg = args + 2; *arg != NULL; arg++) {
        const char *value = strchr(*arg, '=');
        int number = value != NULL ? atoi(value + 1) : 0;
        if (g_str_has_prefix(*arg, "mac=")) {
            g_strlcpy(props.mac, value + 1, sizeof props.mac);
        } else if (g_str_has_prefix(*arg, "vlan=")) {
            props.vlan = number;
        } else if (g_str_has_prefix(*arg, "spoofchk=")) {
            props.spoofchk = number;
        } else if (g_str_has_prefix(*arg, "trust=")) {
            props.trust = number;
        } else if (g_str_has_prefix(*arg, "max_mbps=")) {
            props.max_mbps = number;
            props.min_mbps = 0;
        } else if (g_str_has_prefix(*arg, "link_state=")) {
            props.link_state = number;
        }
    }
    return hw_set_vf(hw, pf, (guint) atoi(args[1]), &props, error);
}

static bool
wait_rep(HwBackend *hw, char **args, GError **error)
{
    struct hw_port_key key = {0};
    struct hw_rep rep;
    if (!hw_port_name_parse(args[1], &key)) {
        return haw_fail(error, HAW_INVALID, "'%s' names no port", args[1]);
    }
    g_strlcpy(key.switch_id, args[0], sizeof key.switch_id);
    if (!hw_wait_rep(hw, &key, atoi(args[2]), &rep, error)) {
        return false;
    }
    puts(rep.netdev);
    return true;
}

static const struct {
    const char *name;
    int args;
    bool (*fn)(HwBackend *hw, char **args, GError **error);
} calls[] = {{"list", 0, list},         {"bind", 2, bind_driver},        {"vdpa-add", 3, vdpa_add},
             {"vdpa-del", 1, vdpa_del}, {"vdpa-cycles", 3, vdpa_cycles}, {"set-vf", 2, set_vf},
             {"rep-wait", 3, wait_rep}};

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    for (size_t i = 0; argc > 1 && i < G_N_ELEMENTS(calls); i++) {
        if (strcmp(calls[i].name, argv[1]) != 0 || argc - 2 < calls[i].args) {
            continue;
        }
        g_autoptr(HwBackend) hw = hw_open(NULL, &error);
        if (hw == NULL || !calls[i].fn(hw, argv + 2, &error)) {
            fprintf(stderr, "hw_call %s: %s\n", argv[1], error->message);
            return haw_code_exit(haw_code(error));
        }
        return 0;
    }
    fprintf(stderr, "hw_call: no such call\n");
    return 2;
}
