/* Passwords: yescrypt by libcrypt, off the main loop.
 * P1  The plain text is in no log, no row, no event, and wiped from the worker's copy.
 * P2  At most one check runs, so an unauthenticated client can't have all our processors; at most
 *     PASSWORD_QUEUE wait for it. */
#include "agent/auth/password.h"

#include "base/fiber.h"
#include "base/ids.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>

enum { PASSWORD_QUEUE = 16, PASSWORD_WRONG_MS = 1000 };

struct job {
    char *plain; /* owned, wiped */
    const char *setting;
    char *ret; /* owned; NULL when crypt failed */
};

static FiberLock password_lock = FIBER_LOCK_INIT;
static guint password_waiting;

/* On a worker. */
static void
run_crypt(void *data)
{
    struct job *job = data;
    g_autofree struct crypt_data *scratch = g_new0(struct crypt_data, 1);
    const char *out = crypt_r(job->plain, job->setting, scratch);
    if (out != NULL && *out == '$') {
        job->ret = g_strdup(out);
    }
    explicit_bzero(scratch, sizeof *scratch);
    explicit_bzero(job->plain, strlen(job->plain)); /* P1 */
}

static char *
crypt_on_worker(const char *plain, const char *setting)
{
    struct job job = {.plain = g_strdup(plain), .setting = setting};
    fiber_run(run_crypt, &job);
    g_free(job.plain);
    return job.ret;
}

char *
password_hash(const char *plain, GError **error)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    if (strlen(plain) > CRYPT_MAX_PASSPHRASE_SIZE - 1) {
        haw_fail(error, HAW_INVALID, "Password is too long");
        return NULL;
    }
    if (crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting) == NULL) {
        haw_fail_errno(error, errno, "make a salt");
        return NULL;
    }
    char *hash = crypt_on_worker(plain, setting);
    if (hash == NULL) {
        haw_fail(error, HAW_FAILED, "hash the password");
    }
    return hash;
}

bool
password_check(const char *hash, const char *plain, GError **error)
{
    if (password_waiting >= PASSWORD_QUEUE || strlen(plain) > CRYPT_MAX_PASSPHRASE_SIZE - 1) {
        return haw_fail(error, HAW_UNAVAILABLE, "Too many password attempts"); /* P2 */
    }
    g_autofree char *setting = g_strdup(hash);
    password_waiting++;
    g_auto(FiberHold) hold = fiber_hold(&password_lock);
    g_autofree char *got = crypt_on_worker(plain, setting);
    bool right = ids_secret_is(got, setting);
    if (!right) {
        fiber_sleep_ms(PASSWORD_WRONG_MS, NULL, NULL);
    }
    password_waiting--;
    return right || haw_fail(error, HAW_DENIED, "not authorized");
}
