/* firmware.h: what a VM boots from: OVMF's code and a copy of its variables, or SeaBIOS.
 * Threads: any; blocks on the disk for a few files. */
#pragma once
#include "base/error.h"

typedef enum { FIRMWARE_SECURE, FIRMWARE_UEFI, FIRMWARE_BIOS } FirmwareKind;
typedef struct {
    FirmwareKind kind;
    char *code, *vars; /* real paths, symbolic links followed; NULL for BIOS */
} Firmware;
void firmware_clear(Firmware *firmware);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Firmware, firmware_clear)

/* "secure", "uefi", "bios", and back; UEFI for another word. */
const char *firmware_word(FirmwareKind kind);
FirmwareKind firmware_of_word(const char *word);
/* Looks in $HAWSER_OVMF_PATH, then where distributions put it. NOT_FOUND says which package is missing. */
bool firmware_find(FirmwareKind kind, Firmware *ret_firmware, GError **error);
/* '<dir>/qemu.nvram': copied from 'vars' when it is missing, has another size, or 'anew'. */
bool firmware_nvram(const Firmware *firmware, const char *dir, bool anew, char **ret_path,
                    GError **error);
