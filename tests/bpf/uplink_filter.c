/* bpf/uplink.bpf.c by test run, each verdict and each truncation (U1 to U3), and dataplane/slow/uplink.c on a
 * real link, beside another XDP program where libxdp's dispatcher works (L1, L2): UPLINK_DISPATCHER in the environment
 * says that it must. Root only: namespaces of its own. */
#include "dataplane/slow/uplink.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "bpf/uplink.skel.h"
#include "tests/bpf/other.skel.h"

enum { VNI = 7, PORT = 3, INNER = 42 };

static struct uplink *alone; /* loaded without a dispatcher, for test runs */

typedef struct {
    int family;
    guint16 dport;
    guint32 vni, port;
    guint8 options; /* words of foreign options before OVN's */
    bool bare;      /* without OVN's option */
    guint8 version;
    guint16 fragment;
    const char *to;
} Outer;

/* Ethernet, IP, UDP, Geneve, and an inner frame of zeroes. */
static guint
build(guint8 *at, const Outer *o)
{
    guint8 *begin = at, words = (guint8) (o->options + (o->bare ? 0 : 2));
    memset(at, 0, 300);
    at[12] = o->family == 6 ? 0x86 : 0x08;
    at[13] = o->family == 6 ? 0xdd : 0x00;
    at += 14;
    if (o->family == 6) {
        at[0] = 0x60;
        at[6] = 17;
        inet_pton(AF_INET6, o->to != NULL ? o->to : "fd00::1", at + 24);
        at += 40;
    } else {
        at[0] = 0x45;
        at[6] = (guint8) (o->fragment >> 8);
        at[7] = (guint8) o->fragment;
        at[9] = 17;
        inet_pton(AF_INET, o->to != NULL ? o->to : "192.0.2.1", at + 16);
        at += 20;
    }
    guint16 dport = o->dport != 0 ? o->dport : 6081;
    at[2] = (guint8) (dport >> 8);
    at[3] = (guint8) dport;
    at += 8;
    at[0] = (guint8) (o->version << 6 | words);
    at[2] = 0x65;
    at[3] = 0x58;
    at[4] = (guint8) (o->vni >> 16);
    at[5] = (guint8) (o->vni >> 8);
    at[6] = (guint8) o->vni;
    at += 8;
    if (o->options > 0) {
        at[1] = 0x01;
        at[3] = (guint8) (o->options - 1);
        at += 4 * o->options;
    }
    if (!o->bare) {
        const guint8 option[8] = {
            0x01, 0x02, 0x80, 1, 0, 1, (guint8) (o->port >> 8), (guint8) o->port};
        memcpy(at, option, 8);
        at += 8;
    }
    return (guint) (at + INNER - begin);
}

static guint64
counted(enum uplink_reason reason)
{
    g_autofree guint64 *values = g_new0(guint64, (gsize) libbpf_num_possible_cpus());
    guint64 sum = 0;
    guint32 key = reason;
    g_assert_cmpint(bpf_map_lookup_elem(bpf_map__fd(alone->maps.haw_up_count), &key, values), ==,
                    0);
    for (int i = 0; i < libbpf_num_possible_cpus(); i++) {
        sum += values[i];
    }
    return sum;
}

/* Runs a frame: the reason that was counted, which must fit the verdict. */
static enum uplink_reason
run(const guint8 *frame, guint size)
{
    guint64 before[UPLINK_REASON_COUNT];
    guint8 out[400];
    for (guint i = 0; i < UPLINK_REASON_COUNT; i++) {
        before[i] = counted(i);
    }
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = size, .data_out = out,
                .data_size_out = sizeof out, .repeat = 1);
    g_assert_cmpint(bpf_prog_test_run_opts(bpf_program__fd(alone->progs.haw_uplink), &opts), ==, 0);
    g_assert_cmpmem(out, opts.data_size_out, frame, size);
    for (guint i = 0; i < UPLINK_REASON_COUNT; i++) {
        if (counted(i) != before[i]) {
            bool drops = i == UPLINK_NO_NETWORK || i == UPLINK_NO_PORT;
            g_assert_cmpint(opts.retval, ==, drops ? XDP_DROP : XDP_PASS);
            return i;
        }
    }
    g_assert_not_reached();
}

static enum uplink_reason
verdict(const Outer *outer)
{
    guint8 frame[300];
    guint size = build(frame, outer);
    return run(frame, size);
}

#define EXPECT(reason, ...)                                                                        \
    g_assert_cmpstr(uplink_reason_text(verdict(&(Outer){__VA_ARGS__})), ==,                        \
                    uplink_reason_text(reason))

