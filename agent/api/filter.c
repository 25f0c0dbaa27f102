/* Filter: LXD's ?filter= grammar (lxd-api instance-options §6).
 *     [not] <field> <op> <value> [and|or [not] <field> <op> <value>]…
 * Words are parted by blanks; a value in double quotes may hold some. Clauses are taken from left
 * to right without precedence. A field is a path of dots through the object; keys that hold dots
 * themselves ("config.user.x") are found, too. Strings match as a regular expression, anchored at
 * both ends unless it has anchors itself, ignoring case; anything else is compared.
 * Threads: main loop. */
#include "agent/api/server.h"

#include <string.h>

typedef struct {
    bool negate, differ, join_or; /* join_or: how it joins what stands before it */
    char *field;
    char *value;
    GRegex *regex;
} Clause;

struct Filter {
    GPtrArray *clauses; /* of Clause; none: everything matches */
};

static void
clause_free(void *data)
{
    Clause *clause = data;
    g_free(clause->field);
    g_free(clause->value);
    if (clause->regex != NULL) {
        g_regex_unref(clause->regex);
    }
    g_free(clause);
}

void
filter_free(Filter *filter)
{
    if (filter != NULL) {
        g_ptr_array_unref(filter->clauses);
        g_free(filter);
    }
}

/* Words of the text; quotes go, and what they held stays one word. */
static char **
split_words(const char *text)
{
    GPtrArray *words = g_ptr_array_new();
    g_autoptr(GString) word = g_string_new("");
    bool quoted = false, any = false;

    for (const char *at = text;; at++) {
        if (*at == '\0' || (!quoted && g_ascii_isspace(*at))) {
            if (any) {
                g_ptr_array_add(words, g_strdup(word->str));
                g_string_truncate(word, 0);
                any = false;
            }
            if (*at == '\0') {
                break;
            }
        } else if (*at == '"') {
            quoted = !quoted;
            any = true;
        } else {
            g_string_append_c(word, *at);
            any = true;
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **) g_ptr_array_free(words, FALSE);
}

static GRegex *
compile(const char *value, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool anchored = strpbrk(value, "^$") != NULL;
    /* A pattern made to backtrack for ever gives up, and does not match. */
    g_autofree char *pattern = g_strdup_printf(
        anchored ? "(*LIMIT_MATCH=20000)%s" : "(*LIMIT_MATCH=20000)^(?:%s)$", value);
    GRegex *regex = g_regex_new(pattern, G_REGEX_CASELESS | G_REGEX_DOLLAR_ENDONLY, 0, &why);
    if (regex == NULL) {
        haw_fail(error, HAW_INVALID, "Invalid filter: %s", why->message);
    }
    return regex;
}

/* One clause from *words on, which is moved behind it. */
static Clause *
parse_clause(char ***words, GError **error)
{
    Clause *clause = g_new0(Clause, 1);
    char **at = *words;

    if (*at != NULL && g_ascii_strcasecmp(*at, "not") == 0) {
        clause->negate = true;
        at++;
    }
    if (at[0] == NULL || at[1] == NULL || at[2] == NULL) {
        haw_fail(error, HAW_INVALID, "Invalid filter: %s",
                 at[0] == NULL   ? "unterminated compound clause"
                 : at[1] == NULL ? "clause has no operator"
                                 : "clause has no value");
        clause_free(clause);
        return NULL;
    }
    clause->field = g_strdup(at[0]);
    clause->differ = g_ascii_strcasecmp(at[1], "ne") == 0;
    clause->value = g_strdup(at[2]);
    clause->regex = compile(at[2], error);
    if (clause->regex == NULL) {
        clause_free(clause);
        return NULL;
    }
    *words = at + 3;
    return clause;
}

Filter *
filter_parse(const char *text, GError **error)
{
    g_autoptr(Filter) filter = g_new0(Filter, 1);
    filter->clauses = g_ptr_array_new_with_free_func(clause_free);
    if (text == NULL) {
        return g_steal_pointer(&filter);
    }
    if (!g_utf8_validate(text, -1, NULL)) {
        haw_fail(error, HAW_INVALID, "Invalid filter: not UTF-8");
        return NULL;
    }
    g_auto(GStrv) words = split_words(text);
    char **at = words;
    bool join_or = false;
    while (*at != NULL || join_or) {
        Clause *clause = parse_clause(&at, error);
        if (clause == NULL) {
            return NULL;
        }
        clause->join_or = join_or;
        g_ptr_array_add(filter->clauses, clause);
        if (*at == NULL) {
            break;
        }
        join_or = g_ascii_strcasecmp(*at, "or") == 0;
        if (!join_or && g_ascii_strcasecmp(*at, "and") != 0) {
            haw_fail(error, HAW_INVALID, "Invalid filter: invalid clause composition");
            return NULL;
        }
        at++;
        if (*at == NULL) {
            haw_fail(error, HAW_INVALID, "Invalid filter: unterminated compound clause");
            return NULL;
        }
    }
    return g_steal_pointer(&filter);
}

/* The value at a path; keys may hold dots, so the longest key that is there is taken first. */
static json_t *
lookup(json_t *object, const char *path)
{
    json_t *whole = json_object_get(object, path);
    if (whole != NULL || !json_is_object(object)) {
        return whole;
    }
    g_autofree char *head = g_strdup(path);
    for (char *dot = strrchr(head, '.'); dot != NULL; dot = strrchr(head, '.')) {
        *dot = '\0';
        json_t *below = json_object_get(object, head);
        if (below != NULL) {
            return lookup(below, path + (dot - head) + 1);
        }
    }
    return NULL;
}

static bool
clause_matches(const Clause *clause, json_t *object)
{
    json_t *value = lookup(object, clause->field);
    bool same;

    if (value == NULL || json_is_null(value)) {
        same = false;
    } else if (json_is_string(value)) {
        same = g_regex_match(clause->regex, json_string_value(value), 0, NULL);
    } else {
        char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        same = dump != NULL && g_ascii_strcasecmp(dump, clause->value) == 0;
        free(dump);
    }
    return (clause->differ ? !same : same) != clause->negate;
}

bool
filter_matches(const Filter *filter, json_t *object)
{
    bool result = true;
    for (guint i = 0; i < filter->clauses->len; i++) {
        const Clause *clause = filter->clauses->pdata[i];
        bool matches = clause_matches(clause, object);
        result = i == 0 ? matches : clause->join_or ? result || matches : result && matches;
    }
    return result;
}
