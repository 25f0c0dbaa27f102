/* intake.h: an image's files on their way in: temporary names in images/, hashed, looked into, then
 * made permanent together with the row.
 * Threads: main loop, inside fibers; what is slow runs on workers. */
#pragma once
#include "agent/agent.h"
#include "agent/image/meter.h"
#include "base/fiber.h"

/* A name in images/ for what will not stay; a crash leaves it to the next start. Caller frees. */
char *intake_scratch_path(Agent *agent);

typedef struct Intake Intake;
Intake *intake_new(Agent *agent);
/* Removes what wasn't committed. */
void intake_free(Intake *intake);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Intake, intake_free)

/* A temporary file to write into, borrowed: of the metadata (or the whole image), of the root. */
int intake_meta_fd(Intake *intake, GError **error);
int intake_rootfs_fd(Intake *intake, GError **error);
/* Takes a body as it came: multipart ("metadata", then "rootfs" or "rootfs.img") or one file. The
 * content type may be NULL; filename (may be NULL) names a single file. Yields. */
bool intake_take_body(Intake *intake, int fd, const char *content_type, const char *filename,
                      GError **error);
void intake_set_type(Intake *intake, const char *type); /* "container", "virtual-machine" */
void intake_set_filename(Intake *intake, const char *filename);

/* Hashes, and reads the metadata. Afterwards intake_image() is the image as REST shows it, private
 * and with the properties of the metadata; borrowed, the caller may change it. 'expected' (may be
 * NULL) is the fingerprint that it must have. Yields. */
bool intake_inspect(Intake *intake, Meter *meter, const char *expected, GError **error);
json_t *intake_image(Intake *intake);
const char *intake_fingerprint(Intake *intake);
/* Files and row become the image of the project. EXISTS "Image with same fingerprint already
 * exists". Yields. */
bool intake_commit(Intake *intake, const char *project, GError **error);
