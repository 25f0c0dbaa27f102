/* images.h: rows of images and their aliases. An image is one json_t in the shape REST shows it.
 * Threads: inside a DbFn. Returned values are new references. */
#pragma once
#include "agent/state/db.h"

/* Which image is meant: an exact fingerprint, or a prefix of one when nothing else has it.
 * NOT_FOUND "Image not found", INVALID when several images match. */
json_t *images_find(DbTx *tx, const char *project, const char *fingerprint, bool public_only,
                    GError **error);
/* The newest image of the project whose "update_source" is this one and which is cached; NULL
 * without an error when there is none. */
json_t *images_find_source(DbTx *tx, const char *project, json_t *source, GError **error);
/* All of a project (NULL: all, with "project" set), sorted by fingerprint. */
json_t *images_list(DbTx *tx, const char *project, bool public_only, GError **error);
/* EXISTS "Image with same fingerprint already exists". 'image' needs every column's key;
 * "profiles" null stands for the project's default. */
bool images_insert(DbTx *tx, const char *project, json_t *image, GError **error);
/* Stores what may change: filename, public, cached, auto_update, expires_at, properties, profiles,
 * update_source. */
bool images_update(DbTx *tx, const char *project, json_t *image, GError **error);
bool images_delete(DbTx *tx, const char *project, const char *fingerprint, GError **error);
bool images_touch(DbTx *tx, const char *project, const char *fingerprint, gint64 now,
                  GError **error);
/* How many projects have it: its files live as long as this is not 0. */
bool images_count(DbTx *tx, const char *fingerprint, gint64 *ret_count, GError **error);
/* Any project's row with this very fingerprint, for a copy into another one; NULL when none. */
json_t *images_any(DbTx *tx, const char *fingerprint, GError **error);
/* The pools that hold a volume of it: an array of names. */
json_t *images_pools(DbTx *tx, const char *fingerprint, GError **error);
/* [[pool, fingerprint]…]: volumes of images that no project has. */
json_t *images_stray_volumes(DbTx *tx, GError **error);

/* {"name","description","target","type"}; NOT_FOUND "Image alias not found". */
json_t *image_aliases_find(DbTx *tx, const char *project, const char *name, bool public_only,
                           GError **error);
json_t *image_aliases_list(DbTx *tx, const char *project, bool public_only, GError **error);
/* EXISTS when the name is taken, NOT_FOUND without such an image. */
bool image_aliases_insert(DbTx *tx, const char *project, const char *name, const char *description,
                          const char *fingerprint, GError **error);
bool image_aliases_update(DbTx *tx, const char *project, const char *name, const char *description,
                          const char *fingerprint, GError **error);
bool image_aliases_rename(DbTx *tx, const char *project, const char *name, const char *new_name,
                          GError **error);
bool image_aliases_delete(DbTx *tx, const char *project, const char *name, GError **error);
/* All aliases of one image now belong to another (auto-update). */
bool image_aliases_move(DbTx *tx, const char *project, const char *from, const char *to,
                        GError **error);
