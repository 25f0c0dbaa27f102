/* HTTP to other servers, by libcurl on a worker.
 * F1  http and https only, also after redirects; at most 5 of those.
 * F2  A given certificate pins the server's public key; names and authorities no longer count then.
 * F3  A transfer that stands still for wait_ms ends, however long a moving one takes.
 * F4  An answer in memory is bounded, since it comes from strangers.
 * Called by remote.c and streams.c. */
#include "agent/image/fetch.h"

#include "agent/api/settings.h"
#include "agent/image/curl_lib.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/stat.h>

#define MEMORY_MAX  (64 * 1024 * 1024)
#define HEADERS_MAX 200

struct job {
    const FetchSpec *spec; /* borrowed: the fiber waits */
    char *pin;             /* "sha256//…"; owned; NULL without a certificate */
    char *proxy, *no_proxy;
    FILE *upload;
    GByteArray *bytes;
    FetchReply *reply;
    GError *error; /* ours, which ended the transfer */
    CURLcode status;
    char text[CURL_ERROR_SIZE];
};

void
fetch_reply_clear(FetchReply *reply)
{
    g_clear_pointer(&reply->bytes, g_free);
    g_clear_pointer(&reply->content_type, g_free);
    g_clear_pointer(&reply->filename, g_free);
    g_clear_pointer(&reply->headers, g_hash_table_unref);
}

/* F2: the base64 of SHA-256 over the certificate's public key info. */
static char *
pin_of(const char *pem, GError **error)
{
    gnutls_x509_crt_t crt;
    gnutls_pubkey_t key;
    gnutls_datum_t text = {(unsigned char *) pem, (unsigned) strlen(pem)}, der = {NULL, 0};
    char *pin = NULL;
    gnutls_x509_crt_init(&crt);
    gnutls_pubkey_init(&key);
    if (gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM) == 0 &&
        gnutls_pubkey_import_x509(key, crt, 0) == 0 &&
        gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der) == 0) {
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        guint8 bytes[32];
        gsize size = sizeof bytes;
        g_checksum_update(sum, der.data, der.size);
        g_checksum_get_digest(sum, bytes, &size);
        g_autofree char *base64 = g_base64_encode(bytes, size);
        pin = g_strconcat("sha256//", base64, NULL);
        gnutls_free(der.data);
    } else {
        haw_fail(error, HAW_INVALID, "Invalid server certificate");
    }
    gnutls_pubkey_deinit(key);
    gnutls_x509_crt_deinit(crt);
    return pin;
}

static size_t
take_body(char *bytes, size_t one, size_t size, void *data)
{
    struct job *job = data;
    if (job->spec->out_fd >= 0) {
        return fd_write_all(job->spec->out_fd, bytes, size, "download", &job->error) ? size : 0;
    }
    if (job->bytes->len + size > MEMORY_MAX) { /* F4 */
        haw_fail(&job->error, HAW_LIMIT, "'%s': the answer is too large", job->spec->url);
        return 0;
    }
    g_byte_array_append(job->bytes, (const guint8 *) bytes, (guint) size);
    return size;
}

static size_t
take_header(char *bytes, size_t one, size_t size, void *data)
{
    struct job *job = data;
    const char *colon = memchr(bytes, ':', size);
    if (size >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        g_hash_table_remove_all(job->reply->headers); /* of a redirect before */
    }
    if (colon != NULL && g_hash_table_size(job->reply->headers) < HEADERS_MAX) {
        char *name = g_ascii_strdown(bytes, colon - bytes);
        char *value = g_strndup(colon + 1, (gsize) (bytes + size - colon - 1));
        g_hash_table_replace(job->reply->headers, name, g_strstrip(value));
    }
    return size;
}

static int
watch(void *data, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    struct job *job = data;
    const FetchSpec *spec = job->spec;
    bool uploads = spec->body_path != NULL || spec->parts != NULL;
    curl_off_t total = uploads ? up_total : down_total;
    if (total > 0 && spec->offset == 0) {
        meter_set_total(spec->meter, total);
    }
    meter_set(spec->meter, spec->offset + (uploads ? up : down));
    return meter_cancelled(spec->meter) ? 1 : 0;
}

static void
set_security(struct job *job, CURL *curl)
{
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https"); /* F1 */
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    if (job->pin != NULL) { /* F2 */
        curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, job->pin);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (job->proxy != NULL) {
        curl_easy_setopt(curl, CURLOPT_PROXY, job->proxy);
    }
    if (job->no_proxy != NULL) {
        curl_easy_setopt(curl, CURLOPT_NOPROXY, job->no_proxy);
    }
}

static curl_mime *
set_body(struct job *job, CURL *curl)
{
    const FetchSpec *spec = job->spec;
    if (spec->parts != NULL) {
        curl_mime *mime = curl_mime_init(curl);
        for (size_t i = 0; i < spec->part_count; i++) {
            curl_mimepart *part = curl_mime_addpart(mime);
            curl_mime_name(part, spec->parts[i].name);
            curl_mime_filedata(part, spec->parts[i].path);
            curl_mime_filename(part, spec->parts[i].filename);
            curl_mime_type(part, "application/octet-stream");
        }
        curl_easy_setopt(curl, CURLOPT_MIMEPOST, mime);
        return mime;
    }
    if (spec->body_path != NULL) {
        struct stat st;
        job->upload = fopen(spec->body_path, "re");
        if (job->upload != NULL && fstat(fileno(job->upload), &st) == 0) {
            curl_easy_setopt(curl, CURLOPT_POST, 1L);
            curl_easy_setopt(curl, CURLOPT_READDATA, job->upload);
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) st.st_size);
        } else {
            haw_fail_errno(&job->error, errno, "open '%s'", spec->body_path);
        }
    } else if (spec->body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, spec->body);
    }
    return NULL;
}

