/* YAML as JSON values, over libyaml's events.
 * Y1  A document costs at most YAML_MAX_BYTES of input, NODES_MAX values (copies made by aliases
 *     counted) and DEPTH_MAX levels: no bomb expands.
 * Y2  What yaml_from_json() writes, yaml_to_json() reads back as the same value.
 * Y3  No string in a result has a NUL inside, no mapping two equal keys.
 * Called by ctl (edit, show, preseed) and by agent/image (metadata.yaml). Any thread. */
#include "proto/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 64, NODES_MAX = 200000, ANCHORS_MAX = 256 };

const char *const yaml_text_keys[] = {"config",      "devices", "properties",
                                      "description", "name",    NULL};

typedef struct {
    yaml_parser_t parser;
    const char *const *text_keys;
    GHashTable *anchors; /* owns: name -> Anchor */
    size_t nodes;
} Reader;

typedef struct {
    json_t *value; /* owns */
    size_t nodes;
} Anchor;

static json_t *read_node(Reader *reader, yaml_event_t *event, int depth, bool as_text,
                         GError **error);

static void
anchor_free(void *data)
{
    Anchor *anchor = data;
    json_decref(anchor->value);
    g_free(anchor);
}

static void
reader_done(Reader *reader)
{
    yaml_parser_delete(&reader->parser);
    g_clear_pointer(&reader->anchors, g_hash_table_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reader, reader_done)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(yaml_event_t, yaml_event_delete)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

static bool
fail_at(const yaml_mark_t *mark, GError **error, HawCode code, const char *why)
{
    return haw_fail(error, code, "YAML line %zu: %s", mark->line + 1, why);
}

static bool
next_event(Reader *reader, yaml_event_t *ret_event, GError **error)
{
    if (yaml_parser_parse(&reader->parser, ret_event)) {
        return true;
    }
    memset(ret_event, 0, sizeof *ret_event);
    const char *problem = reader->parser.problem;
    return fail_at(&reader->parser.problem_mark, error, HAW_INVALID,
                   problem != NULL ? problem : "not YAML");
}

/* Y1 */
static bool
charge(Reader *reader, size_t nodes, const yaml_mark_t *mark, GError **error)
{
    reader->nodes += nodes;
    if (reader->nodes > NODES_MAX) {
        return fail_at(mark, error, HAW_LIMIT, "too many values");
    }
    return true;
}

static bool
one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const null_words[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const true_words[] = {"true", "True", "TRUE", "yes", "Yes",
                                         "YES",  "on",   "On",   "ON",  NULL};
static const char *const false_words[] = {"false", "False", "FALSE", "no",  "No",
                                          "NO",    "off",   "Off",   "OFF", NULL};

static bool
plain_integer(const char *text, json_int_t *ret_number)
{
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    const char *first = digits;
    if (g_str_has_prefix(digits, "0x") || g_str_has_prefix(digits, "0o")) {
        base = digits[1] == 'x' ? 16 : 8;
        first += 2;
    } else if (digits[0] == '0' && digits[1] != '\0') {
        base = 8;
    }
    if (!(base == 16 ? g_ascii_isxdigit(*first) : g_ascii_isdigit(*first))) {
        return false;
    }

    g_autofree char *number = g_strconcat(*text == '-' ? "-" : "", first, NULL);
    char *end = NULL;
    errno = 0;
    long long value = strtoll(number, &end, base);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret_number = value;
    return true;
}

static bool
plain_real(const char *text, double *ret_number)
{
    size_t length = strspn(text, "0123456789+-.eE");
    if (text[length] != '\0' || strpbrk(text, "0123456789") == NULL ||
        strpbrk(text, ".eE") == NULL) {
        return false;
    }
    char *end = NULL;
    errno = 0;
    double value = g_ascii_strtod(text, &end);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret_number = value;
    return true;
}

/* A new reference; NULL when the plain scalar is text. */
static json_t *
plain_value(const char *text)
{
    if (one_of(text, null_words)) {
        return json_null();
    }
    if (one_of(text, true_words) || one_of(text, false_words)) {
        return json_boolean(one_of(text, true_words));
    }
    json_int_t integer = 0;
    if (plain_integer(text, &integer)) {
        return json_integer(integer);
    }
    double real = 0;
    if (plain_real(text, &real)) {
        return json_real(real);
    }
    return NULL;
}

static json_t *
read_scalar(yaml_event_t *event, bool as_text, GError **error)
{
    const char *text = (const char *) event->data.scalar.value;
    size_t length = event->data.scalar.length;
    const char *tag = (const char *) event->data.scalar.tag;
    if (strlen(text) != length) { /* Y3 */
        fail_at(&event->start_mark, error, HAW_INVALID, "a NUL character in text");
        return NULL;
    }
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag == NULL;
    json_t *value = NULL;
    if (plain && as_text) {
        value = json_string(one_of(text, null_words) ? "" : text);
    } else {
        value = plain ? plain_value(text) : NULL;
        value = value != NULL ? value : json_string(text);
    }
    if (value == NULL) {
        fail_at(&event->start_mark, error, HAW_INVALID, "text that is not UTF-8");
    }
    return value;
}

static json_t *
read_alias(Reader *reader, yaml_event_t *event, GError **error)
{
    const Anchor *anchor = g_hash_table_lookup(reader->anchors, event->data.alias.anchor);
    if (anchor == NULL) {
        fail_at(&event->start_mark, error, HAW_INVALID, "an alias without its anchor");
        return NULL;
    }
    if (!charge(reader, anchor->nodes, &event->start_mark, error)) {
        return NULL;
    }
    return json_deep_copy(anchor->value);
}

static json_t *
read_sequence(Reader *reader, int depth, bool as_text, GError **error)
{
    g_autoptr(json_t) list = json_array();
    for (;;) {
        g_auto(yaml_event_t) event = {0};
        if (!next_event(reader, &event, error)) {
            return NULL;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            return g_steal_pointer(&list);
        }
        json_t *item = read_node(reader, &event, depth + 1, as_text, error);
        if (item == NULL) {
            return NULL;
        }
        json_array_append_new(list, item);
    }
}

/* The text of a key that the mapping does not have yet. Caller frees. */
static char *
read_key(yaml_event_t *event, json_t *object, GError **error)
{
    if (event->type != YAML_SCALAR_EVENT) {
        fail_at(&event->start_mark, error, HAW_INVALID, "a key that is not text");
        return NULL;
    }
    const char *key = (const char *) event->data.scalar.value;
    if (strlen(key) != event->data.scalar.length || strcmp(key, "<<") == 0) {
        fail_at(&event->start_mark, error, HAW_INVALID, "a key of a kind that is not supported");
        return NULL;
    }
    if (json_object_get(object, key) != NULL) { /* Y3 */
        g_autofree char *why = g_strdup_printf("key \"%s\" occurs twice", key);
        fail_at(&event->start_mark, error, HAW_INVALID, why);
        return NULL;
    }
    return g_strdup(key);
}

static json_t *
read_mapping(Reader *reader, int depth, bool as_text, GError **error)
{
    g_autoptr(json_t) object = json_object();
    for (;;) {
        g_auto(yaml_event_t) key_event = {0}, event = {0};
        if (!next_event(reader, &key_event, error)) {
            return NULL;
        }
        if (key_event.type == YAML_MAPPING_END_EVENT) {
            return g_steal_pointer(&object);
        }
        g_autofree char *key = read_key(&key_event, object, error);
        if (key == NULL || !next_event(reader, &event, error)) {
            return NULL;
        }
        bool below = as_text || (reader->text_keys != NULL && one_of(key, reader->text_keys));
        json_t *value = read_node(reader, &event, depth + 1, below, error);
        if (value == NULL) {
            return NULL;
        }
        /* "config:" with nothing behind it is an empty map to people, not empty text. */
        if (json_is_string(value) && below && !as_text && event.type == YAML_SCALAR_EVENT &&
            event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && *json_string_value(value) == 0) {
            json_decref(value);
            value = json_null();
        }
        if (json_object_set_new(object, key, value) != 0) {
            fail_at(&key_event.start_mark, error, HAW_INVALID, "a key that is not UTF-8");
            return NULL;
        }
    }
}

static const char *
event_anchor(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return (const char *) event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return (const char *) event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT:
        return (const char *) event->data.mapping_start.anchor;
    default:
        return NULL;
    }
}

/* The value that begins with 'event', as a new reference. */
static json_t *
read_node(Reader *reader, yaml_event_t *event, int depth, bool as_text, GError **error)
{
    size_t nodes_before = reader->nodes;
    if (depth > DEPTH_MAX) {
        fail_at(&event->start_mark, error, HAW_LIMIT, "nested too deeply");
        return NULL;
    }
    if (!charge(reader, 1, &event->start_mark, error)) {
        return NULL;
    }

    json_t *value = NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        value = read_scalar(event, as_text, error);
        break;
    case YAML_ALIAS_EVENT:
        value = read_alias(reader, event, error);
        break;
    case YAML_SEQUENCE_START_EVENT:
        value = read_sequence(reader, depth, as_text, error);
        break;
    case YAML_MAPPING_START_EVENT:
        value = read_mapping(reader, depth, as_text, error);
        break;
    default:
        fail_at(&event->start_mark, error, HAW_INVALID, "a value is missing");
    }

    const char *anchor = event_anchor(event);
    if (value != NULL && anchor != NULL) {
        if (g_hash_table_size(reader->anchors) >= ANCHORS_MAX) {
            json_decref(value);
            fail_at(&event->start_mark, error, HAW_LIMIT, "too many anchors");
            return NULL;
        }
        Anchor *entry = g_new0(Anchor, 1);
        entry->value = json_incref(value);
        entry->nodes = reader->nodes - nodes_before;
        g_hash_table_replace(reader->anchors, g_strdup(anchor), entry);
    }
    return value;
}

