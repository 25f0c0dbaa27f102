/* resources.h: GET /1.0/resources: the host's hardware in LXD's form. */
#pragma once
#include "agent/api/server.h"

/* The parts; each reads sysfs and procfs and gives a new object. Threads: any. */
json_t *resources_cpu(void);
json_t *resources_memory(void);
json_t *resources_network(void);
json_t *resources_storage(void);
json_t *resources_pci(void);
json_t *resources_system(void);
/* Sets driver, driver_version, numa_node, pci_address, vendor(_id), product(_id) of what hangs on a
 * PCI device; an empty address sets only the node. */
void resources_put_pci(json_t *object, const char *pci_address);
/* One port of a card in LXD's form. */
json_t *resources_port(const char *netdev);
/* Adds to network cards what NICs can do beyond plain ports: virtual functions with their vDPA
 * devices, and RDMA. Cards that have no interface here are added. */
void resources_put_functions(json_t *cards);
extern const Route resource_routes[];
