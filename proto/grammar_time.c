/* Grammar of time: schedules (cron) and expiries ("1d 3H").
 * T1  A schedule is a list of triggers joined by comma and blank, as a bare comma is cron's own.
 * T2  When neither day field is "*", either may match (cron's rule); else both must.
 * T3  Months and years of an expiry follow the calendar as Go's AddDate does: 31 January and one
 *     month is 2 or 3 March. */
#include "proto/grammar.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EMPTY(v) ((v) == NULL || *(v) == '\0')

typedef struct {
    const char *name;
    int min, max;
    const char *const *words; /* names for the values from min on; NULL: none */
} Field;

static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                     "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const days[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const Field cron_fields[5] = {
    {"minute", 0, 59, NULL},  {"hour", 0, 23, NULL},       {"day-of-month", 1, 31, NULL},
    {"month", 1, 12, months}, {"day-of-week", 0, 7, days},
};
static const struct {
    const char *alias, *fields;
} cron_aliases[] = {
    {"@hourly", "0 * * * *"}, {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"}, {"@monthly", "0 0 1 * *"}, {"@annually", "0 0 1 1 *"},
    {"@yearly", "0 0 1 1 *"},
};

/* One value of a field: a number, or a name. -1 when it is neither or out of range. */
static int
field_value(const Field *field, const char *text)
{
    for (int i = 0; field->words != NULL && field->words[i] != NULL; i++) {
        if (strcmp(field->words[i], text) == 0) {
            return field->min + i;
        }
    }
    size_t length = strlen(text);
    if (length == 0 || length > 2 || text[strspn(text, "0123456789")] != '\0') {
        return -1;
    }
    int value = atoi(text);
    return value >= field->min && value <= field->max ? value : -1;
}

/* "*", "*" "/5", "3", "1-5", "1-5/2" as bits of *mask. */
static bool
field_part(const Field *field, char *part, guint64 *mask)
{
    int step = 1, low = field->min, high = field->max;
    char *slash = strchr(part, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (slash[1] == '\0' || strlen(slash + 1) > 2 ||
            slash[1 + strspn(slash + 1, "0123456789")] != '\0' || atoi(slash + 1) == 0) {
            return false;
        }
        step = atoi(slash + 1);
    }
    if (strcmp(part, "*") != 0 && strcmp(part, "?") != 0) {
        char *dash = strchr(part, '-');
        if (dash != NULL) {
            *dash = '\0';
        }
        low = field_value(field, part);
        high = dash != NULL ? field_value(field, dash + 1) : slash != NULL ? field->max : low;
        if (low < 0 || high < low) {
            return false;
        }
    }
    for (int value = low; value <= high; value += step) {
        *mask |= G_GUINT64_CONSTANT(1) << value;
    }
    return true;
}

typedef struct {
    guint64 mask[5];
    bool any_day[2]; /* day-of-month, day-of-week begin with "*" */
} Cron;

static bool
cron_parse(const char *trigger, Cron *ret_cron, GError **error)
{
    Cron cron = {0};
    g_auto(GStrv) fields = g_strsplit(trigger, " ", -1);
    if (g_strv_length(fields) != 5) {
        return haw_fail(error, HAW_INVALID,
                        "Schedule must be of the form: <minute> <hour> <day-of-month> <month> "
                        "<day-of-week>");
    }
    for (size_t i = 0; i < 5; i++) {
        g_auto(GStrv) parts = g_strsplit(fields[i], ",", -1);
        bool good = *fields[i] != '\0';
        for (char **part = parts; good && *part != NULL; part++) {
            good = field_part(&cron_fields[i], *part, &cron.mask[i]);
        }
        if (!good) {
            return haw_fail(error, HAW_INVALID, "Error parsing schedule: Failed to parse %s \"%s\"",
                            cron_fields[i].name, fields[i]);
        }
    }
    if (cron.mask[4] & (1 << 7)) { /* Sunday is 0 and 7 */
        cron.mask[4] |= 1;
    }
    cron.any_day[0] = *fields[2] == '*' || *fields[2] == '?';
    cron.any_day[1] = *fields[4] == '*' || *fields[4] == '?';
    *ret_cron = cron;
    return true;
}

static const char *
resolve_alias(const char *trigger)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cron_aliases); i++) {
        if (strcmp(cron_aliases[i].alias, trigger) == 0) {
            return cron_aliases[i].fields;
        }
    }
    return trigger;
}

