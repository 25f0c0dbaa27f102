/* What /dev/lxd/sock answers, written without blocking the loop: whoever reads slowly is waited for, and
 * dropped when nothing moves. Called by devlxd.c and guestimage.c. */
#include "agent/inst/guestreply.h"

#include <errno.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "base/fiber.h"

bool
guestreply_bytes(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            at += n;
            size -= (size_t) n;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(fd, G_IO_OUT, GUESTREPLY_IDLE_MS, NULL, NULL)) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

const char *
guestreply_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } words[] = {{200, "OK"},        {400, "Bad Request"},    {401, "Unauthorized"},
                 {403, "Forbidden"}, {404, "Not Found"},      {405, "Method Not Allowed"},
                 {413, "Too Large"}, {501, "Not Implemented"}};

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (words[i].status == status) {
            return words[i].text;
        }
    }
    return "Internal Server Error";
}

bool
guestreply_answer(int fd, int status, const char *type, const char *body, size_t size)
{
    g_autofree char *head =
        g_strdup_printf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                        "X-Content-Type-Options: nosniff\r\n\r\n",
                        status, guestreply_status_text(status), type, size);
    g_autoptr(GString) all = g_string_new(head);

    g_string_append_len(all, body, (gssize) size);
    return guestreply_bytes(fd, all->str, all->len);
}

bool
guestreply_error(int fd, int status, const char *text)
{
    g_autofree char *line = g_strconcat(text, "\n", NULL);

    return guestreply_answer(fd, status, "text/plain; charset=utf-8", line, strlen(line));
}

bool
guestreply_json(int fd, json_t *value)
{
    g_autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

    json_decref(value);
    return guestreply_answer(fd, 200, "application/json", text, strlen(text));
}

bool
guestreply_file(int fd, int file, gint64 size)
{
    while (size > 0) {
        ssize_t n = sendfile(fd, file, NULL, (size_t) MIN(size, 1 << 20));
        if (n > 0) {
            size -= n;
        } else if (n == 0 ||
                   (errno == EAGAIN &&
                    !fiber_wait_fd(fd, G_IO_OUT, GUESTREPLY_IDLE_MS, NULL, NULL)) ||
                   (errno != EAGAIN && errno != EINTR)) {
            return false;
        }
    }
    return true;
}
