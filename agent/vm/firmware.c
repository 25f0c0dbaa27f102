/* Firmware images. Debian's OVMF comes with 2 and 4 MiB builds; a VM keeps the size that its variables
 * have, as the two halves belong together.
 * F1  Paths are resolved before QEMU sees them: a symbolic link (a snap's, a Nix store's) is as good as
 *     the file, and what QEMU opens is what was checked.
 * F2  The variables of a VM are in its volume (qemu.nvram): they are copied, moved and restored with it.
 * Called by vmmachine.c. */
#include "agent/vm/firmware.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

enum { VARS_MAX = 16 * 1024 * 1024 };

static const struct {
    FirmwareKind kind;
    const char *code, *vars;
} pairs[] = {
    {FIRMWARE_SECURE, "OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"},
    {FIRMWARE_SECURE, "OVMF_CODE.4MB.fd", "OVMF_VARS.4MB.ms.fd"},
    {FIRMWARE_SECURE, "OVMF_CODE.secboot.fd", "OVMF_VARS.ms.fd"},
    {FIRMWARE_SECURE, "OVMF_CODE.secboot.fd", "OVMF_VARS.secboot.fd"},
    {FIRMWARE_SECURE, "OVMF_CODE.fd", "OVMF_VARS.ms.fd"},
    {FIRMWARE_UEFI, "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},
    {FIRMWARE_UEFI, "OVMF_CODE.4MB.fd", "OVMF_VARS.4MB.fd"},
    {FIRMWARE_UEFI, "OVMF_CODE.fd", "OVMF_VARS.fd"},
};

static const char *const dirs[] = {"/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/qemu",
                                   "/usr/share/ovmf", "/usr/share/edk2-ovmf/x64"};

void
firmware_clear(Firmware *firmware)
{
    g_clear_pointer(&firmware->code, g_free);
    g_clear_pointer(&firmware->vars, g_free);
}

const char *
firmware_word(FirmwareKind kind)
{
    return kind == FIRMWARE_SECURE ? "secure" : kind == FIRMWARE_BIOS ? "bios" : "uefi";
}

FirmwareKind
firmware_of_word(const char *word)
{
    return g_strcmp0(word, "secure") == 0 ? FIRMWARE_SECURE
           : g_strcmp0(word, "bios") == 0 ? FIRMWARE_BIOS
                                          : FIRMWARE_UEFI;
}

/* F1: NULL when it is not there. */
static char *
real_path(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *real = realpath(path, NULL);
    char *copy = real != NULL && access(real, R_OK) == 0 ? g_strdup(real) : NULL;
    free(real);
    return copy;
}

static bool
look_in(const char *dir, FirmwareKind kind, Firmware *ret)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        if (pairs[i].kind != kind) {
            continue;
        }
        g_autofree char *code = real_path(dir, pairs[i].code);
        g_autofree char *vars = real_path(dir, pairs[i].vars);
        if (code != NULL && vars != NULL) {
            ret->code = g_steal_pointer(&code);
            ret->vars = g_steal_pointer(&vars);
            return true;
        }
    }
    return false;
}

bool
firmware_find(FirmwareKind kind, Firmware *ret_firmware, GError **error)
{
    const char *own = g_getenv("HAWSER_OVMF_PATH");
    Firmware found = {.kind = kind};
    bool ok = kind == FIRMWARE_BIOS || (own != NULL && look_in(own, kind, &found));
    for (size_t i = 0; !ok && own == NULL && i < G_N_ELEMENTS(dirs); i++) {
        ok = look_in(dirs[i], kind, &found);
    }
    if (!ok) {
        return haw_fail(error, HAW_NOT_FOUND,
                        "Required EFI firmware files not found%s%s: install the package 'ovmf', or "
                        "set security.csm=true to boot with a BIOS",
                        own != NULL ? " in " : "", own != NULL ? own : "");
    }
    *ret_firmware = found;
    return true;
}

bool
firmware_nvram(const Firmware *firmware, const char *dir, bool anew, char **ret_path,
               GError **error)
{
    g_autofree char *path = g_build_filename(dir, "qemu.nvram", NULL);
    struct stat have, want;
    if (stat(firmware->vars, &want) < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "EFI firmware file '%s' is gone", firmware->vars);
    }
    if (anew || stat(path, &have) < 0 || have.st_size != want.st_size) {
        size_t size = 0;
        g_autofree char *bytes = fd_read_file(firmware->vars, VARS_MAX, &size, error);
        if (bytes == NULL || !fd_write_atomic(path, bytes, size, 0600, error)) {
            return haw_push(error, "Copy the EFI variables");
        }
    }
    *ret_path = g_steal_pointer(&path); /* F2 */
    return true;
}
