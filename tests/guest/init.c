/* The whole of a test guest's user space: process 1 of a Linux that has nothing else; or a program in one that has.
 * It fills memory with pages that it can check, goes on writing some of them at a given rate, and beats: the
 * longest gap between two beats is what a pause costs whoever runs in here.
 *   kernel command line (in a guest of tests/guest/image, stamp's own): guest.fill=MiB guest.hot=MiB guest.rate=MB/s
 *                        guest.direct=MiB guest.ip=10.0.0.9/24 guest.gateway=10.0.0.1
 *   serial console, a line each way: "check" → "checked bad=N pages=N writes=N reads=N"
 *                                    "gap"   → "gap us=N" since the last "gap"; "off" powers off
 * A page holds its number, a version, and 510 words made of both; versions are counted in an array beside, so a
 * page that lost a write, or got one back, is seen.
 * With guest.direct, some threads read blocks of /dev/vda past the page cache into pages of that much more memory,
 * again and again: what lands there by DMA has to be the block that was asked for last. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, BEAT_US = 2000, READERS = 6, BLOCKS = 8192 };

/* One thread that reads from the disk, and the pages that are its own. */
struct reader {
    pthread_mutex_t mutex; /* held over each read */
    uint8_t *pages;
    uint32_t *blocks; /* what each page has to hold */
    long n_pages;
    uint64_t seed;
    atomic_long reads;
};

struct guest {
    uint64_t *memory;
    uint32_t *versions;
    long pages, hot, rate_mb_s;
    uint64_t writes, seed;
    int64_t gap_us, last_us, began_us;
    uint64_t owed; /* pages written since began_us */
    struct reader readers[READERS];
    long direct; /* pages that are read into, of each reader */
};

static atomic_bool hold; /* the readers let the mutexes go */
static int disk = -1;

static int64_t
now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
beat(struct guest *guest)
{
    int64_t now = now_us();
    if (guest->last_us != 0 && now - guest->last_us > guest->gap_us) {
        guest->gap_us = now - guest->last_us;
    }
    guest->last_us = now;
}

static uint64_t
word(long page, uint32_t version, int index)
{
    uint64_t x = (uint64_t) page * 0x9e3779b97f4a7c15u + version * 0xbf58476d1ce4e5b9u +
                 (uint64_t) index * 0x94d049bb133111ebu;
    return x ^ (x >> 29);
}

static void
write_page(struct guest *guest, long page)
{
    uint32_t version = ++guest->versions[page];
    uint64_t *at = guest->memory + page * WORDS;
    for (int i = 0; i < WORDS; i++) {
        at[i] = word(page, version, i);
    }
}

/* ---- direct reads ---- */

static void
fill_block(uint64_t *at, uint32_t block)
{
    for (int i = 0; i < WORDS; i++) {
        at[i] = word(block, 0x5eed, i);
    }
}

static void *
read_on(void *data)
{
    struct reader *reader = data;
    for (;;) {
        while (atomic_load(&hold)) {
            usleep(1000);
        }
        pthread_mutex_lock(&reader->mutex);
        reader->seed = reader->seed * 6364136223846793005u + 1442695040888963407u;
        long page = (long) ((reader->seed >> 20) % (uint64_t) reader->n_pages);
        uint32_t block = (uint32_t) ((reader->seed >> 40) % BLOCKS);
        if (pread(disk, reader->pages + page * PAGE, PAGE, (off_t) block * PAGE) == PAGE) {
            reader->blocks[page] = block;
            atomic_fetch_add(&reader->reads, 1);
        }
        pthread_mutex_unlock(&reader->mutex);
    }
    return NULL;
}

/* Opens the disk, writes every block of it once. */
static bool
open_disk(void)
{
    unsigned major = 0, minor = 0;
    static uint64_t block[WORDS] __attribute__((aligned(PAGE)));
    FILE *number = NULL;
    for (int tries = 0; number == NULL && tries < 300; tries++) {
        number = fopen("/sys/block/vda/dev", "r");
        usleep(number == NULL ? 10000 : 0);
    }
    if (number == NULL || fscanf(number, "%u:%u", &major, &minor) != 2 ||
        mknod("/dev/vda", S_IFBLK | 0600, makedev(major, minor)) != 0) {
        return false;
    }
    disk = open("/dev/vda", O_RDWR | O_DIRECT);
    for (uint32_t i = 0; disk >= 0 && i < BLOCKS; i++) {
        fill_block(block, i);
        if (pwrite(disk, block, PAGE, (off_t) i * PAGE) != PAGE) {
            return false;
        }
    }
    return disk >= 0;
}

