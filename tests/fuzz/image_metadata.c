/* Any bytes as metadata.yaml: refused with 4xx, or understood and the same after writing it back. */
#include "agent/image/metadata.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *metadata = metadata_parse((const char *) bytes, size, &error);
    if (metadata == NULL) {
        g_assert_nonnull(error);
        g_assert_cmpint(haw_code_rest(haw_code(error)), ==, 400);
        return 0;
    }
    g_autofree char *text = metadata_format(metadata);
    json_auto_t *again = metadata_parse(text, strlen(text), &error);
    if (again == NULL || !json_equal(metadata, again)) {
        g_error("not the same again (%s): %s", error != NULL ? error->message : "differs", text);
    }
    return 0;
}
