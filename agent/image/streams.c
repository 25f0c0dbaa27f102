/* Simplestreams, as image servers speak it.
 * streams/v1/index.json names products files; those of datatype image-downloads have products, each
 * with aliases ("debian/12,debian/bookworm"), an architecture, and dated versions of items: an
 * lxd.tar.xz (metadata) and a root as root.tar.xz or squashfs. The metadata item carries the
 * combined fingerprints, one for each kind of root.
 * T1  The newest version with both files is taken; squashfs before tar.
 * T2  Files without a combined fingerprint are not taken: what is downloaded is always held against
 *     it, and it covers both files.
 * T3  Paths are relative and without "..".
 * Called by remote.c. */
#include "agent/image/streams.h"

#include "agent/image/fetch.h"
#include "agent/image/metadata.h"
#include "base/clock.h"

#include <string.h>

#define PREFIX_MIN 12

void
streams_item_clear(StreamsItem *item)
{
    g_free(item->fingerprint);
    g_free(item->meta_path);
    g_free(item->root_path);
    g_free(item->type);
    g_free(item->architecture);
    g_free(item->version);
    json_decref(item->properties);
    memset(item, 0, sizeof *item);
}

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* T3 */
static bool
path_fine(const char *path)
{
    return *path != '\0' && *path != '/' && strstr(path, "..") == NULL && strchr(path, ':') == NULL;
}

static const struct {
    const char *ftype, *combined, *older, *type;
} roots[] = {
    /* T1: in order of preference */
    {"squashfs", "combined_squashfs_sha256", NULL, "container"},
    {"root.tar.xz", "combined_rootxz_sha256", "combined_sha256", "container"},
    {"disk-kvm.img", "combined_disk-kvm-img_sha256", "combined_disk_kvm_img_sha256",
     "virtual-machine"},
    {"disk1.img", "combined_disk1-img_sha256", "combined_uefi1-img_sha256", "virtual-machine"},
};

static json_t *
item_of(json_t *version, const char *ftype)
{
    const char *name;
    json_t *item;
    json_object_foreach (json_object_get(version, "items"), name, item) {
        if (strcmp(text_of(item, "ftype"), ftype) == 0) {
            return item;
        }
    }
    return NULL;
}

/* The files of one version for the wanted type (NULL: container). False: it hasn't got them. */
static bool
pick_files(json_t *version, const char *type, StreamsItem *item)
{
    json_t *meta = item_of(version, "lxd.tar.xz");
    meta = meta != NULL ? meta : item_of(version, "incus.tar.xz");
    for (size_t i = 0; meta != NULL && i < G_N_ELEMENTS(roots); i++) {
        json_t *root = item_of(version, roots[i].ftype);
        const char *combined = text_of(meta, roots[i].combined);
        if (*combined == '\0' && roots[i].older != NULL) {
            combined = text_of(meta, roots[i].older);
        }
        if (root == NULL || strcmp(roots[i].type, type != NULL ? type : "container") != 0 ||
            strlen(combined) != 64 || /* T2 */
            !path_fine(text_of(meta, "path")) || !path_fine(text_of(root, "path"))) {
            continue;
        }
        item->fingerprint = g_ascii_strdown(combined, -1);
        item->meta_path = g_strdup(text_of(meta, "path"));
        item->meta_size = json_integer_value(json_object_get(meta, "size"));
        item->root_path = g_strdup(text_of(root, "path"));
        item->root_size = json_integer_value(json_object_get(root, "size"));
        item->type = g_strdup(roots[i].type);
        return true;
    }
    return false;
}

/* "20240101_07:42" or "20240101" as microseconds, 0 when it is neither. */
static gint64
version_date(const char *version)
{
    int year, month, day, hour = 0, minute = 0;
    if (sscanf(version, "%4d%2d%2d_%2d:%2d", &year, &month, &day, &hour, &minute) < 3 ||
        !g_date_valid_dmy((GDateDay) day, (GDateMonth) month, (GDateYear) year)) {
        return 0;
    }
    g_autoptr(GDateTime) date =
        g_date_time_new_utc(year, month, day, CLAMP(hour, 0, 23), CLAMP(minute, 0, 59), 0);
    return date != NULL ? g_date_time_to_unix(date) * G_USEC_PER_SEC : 0;
}

