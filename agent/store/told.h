/* told.h: what a backup.yaml, or an archive's index.yaml, tells: read leniently, for both may be old or a
 * stranger's. Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* 0 when there is none that can be read. */
gint64 told_time(json_t *object, const char *key);
/* "" when there is none; borrowed. */
const char *told_text(json_t *object, const char *key);
/* Copies of object[key], which may be missing: texts, objects, or names in a list; new references. */
json_t *told_texts(json_t *object, const char *key);
json_t *told_objects(json_t *object, const char *key);
json_t *told_names(json_t *object, const char *key);
/* What describes the instance: "container", or "instance" in older files; borrowed. */
json_t *told_instance(json_t *document);
/* The element of list object[key] whose "name" is 'name' or ends in "/name"; borrowed, NULL: none. */
json_t *told_snapshot(json_t *object, const char *key, const char *name);