static void
only_what_nobody_wants_is_dropped(void)
{
    for (int family = 4; family <= 6; family += 2) {
        EXPECT(UPLINK_WANTED, .family = family, .vni = VNI, .port = PORT);
        EXPECT(UPLINK_WANTED, .family = family, .vni = VNI, .port = PORT, .options = 3);
        EXPECT(UPLINK_NO_PORT, .family = family, .vni = VNI, .port = PORT + 1);
        EXPECT(UPLINK_NO_NETWORK, .family = family, .vni = VNI + 1, .port = PORT);
        EXPECT(UPLINK_GROUP, .family = family, .vni = VNI, .port = 0x8001);
        EXPECT(UPLINK_NO_NETWORK, .family = family, .vni = VNI + 1, .port = 0x8001);
        EXPECT(UPLINK_PLAIN, .family = family, .vni = 0, .bare = true); /* BFD */
        EXPECT(UPLINK_PLAIN, .family = family, .vni = VNI + 1, .port = PORT, .version = 1);
        EXPECT(UPLINK_OTHER, .family = family, .dport = 4789, .vni = VNI + 1);
    }
    EXPECT(UPLINK_OTHER, .family = 4, .vni = VNI + 1, .fragment = 0x2000);
    EXPECT(UPLINK_OTHER, .family = 4, .vni = VNI + 1, .fragment = 1);
    EXPECT(UPLINK_OTHER, .family = 4, .vni = VNI + 1, .to = "192.0.2.9");
    EXPECT(UPLINK_OTHER, .family = 6, .vni = VNI + 1, .to = "fd00::9");
}

static void
nothing_is_dropped_that_is_cut_short(void)
{
    guint8 frame[300];
    const Outer outer = {.family = 4, .vni = VNI + 1, .port = PORT, .options = 2};
    guint size = build(frame, &outer);
    guint headers = size - INNER;
    for (guint cut = 14; cut < size; cut++) {
        enum uplink_reason reason = run(frame, cut);
        g_assert_cmpint(reason == UPLINK_NO_NETWORK, ==, cut >= headers);
    }
    for (guint i = 0; i < 20000; i++) {
        guint8 changed[300];
        memcpy(changed, frame, size);
        for (int n = g_random_int_range(1, 5); n > 0; n--) {
            changed[g_random_int_range(0, (gint32) size)] = (guint8) g_random_int();
        }
        run(changed, size);
    }
}

static void
switched_off_it_drops_nothing(void)
{
    struct uplink_config config = {.on = 0, .port = htons(6081)};
    guint32 zero = 0;
    int fd = bpf_map__fd(alone->maps.haw_up_config);
    g_assert_cmpint(bpf_map_update_elem(fd, &zero, &config, 0), ==, 0);
    EXPECT(UPLINK_OFF, .family = 4, .vni = VNI + 1, .port = PORT);
    config.on = 1;
    g_assert_cmpint(bpf_map_update_elem(fd, &zero, &config, 0), ==, 0);
}

/* ---- on a link ---- */

static guint
programs_at(const char *ifname)
{
    struct xdp_multiprog *there = xdp_multiprog__get_from_ifindex((int) if_nametoindex(ifname));
    if (libxdp_get_error(there) != 0) {
        return 0;
    }
    guint count = xdp_multiprog__is_legacy(there);
    struct xdp_program *program = NULL;
    while (!xdp_multiprog__is_legacy(there) &&
           (program = xdp_multiprog__next_prog(program, there)) != NULL) {
        count++;
    }
    xdp_multiprog__close(there);
    return count;
}

/* A Geneve packet for 'vni' from the other end of the veth pair. */
static void
send_geneve(guint32 vni, guint32 port)
{
    const guint8 head[16] = {
        2,    0, 0x65, 0x58, (guint8) (vni >> 16), (guint8) (vni >> 8), (guint8) vni, 0, 0x01, 0x02,
        0x80, 1, 0,    1,    (guint8) (port >> 8), (guint8) port};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(6081)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = inet_addr("192.0.2.1");
    g_assert_cmpint(sendto(fd, head, sizeof head, 0, (struct sockaddr *) &to, sizeof to), ==,
                    sizeof head);
    close(fd);
}

static bool
comes(Uplink *uplink, enum uplink_reason reason, guint64 wanted)
{
    guint64 counters[UPLINK_REASON_COUNT] = {0};
    for (guint i = 0; i < 500; i++) {
        g_assert_true(uplink_counters(uplink, counters, NULL));
        if (counters[reason] >= wanted) {
            return true;
        }
        g_usleep(10000);
    }
    return false;
}

static bool
make_link(void)
{
    return system("ip link add up0 type veth peer name far0 && ip link set up0 up && "
                  "ip link set far0 up && ip addr add 192.0.2.2/24 dev far0 && "
                  "ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev far0") == 0;
}

/* Another's program, on the link beside what is there; NULL where there is room for one only: the dispatcher needs
 * the kernel's BTF, CAP_SYS_RESOURCE and freplace. */
static struct xdp_program *
other_attach(struct other *object)
{
    struct xdp_program *other = xdp_program__from_bpf_obj(object->obj, "xdp");
    int status = xdp_program__attach(other, (int) if_nametoindex("up0"), XDP_MODE_NATIVE, 0);
    if (status == 0) {
        return other;
    }
    g_test_message("no other program on the link: %s", g_strerror(-status));
    g_assert_null(getenv("UPLINK_DISPATCHER"));
    xdp_program__close(other);
    return NULL;
}

