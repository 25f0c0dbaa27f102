/* vdpa.h: vDPA management devices and the devices made on them. Threads: any, one a door. */
#pragma once
#include "hw/backend.h"
#include "hw/nldoor.h"

/* Appends what there is: struct hw_vdpa_mgmt and struct hw_vdpa elements. */
bool vdpa_list(NlDoor *door, GArray *mgmts, GArray *devices, GError **error);
bool vdpa_add(const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa, GError **error);
bool vdpa_del(const char *name, GError **error);
