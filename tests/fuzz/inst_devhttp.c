/* Any bytes as a guest's request head: refused, or a method, a path and a bounded body. */
#include "agent/inst/devhttp.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_auto(Devhttp) request = {0};
    size_t head = devhttp_head_size((const char *) bytes, size);

    if (head == 0) {
        return 0;
    }
    if (devhttp_parse((const char *) bytes, head, &request) == 0) {
        g_assert_cmpint(request.path[0], ==, '/');
        g_assert_cmpuint(request.body_size, <=, DEVHTTP_BODY_MAX);
        g_free(devhttp_query(&request, "type"));
    }
    return 0;
}
