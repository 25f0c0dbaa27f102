/* REST over libcurl: a unix socket, or HTTPS with the user's certificate.
 * T1  A server whose certificate was pinned ('remote add') is that key or nobody; others must have
 *     a certificate that the system trusts.
 * T2  Only 2xx answers reach the caller as data; all others become an error with the server's text.
 * T3  JSON answers are at most ANSWER_MAX bytes.
 * Called by every cmd_*.c. */
#include "ctl/rest.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/identity.h"
#include "ctl/interrupt.h"
#include "ctl/json.h"

enum { ANSWER_MAX = 256 * 1024 * 1024 };

struct Rest {
    Remotes *remotes;     /* borrows */
    const Remote *remote; /* borrows */
    CURL *curl;           /* owns; keeps the connection between requests */
    char *base, *socket, *pin_pem, *pin, *cert, *key;
    char *project, *target, *location;
    gint64 wait_s;
    bool debug;
};

/* One answer while it comes in. */
typedef struct {
    Rest *rest;
    GByteArray *body;    /* owns */
    GHashTable *headers; /* owns */
    int fd_save;
    bool is_download, too_large;
    int save_errno;
    RestProgress progress;
    void *progress_data;
} Answer;

static char *
default_socket(void)
{
    const char *path = g_getenv("HAWSER_SOCKET");
    if (path != NULL && *path != '\0') {
        return g_strdup(path);
    }
    const char *dir = g_getenv("HAWSER_DIR");
    return g_build_filename(dir != NULL && *dir != '\0' ? dir : "/var/lib/hawser", "unix.socket",
                            NULL);
}

/* T1 */
static bool
load_identity(Rest *rest, GError **error)
{
    g_autofree char *pin_path = remotes_pin_path(rest->remotes, rest->remote->name);
    if (g_file_test(pin_path, G_FILE_TEST_EXISTS)) {
        rest->pin_pem = fd_read_file(pin_path, 64 * 1024, NULL, error);
        rest->pin = rest->pin_pem != NULL ? identity_pin(rest->pin_pem, error) : NULL;
        if (rest->pin == NULL) {
            return haw_push(error, "certificate of remote '%s'", rest->remote->name);
        }
    }
    if (rest->remote->is_public) {
        return true;
    }
    return identity_ensure(rest->remotes, &rest->cert, &rest->key, error);
}

Rest *
rest_open(Remotes *remotes, const Remote *remote, GError **error)
{
    g_autoptr(Rest) rest = g_new0(Rest, 1);
    rest->remotes = remotes;
    rest->remote = remote;
    if (strcmp(remote->protocol, "lxd") != 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "remote '%s' only serves images (protocol '%s'); name another remote",
                 remote->name, remote->protocol);
        return NULL;
    }
    if (g_str_has_prefix(remote->address, "unix:")) {
        const char *path = remote->address + strlen("unix:");
        path += strspn(path, "/") > 1 ? strspn(path, "/") - 1 : 0;
        rest->socket = path[0] == '/' && path[1] != '\0' ? g_strdup(path) : default_socket();
        rest->base = g_strdup("http://hawser");
    } else {
        rest->base = g_strdup(remote->address);
        if (!load_identity(rest, error)) {
            return NULL;
        }
    }
    rest->curl = curl_easy_init();
    g_assert(rest->curl != NULL);
    return g_steal_pointer(&rest);
}

void
rest_free(Rest *rest)
{
    if (rest == NULL) {
        return;
    }
    if (rest->curl != NULL) {
        curl_easy_cleanup(rest->curl);
    }
    g_free(rest->base);
    g_free(rest->socket);
    g_free(rest->pin_pem);
    g_free(rest->pin);
    g_free(rest->cert);
    g_free(rest->key);
    g_free(rest->project);
    g_free(rest->target);
    g_free(rest->location);
    g_free(rest);
}

void
rest_set_project(Rest *rest, const char *project)
{
    g_free(rest->project);
    rest->project = g_strdup(project);
}

void
rest_set_target(Rest *rest, const char *target)
{
    g_free(rest->target);
    rest->target = g_strdup(target);
}

void
rest_set_timeout(Rest *rest, gint64 wait_s)
{
    rest->wait_s = wait_s;
}

void
rest_set_debug(Rest *rest, bool debug)
{
    rest->debug = debug;
}

const char *
rest_project(const Rest *rest)
{
    return rest->project != NULL ? rest->project : "default";
}

const Remote *
rest_remote(const Rest *rest)
{
    return rest->remote;
}

Remotes *
rest_remotes(const Rest *rest)
{
    return rest->remotes;
}

bool
rest_is_local(const Rest *rest)
{
    return rest->socket != NULL;
}

char *
rest_socket_path(const Rest *rest)
{
    return g_strdup(rest->socket);
}

