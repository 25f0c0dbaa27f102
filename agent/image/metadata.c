/* metadata.yaml, written by whoever built the image: nothing of it is believed before it is checked.
 * M1  The result has every key with its type; unknown keys are dropped.
 * M2  A template's file is a plain name below templates/, its target an absolute path without "..".
 * Called by image.c (import), publish.c (export) and the instance's metadata API. */
#include "agent/image/metadata.h"

#include "proto/yaml.h"

#include <string.h>
#include <sys/utsname.h>

static const struct {
    const char *name;
    const char *aliases[6];
} architectures[] = {
    {"i686", {"i386", "i586", "386", "x86", "generic_32", NULL}},
    {"x86_64", {"amd64", "generic_64", NULL}},
    {"armv7l", {"armel", "armhf", "arm", "armhfp", "armv7a_hardfp", NULL}},
    {"aarch64", {"arm64", "arm64_generic", NULL}},
    {"ppc", {"powerpc", NULL}},
    {"ppc64", {"powerpc64", NULL}},
    {"ppc64le", {"ppc64el", NULL}},
    {"s390x", {"mainframe", NULL}},
    {"mips", {NULL}},
    {"mips64", {NULL}},
    {"riscv32", {NULL}},
    {"riscv64", {NULL}},
};

const char *
metadata_architecture(const char *name)
{
    for (size_t i = 0; name != NULL && i < G_N_ELEMENTS(architectures); i++) {
        if (strcmp(architectures[i].name, name) == 0) {
            return architectures[i].name;
        }
        for (int k = 0; architectures[i].aliases[k] != NULL; k++) {
            if (strcmp(architectures[i].aliases[k], name) == 0) {
                return architectures[i].name;
            }
        }
    }
    return NULL;
}

const char *
metadata_native_architecture(void)
{
    struct utsname host;
    const char *name = uname(&host) == 0 ? metadata_architecture(host.machine) : NULL;
    return name != NULL ? name : "x86_64";
}

/* A map whose values become text. */
static bool
text_map(json_t *from, const char *what, json_t **ret_map, GError **error)
{
    json_auto_t *map = json_object();
    const char *key;
    json_t *value;
    if (from != NULL && !json_is_null(from) && !json_is_object(from)) {
        return haw_fail(error, HAW_INVALID, "metadata.yaml: \"%s\" is no map", what);
    }
    json_object_foreach (from, key, value) {
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "metadata.yaml: \"%s.%s\" is no text", what, key);
        }
        json_object_set(map, key, value);
    }
    *ret_map = json_incref(map);
    return true;
}

/* M2 */
static bool
template_names_fine(const char *path, const char *file, GError **error)
{
    if (*path != '/' || strstr(path, "/../") != NULL || g_str_has_suffix(path, "/..")) {
        return haw_fail(error, HAW_INVALID, "metadata.yaml: invalid template target \"%s\"", path);
    }
    if (*file == '\0' || strchr(file, '/') != NULL || strcmp(file, "..") == 0 ||
        strcmp(file, ".") == 0) {
        return haw_fail(error, HAW_INVALID, "metadata.yaml: invalid template file \"%s\"", file);
    }
    return true;
}

static json_t *
check_when(json_t *from, const char *path, GError **error)
{
    json_auto_t *when = json_array();
    size_t i;
    json_t *value;
    json_array_foreach (from, i, value) {
        if (!json_is_string(value)) {
            haw_fail(error, HAW_INVALID, "metadata.yaml: \"when\" of template \"%s\"", path);
            return NULL;
        }
        json_array_append(when, value);
    }
    return json_incref(when);
}

static bool
check_template(json_t *templates, const char *path, json_t *from, GError **error)
{
    if (!json_is_object(from)) {
        return haw_fail(error, HAW_INVALID, "metadata.yaml: template \"%s\" is no map", path);
    }
    const char *file = json_string_value(json_object_get(from, "template"));
    if (!template_names_fine(path, file != NULL ? file : "", error)) {
        return false;
    }
    json_auto_t *when = check_when(json_object_get(from, "when"), path, error);
    json_auto_t *properties = NULL;
    if (when == NULL ||
        !text_map(json_object_get(from, "properties"), "properties", &properties, error)) {
        return false;
    }
    json_object_set_new(templates, path,
                        json_pack("{s:O,s:b,s:s,s:O}", "when", when, "create_only",
                                  json_is_true(json_object_get(from, "create_only")), "template",
                                  file, "properties", properties));
    return true;
}

/* Dates are seconds; some builders write them as floats or text. */
static gint64
seconds(json_t *value)
{
    if (json_is_string(value)) {
        return g_ascii_strtoll(json_string_value(value), NULL, 10);
    }
    double number = json_number_value(value);
    return number > -1e15 && number < 1e15 ? (gint64) number : 0;
}

static json_t *
check(json_t *raw, GError **error)
{
    const char *architecture = json_string_value(json_object_get(raw, "architecture"));
    if (metadata_architecture(architecture) == NULL) {
        haw_fail(error, HAW_INVALID, "Architecture isn't supported: %s",
                 architecture != NULL ? architecture : "");
        return NULL;
    }
    gint64 created = seconds(json_object_get(raw, "creation_date"));
    gint64 expires = seconds(json_object_get(raw, "expiry_date"));
    if (created == 0) {
        haw_fail(error, HAW_INVALID, "Missing creation date");
        return NULL;
    }

    json_auto_t *properties = NULL;
    json_auto_t *templates = json_object();
    if (!text_map(json_object_get(raw, "properties"), "properties", &properties, error)) {
        return NULL;
    }
    json_t *from = json_object_get(raw, "templates"), *value;
    const char *path;
    if (from != NULL && !json_is_null(from) && !json_is_object(from)) {
        haw_fail(error, HAW_INVALID, "metadata.yaml: \"templates\" is no map");
        return NULL;
    }
    json_object_foreach (from, path, value) {
        if (!check_template(templates, path, value, error)) {
            return NULL;
        }
    }
    return json_pack("{s:s,s:I,s:I,s:O,s:O}", "architecture", metadata_architecture(architecture),
                     "creation_date", (json_int_t) created, "expiry_date", (json_int_t) expires,
                     "properties", properties, "templates", templates);
}

json_t *
metadata_parse(const char *text, size_t size, GError **error)
{
    static const char *const text_keys[] = {"properties", NULL};
    json_auto_t *raw = yaml_to_json(text, size, text_keys, error);
    if (raw == NULL) {
        haw_push(error, "Could not parse metadata.yaml");
        return NULL;
    }
    if (!json_is_object(raw)) {
        haw_fail(error, HAW_INVALID, "Could not parse metadata.yaml: it is no map");
        return NULL;
    }
    return check(raw, error);
}

char *
metadata_format(json_t *metadata)
{
    return yaml_from_json(metadata);
}
