/* What an OPEN asks for. A text with a NUL inside is refused: it would mean something else below.
 * Called by spawn.c, before the child is forked. */
#include "guest/asked.h"

#include <stdlib.h>
#include <string.h>

#define ASKED_WORDS_MAX 65536

static bool
push(char ***list, size_t *count, char *word)
{
    if (*count >= ASKED_WORDS_MAX || word == NULL) {
        free(word);
        return false;
    }
    if ((*count & (*count + 1)) == 0) { /* 0, 1, 3, 7, …: full */
        char **grown = realloc(*list, (*count + 1) * 2 * sizeof(char *) + sizeof(char *));
        if (grown == NULL) {
            free(word);
            return false;
        }
        *list = grown;
    }
    (*list)[(*count)++] = word;
    (*list)[*count] = NULL;
    return true;
}

static bool
take(struct asked *asked, const struct guestwire_field *field)
{
    char *word;

    if (field->tag >= GUESTWIRE_TAG_COUNT) {
        return true; /* of a later version */
    }
    if (memchr(field->value, 0, field->size) != NULL) {
        return false;
    }
    word = strndup((const char *) field->value, field->size);
    if (field->tag == GUESTWIRE_ARG) {
        return push(&asked->argv, &asked->argc, word);
    }
    if (field->tag == GUESTWIRE_ENV) {
        return push(&asked->env, &asked->envc, word);
    }
    free(asked->text[field->tag]);
    asked->text[field->tag] = word;
    return word != NULL;
}

bool
asked_read(struct asked *asked, const uint8_t *bytes, size_t size)
{
    const uint8_t *at = bytes + 1, *end = bytes + size;
    struct guestwire_field field;
    bool bad = false;

    *asked = (struct asked){0};
    if (size < 1 || bytes[0] == 0 || bytes[0] >= GUESTWIRE_KIND_COUNT) {
        return false;
    }
    asked->kind = (enum guestwire_kind) bytes[0];
    while (!bad && guestwire_next(&at, end, &field, &bad)) {
        bad = !take(asked, &field);
    }
    return !bad;
}

void
asked_done(struct asked *asked)
{
    for (size_t i = 0; i < asked->argc; i++) {
        free(asked->argv[i]);
    }
    for (size_t i = 0; i < asked->envc; i++) {
        free(asked->env[i]);
    }
    for (size_t i = 0; i < GUESTWIRE_TAG_COUNT; i++) {
        free(asked->text[i]);
    }
    free(asked->argv);
    free(asked->env);
    *asked = (struct asked){0};
}

long long
asked_number(const struct asked *asked, enum guestwire_tag tag, int base, long long fallback)
{
    char *end = NULL;
    long long value;

    if (asked->text[tag] == NULL) {
        return fallback;
    }
    value = strtoll(asked->text[tag], &end, base);
    return *end == '\0' ? value : fallback;
}
