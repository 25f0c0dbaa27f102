/* What a backup.yaml tells. Called by inst/instimport.c, inst/recover.c and store/unknown.c. */
#include "agent/store/told.h"

#include "base/clock.h"
#include "proto/keys.h"

#include <string.h>

gint64
told_time(json_t *object, const char *key)
{
    gint64 when = 0;
    const char *text = keys_get(object, key);
    return text != NULL && clock_parse(text, &when) ? when : 0;
}

const char *
told_text(json_t *object, const char *key)
{
    const char *text = keys_get(object, key);
    return text != NULL ? text : "";
}

static json_t *
values_of(json_t *object, const char *key, json_type type)
{
    json_t *copy = json_object(), *value;
    const char *name;
    json_object_foreach (json_object_get(object, key), name, value) {
        if (json_typeof(value) == type) {
            json_object_set_new(copy, name, json_deep_copy(value));
        }
    }
    return copy;
}

json_t *
told_texts(json_t *object, const char *key)
{
    return values_of(object, key, JSON_STRING);
}

json_t *
told_objects(json_t *object, const char *key)
{
    return values_of(object, key, JSON_OBJECT);
}

json_t *
told_names(json_t *object, const char *key)
{
    json_t *copy = json_array(), *each;
    size_t i;
    json_array_foreach (json_object_get(object, key), i, each) {
        if (json_is_string(each)) {
            json_array_append(copy, each);
        }
    }
    return copy;
}

json_t *
told_instance(json_t *document)
{
    json_t *container = json_object_get(document, "container");
    return json_is_object(container) ? container : json_object_get(document, "instance");
}

json_t *
told_snapshot(json_t *object, const char *key, const char *name)
{
    json_t *each;
    size_t i;
    json_array_foreach (json_object_get(object, key), i, each) {
        const char *told = keys_get(each, "name");
        const char *slash = told != NULL ? strrchr(told, '/') : NULL;
        if (g_strcmp0(slash != NULL ? slash + 1 : told, name) == 0) {
            return each;
        }
    }
    return NULL;
}
