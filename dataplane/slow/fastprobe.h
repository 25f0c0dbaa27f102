/* fastprobe.h: why a kernel does not take the fast path's programs.
 * Threads: any. Tries small programs and maps, some ms each. */
#pragma once
#include <glib.h>

enum fastprobe_kind { FASTPROBE_PROGRAMS, FASTPROBE_MAP, FASTPROBE_HELPER };

struct fastprobe_need {
    enum fastprobe_kind kind;
    guint id;         /* bpf_prog_type, bpf_map_type, bpf_func_id */
    const char *what; /* for people: name, and since when Linux has it */
};

/* What is missing when loading failed with 'code' (an errno); caller frees. Says what to look for when none of the
 * needs is missing. */
char *fastprobe_why(int code);
/* The first of 'needs' that this kernel does not have, NULL when it has all. Borrowed. */
const struct fastprobe_need *fastprobe_first(const struct fastprobe_need *needs, gsize count);