char *
rest_pin_pem(const Rest *rest)
{
    return g_strdup(rest->pin_pem);
}

char *
rest_path(const char *format, ...)
{
    GString *path = g_string_new(NULL);
    va_list args;
    va_start(args, format);
    for (const char *at = format; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 's') {
            g_autofree char *escaped = g_uri_escape_string(va_arg(args, const char *), NULL, FALSE);
            g_string_append(path, escaped);
            at++;
        } else {
            g_string_append_c(path, *at);
        }
    }
    va_end(args);
    return g_string_free(path, FALSE);
}

static void
add_query(GString *path, const char *key, const char *value)
{
    g_autofree char *mark = g_strconcat(key, "=", NULL);
    const char *query = strchr(path->str, '?');
    if (value == NULL || (query != NULL && strstr(query, mark) != NULL)) {
        return;
    }
    g_autofree char *escaped = g_uri_escape_string(value, NULL, FALSE);
    g_string_append_printf(path, "%c%s%s", query != NULL ? '&' : '?', mark, escaped);
}

char *
rest_full_path(const Rest *rest, const char *path)
{
    GString *full = g_string_new(path);
    if (strstr(path, "all-projects=") == NULL) {
        add_query(full, "project", rest->project);
    }
    add_query(full, "target", rest->target);
    return g_string_free(full, FALSE);
}

static size_t
on_header(char *line, size_t size, size_t count, void *data)
{
    Answer *answer = data;
    g_autofree char *text = g_strndup(line, size * count);
    char *colon = strchr(text, ':');
    if (g_str_has_prefix(text, "HTTP/")) {
        g_hash_table_remove_all(answer->headers); /* those of "100 Continue" */
    } else if (colon != NULL) {
        char *name = g_ascii_strdown(text, colon - text);
        g_hash_table_replace(answer->headers, name, g_strdup(g_strstrip(colon + 1)));
    }
    return size * count;
}

static size_t
on_body(char *bytes, size_t size, size_t count, void *data)
{
    Answer *answer = data;
    size_t length = size * count;
    long status = 0;
    curl_easy_getinfo(answer->rest->curl, CURLINFO_RESPONSE_CODE, &status);
    if (answer->is_download && status >= 200 && status < 300) {
        for (size_t at = 0; at < length;) {
            ssize_t put = write(answer->fd_save, bytes + at, length - at);
            if (put < 0 && errno != EINTR) {
                answer->save_errno = errno;
                return 0;
            }
            at += put > 0 ? (size_t) put : 0;
        }
        return length;
    }
    if (answer->body->len + length > ANSWER_MAX) { /* T3 */
        answer->too_large = true;
        return 0;
    }
    g_byte_array_append(answer->body, (guint8 *) bytes, (guint) length);
    return length;
}

static size_t
on_upload(char *bytes, size_t size, size_t count, void *data)
{
    const RestRaw *raw = data;
    ssize_t got;
    do {
        got = read(raw->fd_body, bytes, size * count);
    } while (got < 0 && errno == EINTR && !interrupt_seen());
    return got >= 0 ? (size_t) got : CURL_READFUNC_ABORT;
}

static int
on_progress(void *data, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    Answer *answer = data;
    if (answer->progress != NULL) {
        bool is_up = up_total > 0 || up > 0;
        answer->progress(answer->progress_data, is_up ? up : down, is_up ? up_total : down_total);
    }
    return interrupt_seen();
}

static void
set_connection(Rest *rest)
{
    CURL *curl = rest->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "hawser/" HAWSER_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long) rest->wait_s);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    if (rest->socket != NULL) {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, rest->socket);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        return;
    }
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    if (rest->cert != NULL) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, rest->cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, rest->key);
    }
    if (rest->pin != NULL) { /* T1 */
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
        curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, rest->pin);
    }
}

