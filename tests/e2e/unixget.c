/* unixget SOCKET PATH [METHOD [BODY]]: one HTTP request over a unix socket, the reply on stdout. Linked
 * statically, so that it runs in any container: it is how tests ask /dev/lxd/sock. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    const char *method = argc > 3 ? argv[3] : "GET";
    const char *body = argc > 4 ? argv[4] : "";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        perror(argv[1]);
        return 1;
    }
    dprintf(fd,
            "%s %s HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
            "Connection: close\r\n\r\n%s",
            method, argv[2], strlen(body), body);
    char bytes[4096];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        fwrite(bytes, 1, (size_t) got, stdout);
    }
    return 0;
}
