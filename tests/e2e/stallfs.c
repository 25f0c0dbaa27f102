/* stallfs DIRECTORY MERGED: a FUSE file system with one file, "file", that opens and has a size, and whose
 * bytes never come, and nothing is ever said of names with "slow"; and an overlay over it. It is what a container does to whoever reads its files. Linked
 * statically, so that it runs in any container. Prints "ready" and serves. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char in[1 << 17];

static void
answer(int fd, const struct fuse_in_header *head, const void *data, size_t size, int error)
{
    char out[512];
    struct fuse_out_header reply = {
        .len = (unsigned) (sizeof reply + size), .error = -error, .unique = head->unique};

    memcpy(out, &reply, sizeof reply);
    memcpy(out + sizeof reply, data, size);
    if (write(fd, out, sizeof reply + size) < 0) {
        perror("answer");
    }
}

static struct fuse_attr
attr_of(uint64_t node)
{
    return (struct fuse_attr){.ino = node,
                              .size = node == 1 ? 0 : 4096,
                              .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644,
                              .nlink = 1};
}

static void
serve(int fd, const struct fuse_in_header *head, const void *body)
{
    const struct fuse_init_in *asked = body;
    struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 4096};
    struct fuse_entry_out entry = {
        .nodeid = 2, .attr_valid = 60, .entry_valid = 60, .attr = attr_of(2)};
    struct fuse_attr_out attr = {.attr_valid = 60, .attr = attr_of(head->nodeid)};
    struct fuse_open_out opened = {.fh = 1};
    struct fuse_statfs_out space = {.st = {.bsize = 4096, .namelen = 255}};

    switch (head->opcode) {
    case FUSE_INIT:
        init.max_readahead = asked->max_readahead;
        answer(fd, head, &init, sizeof init, 0);
        break;
    case FUSE_LOOKUP:
        if (strstr(body, "slow") != NULL) {
            break;
        }
        answer(fd, head, &entry, sizeof entry, strcmp(body, "file") == 0 ? 0 : ENOENT);
        break;
    case FUSE_GETATTR:
        answer(fd, head, &attr, sizeof attr, 0);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        answer(fd, head, &opened, sizeof opened, 0);
        break;
    case FUSE_STATFS:
        answer(fd, head, &space, sizeof space, 0);
        break;
    case FUSE_READDIR:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
        answer(fd, head, NULL, 0, 0);
        break;
    case FUSE_READ: /* never */
    case FUSE_FORGET:
        break;
    default:
        answer(fd, head, NULL, 0, ENOSYS);
    }
}

static int
lay_over(const char *lower, const char *merged)
{
    char options[256];

    snprintf(options, sizeof options, "lowerdir=%s:%s-empty,userxattr", lower, lower);
    return mount("overlay", merged, "overlay", 0, options);
}

int
main(int argc, char **argv)
{
    char options[128];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    ssize_t n;

    if (argc != 3 || fd < 0) {
        perror("/dev/fuse");
        return 2;
    }
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    if (mount("stall", argv[1], "fuse", 0, options) < 0) {
        perror(argv[1]);
        return 2;
    }
    if (fork() == 0) {
        int status = lay_over(argv[1], argv[2]);
        if (status < 0) {
            perror(argv[2]);
        } else {
            puts("ready");
        }
        fflush(stdout);
        _exit(status < 0);
    }
    while ((n = read(fd, in, sizeof in)) > 0) {
        const struct fuse_in_header *head = (const void *) in;
        in[n] = '\0';
        serve(fd, head, in + sizeof *head);
    }
    return 0;
}
