/* manual.h: the table of commands as text for people.
 * Threads: any. Results are the caller's to free. */
#pragma once
#include "ctl/command.h"

/* 'row' NULL: the program. */
char *manual_help(const Command *row);
/* hawser(1) in troff. */
char *manual_page(void);
