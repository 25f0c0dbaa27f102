/* rdma.h: RDMA devices and the interfaces that they belong to, from sysfs. Threads: any. */
#pragma once
#include "hw/inventory.h"

/* Appends struct hw_rdma elements. */
void rdma_list(const char *sysfs, GArray *rdmas);
