/* log.h: structured events to stderr (or the journal when started by systemd).
 * Threads: any. An event is a fixed dotted name, then typed fields: haw_info("inst.started",
 * KS("inst", name), KU("pid", pid)). Only the end of an error's road logs it. */
#pragma once
#include <glib.h>
#include <stdbool.h>

typedef enum { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG } LogLevel;

typedef struct {
    const char *key;
    enum { LOG_TEXT, LOG_INT, LOG_UINT } kind;
    const char *text;
    gint64 number;
} LogField;

#define KS(k, v) ((LogField){.key = (k), .kind = LOG_TEXT, .text = (v)})
#define KI(k, v) ((LogField){.key = (k), .kind = LOG_INT, .number = (gint64) (v)})
#define KU(k, v) ((LogField){.key = (k), .kind = LOG_UINT, .number = (gint64) (v)})

/* error: someone must act. warn: we went on without something. info: a state changed. */
#define haw_error(event, ...) LOG_AT(LOG_LEVEL_ERROR, event, ##__VA_ARGS__)
#define haw_warn(event, ...)  LOG_AT(LOG_LEVEL_WARN, event, ##__VA_ARGS__)
#define haw_info(event, ...)  LOG_AT(LOG_LEVEL_INFO, event, ##__VA_ARGS__)
#define haw_debug(event, ...) LOG_AT(LOG_LEVEL_DEBUG, event, ##__VA_ARGS__)
#define LOG_AT(level, event, ...)                                                                  \
    log_event(level, event, (const LogField[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}})

/* 'fields' ends with a field whose key is NULL. */
void log_event(LogLevel level, const char *event, const LogField *fields);
/* What is written; LOG_LEVEL_INFO unless set. */
void log_set_level(LogLevel level);
/* One more reader of every event, called on the thread that logs it; NULL takes it away. */
typedef void (*LogTap)(LogLevel level, const char *event, const LogField *fields, void *data);
void log_set_tap(LogTap tap, void *data);
const char *log_level_name(LogLevel level);
