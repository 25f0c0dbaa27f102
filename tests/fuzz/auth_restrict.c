/* Any JSON as {"config":…,"instances":[…],"volumes":[…]} of a project: no crash, and what is refused
 * says why. Values that are no texts never get this far (api/body.c), so they are left out. */
#include "agent/auth/restrict.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static json_t *
texts_of(json_t *map)
{
    json_t *copy = json_object(), *value;
    const char *name;
    json_object_foreach (map, name, value) {
        if (json_is_string(value)) {
            json_object_set(copy, name, value);
        }
    }
    return copy;
}

static json_t *
entity_of(json_t *raw)
{
    json_t *devices = json_object(), *device;
    const char *name;
    json_object_foreach (json_object_get(raw, "devices"), name, device) {
        json_object_set_new(devices, name, texts_of(device));
    }
    const char *type = json_string_value(json_object_get(raw, "type"));
    return json_pack("{s:s,s:s,s:o,s:o}", "name", "c1", "type", type != NULL ? type : "container",
                     "config", texts_of(json_object_get(raw, "config")), "devices", devices);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    json_t *root = json_loadb((const char *) bytes, size, 0, NULL), *raw;
    size_t i;
    RestrictScope scope = {.project = "p",
                           .config = texts_of(json_object_get(root, "config")),
                           .instances = json_array(),
                           .volumes = texts_of(json_object_get(root, "volumes"))};

    json_array_foreach (json_object_get(root, "instances"), i, raw) {
        json_array_append_new(scope.instances, entity_of(raw));
    }
    for (i = 0; i < json_array_size(scope.instances); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(restrict_entity(&scope, json_array_get(scope.instances, i), &error) ==
                      (error == NULL));
    }
    for (int update = 0; update < 2; update++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(restrict_totals(&scope, update, &error) == (error == NULL));
    }
    json_decref(restrict_state(&scope));
    json_decref(scope.config);
    json_decref(scope.instances);
    json_decref(scope.volumes);
    json_decref(root);
    return 0;
}
