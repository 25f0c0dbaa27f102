/* error.h: the one error domain: what went wrong, as a REST status and an exit status.
 * Threads: any. Messages say what was attempted and on what, names in quotes, no full stop. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* REST statuses are LXD's: a wrong state is 400 there, an unclassified failure 500. */
#define HAW_CODES(X)                                                                               \
    /* code        REST exit */                                                                    \
    X(FAILED, 500, 1)  /* LXD's plain error; nothing more exact is known */                        \
    X(INVALID, 400, 2) /* the request itself is wrong */                                           \
    X(DENIED, 403, 3)                                                                              \
    X(NOT_FOUND, 404, 4)                                                                           \
    X(EXISTS, 409, 5)                                                                              \
    X(BUSY, 409, 6)        /* somebody else holds it; a retry may help */                          \
    X(CONFLICT, 400, 7)    /* not in this state */                                                 \
    X(UNAVAILABLE, 503, 8) /* a retry may help */                                                  \
    X(LIMIT, 400, 9)       /* a quota, a limit or a size was met */                                \
    X(UNSUPPORTED, 501, 10)                                                                        \
    X(STALE, 412, 11) /* If-Match did not match */                                                 \
    X(TIMEOUT, 500, 12)                                                                            \
    X(CANCELLED, 500, 13)                                                                          \
    X(CORRUPT, 500, 14)                                                                            \
    X(IO, 500, 15)                                                                                 \
    X(BUG, 500, 16)

typedef enum {
#define X(name, rest, exit) HAW_##name,
    HAW_CODES(X)
#undef X
        HAW_CODE_COUNT
} HawCode;

#define HAW_ERROR (haw_error_quark())
GQuark haw_error_quark(void);

/* The code of an error; HAW_FAILED for one of another domain. */
HawCode haw_code(const GError *error);
int haw_code_rest(HawCode code);
int haw_code_exit(HawCode code);
const char *haw_code_name(HawCode code);

/* Each sets *error (when error is not NULL) and returns false, so that callers can return it. */
bool haw_fail(GError **error, HawCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* 'err' is an errno; the text gains ": <strerror>". ENOENT becomes NOT_FOUND, EACCES DENIED, … */
bool haw_fail_errno(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Puts "<our step>: " in front of an error that is already set. Returns false. */
bool haw_push(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Changes the code of an error that is already set. Returns false. */
bool haw_recode(GError **error, HawCode code);
/* Takes an error of any domain (GIO's, say) into *error as ours, with 'code'. Returns false. */
bool haw_adopt(GError **error, HawCode code, GError *foreign);
