/* Libraries on demand.
 * L1  The table is complete before 'loaded' says so: whoever sees 1 may call any function of it.
 * L2  Two threads may load at once: dlopen() counts, and both write the same addresses. */
#include "base/lazylib.h"

#include <dlfcn.h>

bool
lazylib_load(LazyLib *lib, GError **error)
{
    if (g_atomic_int_get(&lib->loaded)) {
        return true;
    }
    void *handle = dlopen(lib->soname, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        return haw_fail(error, HAW_UNAVAILABLE, "Load '%s' (package %s): %s", lib->soname,
                        lib->package, dlerror());
    }
    for (size_t i = 0; lib->names[i] != NULL; i++) {
        void *address = dlsym(handle, lib->names[i]);
        if (address == NULL) {
            return haw_fail(error, HAW_UNAVAILABLE, "'%s' (package %s) has no function '%s'",
                            lib->soname, lib->package, lib->names[i]);
        }
        g_atomic_pointer_set(&lib->table[i], address);
    }
    g_atomic_int_set(&lib->loaded, 1); /* L1 */
    return true;
}
