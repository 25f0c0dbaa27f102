/* ethtool.h: what interfaces offload: hw-tc-offload, without which flows stay in software.
 * Threads: any, one a door. */
#pragma once
#include "hw/nldoor.h"

/* ifindex → GINT_TO_POINTER(1 on, 2 off), for those that tell. */
GHashTable *ethtool_tc_offload(NlDoor *door, GError **error);
bool ethtool_set_tc_offload(const char *netdev, bool on, GError **error);
