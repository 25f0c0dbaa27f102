/* Replies: what a handler says, as HTTP.
 * P1  JSON has LXD's envelope, and the newline behind it that Go's encoder writes; an error's status is
 *     its code's (base/error.h).
 * P2  A Request has one reply at most; an error replaces what was there.
 * Called by handlers and request.c; main loop. */
#include "agent/api/request.h"

#include "agent/api/operation.h"
#include "agent/api/settings.h"
#include "agent/api/usedby.h"
#include "base/fd.h"
#include "proto/jsontext.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
set_response(Request *req, int status, struct MHD_Response *response)
{
    g_assert(req->response == NULL);
    req->status = status;
    req->response = response;
    return true;
}

static void
add_headers(struct MHD_Response *response, const char *content_type, const char *const *headers)
{
    if (content_type != NULL) {
        MHD_add_response_header(response, "Content-Type", content_type);
    }
    for (; headers != NULL && headers[0] != NULL; headers += 2) {
        MHD_add_response_header(response, headers[0], headers[1]);
    }
}

static void
shared_free(void *bytes)
{
    g_bytes_unref(bytes);
}

bool
req_reply_shared(Request *req, int status, const char *content_type, GBytes *bytes,
                 const char *const *headers)
{
    gsize size;
    const void *data = g_bytes_get_data(bytes, &size);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        size, (void *) data, shared_free, g_bytes_ref(bytes));
    add_headers(response, content_type, headers);
    return set_response(req, status, response);
}

/* The text becomes the reply's body, with one newline behind, as Go's encoder writes it. */
static bool
reply_text(Request *req, int status, GString *text /* stolen */)
{
    g_string_append_c(text, '\n');
    size_t size = text->len;
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(
        size, g_string_free(text, FALSE), g_free);
    MHD_add_response_header(response, "Content-Type", "application/json");
    return set_response(req, status, response);
}

static bool
reply_json(Request *req, int status, json_t *body /* stolen */)
{
    GString *text = g_string_sized_new(512);
    jsontext_append(text, body);
    json_decref(body);
    return reply_text(req, status, text);
}

static json_t *
envelope(const char *type, const char *status, int code, json_t *metadata)
{
    return json_pack("{s:s,s:s,s:i,s:s,s:i,s:s,s:o}", "type", type, "status", status, "status_code",
                     code, "operation", "", "error_code", 0, "error", "", "metadata",
                     metadata != NULL ? metadata : json_object());
}

void
request_reply_error(Request *req, const GError *error)
{
    if (req->response != NULL) {
        MHD_destroy_response(req->response);
        req->response = NULL;
    }
    int code = haw_code_rest(haw_code(error));
    reply_json(req, code,
               json_pack("{s:s,s:s,s:i,s:s,s:i,s:s,s:n}", "type", "error", "status", "",
                         "status_code", 0, "operation", "", "error_code", code, "error",
                         g_utf8_validate(error->message, -1, NULL) ? error->message : "error",
                         "metadata"));
    MHD_add_response_header(req->response, "X-Content-Type-Options", "nosniff");
}

GString *
req_text_new(void)
{
    return g_string_new("{\"type\":\"sync\",\"status\":\"Success\",\"status_code\":200,"
                        "\"operation\":\"\",\"error_code\":0,\"error\":\"\",\"metadata\":");
}

bool
req_reply_text(Request *req, GString *text)
{
    g_string_append_c(text, '}');
    return reply_text(req, 200, text);
}

bool
req_reply(Request *req, json_t *metadata)
{
    GString *text = req_text_new();
    if (metadata != NULL) {
        metadata = usedby_seen_by(&req->caller, metadata);
        jsontext_append(text, metadata);
        json_decref(metadata);
    } else {
        g_string_append(text, "{}");
    }
    return req_reply_text(req, text);
}

char *
request_etag(json_t *tagged)
{
    char *text = json_dumps(tagged, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text != NULL ? text : "", -1);
    free(text);
    return sum;
}

char *
req_etag(json_t *tagged)
{
    g_autofree char *sum = request_etag(tagged);
    return g_strdup_printf("\"%s\"", sum);
}

bool
req_reply_etag(Request *req, json_t *metadata, json_t *tagged)
{
    g_autofree char *tag = req_etag(tagged);
    json_decref(tagged);
    req_reply(req, metadata);
    MHD_add_response_header(req->response, "ETag", tag);
    return true;
}

bool
req_check_etag(Request *req, json_t *tagged, GError **error)
{
    g_autofree char *ours = request_etag(tagged);
    json_decref(tagged);
    const char *given = req_header(req, "If-Match");
    if (given == NULL || *given == '\0') {
        return true;
    }
    g_autofree char *bare = g_strdup(given);
    if (g_str_has_prefix(bare, "\"") && g_str_has_suffix(bare, "\"") && strlen(bare) >= 2) {
        memmove(bare, bare + 1, strlen(bare));
        bare[strlen(bare) - 1] = '\0';
    }
    if (strcmp(bare, ours) == 0) {
        return true;
    }
    return haw_fail(error, HAW_STALE, "ETag doesn't match: %s vs %s", ours, bare);
}

bool
req_reply_created(Request *req, const char *location_format, ...)
{
    va_list args;
    va_start(args, location_format);
    g_autofree char *location = g_strdup_vprintf(location_format, args);
    va_end(args);
    reply_json(req, 201, envelope("sync", "Success", 200, json_null()));
    MHD_add_response_header(req->response, "Location", location);
    return true;
}