static bool
start_readers(struct guest *guest)
{
    if (guest->direct > 0 && !open_disk()) {
        return false;
    }
    for (int i = 0; i < READERS && guest->direct > 0; i++) {
        struct reader *reader = &guest->readers[i];
        pthread_t thread;
        reader->n_pages = guest->direct;
        reader->blocks = malloc(sizeof(reader->blocks[0]) * (size_t) guest->direct);
        reader->pages = mmap(NULL, (size_t) guest->direct * PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        reader->seed = (uint64_t) i * 77 + 5;
        if (reader->blocks == NULL || reader->pages == MAP_FAILED) {
            return false;
        }
        for (long page = 0; page < guest->direct; page++) {
            reader->blocks[page] = (uint32_t) page % BLOCKS;
            fill_block((uint64_t *) (reader->pages + page * PAGE), reader->blocks[page]);
        }
        pthread_mutex_init(&reader->mutex, NULL);
        if (pthread_create(&thread, NULL, read_on, reader) != 0) {
            return false;
        }
    }
    return true;
}

static long
check_direct(struct guest *guest, long *reads)
{
    long bad = 0;
    atomic_store(&hold, true);
    for (int i = 0; i < READERS && guest->direct > 0; i++) {
        struct reader *reader = &guest->readers[i];
        pthread_mutex_lock(&reader->mutex);
        *reads += atomic_load(&reader->reads);
        for (long page = 0; page < reader->n_pages; page++) {
            const uint64_t *at = (const uint64_t *) (reader->pages + page * PAGE);
            bad += at[0] != word(reader->blocks[page], 0x5eed, 0) ||
                   at[WORDS - 1] != word(reader->blocks[page], 0x5eed, WORDS - 1);
        }
        pthread_mutex_unlock(&reader->mutex);
    }
    atomic_store(&hold, false);
    return bad;
}

/* ---- written pages ---- */

static long
check(struct guest *guest)
{
    long bad = 0;
    for (long page = 0; page < guest->pages; page++) {
        const uint64_t *at = guest->memory + page * WORDS;
        int i = 0;
        while (i < WORDS && at[i] == word(page, guest->versions[page], i)) {
            i++;
        }
        bad += i < WORDS;
        if (page % 256 == 0) {
            beat(guest);
        }
    }
    return bad;
}

/* Writes what is due by now, a few milliseconds' worth at most: a guest that stood still does not catch up. */
static void
dirty(struct guest *guest)
{
    int64_t now = now_us();
    if (now - guest->began_us > 100000) {
        guest->began_us = now;
        guest->owed = 0;
    }
    uint64_t due = (uint64_t) ((now - guest->began_us) * guest->rate_mb_s / PAGE);
    for (int burst = 0; guest->owed < due && burst < 64; burst++, guest->owed++) {
        guest->seed = guest->seed * 6364136223846793005u + 1442695040888963407u;
        write_page(guest, (long) ((guest->seed >> 20) % (uint64_t) guest->hot));
        guest->writes++;
    }
}

static void
answer(struct guest *guest, const char *line)
{
    if (strncmp(line, "check", 5) == 0) {
        long reads = 0, bad = check(guest) + check_direct(guest, &reads);
        printf("checked bad=%ld pages=%ld writes=%llu reads=%ld\n", bad, guest->pages,
               (unsigned long long) guest->writes, reads);
    } else if (strncmp(line, "gap", 3) == 0) {
        printf("gap us=%lld\n", (long long) guest->gap_us);
        guest->gap_us = 0;
        guest->last_us = now_us();
    } else if (strncmp(line, "off", 3) == 0) {
        reboot(RB_POWER_OFF);
    } else {
        printf("unknown: %s\n", line);
    }
    fflush(stdout);
}

/* /modules/NN-name.ko, in order; one that fails is not there for us. */
static void
load_modules(void)
{
    struct dirent **names = NULL;
    int n = scandir("/modules", &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
        int module = open(path, O_RDONLY);
        if (module >= 0) {
            syscall(SYS_finit_module, module, "", 0);
            close(module);
        }
        free(names[i]);
    }
    free(names);
}

static long
option(const char *words, const char *name)
{
    const char *at = strstr(words, name);
    return at != NULL ? atol(at + strlen(name)) : 0;
}

/* ---- the network ---- */

static void
set_address(struct sockaddr *at, const char *text)
{
    struct sockaddr_in *in = (struct sockaddr_in *) at;
    memset(in, 0, sizeof(*in));
    in->sin_family = AF_INET;
    inet_pton(AF_INET, text, &in->sin_addr);
}

/* guest.ip goes on the first NIC; the kernel answers pings by itself. */
static void
set_network(const char *words)
{
    char address[64] = "", gateway[64] = "", mask[32];
    int bits = 24, control = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "eth0"};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    const char *at = strstr(words, "guest.ip="), *via = strstr(words, "guest.gateway=");
    if (at == NULL || sscanf(at, "guest.ip=%63[0-9.]/%d", address, &bits) < 1) {
        return;
    }
    for (int tries = 0; tries < 1000 && ioctl(control, SIOCGIFINDEX, &request) != 0; tries++) {
        usleep(10000);
    }
    set_address(&request.ifr_addr, address);
    ioctl(control, SIOCSIFADDR, &request);
    uint32_t net = bits > 0 ? ~0u << (32 - bits) : 0;
    snprintf(mask, sizeof(mask), "%u.%u.%u.%u", net >> 24, net >> 16 & 255, net >> 8 & 255,
             net & 255);
    set_address(&request.ifr_netmask, mask);
    ioctl(control, SIOCSIFNETMASK, &request);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ioctl(control, SIOCSIFFLAGS, &request);
    if (via != NULL && sscanf(via, "guest.gateway=%63[0-9.]", gateway) == 1) {
        set_address(&route.rt_gateway, gateway);
        set_address(&route.rt_dst, "0.0.0.0");
        set_address(&route.rt_genmask, "0.0.0.0");
        ioctl(control, SIOCADDRT, &route);
    }
    close(control);
}

