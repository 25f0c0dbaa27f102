/* Progress on stderr.
 * P1  Nothing is drawn unless stderr is a terminal and --quiet was not given.
 * P2  The line is gone before anything else is printed: progress_free() clears it.
 * Called by wait.c and the transfers of cmd_*.c. */
#include "ctl/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/out.h"

enum { BAR_WIDTH = 20, DRAW_US = 100000 };

struct Progress {
    char *label;
    bool draws, drawn;
    gint64 started_us, last_us;
};

Progress *
progress_new(const Ctl *ctl, const char *label)
{
    Progress *progress = g_new0(Progress, 1);
    progress->label = g_strdup(label);
    progress->draws = ctl_draws_progress(ctl) && label != NULL; /* P1 */
    progress->started_us = clock_mono_us();
    return progress;
}

void
progress_free(Progress *progress)
{
    if (progress == NULL) {
        return;
    }
    if (progress->drawn) { /* P2 */
        fputs("\r\033[K", stderr);
    }
    g_free(progress->label);
    g_free(progress);
}

/* The first "NN%" in a text; -1 for none. */
static int
find_percent(const char *text)
{
    const char *sign = strchr(text, '%');
    if (sign == NULL || sign == text) {
        return -1;
    }
    const char *digits = sign;
    while (digits > text && g_ascii_isdigit(digits[-1])) {
        digits--;
    }
    return digits < sign ? CLAMP(atoi(digits), 0, 100) : -1;
}

char *
progress_line(const char *label, const char *text, int width)
{
    GString *line = g_string_new(label);
    int percent = find_percent(text);
    if (percent >= 0 && width >= 60) {
        g_string_append(line, " [");
        for (int i = 0; i < BAR_WIDTH; i++) {
            g_string_append_c(line, i < percent * BAR_WIDTH / 100 ? '#' : '.');
        }
        g_string_append_c(line, ']');
    }
    if (*text != '\0') {
        g_string_append_printf(line, "%s %s", percent >= 0 && width >= 60 ? "" : ":", text);
    }
    char *end = line->str;
    for (int column = 0; *end != '\0' && column < width - 1; column++) {
        end = g_utf8_next_char(end);
    }
    g_string_truncate(line, (gsize) (end - line->str));
    return g_string_free(line, FALSE);
}

static int
terminal_width(void)
{
    struct winsize size = {0};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void
progress_text(Progress *progress, const char *text)
{
    gint64 now_us = clock_mono_us();
    if (!progress->draws || (progress->drawn && now_us - progress->last_us < DRAW_US)) {
        return;
    }
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autofree char *line = progress_line(progress->label, valid, terminal_width());
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    progress->drawn = true;
    progress->last_us = now_us;
}

void
progress_transfer(void *data, gint64 done, gint64 total)
{
    Progress *progress = data;
    if (!progress->draws || done <= 0) {
        return;
    }
    gint64 took_us = MAX(clock_mono_us() - progress->started_us, 1);
    g_autofree char *rate = out_bytes((gint64) ((double) done * G_USEC_PER_SEC / (double) took_us));
    g_autofree char *amount = out_bytes(done);
    g_autofree char *text = total > 0
                                ? g_strdup_printf("%d%% (%s/s)", (int) (done * 100 / total), rate)
                                : g_strdup_printf("%s (%s/s)", amount, rate);
    progress_text(progress, text);
}
