/* A small template language: what LXD's images use of pongo2.
 * R1  Rendering reads a scope and makes text; it can call config_get() and nothing else.
 * R2  A name that is not in the scope is empty, as in pongo2; broken syntax is an error.
 * Grammar: text, {{ expr }}, {# … #}, {% if expr %} {% elif expr %} {% else %} {% endif %};
 * expr: or of ands of [not] value [(==|!=) value]; value: "text", number, a.b, f(args), then |filter.
 * Called by template.c. */
#include "agent/inst/template.h"
#include "base/clock.h"

#include <string.h>

#define NESTING_MAX 32

struct render {
    const char *at;
    GString *out;
    json_t *scope; /* borrowed */
    GError **error;
    int depth;
};

/* ---- expressions: each returns text that the caller frees, NULL on an error ---- */

struct expr {
    const char *at, *end;
    json_t *scope;
    GError **error;
};

static void
skip(struct expr *e)
{
    while (e->at < e->end && g_ascii_isspace(*e->at)) {
        e->at++;
    }
}

static bool
take(struct expr *e, const char *word)
{
    size_t size = strlen(word);
    skip(e);
    if ((size_t) (e->end - e->at) < size || strncmp(e->at, word, size) != 0) {
        return false;
    }
    /* A word must end where it ends. */
    if (g_ascii_isalpha(word[0]) && e->at + size < e->end &&
        (g_ascii_isalnum(e->at[size]) || e->at[size] == '_')) {
        return false;
    }
    e->at += size;
    return true;
}

static char *
fail(struct expr *e, const char *what)
{
    haw_fail(e->error, HAW_INVALID, "Template: %s near '%.20s'", what, e->at);
    return NULL;
}

static char *
text_of(json_t *value)
{
    if (json_is_string(value)) {
        return g_strdup(json_string_value(value));
    }
    if (json_is_integer(value)) {
        return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    }
    if (json_is_boolean(value)) {
        return g_strdup(json_is_true(value) ? "True" : "False");
    }
    return g_strdup("");
}

static char *
lookup(json_t *scope, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, ".", -1);
    json_t *at = scope;
    for (char **part = parts; *part != NULL && at != NULL; part++) {
        at = json_object_get(at, *part);
    }
    return text_of(at); /* R2 */
}

