/* An SFTP session: the whole machine is its root. Runs in the session's child (errand.c). */
#include "guest/errand.h"

#include <fcntl.h>

#include "sftp/sftp.h"

int
sftpserve_run(const struct asked *asked)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    Sftp *sftp;

    if (root < 0) {
        return 1;
    }
    sftp = sftp_new(root, NULL);
    sftp_serve(sftp, 0, 1, -1);
    sftp_free(sftp);
    return 0;
}
