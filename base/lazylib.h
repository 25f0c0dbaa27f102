/* lazylib.h: a shared library that is loaded when it is first needed, not when the program starts.
 * A user declares a struct of function pointers with the library's own types and gives its bytes here
 * (agent/image/archive_lib.h is one). Once loaded it stays. Threads: any. */
#pragma once
#include "base/error.h"

typedef struct {
    const char *soname;       /* "libarchive.so.13" */
    const char *package;      /* the Debian package that has it */
    const char *const *names; /* of its functions, NULL behind the last */
    void **table;             /* as many pointers, in the same order */
    int loaded;               /* private */
} LazyLib;

/* Fills the table, or finds it filled. UNAVAILABLE, naming the package, when the library or one of the
 * functions isn't there; the next call tries again. */
bool lazylib_load(LazyLib *lib, GError **error);
