/* guestreply.h: answers to requests of guests, on the connection's descriptor.
 * Threads: main loop, inside fibers; all wait for a slow peer, at most GUESTREPLY_IDLE_MS a step, and
 * return false when it is gone. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#define GUESTREPLY_IDLE_MS 30000

bool guestreply_bytes(int fd, const void *bytes, size_t size);
bool guestreply_file(int fd, int file, gint64 size);
bool guestreply_answer(int fd, int status, const char *type, const char *body, size_t size);
/* "Not Found". */
const char *guestreply_status_text(int status);
bool guestreply_error(int fd, int status, const char *text);
/* 'value' is stolen. */
bool guestreply_json(int fd, json_t *value);