static char *
literal(struct expr *e)
{
    char quote = *e->at++;
    g_autoptr(GString) text = g_string_new(NULL);
    while (e->at < e->end && *e->at != quote) {
        if (*e->at == '\\' && e->at + 1 < e->end) {
            e->at++;
            g_string_append_c(text, *e->at == 'n' ? '\n' : *e->at == 't' ? '\t' : *e->at);
        } else {
            g_string_append_c(text, *e->at);
        }
        e->at++;
    }
    if (e->at >= e->end) {
        return fail(e, "unterminated text");
    }
    e->at++;
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *value(struct expr *e);

static char *
call(struct expr *e, const char *name)
{
    g_autofree char *first = NULL, *second = NULL;
    if (!take(e, ")")) {
        first = value(e);
        if (first == NULL) {
            return NULL;
        }
        if (take(e, ",") && (second = value(e)) == NULL) {
            return NULL;
        }
        if (!take(e, ")")) {
            return fail(e, "missing ')'");
        }
    }
    if (strcmp(name, "config_get") != 0 || first == NULL) { /* R1 */
        return fail(e, "unknown function");
    }
    const char *found =
        json_string_value(json_object_get(json_object_get(e->scope, "config"), first));
    return g_strdup(found != NULL ? found : second != NULL ? second : "");
}

/* Go's layouts name the parts of one fixed moment. */
static char *
dated(const char *text, const char *layout)
{
    static const struct {
        const char *go, *format;
    } parts[] = {
        {"2006", "%Y"}, {"January", "%B"}, {"Jan", "%b"}, {"Monday", "%A"}, {"Mon", "%a"},
        {"01", "%m"},   {"02", "%d"},      {"15", "%H"},  {"03", "%I"},     {"04", "%M"},
        {"05", "%S"},   {"06", "%y"},      {"PM", "%p"},  {"MST", "%Z"},    {"%", "%%"},
    };
    gint64 real_us = 0;
    clock_parse(text, &real_us);
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(real_us / G_USEC_PER_SEC);
    g_autoptr(GString) format = g_string_new(NULL);
    while (*layout != '\0') {
        size_t i = 0;
        while (i < G_N_ELEMENTS(parts) && !g_str_has_prefix(layout, parts[i].go)) {
            i++;
        }
        if (i < G_N_ELEMENTS(parts)) {
            g_string_append(format, parts[i].format);
            layout += strlen(parts[i].go);
        } else {
            g_string_append_c(format, *layout++);
        }
    }
    char *result = g_date_time_format(when, format->str);
    return result != NULL ? result : g_strdup("");
}

static char *
filtered(struct expr *e, char *text)
{
    g_autofree char *own = text;
    while (own != NULL && take(e, "|")) {
        g_autofree char *argument = NULL;
        char *next = NULL;
        if (take(e, "lower")) {
            next = g_utf8_strdown(own, -1);
        } else if (take(e, "upper")) {
            next = g_utf8_strup(own, -1);
        } else if (take(e, "trim")) {
            next = g_strdup(g_strstrip(own));
        } else if (take(e, "safe")) {
            next = g_strdup(own);
        } else if (take(e, "default")) {
            if (!take(e, ":") || (argument = value(e)) == NULL) {
                return fail(e, "default needs a value");
            }
            next = g_strdup(*own != '\0' ? own : argument);
        } else if (take(e, "date")) {
            if (!take(e, ":") || (argument = value(e)) == NULL) {
                return fail(e, "date needs a layout");
            }
            next = dated(own, argument);
        } else {
            return fail(e, "unknown filter");
        }
        g_free(own);
        own = next;
    }
    return g_steal_pointer(&own);
}

static char *
value(struct expr *e)
{
    skip(e);
    if (e->at >= e->end) {
        return fail(e, "missing value");
    }
    if (*e->at == '"' || *e->at == '\'') {
        return filtered(e, literal(e));
    }
    const char *from = e->at;
    while (e->at < e->end &&
           (g_ascii_isalnum(*e->at) || *e->at == '_' || *e->at == '.' || *e->at == '-')) {
        e->at++;
    }
    if (e->at == from) {
        return fail(e, "unexpected character");
    }
    g_autofree char *name = g_strndup(from, (gsize) (e->at - from));
    if (take(e, "(")) {
        return filtered(e, call(e, name));
    }
    return filtered(e, g_ascii_isdigit(*name) ? g_strdup(name) : lookup(e->scope, name));
}

static bool
truth(const char *text)
{
    return *text != '\0' && strcmp(text, "False") != 0 && strcmp(text, "false") != 0 &&
           strcmp(text, "0") != 0;
}

/* -1 on an error, else 0 or 1. */
static int
comparison(struct expr *e)
{
    bool negate = false;
    while (take(e, "not") || take(e, "!")) {
        negate = !negate;
    }
    g_autofree char *left = value(e);
    if (left == NULL) {
        return -1;
    }
    bool result = truth(left);
    bool equal = take(e, "==");
    if (equal || take(e, "!=")) {
        g_autofree char *right = value(e);
        if (right == NULL) {
            return -1;
        }
        result = (strcmp(left, right) == 0) == equal;
    }
    return result != negate;
}

static int
condition(struct expr *e)
{
    int any = 0;
    do {
        int all = comparison(e);
        while (all >= 0 && (take(e, "and") || take(e, "&&"))) {
            int next = comparison(e);
            all = next < 0 ? -1 : all && next;
        }
        if (all < 0) {
            return -1;
        }
        any = any || all;
    } while (take(e, "or") || take(e, "||"));
    skip(e);
    if (e->at != e->end) {
        fail(e, "unexpected text");
        return -1;
    }
    return any;
}

/* ---- blocks ---- */

/* The inside of the tag that starts at r->at; moves behind its end. */
static bool
take_tag(struct render *r, const char *close, struct expr *ret_inside)
{
    const char *from = r->at + 2, *end = strstr(from, close);
    if (end == NULL) {
        return haw_fail(r->error, HAW_INVALID, "Template: missing '%s'", close);
    }
    r->at = end + 2;
    *ret_inside = (struct expr){from, end, r->scope, r->error};
    if (ret_inside->at < ret_inside->end && *ret_inside->at == '-') {
        ret_inside->at++;
    }
    if (ret_inside->end > ret_inside->at && ret_inside->end[-1] == '-') {
        ret_inside->end--;
    }
    return true;
}

/* Renders up to a tag that ends the block; its first word goes to *ret_word (literal). */
static bool render_block(struct render *r, bool show, const char **ret_word,
                         struct expr *ret_inside);

static bool
render_if(struct render *r, bool show, struct expr *inside)
{
    bool taken = false;
    const char *word = "if";
    struct expr tag = *inside;
    while (strcmp(word, "endif") != 0) {
        bool now = show && !taken;
        if (strcmp(word, "else") != 0) {
            int result = condition(&tag);
            if (result < 0) {
                return false;
            }
            now = now && result == 1;
        }
        taken = taken || now;
        if (!render_block(r, now, &word, &tag)) {
            return false;
        }
        if (word == NULL) {
            return haw_fail(r->error, HAW_INVALID, "Template: missing endif");
        }
    }
    return true;
}

static bool
render_tag(struct render *r, bool show, const char **ret_word, struct expr *ret_inside)
{
    static const char *const enders[] = {"elif", "else", "endif"};
    struct expr inside;
    if (!take_tag(r, "%}", &inside)) {
        return false;
    }
    *ret_word = NULL;
    if (take(&inside, "if")) {
        if (++r->depth > NESTING_MAX) {
            return haw_fail(r->error, HAW_INVALID, "Template: nested too deeply");
        }
        bool ok = render_if(r, show, &inside);
        r->depth--;
        return ok;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(enders); i++) {
        if (take(&inside, enders[i])) {
            *ret_word = enders[i];
            *ret_inside = inside;
            return true;
        }
    }
    fail(&inside, "unknown tag");
    return false;
}

static bool
render_block(struct render *r, bool show, const char **ret_word, struct expr *ret_inside)
{
    *ret_word = NULL;
    while (*r->at != '\0') {
        struct expr inside;
        if (g_str_has_prefix(r->at, "{#")) {
            if (!take_tag(r, "#}", &inside)) {
                return false;
            }
        } else if (g_str_has_prefix(r->at, "{%")) {
            if (!render_tag(r, show, ret_word, ret_inside)) {
                return false;
            }
            if (*ret_word != NULL) {
                return true;
            }
        } else if (g_str_has_prefix(r->at, "{{")) {
            if (!take_tag(r, "}}", &inside)) {
                return false;
            }
            g_autofree char *text = value(&inside);
            if (text == NULL) {
                return false;
            }
            g_string_append(r->out, show ? text : "");
        } else {
            if (show) {
                g_string_append_c(r->out, *r->at);
            }
            r->at++;
        }
    }
    return true;
}

char *
template_render(const char *text, json_t *scope, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    struct render render = {text, out, scope, error, 0};
    const char *word;
    struct expr inside;
    if (!render_block(&render, true, &word, &inside)) {
        return NULL;
    }
    if (word != NULL) {
        haw_fail(error, HAW_INVALID, "Template: '%s' without if", word);
        return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
