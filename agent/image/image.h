/* image.h: images: files under images/, rows, aliases, and how a volume is filled from one.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "agent/store/pool.h"
#include "base/fiber.h"

ImageTable *image_table_new(Agent *agent);
void image_table_free(ImageTable *table);
/* At start: removes half-uploaded files and files without a row. Then each hour: expiry and
 * auto-update. Yields. */
bool image_table_start(ImageTable *table, GError **error);

/* By alias or fingerprint prefix in the project's image project: {"fingerprint","architecture",
 * "type","properties","profiles",…} as REST shows it, a new reference. NOT_FOUND. Yields. */
json_t *image_find(ImageTable *table, const char *project, const char *alias_or_fingerprint,
                   GError **error);
/* The "source" of an instance POST of type image: {"alias"|"fingerprint"|"properties","server",
 * "protocol","secret","certificate","mode"}; a remote one is downloaded (cached) with progress on
 * 'op'. Yields. */
json_t *image_resolve(ImageTable *table, Operation *op, const char *project, json_t *source,
                      const char *want_type, GError **error);
/* Unpacks the image under 'path': rootfs/ or (of a virtual machine) root.img, metadata.yaml,
 * templates/. Progress on 'op' (may be NULL)
 * as key create_instance_from_image_unpack_progress. Absolute names, "..", symlinks leading out and
 * (unless privileged) nothing dangerous survive: see archive.h. Yields. */
bool image_unpack(ImageTable *table, Operation *op, const char *fingerprint, const char *path,
                  GError **error);
/* Notes the use (last_used_at). Yields. */
void image_touch(ImageTable *table, const char *project, const char *fingerprint);
extern const Route image_routes[], image_alias_routes[];

/* ---- between the files of agent/image ---- */
typedef struct RemoteSource RemoteSource; /* remote.h */
/* Held around every change of which files belong to which rows. */
FiberLock *image_files_lock(ImageTable *table);
/* An images.* key: the project's own value, else the server's; caller frees, may be NULL. Yields. */
char *image_setting(Agent *agent, const char *project, const char *key);
/* images/FINGERPRINT and images/FINGERPRINT.rootfs; caller frees. */
char *image_file(Agent *agent, const char *fingerprint, bool rootfs);
/* The image of a remote source, downloaded unless it is here; a new reference. 'project' is the
 * image project. cached: expires when unused. Yields. */
json_t *image_download(ImageTable *table, Operation *op, const char *project,
                       const RemoteSource *source, bool cached, GError **error);
/* The row, and with the last project's row files and volumes. Yields. */
bool image_delete(ImageTable *table, const char *project, const char *fingerprint, GError **error);
