/* curl_lib.h: libcurl, loaded when it is first needed: it has LDAP, Kerberos and SSH
 * behind it, and most agents ask no server for anything.
 * Include it in place of the library's own header; its functions are called by their usual names, after
 * curl_lib_load() has succeeded once. What isn't listed here isn't linked: add it to both lists.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <curl/curl.h>

/* clang-format off */
#define CURL_LIB_FUNCTIONS(X)                                                                      \
    X(curl_easy_cleanup) X(curl_easy_getinfo) X(curl_easy_init) X(curl_easy_perform)               \
    X(curl_easy_setopt) X(curl_easy_strerror) X(curl_mime_addpart) X(curl_mime_filedata)           \
    X(curl_mime_filename) X(curl_mime_free) X(curl_mime_init) X(curl_mime_name)                    \
    X(curl_mime_type) X(curl_slist_append) X(curl_slist_free_all)
/* clang-format on */

/* Its argument checks are macros of the same names. */
#undef curl_easy_setopt
#undef curl_easy_getinfo
struct curl_lib {
#define FIELD(name) __typeof__(name) *name;
    CURL_LIB_FUNCTIONS(FIELD)
#undef FIELD
};
extern struct curl_lib curl_lib;

/* UNAVAILABLE when the library, or a function of it, isn't there. Cheap once it is loaded. */
bool curl_lib_load(GError **error);

#ifndef CURL_LIB_OWNER
#define curl_easy_cleanup   curl_lib.curl_easy_cleanup
#define curl_easy_getinfo   curl_lib.curl_easy_getinfo
#define curl_easy_init      curl_lib.curl_easy_init
#define curl_easy_perform   curl_lib.curl_easy_perform
#define curl_easy_setopt    curl_lib.curl_easy_setopt
#define curl_easy_strerror  curl_lib.curl_easy_strerror
#define curl_mime_addpart   curl_lib.curl_mime_addpart
#define curl_mime_filedata  curl_lib.curl_mime_filedata
#define curl_mime_filename  curl_lib.curl_mime_filename
#define curl_mime_free      curl_lib.curl_mime_free
#define curl_mime_init      curl_lib.curl_mime_init
#define curl_mime_name      curl_lib.curl_mime_name
#define curl_mime_type      curl_lib.curl_mime_type
#define curl_slist_append   curl_lib.curl_slist_append
#define curl_slist_free_all curl_lib.curl_slist_free_all
#endif
