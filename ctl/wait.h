/* wait.h: operations of the server, until their end.
 * Threads: the one thread of the program. */
#pragma once
#include "ctl/command.h"
#include "ctl/rest.h"

/* Waits for an operation that rest_call() gave, with progress under 'label' (NULL: none). Ctrl-C
 * asks the server to cancel it. The final operation as a new reference; an operation that failed is
 * an error with the server's text. */
json_t *wait_operation(Ctl *ctl, Rest *rest, const json_t *operation, const char *label,
                       GError **error);
/* The same, but an operation that failed is a result too. */
json_t *wait_end(Ctl *ctl, Rest *rest, const json_t *operation, const char *label, GError **error);
/* Sends and waits: what most commands that change something do. */
bool wait_call(Ctl *ctl, Rest *rest, const char *method, const char *path, json_t *body,
               const char *label, GError **error);
/* The last path element of the first resource of a kind ("instances"), NULL for none; caller frees. */
char *wait_resource(const json_t *operation, const char *kind);
/* "/1.0/operations/UUID"; caller frees. */
char *wait_path(const json_t *operation);
/* The text of the progress an operation's metadata tells, NULL for none; caller frees. */
char *wait_progress_text(const json_t *operation);
