/* limits.h: limits.* keys as control group files, for the start and on a running container.
 * Threads: main loop. */
#pragma once
#include "agent/inst/record.h"

/* Appends [key, value] pairs for liblxc: what must hold before init runs. 'cpus' (may be NULL) is the
 * CPU set chosen by limits_balance(). */
bool limits_conf_items(json_t *config, const char *cpus, json_t *items, GError **error);
/* Writes what only a running container can be given (weights, network priority). */
void limits_post_start(Inst *inst);
/* From one expanded config to another on a running container; on failure what was written before is
 * put back. */
bool limits_change(Inst *inst, json_t *from, json_t *to, GError **error);
/* Spreads the running containers that have a CPU count over the CPUs; returns the set of 'starting'
 * (may be NULL), NULL when it has no limits.cpu. Caller frees. */
char *limits_balance(InstTable *table, Inst *starting);

/* The choice itself: 'wants' are limits.cpu values in order; NULL entries are skipped. Returns as many
 * sets ("0,3"), NULL for those; caller frees with g_ptr_array_unref. */
GPtrArray *limits_spread(const char *const *wants, size_t count, const int *cpus, size_t cpu_count);
/* "50%" of 'total' or a size; INVALID. */
bool limits_memory_bytes(const char *value, gint64 total, gint64 *ret_bytes, GError **error);
gint64 limits_host_memory(void);
