/* The whole of a test guest's user space: process 1 of a Linux that has nothing else; or a program in one that has.
 * It fills memory with pages that it can check, goes on writing some of them at a given rate, and beats: the
 * longest gap between two beats is what a pause costs whoever runs in here.
 *   kernel command line (in a guest of tests/guest/image, stamp's own): guest.fill=MiB guest.hot=MiB guest.rate=MB/s
 *   serial console, a line each way: "check" → "checked bad=N pages=N writes=N"
 *                                    "gap"   → "gap us=N" since the last "gap"; "off" powers off
 * A page holds its number, a version, and 510 words made of both; versions are counted in an array beside, so a
 * page that lost a write, or got one back, is seen. */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, BEAT_US = 2000 };

struct guest {
    uint64_t *memory;
    uint32_t *versions;
    long pages, hot, rate_mb_s;
    uint64_t writes, seed;
    int64_t gap_us, last_us, began_us;
    uint64_t owed; /* pages written since began_us */
};

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
        long bad = check(guest);
        printf("checked bad=%ld pages=%ld writes=%llu\n", bad, guest->pages,
               (unsigned long long) guest->writes);
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

static long
option(const char *words, const char *name)
{
    const char *at = strstr(words, name);
    return at != NULL ? atol(at + strlen(name)) : 0;
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
    guest.began_us = now_us();
    printf("ready pages=%ld\n", guest.pages);
    fflush(stdout);
    serve(&guest);
}
