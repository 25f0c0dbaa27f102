/* edit.h: text and objects that a person changes in an editor, or a script gives on stdin.
 * Threads: the one thread of the program. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* What the text says, to be applied; false with the reason sends the person back to the editor. */
typedef bool (*EditApply)(json_t *object, void *data, GError **error);

/* Whether stdin is no terminal: then edits come from there. */
bool edit_is_piped(void);
/* All of stdin as text, at most 4 MiB; caller frees. */
char *edit_read_stdin(GError **error);
/* The YAML of a stdin that has one ready (a file, or a pipe that speaks within 100 ms), as a new
 * reference; null when there is nothing. For commands that only may be given one. */
json_t *edit_maybe_stdin(GError **error);
bool edit_apply_stdin(EditApply apply, void *data, GError **error);
/* 'object' as YAML below 'help' in $EDITOR. Nothing changed or all deleted: nothing is applied. */
bool edit_apply_editor(const json_t *object, const char *help, EditApply apply, void *data,
                       GError **error);
/* A file in $EDITOR. ret_changed: whether its bytes differ. */
bool edit_file(const char *path, bool *ret_changed, GError **error);
/* Bytes in $EDITOR through a temporary file; what they are then, caller frees. */
char *edit_text(const char *bytes, size_t size, const char *suffix, GError **error);
/* Asks on the terminal; false when the answer is not yes or there is no terminal. */
bool edit_confirm(const char *question);
/* Asks for a word without showing it; caller frees. NULL when there is no terminal. */
char *edit_ask_secret(const char *question);
/* Asks for a line; 'fallback' (may be NULL) when it is empty or there is no terminal. Caller frees. */
char *edit_ask(const char *question, const char *fallback);
