/* remote.h: images of other servers: LXD's API, simplestreams, plain URLs.
 * Threads: main loop, inside fibers. All Yield. */
#pragma once
#include "agent/image/image.h"
#include "agent/image/intake.h"

/* What to fetch: from an ImagesPostSource or an instance's source. Borrowed. */
struct RemoteSource {
    const char *server, *protocol; /* "lxd", "simplestreams", "direct" */
    const char *certificate;       /* PEM, "" or NULL for the system's authorities */
    const char *alias;             /* or a fingerprint */
    const char *secret;            /* of a private image; may be NULL */
    const char *image_type;        /* "container", "virtual-machine", NULL for any */
    const char *project;           /* on that server; may be NULL */
};

/* The fingerprint that the alias stands for now; caller frees. Not for "direct". */
char *remote_fingerprint(Agent *agent, const RemoteSource *source, GError **error);
/* Fetches the files (progress as download_progress on 'op') and inspects them: the intake is ready
 * to be committed, with what the server says about the image. */
Intake *remote_download(Agent *agent, Operation *op, const RemoteSource *source,
                        const char *fingerprint, GError **error);
/* Sends an image to a server that has asked for it (POST …/export). */
bool remote_push(Agent *agent, Operation *op, json_t *image, json_t *request, GError **error);
/* {"server","protocol","certificate","alias","image_type"} as rows and REST keep it. */
json_t *remote_source_json(const RemoteSource *source);
