/* fastpins.h: what of the fast path outlives the daemon: maps and links, pinned in a bpffs.
 * Threads: one, the daemon's. Nothing Yields, but a change of layout takes as long as the slow path may. */
#pragma once
#include "base/error.h"

struct bpf_object;

/* The directory of pins below 'bpf_dir', which becomes a bpffs when it is none; maps of another layout are no longer
 * in it. Caller frees; NULL is an error. */
char *fastpins_open(const char *bpf_dir, GError **error);
/* Maps of 'object', not loaded yet, are those that are pinned. */
bool fastpins_adopt(const char *pin_dir, struct bpf_object *object, GError **error);
/* Pins those that aren't. */
bool fastpins_keep(const char *pin_dir, struct bpf_object *object, GError **error);
/* All pins go, and with links what they attach; without error when there are none. */
bool fastpins_remove(const char *bpf_dir, GError **error);
