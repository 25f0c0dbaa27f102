/* progress.h: one line on stderr that says how far something is; nothing when nobody looks.
 * Threads: the one thread of the program. */
#pragma once
#include "ctl/command.h"

typedef struct Progress Progress;
/* 'label' is what is being done: "Launching web1". */
Progress *progress_new(const Ctl *ctl, const char *label);
/* Clears the line. */
void progress_free(Progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Progress, progress_free)
/* "rootfs: 45% (12.30MB/s)": the first percentage in it draws the bar. At most 10 a second show. */
void progress_text(Progress *progress, const char *text);
/* A RestProgress: 'data' is the Progress. */
void progress_transfer(void *data, gint64 done, gint64 total);
/* The line for a text, for a terminal of 'width' columns; caller frees. */
char *progress_line(const char *label, const char *text, int width);
