/* Exposition: samples are appended to one text a family, so that rendering is putting texts together.
 * X1  A family's samples stand together, behind one HELP and one TYPE, whatever order they came in.
 * X2  Parts are never changed by rendering: one part may be in many answers at a time.
 * X3  OpenMetrics calls a counter by its name without "_total" and knows no counter without it; two
 *     families of one name it does not know either. What does not fit is a gauge there. The older
 *     format, which LXD answers in, has the sample's own name everywhere.
 * Called by instprobe.c and daemonprobe.c (add) and metrics_api.c (render). */
#include "agent/metrics/exposition.h"

#include <string.h>

const MetricFamily metric_families[METRIC_ID_COUNT] = {
#define X(id, name, kind, labels, help) [METRIC_##id] = {name, METRIC_##kind, labels, help},
    METRIC_FAMILIES(X)
#undef X
};

struct Exposition {
    GString *text[METRIC_ID_COUNT]; /* NULL: no sample */
};

Exposition *
exposition_new(void)
{
    return g_new0(Exposition, 1);
}

void
exposition_free(Exposition *samples)
{
    if (samples == NULL) {
        return;
    }
    for (int i = 0; i < METRIC_ID_COUNT; i++) {
        if (samples->text[i] != NULL) {
            g_string_free(samples->text[i], TRUE);
        }
    }
    g_free(samples);
}

/* ---- adding ---- */

static void
put_number(GString *text, double value)
{
    char digits[G_ASCII_DTOSTR_BUF_SIZE];
    bool exact = value > -9007199254740992.0 && value < 9007199254740992.0; /* 2^53 */
    if (exact && (double) (gint64) value == value) {
        g_string_append_printf(text, "%" G_GINT64_FORMAT, (gint64) value);
    } else {
        g_string_append(text, g_ascii_dtostr(digits, sizeof digits, value));
    }
}

static void
put_sample(Exposition *samples, MetricId id, const char *suffix, const char *own,
           const char *labels, double value)
{
    if (samples->text[id] == NULL) {
        samples->text[id] = g_string_sized_new(256);
    }
    GString *text = samples->text[id];
    g_string_append(text, metric_families[id].name);
    g_string_append(text, suffix);
    if (*own != '\0' || *labels != '\0') {
        g_string_append_c(text, '{');
        g_string_append(text, own);
        if (*own != '\0' && *labels != '\0') {
            g_string_append_c(text, ',');
        }
        g_string_append(text, labels);
        g_string_append_c(text, '}');
    }
    g_string_append_c(text, ' ');
    put_number(text, value);
    g_string_append_c(text, '\n');
}

void
exposition_add(Exposition *samples, MetricId id, const char *labels, double value)
{
    put_sample(samples, id, "", "", labels, value);
}

void
exposition_add_with(Exposition *samples, MetricId id, const char *own, const char *labels,
                    double value)
{
    put_sample(samples, id, "", own, labels, value);
}

void
exposition_add_histogram(Exposition *samples, MetricId id, const char *labels,
                         const struct histogram *values)
{
    guint64 below = 0;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        char bound[G_ASCII_DTOSTR_BUF_SIZE], le[G_ASCII_DTOSTR_BUF_SIZE + 8];
        g_ascii_formatd(bound, sizeof bound, "%g", (double) histogram_bounds_us[i] / 1e6);
        /* OpenMetrics wants "1.0" where others write "1". */
        g_snprintf(le, sizeof le, "le=\"%s%s\"", bound, strchr(bound, '.') != NULL ? "" : ".0");
        below += values->count[i];
        put_sample(samples, id, "_bucket", labels, le, (double) below);
    }
    below += values->count[HISTOGRAM_BOUNDS];
    put_sample(samples, id, "_bucket", labels, "le=\"+Inf\"", (double) below);
    put_sample(samples, id, "_count", "", labels, (double) below);
    put_sample(samples, id, "_sum", "", labels, (double) values->sum_us / 1e6);
}

char *
exposition_label(const char *name, const char *value)
{
    g_autofree char *clean = g_utf8_make_valid(value, -1);
    GString *text = g_string_new(name);
    g_string_append(text, "=\"");
    for (const char *at = clean; *at != '\0'; at++) {
        if (*at == '\\' || *at == '"') {
            g_string_append_c(text, '\\');
        }
        g_string_append(text, *at == '\n' ? "\\n" : (char[]){*at, '\0'});
    }
    g_string_append_c(text, '"');
    return g_string_free(text, FALSE);
}

/* ---- rendering ---- */

static bool
is_family(const char *name, size_t length)
{
    for (int id = 0; id < METRIC_ID_COUNT; id++) {
        if (strlen(metric_families[id].name) == length &&
            strncmp(metric_families[id].name, name, length) == 0) {
            return true;
        }
    }
    return false;
}

/* X3 */
static void
put_head(GString *out, const MetricFamily *family, ExpositionFormat format)
{
    static const char *const kinds[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
    int length = (int) strlen(family->name);
    MetricKind kind = family->kind;
    if (format == EXPOSITION_OPENMETRICS && kind == METRIC_COUNTER) {
        int bare = length - (int) strlen("_total");
        bool fits =
            g_str_has_suffix(family->name, "_total") && !is_family(family->name, (size_t) bare);
        length = fits ? bare : length;
        kind = fits ? kind : METRIC_GAUGE;
    }
    g_string_append_printf(out, "# HELP %.*s %s\n# TYPE %.*s %s\n", length, family->name,
                           family->help, length, family->name, kinds[kind]);
}

GString *
exposition_render(const Exposition *const *parts, guint count, ExpositionFormat format)
{
    gsize size = 64;
    for (guint part = 0; part < count; part++) {
        for (int id = 0; id < METRIC_ID_COUNT; id++) {
            size += parts[part]->text[id] != NULL ? parts[part]->text[id]->len + 8 : 0;
        }
    }
    GString *out = g_string_sized_new(size + METRIC_ID_COUNT * 160);
    for (int id = 0; id < METRIC_ID_COUNT; id++) { /* X1 */
        bool begun = false;
        for (guint part = 0; part < count; part++) {
            const GString *text = parts[part]->text[id];
            if (text == NULL) {
                continue;
            }
            if (!begun) {
                put_head(out, &metric_families[id], format);
            }
            begun = true;
            g_string_append_len(out, text->str, (gssize) text->len);
        }
    }
    g_string_append(out, "# EOF\n");
    return out;
}
