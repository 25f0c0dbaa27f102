/* The door to nftables. Each call has a context of its own: a failed transaction leaves nothing in
 * it for the next one, and its cache is never stale. libnftables keeps global tables, so one call at a
 * time; and it is loaded by the first one, since an agent without bridges needs none of it. */
#include "hw/nft.h"

#include "base/lazylib.h"

#include <nftables/libnftables.h>
#include <string.h>

/* clang-format off */
#define FUNCTIONS(X)                                                                               \
    X(nft_ctx_new) X(nft_ctx_free) X(nft_ctx_buffer_error) X(nft_ctx_buffer_output)                \
    X(nft_ctx_get_error_buffer) X(nft_ctx_get_output_buffer) X(nft_run_cmd_from_buffer)
/* clang-format on */
static struct {
#define FIELD(name) __typeof__(name) *name;
    FUNCTIONS(FIELD)
#undef FIELD
} nft;
#define NAME(name) #name,
static const char *const function_names[] = {FUNCTIONS(NAME) NULL};
static LazyLib lib = {"libnftables.so.1", "libnftables1", function_names, (void **) &nft};
static GMutex one_call;

static struct nft_ctx *
context_new(void)
{
    struct nft_ctx *ctx = nft.nft_ctx_new(NFT_CTX_DEFAULT);
    g_assert(ctx != NULL);
    nft.nft_ctx_buffer_error(ctx);
    nft.nft_ctx_buffer_output(ctx);
    return ctx;
}

static bool
run(struct nft_ctx *ctx, const char *text, GError **error)
{
    if (nft.nft_run_cmd_from_buffer(ctx, text) == 0) {
        return true;
    }
    g_autofree char *why = g_strdup(nft.nft_ctx_get_error_buffer(ctx));
    char *newline = why != NULL ? strchr(why, '\n') : NULL;
    if (newline != NULL) {
        *newline = '\0';
    }
    return haw_fail(error, HAW_IO, "nftables: %s", why != NULL && *why != '\0' ? why : "failed");
}

bool
nft_load(const char *ruleset, GError **error)
{
    g_autoptr(GMutexLocker) lock = g_mutex_locker_new(&one_call);
    if (!lazylib_load(&lib, error)) {
        return false;
    }
    struct nft_ctx *ctx = context_new();
    bool ok = run(ctx, ruleset, error);
    nft.nft_ctx_free(ctx);
    return ok;
}

char **
nft_chains(const char *family, const char *table, GError **error)
{
    g_autofree char *command = g_strdup_printf("list chains %s", family);
    g_autofree char *header = g_strdup_printf("table %s %s {", family, table);
    g_autoptr(GMutexLocker) lock = g_mutex_locker_new(&one_call);
    if (!lazylib_load(&lib, error)) {
        return NULL;
    }
    struct nft_ctx *ctx = context_new();
    if (!run(ctx, command, error)) {
        nft.nft_ctx_free(ctx);
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(nft.nft_ctx_get_output_buffer(ctx), "\n", -1);
    nft.nft_ctx_free(ctx);

    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    bool ours = false;
    for (char **line = lines; *line != NULL; line++) {
        if (g_str_has_prefix(*line, "table ")) {
            ours = strcmp(*line, header) == 0;
        } else if (ours && g_str_has_prefix(*line, "\tchain ")) {
            char *name = *line + strlen("\tchain ");
            char *end = strchr(name, ' ');
            g_ptr_array_add(names,
                            end != NULL ? g_strndup(name, (gsize) (end - name)) : g_strdup(name));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE);
}
