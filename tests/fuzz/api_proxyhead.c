/* Any bytes as a PROXY header: refused, or an address of a kind that we know. */
#include "agent/api/proxyhead.h"

#include <netinet/in.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length = 0;
    if (bytes != NULL && proxyhead_parse(bytes, size, &address, &length)) {
        g_assert_true(length == 0 ||
                      (address.ss_family == AF_INET ? length == sizeof(struct sockaddr_in)
                                                    : length == sizeof(struct sockaddr_in6)));
    }
    return 0;
}
