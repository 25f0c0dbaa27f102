/* The table of libcurl-gnutls.so.4's functions, filled by dlopen(). */
#define CURL_LIB_OWNER
#include "agent/image/curl_lib.h"

#include "base/lazylib.h"

#define NAME(name) #name,
static const char *const names[] = {CURL_LIB_FUNCTIONS(NAME) NULL};
#undef NAME

struct curl_lib curl_lib;
static LazyLib lib = {"libcurl-gnutls.so.4", "libcurl3-gnutls", names, (void **) &curl_lib};

bool
curl_lib_load(GError **error)
{
    return lazylib_load(&lib, error);
}
