/* cmd_list.h: the columns and filters of 'hawser list', for its tests.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

/* One column: a letter of the built-in ones, or a key of config or devices. */
typedef struct {
    char letter;    /* 0: a key */
    bool is_device; /* key is "eth0.parent" */
    char *key, *header;
    int width; /* longest value; -1: no limit */
} ListColumn;

/* "ns46tS", "n,s,user.comment:COMMENT:20,devices:eth0.parent"; caller unrefs. INVALID names the
 * letter. */
GArray *cmd_list_columns(const char *text, GError **error);
/* Whether an instance (as recursion=1 shows it) passes one filter word. */
bool cmd_list_matches(const json_t *instance, const char *filter);
/* The cell of a column; caller frees. */
char *cmd_list_cell(const json_t *instance, const ListColumn *column);
/* Whether a column needs the state of instances (recursion=2). */
bool cmd_list_needs_state(const GArray *columns);
