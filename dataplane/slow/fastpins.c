/* Pins of the fast path.
 * I1  A pinned map is adopted only when its config says our LAYOUT_VERSION and is as large as ours.
 * I2  Maps of another layout can't be read, so their flows end: first their programs send everything slow, then
 *     copies that are on their way come out and are swallowed, then the maps' pins go. Links stay: the programs of
 *     before pass on packets until each port, bound anew, moves its links to ours (fastattach.c). No packet is lost,
 *     none comes twice. Whoever dies in between is followed by one that does the same again.
 * I3  For that, 'version' and 'off' are the first words of every layout's config. */
#include "dataplane/slow/fastpins.h"

#include "base/fd.h"
#include "base/log.h"
#include "bpf/layout.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/magic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PINS   "fast"
#define PREFIX "haw_"

enum { RETIRE_US = 250000 }; /* more than a copy takes through the slow path (pend_ns) */

_Static_assert(offsetof(struct layout_config, version) == 0 &&
                   offsetof(struct layout_config, off) == sizeof(__u32),
               "I3");

static char *
path_of(const char *pin_dir, const struct bpf_map *map)
{
    return g_build_filename(pin_dir, bpf_map__name(map), NULL);
}

/* Dead code's strings and the like aren't ours to keep. */
static bool
is_ours(const struct bpf_map *map)
{
    return g_str_has_prefix(bpf_map__name(map), PREFIX);
}

static bool
ensure_bpffs(const char *dir, GError **error)
{
    struct statfs fs;
    if (!fd_mkdir_p(dir, 0700, error)) {
        return false;
    }
    if (statfs(dir, &fs) < 0) {
        return haw_fail_errno(error, errno, "Look at '%s'", dir);
    }
    if (fs.f_type != BPF_FS_MAGIC && mount("bpf", dir, "bpf", 0, "mode=0700") < 0) {
        return haw_fail_errno(error, errno, "Mount a bpffs at '%s'", dir);
    }
    return true;
}

static bool
remove_pins(const char *pin_dir, const char *prefix, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(pin_dir, 0, NULL);
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(pin_dir, name, NULL);
        /* The last reference of a link detaches it. */
        if (g_str_has_prefix(name, prefix) && unlink(path) < 0) {
            return haw_fail_errno(error, errno, "Remove '%s'", path);
        }
    }
    return true;
}

/* ---- another layout ---- */

/* I1 */
static bool
config_fits(int config)
{
    struct bpf_map_info info = {0};
    struct layout_config found;
    guint32 size = sizeof info, key = 0;
    return bpf_obj_get_info_by_fd(config, &info, &size) == 0 && info.value_size == sizeof found &&
           bpf_map_lookup_elem(config, &key, &found) == 0 && found.version == LAYOUT_VERSION;
}

/* I2, I3 */
static void
send_slow(int config)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    volatile struct layout_config *former =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, config, 0);
    if (former == MAP_FAILED) {
        return; /* none of ours: whatever it is, no program of ours looks at it */
    }
    haw_info("fast.layout", KU("from", former->version), KU("to", LAYOUT_VERSION));
    former->off = G_MAXUINT32;
    munmap((void *) former, page);
    g_usleep(RETIRE_US);
}

static bool
retire(const char *pin_dir, GError **error)
{
    g_autofree char *path = g_build_filename(pin_dir, "haw_config", NULL);
    haw_autofd int config = bpf_obj_get(path);
    if (config >= 0 && config_fits(config)) {
        return true;
    }
    if (config >= 0) {
        send_slow(config);
    }
    return remove_pins(pin_dir, PREFIX, error);
}

/* ---- ours ---- */

char *
fastpins_open(const char *bpf_dir, GError **error)
{
    g_autofree char *pin_dir = g_build_filename(bpf_dir, PINS, NULL);
    if (!ensure_bpffs(bpf_dir, error) || !fd_mkdir_p(pin_dir, 0700, error) ||
        !retire(pin_dir, error)) {
        return NULL;
    }
    return g_steal_pointer(&pin_dir);
}

bool
fastpins_adopt(const char *pin_dir, struct bpf_object *object, GError **error)
{
    struct bpf_map *map;
    bpf_object__for_each_map(map, object)
    {
        g_autofree char *path = path_of(pin_dir, map);
        haw_autofd int fd = is_ours(map) ? bpf_obj_get(path) : -1;
        if (fd >= 0 && bpf_map__reuse_fd(map, fd) < 0) {
            return haw_fail_errno(error, errno, "Adopt '%s'", path);
        }
    }
    return true;
}

bool
fastpins_keep(const char *pin_dir, struct bpf_object *object, GError **error)
{
    struct bpf_map *map;
    bpf_object__for_each_map(map, object)
    {
        g_autofree char *path = path_of(pin_dir, map);
        if (is_ours(map) && access(path, F_OK) < 0 && bpf_obj_pin(bpf_map__fd(map), path) < 0) {
            return haw_fail_errno(error, errno, "Pin '%s'", path);
        }
    }
    return true;
}

bool
fastpins_remove(const char *bpf_dir, GError **error)
{
    g_autofree char *pin_dir = g_build_filename(bpf_dir, PINS, NULL);
    return remove_pins(pin_dir, "", error);
}