static bool
cron_check(const char *v, bool instance, GError **error)
{
    if (EMPTY(v)) {
        return true;
    }
    g_autofree char *lower = g_ascii_strdown(v, -1);
    g_auto(GStrv) triggers = g_strsplit(lower, ", ", -1); /* T1 */
    for (char **trigger = triggers; *trigger != NULL; trigger++) {
        Cron cron;
        bool special = strcmp(*trigger, "@startup") == 0 || strcmp(*trigger, "@never") == 0;
        if (!(instance && special) && !cron_parse(resolve_alias(*trigger), &cron, error)) {
            return false;
        }
    }
    return true;
}

bool
grammar_cron(const char *v, GError **error)
{
    return cron_check(v, true, error);
}

bool
grammar_cron_plain(const char *v, GError **error)
{
    return cron_check(v, false, error);
}

static bool
cron_matches(const Cron *cron, const struct tm *now)
{
#define BIT(field, value) ((cron->mask[field] >> (value)) & 1)
    if (!BIT(0, now->tm_min) || !BIT(1, now->tm_hour) || !BIT(3, now->tm_mon + 1)) {
        return false;
    }
    bool date = BIT(2, now->tm_mday), weekday = BIT(4, now->tm_wday);
#undef BIT
    return cron->any_day[0] || cron->any_day[1] ? date && weekday : date || weekday; /* T2 */
}

bool
grammar_cron_due(const char *v, gint64 real_us)
{
    if (EMPTY(v)) {
        return false;
    }
    struct tm now;
    time_t seconds = (time_t) (real_us / G_USEC_PER_SEC);
    localtime_r(&seconds, &now);
    g_autofree char *lower = g_ascii_strdown(v, -1);
    g_auto(GStrv) triggers = g_strsplit(lower, ", ", -1);
    for (char **trigger = triggers; *trigger != NULL; trigger++) {
        Cron cron;
        if (cron_parse(resolve_alias(*trigger), &cron, NULL) && cron_matches(&cron, &now)) {
            return true;
        }
    }
    return false;
}

enum { EXPIRY_UNITS = 7 };
static const char expiry_letters[EXPIRY_UNITS + 1] = "SMHdwmy";

static bool
expiry_parse(const char *v, int counts[EXPIRY_UNITS], GError **error)
{
    bool seen[EXPIRY_UNITS] = {false};
    g_auto(GStrv) terms = g_strsplit_set(v, " \t", -1);
    for (char **term = terms; *term != NULL; term++) {
        if (**term == '\0') {
            continue;
        }
        size_t digits = strspn(*term, "0123456789");
        const char *letter =
            (*term)[digits] != '\0' ? strchr(expiry_letters, (*term)[digits]) : NULL;
        if (digits == 0 || digits > 6 || letter == NULL || (*term)[digits + 1] != '\0' ||
            seen[letter - expiry_letters]) {
            return haw_fail(error, HAW_INVALID, "Invalid expiry expression");
        }
        seen[letter - expiry_letters] = true;
        counts[letter - expiry_letters] = atoi(*term);
    }
    return true;
}

bool
grammar_expiry(const char *v, GError **error)
{
    int counts[EXPIRY_UNITS] = {0};
    return EMPTY(v) || expiry_parse(v, counts, error);
}

gint64
grammar_expiry_after(const char *v, gint64 from_real_us)
{
    int n[EXPIRY_UNITS] = {0};
    if (EMPTY(v) || !expiry_parse(v, n, NULL)) {
        return 0;
    }
    bool any = false;
    for (size_t i = 0; i < EXPIRY_UNITS; i++) {
        any = any || n[i] != 0;
    }
    if (!any) {
        return 0;
    }
    struct tm at;
    time_t seconds = (time_t) (from_real_us / G_USEC_PER_SEC);
    gmtime_r(&seconds, &at);
    at.tm_year += n[6]; /* T3: timegm() carries over what the calendar does not have */
    at.tm_mon += n[5];
    at.tm_mday += n[4] * 7 + n[3];
    gint64 later = (gint64) timegm(&at) + (gint64) n[2] * 3600 + (gint64) n[1] * 60 + n[0];
    return later * G_USEC_PER_SEC + from_real_us % G_USEC_PER_SEC;
}
