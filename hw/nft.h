/* nft.h: nftables rulesets, loaded and listed by libnftables.
 * Threads: any; one call runs at a time. Calls block. UNAVAILABLE when libnftables isn't there. */
#pragma once
#include "base/error.h"

/* One transaction: all of it or nothing. */
bool nft_load(const char *ruleset, GError **error);
/* Names of the chains of a table ("inet", "lxd"), NULL-terminated; empty when it is not there. */
char **nft_chains(const char *family, const char *table, GError **error);