/* The first document: null when there is none. */
static json_t *
read_document(Reader *reader, GError **error)
{
    g_autoptr(json_t) value = json_null();
    bool seen = false;
    for (;;) {
        g_auto(yaml_event_t) event = {0};
        if (!next_event(reader, &event, error)) {
            return NULL;
        }
        switch (event.type) {
        case YAML_STREAM_END_EVENT:
            return g_steal_pointer(&value);
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        default:
            if (seen) {
                fail_at(&event.start_mark, error, HAW_INVALID, "more than one document");
                return NULL;
            }
            seen = true;
            json_decref(value);
            value = read_node(reader, &event, 1, false, error);
            if (value == NULL) {
                return NULL;
            }
        }
    }
}

json_t *
yaml_to_json(const char *text, size_t size, const char *const *text_keys, GError **error)
{
    if (size > YAML_MAX_BYTES) {
        haw_fail(error, HAW_LIMIT, "YAML of %zu bytes is larger than %d", size, YAML_MAX_BYTES);
        return NULL;
    }

    g_auto(Reader) reader = {.text_keys = text_keys};
    if (!yaml_parser_initialize(&reader.parser)) {
        g_error("yaml: out of memory");
    }
    reader.anchors = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, anchor_free);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *) (size > 0 ? text : ""),
                                 size);
    return read_document(&reader, error);
}

