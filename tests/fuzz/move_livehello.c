/* Any text as the first message of a live move: no crash; what is taken can be said again. */
#include "agent/move/livehello.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct live_hello hello, again;
    json_auto_t *message = json_loadb((const char *) bytes, size, 0, NULL);
    if (message == NULL || !livehello_read(message, &hello, NULL)) {
        return 0;
    }
    json_auto_t *made = livehello_make(&hello);
    g_assert_true(livehello_read(made, &again, NULL));
    g_assert_cmpint(again.memory, ==, hello.memory);
    g_assert_cmpint(again.channels, ==, hello.channels);
    g_assert_cmpstr(again.uuid, ==, hello.uuid);
    livehello_done(&again);
    livehello_done(&hello);
    return 0;
}
