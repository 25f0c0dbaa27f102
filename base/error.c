/* Errors: one domain, one table of codes.
 * E1  Every GError that reaches the API handler or main is of HAW_ERROR, or counts as FAILED.
 * E2  errno is read at the call that met it, here, and nowhere above. */
#include "base/error.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *name;
    int rest, exit;
} code_table[HAW_CODE_COUNT] = {
#define X(name, rest, exit) {#name, rest, exit},
    HAW_CODES(X)
#undef X
};

static const struct {
    int err;
    HawCode code;
} errno_table[] = {
    {ENOENT, HAW_NOT_FOUND},   {ENODEV, HAW_NOT_FOUND},
    {ENXIO, HAW_NOT_FOUND},    {EACCES, HAW_DENIED},
    {EPERM, HAW_DENIED},       {EEXIST, HAW_EXISTS},
    {EBUSY, HAW_BUSY},         {EINVAL, HAW_INVALID},
    {ENOSPC, HAW_LIMIT},       {EDQUOT, HAW_LIMIT},
    {ETIMEDOUT, HAW_TIMEOUT},  {EOPNOTSUPP, HAW_UNSUPPORTED},
    {ENOSYS, HAW_UNSUPPORTED}, {ECONNREFUSED, HAW_UNAVAILABLE},
    {EAGAIN, HAW_UNAVAILABLE}, {ECANCELED, HAW_CANCELLED},
};

G_DEFINE_QUARK(hawser - error - quark, haw_error)

HawCode
haw_code(const GError *error)
{
    return error != NULL && error->domain == HAW_ERROR ? (HawCode) error->code : HAW_FAILED;
}

int
haw_code_rest(HawCode code)
{
    return code_table[code].rest;
}

int
haw_code_exit(HawCode code)
{
    return code_table[code].exit;
}

const char *
haw_code_name(HawCode code)
{
    return code_table[code].name;
}

bool
haw_fail(GError **error, HawCode code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (error != NULL) {
        g_assert(*error == NULL);
        *error = g_error_new_valist(HAW_ERROR, (gint) code, format, args);
    }
    va_end(args);
    return false;
}

bool
haw_fail_errno(GError **error, int err, const char *format, ...)
{
    HawCode code = HAW_IO;
    for (size_t i = 0; i < G_N_ELEMENTS(errno_table); i++) {
        if (errno_table[i].err == err) {
            code = errno_table[i].code;
        }
    }

    va_list args;
    va_start(args, format);
    g_autofree char *step = g_strdup_vprintf(format, args);
    va_end(args);
    return haw_fail(error, code, "%s: %s", step, g_strerror(err));
}

bool
haw_push(GError **error, const char *format, ...)
{
    if (error == NULL || *error == NULL) {
        return false;
    }
    va_list args;
    va_start(args, format);
    g_autofree char *step = g_strdup_vprintf(format, args);
    va_end(args);
    g_prefix_error(error, "%s: ", step);
    return false;
}

bool
haw_recode(GError **error, HawCode code)
{
    if (error != NULL && *error != NULL) {
        (*error)->domain = HAW_ERROR;
        (*error)->code = (gint) code;
    }
    return false;
}

bool
haw_adopt(GError **error, HawCode code, GError *foreign)
{
    haw_recode(&foreign, code);
    g_propagate_error(error, foreign);
    return false;
}