bool
req_reply_operation(Request *req, Operation *op)
{
    g_autofree char *url = g_strdup_printf("/1.0/operations/%s", op_id(op));
    json_t *body = envelope("async", "Operation created", 100, op_json(op));
    json_object_set_new(body, "operation", json_string(url));
    reply_json(req, 202, body);
    MHD_add_response_header(req->response, "Location", url);
    return true;
}

static void
add_disposition(struct MHD_Response *response, const char *filename)
{
    if (filename != NULL) {
        g_autofree char *clean = g_strdelimit(g_strdup(filename), "\"\r\n;", '_');
        g_autofree char *value = g_strdup_printf("inline;filename=%s", clean);
        MHD_add_response_header(response, "Content-Disposition", value);
    }
}

bool
req_reply_fd(Request *req, int *fd, const char *content_type, const char *filename,
             const char *const *headers)
{
    struct stat st;
    g_assert(fstat(*fd, &st) == 0);
    struct MHD_Response *response =
        MHD_create_response_from_fd64((uint64_t) st.st_size, fd_steal(fd));
    add_headers(response, content_type != NULL ? content_type : "application/octet-stream",
                headers);
    add_disposition(response, filename);
    return set_response(req, 200, response);
}

bool
req_reply_bytes(Request *req, int status, const char *content_type, const void *bytes, size_t size,
                const char *const *headers)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *) bytes, MHD_RESPMEM_MUST_COPY);
    add_headers(response, content_type, headers);
    return set_response(req, status, response);
}

/* A multipart body is a list of pieces: heads in memory, files behind them. */
struct piece {
    char *head;
    int fd; /* -1: only the head */
    uint64_t head_size, file_size;
};
struct pieces {
    size_t count;
    uint64_t total;
    struct piece at[];
};

static ssize_t
pieces_read(void *data, uint64_t position, char *buffer, size_t max)
{
    struct pieces *pieces = data;
    uint64_t start = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        struct piece *piece = &pieces->at[i];
        if (position < start + piece->head_size) {
            size_t offset = (size_t) (position - start);
            size_t n = MIN(max, piece->head_size - offset);
            memcpy(buffer, piece->head + offset, n);
            return (ssize_t) n;
        }
        start += piece->head_size;
        if (position < start + piece->file_size) {
            uint64_t offset = position - start;
            ssize_t n =
                pread(piece->fd, buffer, MIN(max, piece->file_size - offset), (off_t) offset);
            return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
        }
        start += piece->file_size;
    }
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static void
pieces_free(void *data)
{
    struct pieces *pieces = data;
    for (size_t i = 0; i < pieces->count; i++) {
        g_free(pieces->at[i].head);
        fd_close(&pieces->at[i].fd);
    }
    g_free(pieces);
}

bool
req_reply_multipart(Request *req, ReplyPart *parts, size_t count)
{
    g_autofree char *uuid = g_uuid_string_random();
    struct pieces *pieces = g_malloc0(sizeof *pieces + (count + 1) * sizeof pieces->at[0]);
    for (size_t i = 0; i < count; i++) {
        struct stat st;
        g_assert(fstat(parts[i].fd, &st) == 0);
        pieces->at[i].head = g_strdup_printf(
            "%s--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n"
            "Content-Type: application/octet-stream\r\n\r\n",
            i > 0 ? "\r\n" : "", uuid, parts[i].field, parts[i].filename);
        pieces->at[i].head_size = strlen(pieces->at[i].head);
        pieces->at[i].fd = fd_steal(&parts[i].fd);
        pieces->at[i].file_size = (uint64_t) st.st_size;
        pieces->total += pieces->at[i].head_size + pieces->at[i].file_size;
    }
    pieces->at[count].head = g_strdup_printf("\r\n--%s--\r\n", uuid);
    pieces->at[count].head_size = strlen(pieces->at[count].head);
    pieces->at[count].fd = -1;
    pieces->total += pieces->at[count].head_size;
    pieces->count = count + 1;

    struct MHD_Response *response = MHD_create_response_from_callback(
        pieces->total, 256 * 1024, pieces_read, pieces, pieces_free);
    g_autofree char *type = g_strdup_printf("multipart/form-data; boundary=%s", uuid);
    MHD_add_response_header(response, "Content-Type", type);
    return set_response(req, 200, response);
}

void
request_reply_cors(Request *req)
{
    Settings *settings = req->agent->settings;
    if (settings == NULL || req_header(req, "Origin") == NULL) {
        return;
    }
    const char *allowed = settings_get(settings, "core.https_allowed_origin");
    if (allowed == NULL || *allowed == '\0') {
        return;
    }
    MHD_add_response_header(req->response, "Access-Control-Allow-Origin", allowed);
    const char *methods = settings_get(settings, "core.https_allowed_methods");
    if (methods != NULL && *methods != '\0') {
        MHD_add_response_header(req->response, "Access-Control-Allow-Methods", methods);
    }
    const char *headers = settings_get(settings, "core.https_allowed_headers");
    if (headers != NULL && *headers != '\0') {
        MHD_add_response_header(req->response, "Access-Control-Allow-Headers", headers);
    }
    if (settings_bool(settings, "core.https_allowed_credentials")) {
        MHD_add_response_header(req->response, "Access-Control-Allow-Credentials", "true");
    }
}