static void
set_rest(struct job *job, CURL *curl, struct curl_slist *headers)
{
    const FetchSpec *spec = job->spec;
    long wait_s = (long) (spec->wait_ms > 0 ? (spec->wait_ms + 999) / 1000 : 60);
    curl_easy_setopt(curl, CURLOPT_URL, spec->url);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "Hawser/" HAWSER_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, MIN(wait_s, 30L));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* F3 */
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, wait_s);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, job);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, job);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, job);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, job->text);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (g_strcmp0(spec->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (spec->method != NULL) {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, spec->method);
    }
}

static void
transfer(void *data)
{
    struct job *job = data;
    const FetchSpec *spec = job->spec;
    if (!curl_lib_load(&job->error)) {
        return;
    }
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    for (int i = 0; spec->headers != NULL && spec->headers[i] != NULL; i++) {
        headers = curl_slist_append(headers, spec->headers[i]);
    }

    set_security(job, curl);
    set_rest(job, curl, headers);
    curl_mime *mime = set_body(job, curl);
    if (job->error == NULL) {
        long status = 0;
        char *type = NULL;
        job->status = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
        job->reply->status = (int) status;
        job->reply->content_type = g_strdup(type);
    }
    curl_mime_free(mime);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (job->upload != NULL) {
        fclose(job->upload);
    }
}

static bool
fail_transfer(struct job *job, GError **error)
{
    if (job->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&job->error));
        return false;
    }
    if (job->status == CURLE_ABORTED_BY_CALLBACK) {
        return haw_fail(error, HAW_CANCELLED, "'%s': cancelled", job->spec->url);
    }
    bool trust = job->status == CURLE_SSL_PINNEDPUBKEYNOTMATCH ||
                 job->status == CURLE_PEER_FAILED_VERIFICATION;
    return haw_fail(error, trust ? HAW_DENIED : HAW_UNAVAILABLE, "'%s': %s", job->spec->url,
                    job->text[0] != '\0' ? job->text : curl_easy_strerror(job->status));
}

static char *
header_filename(GHashTable *headers)
{
    const char *text = g_hash_table_lookup(headers, "content-disposition");
    const char *at = text != NULL ? strstr(text, "filename=") : NULL;
    if (at == NULL) {
        return NULL;
    }
    at += strlen("filename=");
    at += *at == '"' ? 1 : 0;
    g_autofree char *name = g_strndup(at, strcspn(at, "\";"));
    return g_path_get_basename(name);
}

bool
fetch(Agent *agent, const FetchSpec *spec, FetchReply *ret_reply, GError **error)
{
    g_auto(FetchReply)
        reply = {.headers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
    struct job job = {.spec = spec, .reply = &reply};
    bool https = g_str_has_prefix(spec->url, "https:");
    if (spec->certificate != NULL && *spec->certificate != '\0' && https) {
        job.pin = pin_of(spec->certificate, error);
        if (job.pin == NULL) {
            return false;
        }
    }
    job.proxy =
        g_strdup(settings_get(agent->settings, https ? "core.proxy_https" : "core.proxy_http"));
    job.no_proxy = g_strdup(settings_get(agent->settings, "core.proxy_ignore_hosts"));
    job.bytes = g_byte_array_new();
    fiber_run(transfer, &job);

    bool ok = job.error == NULL && job.status == CURLE_OK;
    if (ok) {
        reply.size = job.bytes->len;
        g_byte_array_append(job.bytes, (const guint8 *) "", 1);
        reply.bytes = spec->out_fd < 0
                          ? (char *) g_byte_array_free(g_steal_pointer(&job.bytes), FALSE)
                          : NULL;
        reply.filename = header_filename(reply.headers);
        *ret_reply = reply;
        memset(&reply, 0, sizeof reply);
    } else {
        fail_transfer(&job, error);
    }
    g_clear_pointer(&job.bytes, g_byte_array_unref);
    g_free(job.pin);
    g_free(job.proxy);
    g_free(job.no_proxy);
    return ok;
}

json_t *
fetch_json(Agent *agent, const FetchSpec *spec, bool unwrap, GError **error)
{
    g_auto(FetchReply) reply = {0};
    if (!fetch(agent, spec, &reply, error)) {
        return NULL;
    }
    json_auto_t *json = json_loadb(reply.bytes, reply.size, 0, NULL);
    if (reply.status / 100 != 2) {
        const char *text = json_string_value(json_object_get(json, "error"));
        haw_fail(error,
                 reply.status == 404   ? HAW_NOT_FOUND
                 : reply.status == 403 ? HAW_DENIED
                                       : HAW_UNAVAILABLE,
                 "'%s': %s", spec->url, text != NULL ? text : "refused");
        return NULL;
    }
    if (json == NULL) {
        haw_fail(error, HAW_CORRUPT, "'%s': the answer is no JSON", spec->url);
        return NULL;
    }
    return json_incref(unwrap ? json_object_get(json, "metadata") : json);
}
