/* hawser image copy: images from one server to another.
 * Y1  pull: the target fetches; push: the source sends, with a secret of the target; relay: every byte
 *     goes through a file of ours. Whichever it is, the image that arrives is the same. */
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/out.h"
#include "ctl/wait.h"

/* --alias, and with --copy-aliases those of the source. */
static json_t *
wanted_aliases(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) aliases = json_array();
    for (char *const *alias = ctl_option_all(ctl, "alias"); *alias != NULL; alias++) {
        json_array_append_new(aliases, json_pack("{ss}", "name", *alias));
    }
    if (ctl_flag(ctl, "copy-aliases")) {
        g_autoptr(json_t) image = cmd_image_load(ctl, ctl_arg(ctl, 0), error);
        if (image == NULL) {
            return NULL;
        }
        json_array_extend(aliases, json_object_get(image, "aliases"));
    }
    return g_steal_pointer(&aliases);
}

static json_t *
copy_body(Ctl *ctl, json_t *source, json_t *aliases)
{
    json_object_set_new(source, "image_type",
                        json_string(ctl_flag(ctl, "vm") ? "virtual-machine" : "container"));
    return json_pack("{sO sO sb sb}", "source", source, "aliases", aliases, "public",
                     (int) ctl_flag(ctl, "public"), "auto_update",
                     (int) ctl_flag(ctl, "auto-update"));
}

static bool
pull(Ctl *ctl, Rest *into, json_t *aliases, GError **error)
{
    g_autoptr(json_t) source = cmd_image_source(ctl, into, ctl_arg(ctl, 0), error);
    if (source == NULL) {
        return false;
    }
    if (json_object_get(source, "server") == NULL) {
        return haw_fail(error, HAW_INVALID, "it is on that server already");
    }
    g_autoptr(json_t) body = copy_body(ctl, source, aliases);
    return wait_call(ctl, into, "POST", "/1.0/images", body, "Copying", error);
}

static bool
push(Ctl *ctl, Rest *from, const char *fingerprint, Rest *into, json_t *aliases, GError **error)
{
    g_autoptr(json_t) source =
        json_pack("{ss ss ss}", "type", "image", "mode", "push", "fingerprint", fingerprint);
    g_autoptr(json_t) body = copy_body(ctl, source, aliases);
    g_autoptr(json_t) token = rest_call(into, "POST", "/1.0/images", body, NULL, error);
    g_autofree char *address = token != NULL ? cmd_copy_address(into, error) : NULL;
    g_autofree char *certificate = address != NULL ? cmd_copy_certificate(into, error) : NULL;
    if (certificate == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/images/%s/export", fingerprint);
    g_autoptr(json_t) target = json_pack(
        "{ss ss ss ss}", "target", address, "certificate", certificate, "secret",
        out_get(json_object_get(token, "metadata"), "secret"), "project", rest_project(into));
    return wait_call(ctl, from, "POST", path, target, "Copying", error);
}

static bool
relay(Ctl *ctl, Rest *from, const char *fingerprint, Rest *into, json_t *aliases, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    size_t index;
    json_t *alias;
    json_array_foreach (aliases, index, alias) {
        g_ptr_array_add(names, (void *) out_get(alias, "name"));
    }
    g_ptr_array_add(names, NULL);
    return cmd_transfer_relay(ctl, from, fingerprint, into, (char *const *) names->pdata, error);
}

static bool
copy(Ctl *ctl, Rest *into, GError **error)
{
    const char *mode = ctl_option(ctl, "mode"), *name = NULL;
    g_autoptr(json_t) aliases = wanted_aliases(ctl, error);
    if (aliases == NULL) {
        return false;
    }
    if (strcmp(mode, "pull") == 0) {
        return pull(ctl, into, aliases, error);
    }
    bool pushes = strcmp(mode, "push") == 0;
    if (!pushes && strcmp(mode, "relay") != 0) {
        return haw_fail(error, HAW_INVALID, "unknown mode '%s' (choose pull, push or relay)", mode);
    }
    Rest *from = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autofree char *fingerprint = from != NULL ? cmd_image_fingerprint(from, name, error) : NULL;
    if (fingerprint == NULL) {
        return false;
    }
    return pushes ? push(ctl, from, fingerprint, into, aliases, error)
                  : relay(ctl, from, fingerprint, into, aliases, error);
}

bool
cmd_imagecopy_run(Ctl *ctl, GError **error)
{
    Rest *into = ctl_server(ctl, ctl_arg(ctl, 1), NULL, error);
    if (into == NULL) {
        return false;
    }
    if (!g_str_has_suffix(ctl_arg(ctl, 1), ":")) {
        return haw_fail(error, HAW_INVALID, "'%s' is not a remote (it ends with ':')",
                        ctl_arg(ctl, 1));
    }
    if (ctl_option(ctl, "target-project") != NULL) {
        rest_set_project(into, ctl_option(ctl, "target-project"));
    }
    return copy(ctl, into, error) || haw_push(error, "copy image '%s'", ctl_arg(ctl, 0));
}
