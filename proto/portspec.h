/* portspec.h: is what a peer calls a port one? Threads: any. */
#pragma once
#include "base/error.h"
#include "proto/dpd.pb-c.h"

/* Names, addresses and combinations that hawser-dpd can work with; INVALID names the port and what is
 * wrong with it. */
bool portspec_check(const Dpd__Port *spec, GError **error);
/* A name that the kernel takes for an interface: 1 to 15 bytes, no '/', no blanks. */
bool portspec_ifname(const char *name);
/* Six bytes in hex, not a group's. */
bool portspec_mac(const char *mac);
