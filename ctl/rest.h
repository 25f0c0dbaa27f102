/* rest.h: requests to one server: JSON in and out, files up and down.
 * Threads: the one thread of the program. Every call blocks; an interrupt (Ctrl-C) ends it with
 * CANCELLED. An error answer becomes a GError with the code of its status and the server's text. */
#pragma once
#include "base/error.h"
#include "ctl/remotes.h"
#include <jansson.h>

typedef struct Rest Rest;

Rest *rest_open(Remotes *remotes, const Remote *remote, GError **error);
void rest_free(Rest *rest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rest, rest_free)
/* Sent with every request from then on; NULL: not. */
void rest_set_project(Rest *rest, const char *project);
void rest_set_target(Rest *rest, const char *target);
/* How long one request may take; 0: for ever. */
void rest_set_timeout(Rest *rest, gint64 wait_s);
void rest_set_debug(Rest *rest, bool debug);
const char *rest_project(const Rest *rest); /* "default" when none is set */
const Remote *rest_remote(const Rest *rest);
Remotes *rest_remotes(const Rest *rest);
bool rest_is_local(const Rest *rest); /* a unix socket */
/* The socket's path; caller frees. */
char *rest_socket_path(const Rest *rest);
/* PEM of the server as this user trusts it; NULL for a socket or a public authority. Caller frees. */
char *rest_pin_pem(const Rest *rest);

/* "/1.0/networks/%s?target=%s": each %s percent-encoded; caller frees. */
char *rest_path(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The path as it goes over the wire, project and target added; caller frees. */
char *rest_full_path(const Rest *rest, const char *path);

/* The metadata of the answer as a new reference; for an operation the operation itself. 'body' and
 * 'etag' may be NULL. */
json_t *rest_call(Rest *rest, const char *method, const char *path, json_t *body, const char *etag,
                  GError **error);
json_t *rest_get(Rest *rest, const char *path, GError **error);
/* With the ETag of the answer, NULL when it has none; caller frees. */
json_t *rest_get_etag(Rest *rest, const char *path, char **ret_etag, GError **error);
/* When the answer only matters as yes or no. */
bool rest_do(Rest *rest, const char *method, const char *path, json_t *body, GError **error);
/* The code of an error that a server gave with this status and text. */
HawCode rest_code(int status, const char *text);
/* The Location of the last answer, "" when it had none; borrowed until the next call. */
const char *rest_location(const Rest *rest);

typedef void (*RestProgress)(void *data, gint64 done, gint64 total);
typedef struct {
    const char *method, *path;
    const char *const *headers; /* "X-LXD-type: file", ends with NULL; may be NULL */
    const void *bytes;          /* body; or */
    size_t size;
    int fd_body; /* body from here to its end when is_upload */
    bool is_upload;
    const char *part_names[3]; /* multipart/form-data of files; ends with NULL */
    const char *part_paths[3];
    int fd_save; /* where a 2xx body goes when is_download */
    bool is_download;
    RestProgress progress; /* may be NULL */
    void *progress_data;
} RestRaw;
/* A request that is not JSON. ret_headers gets the answer's headers, names in lower case (caller
 * unrefs), ret_json its JSON metadata, ret_body its bytes; each may be NULL. */
bool rest_raw(Rest *rest, const RestRaw *raw, GHashTable **ret_headers, json_t **ret_json,
              GByteArray **ret_body, GError **error);
