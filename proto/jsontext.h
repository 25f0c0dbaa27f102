/* jsontext.h: JSON values as compact text behind what a buffer holds already. Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* The very bytes of json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), several times as fast. */
void jsontext_append(GString *out, const json_t *value);
/* UTF-8 as a string, in its quotes. */
void jsontext_append_string(GString *out, const char *text, size_t size);
