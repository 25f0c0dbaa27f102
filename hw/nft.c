/* The door to nftables. Each call has a context of its own: a failed transaction leaves nothing in
 * it for the next one, and its cache is never stale.
 * Called from agent/net/firewall.c only. */
#include "hw/nft.h"

#include <nftables/libnftables.h>
#include <string.h>

static struct nft_ctx *
context_new(void)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    g_assert(ctx != NULL);
    nft_ctx_buffer_error(ctx);
    nft_ctx_buffer_output(ctx);
    return ctx;
}

static bool
run(struct nft_ctx *ctx, const char *text, GError **error)
{
    if (nft_run_cmd_from_buffer(ctx, text) == 0) {
        return true;
    }
    g_autofree char *why = g_strdup(nft_ctx_get_error_buffer(ctx));
    char *newline = why != NULL ? strchr(why, '\n') : NULL;
    if (newline != NULL) {
        *newline = '\0';
    }
    return haw_fail(error, HAW_IO, "nftables: %s", why != NULL && *why != '\0' ? why : "failed");
}

bool
nft_load(const char *ruleset, GError **error)
{
    struct nft_ctx *ctx = context_new();
    bool ok = run(ctx, ruleset, error);
    nft_ctx_free(ctx);
    return ok;
}

char **
nft_chains(const char *family, const char *table, GError **error)
{
    g_autofree char *command = g_strdup_printf("list chains %s", family);
    g_autofree char *header = g_strdup_printf("table %s %s {", family, table);
    struct nft_ctx *ctx = context_new();
    if (!run(ctx, command, error)) {
        nft_ctx_free(ctx);
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(nft_ctx_get_output_buffer(ctx), "\n", -1);
    nft_ctx_free(ctx);

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
