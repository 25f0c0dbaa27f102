/* Any packets at the SFTP server: never a crash, and never a file outside its root. */
#include "sftp/sftp.h"

#include <fcntl.h>
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *top;

static void
clean(void)
{
    g_autofree char *inner = g_build_filename(top, "root", NULL);
    struct stat st;

    g_assert_cmpint(stat(top, &st), ==, 0);
    g_assert_cmpuint(st.st_nlink, <=, 3); /* nothing but root/ was made beside it */
    g_spawn_sync(NULL, (char *[]){(char *) "rm", (char *) "-rf", top, NULL}, NULL,
                 G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

static int
open_root(void)
{
    static int root = -1;

    if (root < 0) {
        top = g_dir_make_tmp("fuzz-sftp-XXXXXX", NULL);
        g_autofree char *inner = g_build_filename(top, "root", NULL);
        g_assert_cmpint(mkdir(inner, 0755), ==, 0);
        root = open(inner, O_PATH | O_DIRECTORY | O_CLOEXEC);
        atexit(clean);
    }
    return root;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const guint8 init[] = {1, 0, 0, 0, 3};
    Sftp *sftp = sftp_new(open_root(), NULL);
    SftpOut reply = {0};

    sftp_packet(sftp, init, sizeof(init), &reply);
    while (size >= 2) { /* two bytes of length, then the packet */
        size_t length = MIN((size_t) (bytes[0] << 8 | bytes[1]), size - 2);
        sftp_packet(sftp, bytes + 2, length, &reply);
        sftpwire_resize(&reply, 0);
        bytes += 2 + length;
        size -= 2 + length;
    }
    sftpwire_free(&reply);
    sftp_free(sftp);
    return 0;
}
