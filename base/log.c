/* Logging: one line an event, key=value fields, quoted where they must be.
 * Under systemd (JOURNAL_STREAM) the line carries sd-daemon's priority prefix instead of a time. */
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static LogLevel log_limit = LOG_LEVEL_INFO;
static LogTap log_tap;
static void *log_tap_data;

const char *
log_level_name(LogLevel level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return names[level];
}

void
log_set_level(LogLevel level)
{
    log_limit = level;
}

void
log_set_tap(LogTap tap, void *data)
{
    log_tap = tap;
    log_tap_data = data;
}

static void
append_text(GString *line, const char *text)
{
    if (text == NULL) {
        text = "";
    }
    if (*text != '\0' && text[strcspn(text, " \"=\\\n\t")] == '\0') {
        g_string_append(line, text);
        return;
    }
    g_autofree char *escaped = g_strescape(text, NULL);
    g_string_append_printf(line, "\"%s\"", escaped);
}

void
log_event(LogLevel level, const char *event, const LogField *fields)
{
    if (log_tap != NULL) {
        log_tap(level, event, fields, log_tap_data);
    }
    if (level > log_limit) {
        return;
    }

    g_autoptr(GString) line = g_string_sized_new(160);
    if (getenv("JOURNAL_STREAM") != NULL) {
        static const char priority[] = "3467";
        g_string_append_printf(line, "<%c>", priority[level]);
    } else {
        struct timespec now;
        struct tm tm;
        char stamp[32];
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        strftime(stamp, sizeof stamp, "%FT%T", &tm);
        g_string_append_printf(line, "%s.%03ldZ %-7s ", stamp, now.tv_nsec / 1000000,
                               log_level_name(level));
    }
    g_string_append(line, event);
    for (const LogField *field = fields; field->key != NULL; field++) {
        g_string_append_printf(line, " %s=", field->key);
        switch (field->kind) {
        case LOG_TEXT:
            append_text(line, field->text);
            break;
        case LOG_INT:
            g_string_append_printf(line, "%" G_GINT64_FORMAT, field->number);
            break;
        case LOG_UINT:
            g_string_append_printf(line, "%" G_GUINT64_FORMAT, (guint64) field->number);
            break;
        }
    }
    g_string_append_c(line, '\n');
    (void) !write(STDERR_FILENO, line->str, line->len);
}
