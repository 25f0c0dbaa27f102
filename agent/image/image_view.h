/* image_view.h: images as a request may see them, for the files of the images API.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/operation.h"
#include "agent/image/image.h"

#define IMAGE_TOKEN "Image download token"

/* "" when absent or no text. */
const char *image_text(json_t *object, const char *key);
/* Whether the caller sees public images only. */
bool image_view_public_only(Request *req);
/* The images that a list shows (recursion's objects); a new reference. Yields. */
json_t *image_view_list(Request *req, GError **error);
/* The image of {fingerprint} that the caller may see, by trust, because it is public, or by ?secret=
 * (then *ret_token, which may be NULL, is its token). With "project" set. A new reference. Yields. */
json_t *image_view_find(Request *req, Operation **ret_token, GError **error);
/* Without what is only ours; a new reference. */
json_t *image_view_shown(json_t *image);
/* What an ETag covers; a new reference. */
json_t *image_view_tag(json_t *image);
/* "/1.0/images/<fingerprint>", with the project unless it is the default; caller frees. */
char *image_view_url(const char *project, json_t *image);
/* Starts a token operation for this image with these further metadata (stolen), and replies. */
bool image_view_token(Request *req, const char *project, const char *fingerprint, json_t *metadata);
/* The token of that secret if it is for this fingerprint in this (image) project; borrowed, NULL. */
Operation *image_view_token_find(Agent *agent, const char *project, const char *fingerprint,
                                 const char *secret);
/* POST /1.0/images, in image_import.c. */
bool image_import(Request *req, GError **error);
