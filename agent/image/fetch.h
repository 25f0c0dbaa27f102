/* fetch.h: an HTTP(S) client for image servers.
 * Threads: main loop, inside fibers; the transfer itself runs on a worker. */
#pragma once
#include "agent/image/meter.h"

typedef struct {
    const char *name;     /* form field */
    const char *path;     /* its file */
    const char *filename; /* as told to the server */
} FetchPart;

typedef struct {
    const char *url;
    const char *method;         /* NULL: GET, or POST with a body */
    const char *certificate;    /* PEM: the server must have this very one, and need have no other
                                   virtue. NULL or "": the system's authorities decide */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    const char *body;           /* text; may be NULL */
    const char *body_path;      /* a file as the body; may be NULL */
    const FetchPart *parts;     /* a multipart/form-data body; may be NULL */
    size_t part_count;
    int out_fd;     /* where the answer's body goes; -1: into memory, at most 64 MiB */
    gint64 wait_ms; /* without any progress; 0: one minute */
    Meter *meter;   /* counts what goes in the larger direction; may be NULL */
    gint64 offset;  /* what the meter starts from (earlier files of the same image) */
} FetchSpec;

typedef struct {
    int status;
    char *bytes; /* NUL behind; NULL with out_fd */
    size_t size;
    char *content_type, *filename; /* NULL when absent */
    GHashTable *headers;           /* lower case name → value */
} FetchReply;
void fetch_reply_clear(FetchReply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FetchReply, fetch_reply_clear)

/* False when there is no answer: UNAVAILABLE, DENIED (another certificate), CANCELLED, IO (our
 * disk). Any HTTP status is an answer. Yields. */
bool fetch(Agent *agent, const FetchSpec *spec, FetchReply *ret_reply, GError **error);
/* GET of JSON with status 200, else an error with the server's own text. "metadata" of LXD's
 * envelope when 'unwrap'. A new reference. Yields. */
json_t *fetch_json(Agent *agent, const FetchSpec *spec, bool unwrap, GError **error);
