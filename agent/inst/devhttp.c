/* HTTP/1.1 request heads, the little of it that the guest API needs. Not libmicrohttpd: each
 * connection here is a fiber of its own that knows its peer's pid, some become event streams, and
 * what a container can make us parse stays within two screens.
 * Bytes come from containers: bounded by DEVHTTP_HEAD_MAX, no body but by Content-Length. */
#include "agent/inst/devhttp.h"

#include <string.h>

#define DEVHTTP_HEADERS_MAX 64

size_t
devhttp_head_size(const char *bytes, size_t size)
{
    const char *end = size > 0 ? memmem(bytes, size, "\r\n\r\n", 4) : NULL;

    return end != NULL ? (size_t) (end - bytes) + 4 : 0;
}

static char *
decode(const char *text, size_t size)
{
    g_autofree char *copy = g_strndup(text, size);

    return g_uri_unescape_string(copy, NULL); /* NULL for a broken escape or a NUL */
}

static int
parse_target(const char *target, Devhttp *ret)
{
    size_t size = strcspn(target, "?");

    if (target[0] != '/') {
        return 400;
    }
    ret->path = decode(target, size);
    if (ret->path == NULL || !g_utf8_validate(ret->path, -1, NULL)) {
        return 400;
    }
    ret->query = target[size] == '?' ? g_strdup(target + size + 1) : NULL;
    return 0;
}

static int
parse_header(const char *line, Devhttp *ret)
{
    const char *colon = strchr(line, ':');

    if (colon == NULL || colon == line) {
        return 400;
    }
    for (const char *c = line; c < colon; c++) {
        if (!g_ascii_isalnum(*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL) {
            return 400;
        }
    }
    g_autofree char *name = g_ascii_strdown(line, colon - line);
    if (g_hash_table_contains(ret->headers, name) &&
        (g_str_equal(name, "content-length") || g_str_equal(name, "host"))) {
        return 400;
    }
    g_hash_table_replace(ret->headers, g_steal_pointer(&name), g_strstrip(g_strdup(colon + 1)));
    return 0;
}

static int
parse_framing(Devhttp *ret, bool old)
{
    const char *length = devhttp_header(ret, "content-length");
    const char *connection = devhttp_header(ret, "connection");
    char *end = NULL;

    if (devhttp_header(ret, "transfer-encoding") != NULL) {
        return 501;
    }
    if (length != NULL) {
        if (!g_ascii_isdigit(length[0])) {
            return 400;
        }
        guint64 size = g_ascii_strtoull(length, &end, 10);
        if (*end != '\0') {
            return 400;
        }
        if (size > DEVHTTP_BODY_MAX) {
            return 413;
        }
        ret->body_size = (size_t) size;
    }
    ret->keep_alive = !old && (connection == NULL || g_ascii_strcasecmp(connection, "close") != 0);
    return 0;
}

int
devhttp_parse(const char *head, size_t size, Devhttp *ret)
{
    g_autofree char *text = g_strndup(head, size);
    int status;

    *ret = (Devhttp){.headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
    if (strlen(text) != size) {
        return 400;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\r\n", DEVHTTP_HEADERS_MAX + 3);
    g_auto(GStrv) words = g_strsplit(lines[0] != NULL ? lines[0] : "", " ", 4);
    if (g_strv_length(words) != 3 || !g_str_has_prefix(words[2], "HTTP/1.") ||
        g_strv_length(lines) > DEVHTTP_HEADERS_MAX + 2) {
        return 400;
    }
    ret->method = g_strdup(words[0]);
    status = parse_target(words[1], ret);
    for (char **line = lines + 1; status == 0 && *line != NULL && **line != '\0'; line++) {
        status = parse_header(*line, ret);
    }
    return status != 0 ? status : parse_framing(ret, g_str_equal(words[2], "HTTP/1.0"));
}

void
devhttp_clear(Devhttp *request)
{
    g_free(request->method);
    g_free(request->path);
    g_free(request->query);
    g_clear_pointer(&request->headers, g_hash_table_unref);
    *request = (Devhttp){0};
}

const char *
devhttp_header(const Devhttp *request, const char *lower_name)
{
    return g_hash_table_lookup(request->headers, lower_name);
}

char *
devhttp_query(const Devhttp *request, const char *name)
{
    g_auto(GStrv) pairs = g_strsplit(request->query != NULL ? request->query : "", "&", -1);

    for (char **pair = pairs; *pair != NULL; pair++) {
        size_t size = strcspn(*pair, "=");
        if (size == strlen(name) && strncmp(*pair, name, size) == 0) {
            const char *value = (*pair)[size] == '=' ? *pair + size + 1 : "";
            return decode(value, strlen(value));
        }
    }
    return NULL;
}
