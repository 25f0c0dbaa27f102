/* The first message of a live move.
 * W1  What the source says is checked before it is used: a version, sizes that a machine can have, as many channels
 *     and disks as there are streams for, texts where texts belong.
 * Called by liveout.c and livein.c. */
#include "agent/move/livehello.h"

#include "agent/move/movemux.h"
#include "agent/vm/vmlayout.h"

#include <string.h>

enum { SECRET_LEAST = 32, SECRET_MOST = 128, URLS_MOST = 64, CPU_MOST = 16384 };
#define BYTES_MOST (G_GINT64_CONSTANT(1) << 46)

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_t *
put_bytes(const guint8 *bytes, size_t size)
{
    g_autofree char *text = g_base64_encode(bytes, size);
    json_t *value = json_string(text);
    explicit_bzero(text, strlen(text));
    return value;
}

json_t *
livehello_make(const struct live_hello *hello)
{
    return json_pack(
        "{s:i,s:s,s:s,s:s,s:I,s:i,s:b,s:b,s:o,s:o,s:O,s:O,s:O,s:O,s:O,s:O,s:O}", "version",
        LIVEHELLO_VERSION, "uuid", hello->uuid, "secret", hello->secret, "cpu", hello->cpu,
        "memory", (json_int_t) hello->memory, "channels", (int) hello->channels, "native",
        hello->native, "marks", hello->marks, "token", put_bytes(hello->token, sizeof hello->token),
        "key", hello->sealed ? put_bytes(hello->key, sizeof hello->key) : json_string(""), "layout",
        hello->layout, "disks", hello->disks, "sizes", hello->sizes, "identity", hello->identity,
        "urls", hello->urls, "certificate", hello->certificate, "blockers", hello->blockers);
}

static bool
take_bytes(const char *text, guint8 *bytes, size_t size)
{
    gsize got = 0;
    g_autofree guchar *raw = g_base64_decode(text, &got);
    if (got == size) {
        memcpy(bytes, raw, size);
    }
    explicit_bzero(raw, got);
    return got == size;
}

static bool
texts_only(json_t *list, size_t most)
{
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        if (!json_is_string(each)) {
            return false;
        }
    }
    return json_is_array(list) && json_array_size(list) <= most;
}

/* One that a disk can have for each. */
static bool
sizes_of(json_t *list, json_t *disks)
{
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        gint64 bytes = json_integer_value(each);
        if (!json_is_integer(each) || bytes < 0 || bytes >= BYTES_MOST) {
            return false;
        }
    }
    return json_is_array(list) && json_array_size(list) == json_array_size(disks);
}

static bool
sane(const struct live_hello *hello, gint64 channels)
{
    size_t secret = strlen(hello->secret);
    return g_uuid_string_is_valid(hello->uuid) && strlen(hello->cpu) <= CPU_MOST &&
           secret >= SECRET_LEAST && secret <= SECRET_MOST && channels > 0 &&
           channels <= LANES_MAX && hello->memory > 0 && hello->memory < BYTES_MOST &&
           hello->memory % 4096 == 0 && texts_only(hello->disks, MOVEMUX_DEVICES - MOVEMUX_DISK) &&
           sizes_of(hello->sizes, hello->disks) && texts_only(hello->urls, URLS_MOST) &&
           texts_only(hello->blockers, G_MAXUINT16) && json_is_string(hello->certificate) &&
           json_is_object(hello->identity);
}

static bool
read_checked(json_t *message, struct live_hello *hello, GError **error)
{
    gint64 version = json_integer_value(json_object_get(message, "version"));
    gint64 channels = json_integer_value(json_object_get(message, "channels"));
    const char *key = text_of(message, "key");
    if (version != LIVEHELLO_VERSION) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "The source moves virtual machines by version %" G_GINT64_FORMAT
                        ", this server by %d",
                        version, LIVEHELLO_VERSION);
    }
    hello->sealed = *key != '\0';
    if (!sane(hello, channels) || /* W1 */
        !take_bytes(text_of(message, "token"), hello->token, sizeof hello->token) ||
        (hello->sealed && !take_bytes(key, hello->key, sizeof hello->key))) {
        return haw_fail(error, HAW_INVALID, "The source's description of the move can't be used");
    }
    hello->channels = (guint) channels;
    return vmlayout_check(hello->layout, error) &&
           (json_integer_value(json_object_get(hello->layout, "memory")) == hello->memory ||
            haw_fail(error, HAW_INVALID, "The source's memory is not of its layout's size"));
}

bool
livehello_read(json_t *message, struct live_hello *ret_hello, GError **error)
{
    struct live_hello hello = {
        .uuid = g_strdup(text_of(message, "uuid")),
        .secret = g_strdup(text_of(message, "secret")),
        .cpu = g_strdup(text_of(message, "cpu")),
        .native = json_is_true(json_object_get(message, "native")),
        .marks = json_is_true(json_object_get(message, "marks")),
        .memory = json_integer_value(json_object_get(message, "memory")),
        .layout = json_incref(json_object_get(message, "layout")),
        .disks = json_incref(json_object_get(message, "disks")),
        .sizes = json_incref(json_object_get(message, "sizes")),
        .identity = json_incref(json_object_get(message, "identity")),
        .urls = json_incref(json_object_get(message, "urls")),
        .certificate = json_incref(json_object_get(message, "certificate")),
        .blockers = json_incref(json_object_get(message, "blockers")),
    };
    bool ok = read_checked(message, &hello, error);
    if (ok) {
        *ret_hello = hello;
    } else {
        livehello_done(&hello);
    }
    return ok;
}

void
livehello_done(struct live_hello *hello)
{
    g_free(hello->uuid);
    g_free(hello->secret);
    g_free(hello->cpu);
    json_decref(hello->layout);
    json_decref(hello->disks);
    json_decref(hello->sizes);
    json_decref(hello->identity);
    json_decref(hello->urls);
    json_decref(hello->certificate);
    json_decref(hello->blockers);
    explicit_bzero(hello, sizeof *hello);
}

void
livehello_block(json_t *blockers, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    g_autofree char *text = g_strdup_vprintf(format, list);
    va_end(list);
    json_array_append_new(blockers, json_string(text));
}

bool
livehello_check(json_t *source, json_t *target, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);
    json_t *lists[] = {source, target};
    for (size_t k = 0; k < G_N_ELEMENTS(lists); k++) {
        size_t i;
        json_t *each;
        json_array_foreach (lists[k], i, each) {
            if (json_is_string(each)) {
                g_string_append_printf(all, "%s%s", all->len > 0 ? "; " : "",
                                       json_string_value(each));
            }
        }
    }
    return all->len == 0 || haw_fail(error, HAW_UNSUPPORTED,
                                     "The virtual machine can't move while it runs: %s", all->str);
}