/* What libcurl met as ours, with the next step for the two failures that people meet. */
static bool
fail_curl(const Rest *rest, CURLcode code, const Answer *answer, GError **error)
{
    const char *where = rest->socket != NULL ? rest->socket : rest->base;
    long os_errno = 0;
    curl_easy_getinfo(rest->curl, CURLINFO_OS_ERRNO, &os_errno);
    if (interrupt_seen()) {
        return haw_fail(error, HAW_CANCELLED, "interrupted");
    }
    if (answer->save_errno != 0) {
        return haw_fail_errno(error, answer->save_errno, "write what the server sends");
    }
    if (answer->too_large) {
        return haw_fail(error, HAW_LIMIT, "the answer of '%s' is too large", where);
    }
    if (code == CURLE_COULDNT_CONNECT && rest->socket != NULL) {
        if (access(rest->socket, F_OK) == 0 && access(rest->socket, W_OK) != 0) {
            return haw_fail(error, HAW_DENIED,
                            "connect to '%s': not allowed (use sudo, or join the group of the "
                            "socket)",
                            where);
        }
        return haw_fail(error, HAW_UNAVAILABLE,
                        "connect to '%s': hawserd does not answer (is it running? 'systemctl start "
                        "hawserd')",
                        where);
    }
    if (code == CURLE_SSL_PINNEDPUBKEYNOTMATCH) {
        return haw_fail(error, HAW_DENIED,
                        "'%s' is not the server that remote '%s' was added with (if it was "
                        "reinstalled: 'hawser remote remove %s' and add it again)",
                        where, rest->remote->name, rest->remote->name);
    }
    return haw_fail(error, code == CURLE_OPERATION_TIMEDOUT ? HAW_TIMEOUT : HAW_UNAVAILABLE,
                    "connect to '%s': %s%s%s", where, curl_easy_strerror(code),
                    os_errno != 0 ? ": " : "", os_errno != 0 ? g_strerror((int) os_errno) : "");
}

/* The code of an error: of its REST status, and where that says little (500, and 409 which is two of
 * ours) of LXD's words. */
HawCode
rest_code(int status, const char *text)
{
    bool exists = strstr(text, "already exists") != NULL || strstr(text, "already in use") != NULL;
    switch (status) {
    case 401:
        return HAW_DENIED;
    case 409:
        return exists || strstr(text, "already") != NULL ? HAW_EXISTS : HAW_BUSY;
    case 413:
        return HAW_LIMIT;
    case 500:
        return exists ? HAW_EXISTS : strstr(text, "not found") != NULL ? HAW_NOT_FOUND : HAW_FAILED;
    default:
        for (int code = 0; code < HAW_CODE_COUNT; code++) {
            if (haw_code_rest((HawCode) code) == status) {
                return (HawCode) code;
            }
        }
        return HAW_FAILED;
    }
}

/* T2 */
static bool
fail_status(const Rest *rest, int status, const Answer *answer, GError **error)
{
    g_autoptr(json_t) root =
        json_loadb((const char *) answer->body->data, answer->body->len, 0, NULL);
    const char *text = json_string_value(json_object_get(root, "error"));
    if (text == NULL || *text == '\0') {
        return haw_fail(error, rest_code(status, ""), "'%s' answered with status %d",
                        rest->socket != NULL ? rest->socket : rest->base, status);
    }
    return haw_fail(error, rest_code(status, text), "%s", text);
}

