/* Simplestreams, as far as listing goes: index.json names a products file, its products have
 * aliases and versions, the newest version's items are the image. The agent downloads by itself.
 * Called by cmd_image.c. */
#include "ctl/catalog.h"

#include <curl/curl.h>
#include <string.h>

#include "ctl/json.h"
#include "ctl/out.h"
#include "ctl/rest.h"

enum { INDEX_MAX = 64 * 1024 * 1024 };

static size_t
on_bytes(char *bytes, size_t size, size_t count, void *data)
{
    GByteArray *body = data;
    if (body->len + size * count > INDEX_MAX) {
        return 0;
    }
    g_byte_array_append(body, (guint8 *) bytes, (guint) (size * count));
    return size * count;
}

static json_t *
fetch_json(const char *base, const char *path, GError **error)
{
    g_autofree char *url = g_strconcat(base, "/", path, NULL);
    g_autoptr(GByteArray) body = g_byte_array_new();
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "hawser/" HAWSER_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK) {
        haw_fail(error, HAW_UNAVAILABLE, "fetch '%s': %s", url, curl_easy_strerror(code));
        return NULL;
    }
    json_t *root = json_loadb((char *) body->data, body->len, 0, NULL);
    if (root == NULL) {
        haw_fail(error, HAW_CORRUPT, "'%s' is not JSON", url);
    }
    return root;
}

static const char *
newest_version(const json_t *versions)
{
    const char *newest = NULL, *name;
    json_t *version;
    json_object_foreach ((json_t *) versions, name, version) {
        newest = newest == NULL || strverscmp(name, newest) > 0 ? name : newest;
    }
    return newest;
}

/* The image of a product's newest version; NULL when it has no container root. */
static json_t *
image_of_product(const json_t *product)
{
    const json_t *versions = json_object_get(product, "versions");
    const char *version = newest_version(versions), *key;
    const char *fingerprint = NULL;
    json_int_t size = 0;
    json_t *item;
    if (version == NULL) {
        return NULL;
    }
    json_object_foreach (json_object_get(json_object_get(versions, version), "items"), key, item) {
        const char *type = out_get(item, "ftype");
        size +=
            strcmp(type, "squashfs") == 0 ? json_integer_value(json_object_get(item, "size")) : 0;
        if (g_str_has_prefix(type, "lxd") || g_str_has_prefix(type, "incus")) {
            fingerprint = json_string_value(json_object_get(item, "combined_squashfs_sha256"));
            size += json_integer_value(json_object_get(item, "size"));
        }
    }
    if (fingerprint == NULL) {
        return NULL;
    }

    g_autofree char *about =
        g_strdup_printf("%s %s %s (%s)", out_get(product, "os"), out_get(product, "release_title"),
                        out_get(product, "arch"), version);
    json_t *aliases = json_array();
    g_auto(GStrv) names = g_strsplit(out_get(product, "aliases"), ",", -1);
    for (char **name = names; *name != NULL; name++) {
        json_array_append_new(aliases, json_pack("{ss}", "name", g_strstrip(*name)));
    }
    return json_pack("{ss ss ss sb sI so s{ss ss ss ss}}", "fingerprint", fingerprint,
                     "architecture", out_get(product, "arch"), "type", "container", "public", 1,
                     "size", size, "aliases", aliases, "properties", "description", about, "os",
                     out_get(product, "os"), "release", out_get(product, "release"), "serial",
                     version);
}

json_t *
catalog_images(const json_t *products)
{
    json_t *images = json_array();
    const char *key;
    json_t *product;
    json_object_foreach (json_object_get(products, "products"), key, product) {
        json_t *image = image_of_product(product);
        if (image != NULL) {
            json_array_append_new(images, image);
        }
    }
    return images;
}

json_t *
catalog_list(const Remote *remote, GError **error)
{
    g_autoptr(json_t) index = fetch_json(remote->address, "streams/v1/index.json", error);
    g_autoptr(json_t) images = json_array();
    const char *key;
    json_t *entry;
    if (index == NULL) {
        return NULL;
    }
    json_object_foreach (json_object_get(index, "index"), key, entry) {
        if (strcmp(out_get(entry, "datatype"), "image-downloads") != 0) {
            continue;
        }
        g_autoptr(json_t) products = fetch_json(remote->address, out_get(entry, "path"), error);
        if (products == NULL) {
            return NULL;
        }
        g_autoptr(json_t) some = catalog_images(products);
        json_array_extend(images, some);
    }
    return g_steal_pointer(&images);
}

json_t *
catalog_find(const Remote *remote, const char *name, GError **error)
{
    g_autoptr(json_t) images = catalog_list(remote, error);
    size_t index, at;
    json_t *image, *alias;
    json_array_foreach (images, index, image) {
        bool same = g_str_has_prefix(out_get(image, "fingerprint"), name);
        json_array_foreach (json_object_get(image, "aliases"), at, alias) {
            same = same || strcmp(out_get(alias, "name"), name) == 0;
        }
        if (same) {
            return json_incref(image);
        }
    }
    if (images != NULL) {
        haw_fail(error, HAW_NOT_FOUND, "remote '%s' has no image '%s'", remote->name, name);
    }
    return NULL;
}