/* What is wanted, and what is not, one packet each. */
static void
judge_each(Uplink *uplink)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(uplink_add_end(uplink, "192.0.2.1", &error));
    g_assert_true(uplink_want(uplink, VNI, UPLINK_ANY_PORT, true, &error));
    g_assert_true(uplink_want(uplink, VNI, PORT, true, &error));
    g_assert_true(uplink_switch(uplink, true, &error));
    send_geneve(VNI, PORT);
    g_assert_true(comes(uplink, UPLINK_WANTED, 1));
    send_geneve(VNI, PORT + 1);
    g_assert_true(comes(uplink, UPLINK_NO_PORT, 1));
    send_geneve(VNI + 1, PORT);
    g_assert_true(comes(uplink, UPLINK_NO_NETWORK, 1));
    g_assert_true(uplink_want(uplink, VNI, PORT, false, &error));
    send_geneve(VNI, PORT);
    g_assert_true(comes(uplink, UPLINK_NO_PORT, 2));
}

/* The map is asked: libxdp loads it, so the skeleton's memory isn't the program's. */
static guint64
seen_by_other(const struct other *object)
{
    guint32 zero = 0;
    guint64 seen = 0;
    g_assert_cmpint(bpf_map_lookup_elem(bpf_map__fd(object->maps.bss), &zero, &seen), ==, 0);
    return seen;
}

static bool
other_sees(const struct other *object, guint64 least)
{
    for (guint i = 0; i < 500 && seen_by_other(object) < least; i++) {
        g_usleep(10000);
    }
    return seen_by_other(object) >= least;
}

static void
it_coexists_on_a_link_and_goes_alone(void)
{
    g_autoptr(GError) error = NULL;
    if (!make_link()) {
        g_test_skip("no veth");
        return;
    }
    g_autoptr(Uplink) first = uplink_open("up0", &error);
    if (first == NULL && haw_code(error) == HAW_UNSUPPORTED) {
        g_test_skip(error->message);
        return;
    }
    g_assert_no_error(error);
    struct other *object = other__open();
    struct xdp_program *other = other_attach(object);
    guint others = other != NULL;
    g_assert_cmpuint(programs_at("up0"), ==, 1 + others); /* L1 */
    guint64 before = others ? seen_by_other(object) : 0;
    judge_each(first);
    g_assert_true(!others || other_sees(object, before + 1)); /* the one that was wanted */
    /* A life that ends without a word leaves it attached; the next one takes its place, and no more. L2 */
    uplink_leave(g_steal_pointer(&first));
    g_assert_cmpuint(programs_at("up0"), ==, 1 + others);
    g_autoptr(Uplink) second = uplink_open("up0", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(programs_at("up0"), ==, 1 + others);
    judge_each(second);
    uplink_close(g_steal_pointer(&second));
    g_assert_cmpuint(programs_at("up0"), ==, others);
    if (others) {
        before = seen_by_other(object);
        send_geneve(VNI + 1, PORT);
        g_assert_true(other_sees(object, before + 1));
        xdp_program__detach(other, (int) if_nametoindex("up0"), XDP_MODE_NATIVE, 0);
        xdp_program__close(other);
    }
    other__destroy(object);
    g_assert_cmpuint(programs_at("up0"), ==, 0);
    g_assert_null(uplink_open("nothing0", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_NOT_FOUND);
}

static bool
load(void)
{
    const struct uplink_config config = {.on = 1, .port = htons(6081)};
    const struct uplink_port keys[] = {{VNI, UPLINK_ANY_PORT}, {VNI, PORT}};
    struct uplink_end ends[2] = {0};
    guint32 zero = 0, one = 1;
    alone = uplink__open_and_load();
    if (alone == NULL) {
        return false;
    }
    inet_pton(AF_INET, "192.0.2.1", ends[0].addr);
    inet_pton(AF_INET6, "fd00::1", ends[1].addr);
    bpf_map_update_elem(bpf_map__fd(alone->maps.haw_up_config), &zero, &config, 0);
    for (guint i = 0; i < 2; i++) {
        bpf_map_update_elem(bpf_map__fd(alone->maps.haw_up_ends), &ends[i], &one, 0);
        bpf_map_update_elem(bpf_map__fd(alone->maps.haw_up_ports), &keys[i], &one, 0);
    }
    return true;
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL) < 0 || !load()) {
        puts("1..0 # SKIP needs root, namespaces, and a kernel with BTF");
        return 77;
    }
#define CLAIM(name) g_test_add_func("/uplink/" #name, name)
    CLAIM(only_what_nobody_wants_is_dropped);
    CLAIM(nothing_is_dropped_that_is_cut_short);
    CLAIM(switched_off_it_drops_nothing);
    CLAIM(it_coexists_on_a_link_and_goes_alone);
    int status = g_test_run();
    uplink__destroy(alone);
    return status;
}