static void
serve(struct guest *guest)
{
    char line[128];
    size_t length = 0;
    struct pollfd console = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        struct timespec wait = {0, guest->rate_mb_s > 0 ? 200000 : BEAT_US * 1000};
        if (ppoll(&console, 1, &wait, NULL) > 0 && read(STDIN_FILENO, line + length, 1) == 1) {
            if (line[length] == '\n' || length + 1 == sizeof(line) - 1) {
                line[length] = '\0';
                length = 0;
                answer(guest, line);
            } else {
                length++;
            }
        }
        dirty(guest);
        beat(guest);
    }
}

static void
read_words(int argc, char **argv, char *words, size_t size)
{
    for (int i = 1; i < argc; i++) {
        strncat(words, argv[i], size - strlen(words) - 1);
        strncat(words, " ", size - strlen(words) - 1);
    }
    if (argc < 2) {
        mount("proc", "/proc", "proc", 0, NULL);
        int file = open("/proc/cmdline", O_RDONLY);
        if (file < 0 || read(file, words, size - 1) < 0) {
            words[0] = '\0';
        }
    }
}

int
main(int argc, char **argv)
{
    static char words[4096];
    struct guest guest = {.seed = 1};
    struct termios raw;
    if (getpid() == 1) {
        mount("sysfs", "/sys", "sysfs", 0, NULL);
        load_modules();
    }
    read_words(getpid() == 1 ? 1 : argc, argv, words, sizeof(words));
    if (tcgetattr(STDIN_FILENO, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    guest.pages = option(words, "guest.fill=") * (1 << 20) / PAGE;
    guest.hot = option(words, "guest.hot=") * (1 << 20) / PAGE;
    guest.rate_mb_s = option(words, "guest.rate=");
    guest.hot = guest.hot > 0 && guest.hot < guest.pages ? guest.hot : guest.pages;
    guest.rate_mb_s = guest.hot > 0 ? guest.rate_mb_s : 0;
    guest.versions = calloc((size_t) guest.pages + 1, sizeof(guest.versions[0]));
    guest.memory = mmap(NULL, (size_t) (guest.pages + 1) * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guest.versions == NULL || guest.memory == MAP_FAILED) {
        printf("no memory for %ld pages\n", guest.pages);
        reboot(RB_POWER_OFF);
    }
    for (long page = 0; page < guest.pages; page++) {
        write_page(&guest, page);
    }
    if (getpid() == 1) {
        set_network(words);
    }
    guest.direct = option(words, "guest.direct=") * (1 << 20) / PAGE / READERS;
    if (!start_readers(&guest)) {
        printf("nodisk here\n");
        reboot(RB_POWER_OFF);
    }
    guest.began_us = now_us();
    printf("ready pages=%ld\n", guest.pages);
    fflush(stdout);
    serve(&guest);
}
