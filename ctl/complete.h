/* complete.h: what may come next on the command line.
 * Threads: the one thread of the program. */
#pragma once
#include "ctl/command.h"

/* Names of a kind ("instance", "pool") as the server or the configuration has them, into 'out'.
 * 'args' are the arguments that stand before; a failure gives nothing. */
typedef void (*CompleteNames)(void *data, const char *kind, char *const *args, const char *word,
                              GPtrArray *out);
/* Candidates for the last of 'words' (which may be ""), sorted; caller frees with g_strfreev. */
char **complete_words(char *const *words, CompleteNames names, void *data);
/* The script for a shell; NULL for one that we do not know. */
const char *complete_shell(const char *shell);