static int
append_bytes(void *data, unsigned char *bytes, size_t size)
{
    g_string_append_len(data, (const char *) bytes, (gssize) size);
    return 1;
}

static void
emit(yaml_emitter_t *emitter, yaml_event_t *event)
{
    g_assert(yaml_emitter_emit(emitter, event));
}

/* Y2: quoted when it would read back as something else. libyaml itself falls back to quotes where
 * the plain or literal form cannot hold the bytes. */
static void
emit_text(yaml_emitter_t *emitter, const char *text)
{
    yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;
    g_autoptr(json_t) other = plain_value(text);
    if (strchr(text, '\n') != NULL) {
        /* A literal block cannot hold tabs or blanks that start its first line, nor returns. */
        bool odd = strchr(text, '\r') != NULL || g_ascii_isspace(*text);
        style = odd ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_LITERAL_SCALAR_STYLE;
    } else if (other != NULL || strcmp(text, "<<") == 0) {
        style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    }
    yaml_event_t event;
    yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *) text, (int) strlen(text),
                                 1, 1, style);
    emit(emitter, &event);
}

static void
emit_plain(yaml_emitter_t *emitter, const char *text)
{
    yaml_event_t event;
    yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *) text, (int) strlen(text),
                                 1, 1, YAML_PLAIN_SCALAR_STYLE);
    emit(emitter, &event);
}

