/* The table of libarchive.so.13's functions, filled by dlopen(). */
#define ARCHIVE_LIB_OWNER
#include "agent/image/archive_lib.h"

#include "base/lazylib.h"

#define NAME(name) #name,
static const char *const names[] = {ARCHIVE_LIB_FUNCTIONS(NAME) NULL};
#undef NAME

struct archive_lib archive_lib;
static LazyLib lib = {"libarchive.so.13", "libarchive13", names, (void **) &archive_lib};

bool
archive_lib_load(GError **error)
{
    return lazylib_load(&lib, error);
}