static void
answer_done(Answer *answer)
{
    g_clear_pointer(&answer->body, g_byte_array_unref);
    g_clear_pointer(&answer->headers, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Answer, answer_done)

/* Sets what the request sends. *ret_mime and *ret_headers are the caller's to free after it. */
static bool
set_request(Rest *rest, const RestRaw *raw, curl_mime **ret_mime, struct curl_slist **ret_headers,
            GError **error)
{
    CURL *curl = rest->curl;
    for (const char *const *h = raw->headers; h != NULL && *h != NULL; h++) {
        *ret_headers = curl_slist_append(*ret_headers, *h);
    }
    *ret_headers = curl_slist_append(*ret_headers, "Expect:");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *ret_headers);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, raw->method);
    if (raw->part_names[0] != NULL) {
        *ret_mime = curl_mime_init(curl);
        for (int i = 0; raw->part_names[i] != NULL; i++) {
            curl_mimepart *part = curl_mime_addpart(*ret_mime);
            curl_mime_name(part, raw->part_names[i]);
            if (curl_mime_filedata(part, raw->part_paths[i]) != CURLE_OK) {
                return haw_fail(error, HAW_NOT_FOUND, "'%s' cannot be read", raw->part_paths[i]);
            }
        }
        curl_easy_setopt(curl, CURLOPT_MIMEPOST, *ret_mime);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, raw->method);
    } else if (raw->is_upload) {
        off_t size = lseek(raw->fd_body, 0, SEEK_END);
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(curl, CURLOPT_READDATA, raw);
        if (size >= 0) {
            lseek(raw->fd_body, 0, SEEK_SET);
            curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t) size);
        }
    } else if (raw->bytes != NULL || strcmp(raw->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, raw->bytes != NULL ? raw->bytes : "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) raw->size);
    } else if (strcmp(raw->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    return true;
}

/* The request and its answer; true for any status. */
static bool
perform(Rest *rest, const RestRaw *raw, Answer *answer, int *ret_status, GError **error)
{
    g_autofree char *path = rest_full_path(rest, raw->path);
    g_autofree char *url = g_strconcat(rest->base, path, NULL);
    curl_mime *mime = NULL;
    struct curl_slist *headers = NULL;

    set_connection(rest);
    curl_easy_setopt(rest->curl, CURLOPT_URL, url);
    curl_easy_setopt(rest->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(rest->curl, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(rest->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(rest->curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(rest->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(rest->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(rest->curl, CURLOPT_XFERINFODATA, answer);
    bool ok = set_request(rest, raw, &mime, &headers, error);
    CURLcode code = ok ? curl_easy_perform(rest->curl) : CURLE_OK;
    long status = 0;
    curl_easy_getinfo(rest->curl, CURLINFO_RESPONSE_CODE, &status);
    if (rest->debug) {
        g_printerr("%s %s%s: %ld\n", raw->method, rest->base, path, status);
        if (raw->bytes != NULL) {
            g_printerr("  sent: %.*s\n", (int) MIN(raw->size, 4096), (const char *) raw->bytes);
        }
        g_printerr("  got: %.*s\n", (int) MIN(answer->body->len, 4096),
                   (const char *) answer->body->data);
    }
    if (ok && code != CURLE_OK) {
        ok = fail_curl(rest, code, answer, error);
    }
    curl_mime_free(mime);
    curl_slist_free_all(headers);
    *ret_status = (int) status;
    return ok;
}

static bool
request(Rest *rest, const RestRaw *raw, Answer *answer, GError **error)
{
    int status = 0;
    *answer = (Answer){.rest = rest,
                       .body = g_byte_array_new(),
                       .headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                       .fd_save = raw->fd_save,
                       .is_download = raw->is_download,
                       .progress = raw->progress,
                       .progress_data = raw->progress_data};
    if (!perform(rest, raw, answer, &status, error)) {
        return false;
    }
    if (status < 200 || status >= 300) {
        return fail_status(rest, status, answer, error);
    }
    const char *location = g_hash_table_lookup(answer->headers, "location");
    g_free(rest->location);
    rest->location = g_strdup(location != NULL ? location : "");
    return true;
}

/* The metadata of a standard answer as a new reference. */
static json_t *
metadata_of(const Rest *rest, const Answer *answer, GError **error)
{
    g_autoptr(json_t) root =
        json_loadb((const char *) answer->body->data, answer->body->len, 0, NULL);
    if (!json_is_object(root)) {
        haw_fail(error, HAW_FAILED, "'%s' did not answer with JSON",
                 rest->socket != NULL ? rest->socket : rest->base);
        return NULL;
    }
    json_t *metadata = json_object_get(root, "metadata");
    return metadata != NULL ? json_incref(metadata) : json_null();
}

static json_t *
call(Rest *rest, const char *method, const char *path, json_t *body, const char *etag,
     char **ret_etag, GError **error)
{
    g_autofree char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    g_autofree char *if_match = etag != NULL ? g_strconcat("If-Match: ", etag, NULL) : NULL;
    const char *headers[] = {"Content-Type: application/json", if_match, NULL};
    RestRaw raw = {.method = method,
                   .path = path,
                   .headers = headers,
                   .bytes = text,
                   .size = text != NULL ? strlen(text) : 0};
    g_auto(Answer) answer = {0};
    if (!request(rest, &raw, &answer, error)) {
        return NULL;
    }
    if (ret_etag != NULL) {
        *ret_etag = g_strdup(g_hash_table_lookup(answer.headers, "etag"));
    }
    return metadata_of(rest, &answer, error);
}

json_t *
rest_call(Rest *rest, const char *method, const char *path, json_t *body, const char *etag,
          GError **error)
{
    return call(rest, method, path, body, etag, NULL, error);
}

json_t *
rest_get(Rest *rest, const char *path, GError **error)
{
    return call(rest, "GET", path, NULL, NULL, NULL, error);
}

json_t *
rest_get_etag(Rest *rest, const char *path, char **ret_etag, GError **error)
{
    return call(rest, "GET", path, NULL, NULL, ret_etag, error);
}

bool
rest_do(Rest *rest, const char *method, const char *path, json_t *body, GError **error)
{
    g_autoptr(json_t) metadata = call(rest, method, path, body, NULL, NULL, error);
    return metadata != NULL;
}

const char *
rest_location(const Rest *rest)
{
    return rest->location != NULL ? rest->location : "";
}

bool
rest_raw(Rest *rest, const RestRaw *raw, GHashTable **ret_headers, json_t **ret_json,
         GByteArray **ret_body, GError **error)
{
    g_auto(Answer) answer = {0};
    if (!request(rest, raw, &answer, error)) {
        return false;
    }
    if (ret_json != NULL) {
        json_t *metadata = metadata_of(rest, &answer, error);
        if (metadata == NULL) {
            return false;
        }
        *ret_json = metadata;
    }
    if (ret_headers != NULL) {
        *ret_headers = g_steal_pointer(&answer.headers);
    }
    if (ret_body != NULL) {
        *ret_body = g_steal_pointer(&answer.body);
    }
    return true;
}
