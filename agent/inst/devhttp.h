/* devhttp.h: heads of HTTP requests, as guests send them. Threads: any. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#define DEVHTTP_HEAD_MAX 8192
#define DEVHTTP_BODY_MAX 65536

typedef struct {
    char *method, *path, *query; /* path percent-decoded, query as sent or NULL */
    GHashTable *headers;         /* lower case → value */
    size_t body_size;
    bool keep_alive;
} Devhttp;

/* Size of the head at the start of the bytes, with its empty line; 0 when it is not complete. */
size_t devhttp_head_size(const char *bytes, size_t size);
/* Parses a complete head. 0, or the HTTP status of the refusal. */
int devhttp_parse(const char *head, size_t size, Devhttp *ret);
void devhttp_clear(Devhttp *request);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Devhttp, devhttp_clear)
const char *devhttp_header(const Devhttp *request, const char *lower_name);
/* A value of the query, decoded; caller frees; NULL. */
char *devhttp_query(const Devhttp *request, const char *name);
