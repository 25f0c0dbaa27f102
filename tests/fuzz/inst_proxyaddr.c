/* Any text as a proxy's address: refused with a reason, or ports within bounds. */
#include "agent/inst/proxyaddr.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strndup(bytes != NULL ? (const char *) bytes : "", size);
    g_autoptr(ProxyAddr) addr = proxyaddr_parse(text, &error);

    g_assert_true((addr == NULL) == (error != NULL));
    if (addr != NULL) {
        g_assert_cmpuint(addr->count, <=, 65535);
        g_assert_true(addr->kind == PROXYADDR_UNIX || addr->count > 0);
        g_assert_true(proxyaddr_match(addr, addr, NULL));
    }
    return 0;
}
