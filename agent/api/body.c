/* Request bodies: objects, texts and maps of texts. Anything else is INVALID before it goes further. */
#include "agent/api/body.h"

/* Go's word for a JSON value in the messages of its decoder. */
static const char *
kind(json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_TRUE:
    case JSON_FALSE:
        return "bool";
    default:
        return "number";
    }
}

static bool
refuse(json_t *value, const char *type, const char *field, const char *wanted, GError **error)
{
    return haw_fail(error, HAW_INVALID,
                    "json: cannot unmarshal %s into Go struct field %s.%s of type %s", kind(value),
                    type, field, wanted);
}

bool
body_object(json_t *body, const char *type, GError **error)
{
    return json_is_object(body) ||
           haw_fail(error, HAW_INVALID, "json: cannot unmarshal %s into Go value of type api.%s",
                    kind(body), type);
}

bool
body_text(json_t *body, const char *type, const char *field, const char **ret, GError **error)
{
    json_t *value = json_object_get(body, field);
    if (value != NULL && !json_is_null(value) && !json_is_string(value)) {
        return refuse(value, type, field, "string", error);
    }
    *ret = json_is_string(value) ? json_string_value(value) : "";
    return true;
}

/* A map of texts into *ret, a new reference; null values count as "". */
static bool
copy_map(json_t *map, const char *type, const char *field, json_t **ret, GError **error)
{
    json_t *copy = json_object(), *value;
    const char *name;

    json_object_foreach (map, name, value) {
        if (!json_is_string(value) && !json_is_null(value)) {
            json_decref(copy);
            return refuse(value, type, field, "string", error);
        }
        json_object_set_new(copy, name,
                            json_string(json_is_null(value) ? "" : json_string_value(value)));
    }
    *ret = copy;
    return true;
}

bool
body_map(json_t *body, const char *type, const char *field, json_t **ret, GError **error)
{
    json_t *map = json_object_get(body, field);
    if (map != NULL && !json_is_null(map) && !json_is_object(map)) {
        return refuse(map, type, field, "map[string]string", error);
    }
    return copy_map(map, type, field, ret, error);
}

bool
body_maps(json_t *body, const char *type, const char *field, json_t **ret, GError **error)
{
    json_t *maps = json_object_get(body, field), *copy = json_object(), *map, *inner;
    const char *name;

    if (maps != NULL && !json_is_null(maps) && !json_is_object(maps)) {
        json_decref(copy);
        return refuse(maps, type, field, "map[string]map[string]string", error);
    }
    json_object_foreach (maps, name, map) {
        bool ok = json_is_object(map) ? copy_map(map, type, field, &inner, error)
                                      : refuse(map, type, field, "map[string]string", error);
        if (!ok) {
            json_decref(copy);
            return false;
        }
        json_object_set_new(copy, name, inner);
    }
    *ret = copy;
    return true;
}
