/* Any bytes as YAML: never a crash or a bomb, and what was accepted survives a round trip (Y2). */
#include "proto/yaml.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autoptr(GError) error = NULL;
    json_t *value = yaml_to_json((const char *) bytes, size, yaml_text_keys, &error);
    if (value == NULL) {
        g_assert_nonnull(error);
        return 0;
    }
    g_autofree char *text = yaml_from_json(value);
    json_t *back = yaml_to_json(text, strlen(text), NULL, &error);
    if (back == NULL || !json_equal(value, back)) {
        g_error("not the same again (%s): %s", error != NULL ? error->message : "differs", text);
    }
    json_decref(back);
    json_decref(value);
    return 0;
}
