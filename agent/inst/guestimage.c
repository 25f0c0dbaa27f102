/* GET /1.0/images/FINGERPRINT/export of /dev/lxd/sock, as the main API gives it: nested agents take their
 * images from the host by it. Called by devlxd.c. */
#include "agent/inst/guestimage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/image.h"
#include "agent/inst/guestreply.h"
#include "base/fd.h"

static bool
send_one(int fd, int file, gint64 size)
{
    g_autofree char *head =
        g_strdup_printf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                        "Content-Length: %" G_GINT64_FORMAT "\r\n\r\n",
                        size);
    return guestreply_bytes(fd, head, strlen(head)) && guestreply_file(fd, file, size);
}

static char *
part_head(const char *boundary, const char *field, const char *name, bool first)
{
    return g_strdup_printf("%s--%s\r\nContent-Disposition: form-data; name=\"%s\"; "
                           "filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                           first ? "" : "\r\n", boundary, field, name);
}

/* The two files of a split image. */
static bool
send_two(int fd, const char *fingerprint, const char *field, int meta, gint64 meta_size, int root,
         gint64 root_size)
{
    g_autofree char *boundary = g_uuid_string_random();
    g_autofree char *meta_name = g_strconcat("meta-", fingerprint, NULL);
    g_autofree char *first = part_head(boundary, "metadata", meta_name, true);
    g_autofree char *second = part_head(boundary, field, fingerprint, false);
    g_autofree char *last = g_strdup_printf("\r\n--%s--\r\n", boundary);
    gint64 total = (gint64) (strlen(first) + strlen(second) + strlen(last)) + meta_size + root_size;
    g_autofree char *head =
        g_strdup_printf("HTTP/1.1 200 OK\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
                        "Content-Length: %" G_GINT64_FORMAT "\r\n\r\n",
                        boundary, total);

    return guestreply_bytes(fd, head, strlen(head)) && guestreply_bytes(fd, first, strlen(first)) &&
           guestreply_file(fd, meta, meta_size) && guestreply_bytes(fd, second, strlen(second)) &&
           guestreply_file(fd, root, root_size) && guestreply_bytes(fd, last, strlen(last));
}

bool
guestimage_export(Agent *agent, Inst *inst, int fd, const char *fingerprint)
{
    json_auto_t *image = image_find(agent->images, inst_project(inst), fingerprint, NULL);
    bool open_to_guests = json_is_true(json_object_get(image, "public")) ||
                          json_is_true(json_object_get(image, "cached"));
    const char *full = json_string_value(json_object_get(image, "fingerprint"));
    const char *type = json_string_value(json_object_get(image, "type"));
    struct stat meta_st, root_st;

    if (!open_to_guests || full == NULL) {
        return guestreply_error(fd, 404, "not found");
    }
    g_autofree char *meta_path = image_file(agent, full, false);
    g_autofree char *root_path = image_file(agent, full, true);
    haw_autofd int meta = open(meta_path, O_RDONLY | O_CLOEXEC);
    haw_autofd int root = open(root_path, O_RDONLY | O_CLOEXEC);
    if (meta < 0 || fstat(meta, &meta_st) < 0 || (root >= 0 && fstat(root, &root_st) < 0)) {
        return guestreply_error(fd, 404, "not found");
    }
    if (root < 0) {
        return send_one(fd, meta, meta_st.st_size);
    }
    return send_two(fd, full, g_strcmp0(type, "virtual-machine") == 0 ? "rootfs.img" : "rootfs",
                    meta, meta_st.st_size, root, root_st.st_size);
}