static void
emit_real(yaml_emitter_t *emitter, double real)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE + 2];
    g_ascii_dtostr(text, G_ASCII_DTOSTR_BUF_SIZE, real);
    if (strpbrk(text, ".e") == NULL) { /* Y2: 3.0 must not come back as 3 */
        g_strlcat(text, ".0", sizeof text);
    }
    emit_plain(emitter, text);
}

static void emit_value(yaml_emitter_t *emitter, const json_t *value);

static void
emit_object(yaml_emitter_t *emitter, const json_t *object)
{
    yaml_event_t event;
    bool empty = json_object_size(object) == 0;
    yaml_mapping_start_event_initialize(&event, NULL, NULL, 1,
                                        empty ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE);
    emit(emitter, &event);
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *) object, key, value) {
        emit_text(emitter, key);
        emit_value(emitter, value);
    }
    yaml_mapping_end_event_initialize(&event);
    emit(emitter, &event);
}

static void
emit_array(yaml_emitter_t *emitter, const json_t *array)
{
    yaml_event_t event;
    bool empty = json_array_size(array) == 0;
    yaml_sequence_start_event_initialize(
        &event, NULL, NULL, 1, empty ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE);
    emit(emitter, &event);
    size_t index;
    json_t *value;
    json_array_foreach (array, index, value) {
        emit_value(emitter, value);
    }
    yaml_sequence_end_event_initialize(&event);
    emit(emitter, &event);
}

static void
emit_value(yaml_emitter_t *emitter, const json_t *value)
{
    g_autofree char *number = NULL;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        emit_object(emitter, value);
        break;
    case JSON_ARRAY:
        emit_array(emitter, value);
        break;
    case JSON_STRING:
        emit_text(emitter, json_string_value(value));
        break;
    case JSON_INTEGER:
        number = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        emit_plain(emitter, number);
        break;
    case JSON_REAL:
        emit_real(emitter, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        emit_plain(emitter, json_is_true(value) ? "true" : "false");
        break;
    case JSON_NULL:
        emit_plain(emitter, "null");
        break;
    }
}

char *
yaml_from_json(const json_t *value)
{
    GString *text = g_string_new(NULL);
    yaml_emitter_t emitter;
    yaml_event_t event;
    if (!yaml_emitter_initialize(&emitter)) {
        g_error("yaml: out of memory");
    }
    yaml_emitter_set_output(&emitter, append_bytes, text);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(&emitter, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(&emitter, &event);
    emit_value(&emitter, value);
    yaml_document_end_event_initialize(&event, 1);
    emit(&emitter, &event);
    yaml_stream_end_event_initialize(&event);
    emit(&emitter, &event);
    yaml_emitter_delete(&emitter);
    /* A bare scalar ends with "\n...\n" in libyaml 0.2.5; one newline is what people expect. */
    if (g_str_has_suffix(text->str, "\n...\n")) {
        g_string_truncate(text, text->len - 4);
    }
    return g_string_free(text, FALSE);
}
