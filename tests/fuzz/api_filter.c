/* Any text as ?filter=, and any JSON behind a blank line as the object it is held against: no crash,
 * no endless match, a refusal is INVALID. */
#include "agent/api/server.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) {
        return 0;
    }
    g_autofree char *text = g_strndup((const char *) bytes, MIN(size, 4096));
    char *behind = strstr(text, "\n\n");
    if (behind != NULL) {
        *behind = '\0';
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(Filter) filter = filter_parse(text, &error);
    if (filter == NULL) {
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
        return 0;
    }
    json_t *object = behind != NULL ? json_loads(behind + 2, 0, NULL) : NULL;
    if (object == NULL) {
        object = json_pack("{s:s,s:{s:s,s:{s:i}},s:b}", "name", "c1aaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                           "config", "user.a.b", "x", "n", "m", 5, "public", 1);
    }
    filter_matches(filter, object);
    json_decref(object);
    return 0;
}