static void
describe(json_t *product, StreamsItem *item)
{
    const char *release = text_of(product, "release_title");
    release = *release != '\0' ? release : text_of(product, "release");
    const char *os = text_of(product, "os"), *architecture = text_of(product, "arch");
    g_autofree char *description =
        g_strdup_printf("%s %s %s (%s)", os, release, architecture, item->version);
    item->architecture = g_strdup(metadata_architecture(architecture));
    item->created_at = version_date(item->version);
    item->properties = json_pack("{s:s,s:s,s:s,s:s,s:s}", "os", os, "release",
                                 text_of(product, "release"), "architecture", architecture,
                                 "serial", item->version, "description", description);
    if (*text_of(product, "variant") != '\0') {
        json_object_set(item->properties, "variant", json_object_get(product, "variant"));
    }
    json_object_set_new(
        item->properties, "type",
        json_string(g_str_has_suffix(item->root_path, ".squashfs") ? "squashfs" : "tar.xz"));
}

static bool
has_alias(json_t *product, const char *name)
{
    g_auto(GStrv) aliases = g_strsplit(text_of(product, "aliases"), ",", -1);
    bool ours = g_strcmp0(metadata_architecture(text_of(product, "arch")),
                          metadata_native_architecture()) == 0;
    for (int i = 0; aliases[i] != NULL; i++) {
        g_autofree char *named = g_strconcat(aliases[i], "/", text_of(product, "arch"), NULL);
        if ((ours && strcmp(aliases[i], name) == 0) || strcmp(named, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool
fingerprint_fits(const StreamsItem *item, const char *name)
{
    return strlen(name) >= PREFIX_MIN && g_str_has_prefix(item->fingerprint, name);
}

static int
newest_first(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) b, *(const char *const *) a);
}

/* The newest fitting version of one product. */
static bool
pick_version(json_t *product, const char *name, const char *type, StreamsItem *ret_item)
{
    bool by_alias = has_alias(product, name);
    json_t *versions = json_object_get(product, "versions"), *version;
    g_autoptr(GPtrArray) dates = g_ptr_array_new();
    const char *date;
    json_object_foreach (versions, date, version) {
        g_ptr_array_add(dates, (gpointer) date);
    }
    g_ptr_array_sort(dates, newest_first);

    for (guint i = 0; i < dates->len; i++) {
        g_auto(StreamsItem) item = {0};
        date = g_ptr_array_index(dates, i);
        if (!pick_files(json_object_get(versions, date), type, &item) ||
            (!by_alias && !fingerprint_fits(&item, name))) {
            continue;
        }
        item.version = g_strdup(date);
        describe(product, &item);
        *ret_item = item;
        memset(&item, 0, sizeof item);
        return true;
    }
    return false;
}

bool
streams_pick(json_t *products, const char *name, const char *type, StreamsItem *ret_item)
{
    const char *key;
    json_t *product;
    json_object_foreach (json_object_get(products, "products"), key, product) {
        if (pick_version(product, name, type, ret_item)) {
            return true;
        }
    }
    return false;
}

static json_t *
fetch_index(Agent *agent, const RemoteSource *source, const char *path, GError **error)
{
    g_autofree char *base = g_strdup(source->server);
    for (size_t n = strlen(base); n > 0 && base[n - 1] == '/'; n--) {
        base[n - 1] = '\0';
    }
    g_autofree char *url = g_strconcat(base, "/", path, NULL);
    FetchSpec spec = {.url = url, .certificate = source->certificate, .out_fd = -1};
    return fetch_json(agent, &spec, false, error);
}

bool
streams_find(Agent *agent, const RemoteSource *source, const char *name, StreamsItem *ret_item,
             GError **error)
{
    json_auto_t *index = fetch_index(agent, source, "streams/v1/index.json", error);
    if (index == NULL) {
        return false;
    }
    const char *key;
    json_t *entry;
    json_object_foreach (json_object_get(index, "index"), key, entry) {
        const char *path = text_of(entry, "path");
        if (strcmp(text_of(entry, "datatype"), "image-downloads") != 0 || !path_fine(path)) {
            continue;
        }
        json_auto_t *products = fetch_index(agent, source, path, error);
        if (products == NULL) {
            return false;
        }
        if (streams_pick(products, name, source->image_type, ret_item)) {
            return true;
        }
    }
    return haw_fail(error, HAW_NOT_FOUND, "The requested image couldn't be found");
}
