/* A guest of KVM whose memory is tracked and streamed: vCPUs write through the second stage of address translation,
 * which no page table of the process shows; the kernel's notifiers must bring the tracker to it all the same.
 *
 * The guest is some instructions: "write so many pages, from this seed, and halt". What it writes can be computed
 * here, too, so a scan can be held to the very pages. */
#include "dataplane/pages/pagesink.h"
#include "dataplane/pages/pagesource.h"
#include "dataplane/pages/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

enum {
    MEMORY = 64 << 20,
    PAGES = MEMORY / PAGE_BYTES,
    DATA_PAGE = 256, /* code lies below */
    DATA_PAGES = 8192,
    CODE_AT = 0x1000,
    ROUNDS = 600,
    WRITES = 256,
    STREAM_ROUNDS = 10,
};
G_STATIC_ASSERT(DATA_PAGE + DATA_PAGES <= PAGES);

/* eax: seed, ebx: writes, edx: mask of pages, esi: where they begin. */
static const guint8 guest_code[] = {
    0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, /* imul $1664525, %eax, %eax */
    0x05, 0x5f, 0xf3, 0x6e, 0x3c,       /* add $1013904223, %eax */
    0x89, 0xc1,                         /* mov %eax, %ecx */
    0xc1, 0xe9, 0x08,                   /* shr $8, %ecx */
    0x21, 0xd1,                         /* and %edx, %ecx */
    0xc1, 0xe1, 0x0c,                   /* shl $12, %ecx */
    0x89, 0x04, 0x0e,                   /* mov %eax, (%esi,%ecx) */
    0x4b,                               /* dec %ebx */
    0x75, 0xe5,                         /* jnz to the start */
    0xf4,                               /* hlt */
};

struct task {
    guint32 seed, writes;
};

struct vm {
    int memory;
    guint8 *map; /* ours */
    pid_t pid;
    int talk;
};

/* ---- in the guest's process ---- */

static void
need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "# guest: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static int
vcpu_new(int memory, struct kvm_run **ret_run)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    need(kvm >= 0, "/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    need(vm >= 0, "KVM_CREATE_VM");
    void *map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    need(map != MAP_FAILED, "mmap");
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY,
                                                 .userspace_addr = (guint64) (gsize) map};
    need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "KVM_SET_USER_MEMORY_REGION");
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    need(vcpu >= 0, "KVM_CREATE_VCPU");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    *ret_run = mmap(NULL, (size_t) size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    need(*ret_run != MAP_FAILED, "mmap of the vCPU");
    return vcpu;
}

/* Protected mode, flat, without paging. */
static void
vcpu_flat(int vcpu)
{
    struct kvm_sregs sregs;
    need(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
    const struct kvm_segment code = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment data = code;
    data.selector = 16;
    data.type = 3;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.cr0 |= 1;
    need(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
}

static void
guest_main(int memory, int talk)
{
    struct kvm_run *run;
    struct task task;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int vcpu = vcpu_new(memory, &run);
    vcpu_flat(vcpu);
    need(pwrite(memory, guest_code, sizeof(guest_code), CODE_AT) == (gssize) sizeof(guest_code),
         "code");
    while (read(talk, &task, sizeof(task)) == (gssize) sizeof(task)) {
        struct kvm_regs regs = {.rip = CODE_AT,
                                .rflags = 2,
                                .rax = task.seed,
                                .rbx = task.writes,
                                .rdx = DATA_PAGES - 1,
                                .rsi = DATA_PAGE * PAGE_BYTES};
        need(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
        int result;
        do {
            result = ioctl(vcpu, KVM_RUN, 0);
        } while (result < 0 && errno == EINTR);
        need(result == 0 && run->exit_reason == KVM_EXIT_HLT, "KVM_RUN");
        need(write(talk, "", 1) == 1, "answer");
    }
    _exit(0);
}

/* ---- ours ---- */

static void
vm_start(struct vm *vm)
{
    int pair[2];
    vm->memory = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(vm->memory, MEMORY), ==, 0);
    vm->map = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, vm->memory, 0);
    g_assert_true(vm->map != MAP_FAILED);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    vm->pid = fork();
    if (vm->pid == 0) {
        close(pair[0]);
        guest_main(vm->memory, pair[1]);
    }
    close(pair[1]);
    vm->talk = pair[0];
}

static void
vm_end(struct vm *vm)
{
    close(vm->talk);
    g_assert_cmpint(waitpid(vm->pid, NULL, 0), ==, vm->pid);
    munmap(vm->map, MEMORY);
    close(vm->memory);
}

static void
vm_go(const struct vm *vm, guint32 seed, guint32 writes)
{
    struct task task = {seed, writes};
    g_assert_cmpint(write(vm->talk, &task, sizeof(task)), ==, sizeof(task));
}

/* The guest has halted. */
static void
vm_await(const struct vm *vm)
{
    char byte;
    g_assert_cmpint(read(vm->talk, &byte, 1), ==, 1);
}

/* Marks what such a task writes; checks that the memory has it. */
static guint
expect(const struct vm *vm, guint32 seed, guint32 writes, guint8 *pages)
{
    g_autofree guint32 *last = g_new0(guint32, PAGES);
    guint marked = 0;
    for (guint32 i = 0; i < writes; i++) {
        seed = seed * 1664525 + 1013904223;
        guint page = DATA_PAGE + (seed >> 8) % DATA_PAGES;
        marked += pages[page] == 0;
        pages[page] = 1;
        last[page] = seed;
    }
    for (guint page = 0; page < PAGES; page++) {
        g_assert_true(last[page] == 0 || memcmp(vm->map + page * PAGE_BYTES, &last[page], 4) == 0);
    }
    return marked;
}

static void
finds_the_very_pages(void)
{
    struct vm vm;
    guint total = 0;
    g_autoptr(GError) error = NULL;
    vm_start(&vm);
    vm_go(&vm, 1, DATA_PAGES); /* most of them are mapped by now, by the second stage, too */
    vm_await(&vm);
    g_autoptr(Tracker) tracker = tracker_open(vm.pid, vm.memory, &error);
    g_assert_no_error(error);
    g_assert_true(tracker_arm(tracker, &error));
    for (guint round = 0; round < ROUNDS; round++) {
        g_autofree guint8 *pages = g_malloc0(PAGES);
        g_autoptr(GArray) runs = pagescan_runs();
        vm_go(&vm, 1000 + round, WRITES);
        vm_await(&vm);
        guint wrote = expect(&vm, 1000 + round, WRITES, pages);
        g_assert_true(tracker_scan(tracker, true, runs, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(pagescan_total(runs) / PAGE_BYTES, ==, wrote);
        for (guint i = 0; i < runs->len; i++) {
            const struct page_run *run = &g_array_index(runs, struct page_run, i);
            for (guint64 at = run->offset; at < run->offset + run->bytes; at += PAGE_BYTES) {
                g_assert_cmpuint(pages[at / PAGE_BYTES], ==, 1);
            }
        }
        total += wrote;
    }
    g_test_message("%u pages written through KVM in %u rounds, and found", total, ROUNDS);
    g_clear_pointer(&tracker, tracker_close);
    vm_go(&vm, 7, WRITES); /* it runs on untracked */
    vm_await(&vm);
    vm_end(&vm);
}

/* ---- streamed ---- */

struct sink {
    struct page_sink_options options;
    GThread *thread;
    GError *error;
};

static void
sink_done(const struct page_sink_total *total, void *data)
{
    g_assert_cmpuint(total->rounds, ==, STREAM_ROUNDS + 1);
    g_assert_nonnull(data);
}

static gpointer
sink_thread(gpointer data)
{
    struct sink *sink = data;
    return GINT_TO_POINTER(pagesink_run(&sink->options, &sink->error));
}

static void
assert_same(const struct vm *vm, int target)
{
    guint8 *map = mmap(NULL, MEMORY, PROT_READ, MAP_SHARED, target, 0);
    g_assert_true(map != MAP_FAILED);
    for (guint page = 0; page < PAGES; page++) {
        if (memcmp(vm->map + page * PAGE_BYTES, map + page * PAGE_BYTES, PAGE_BYTES) != 0) {
            g_error("page %u differs", page);
        }
    }
    munmap(map, MEMORY);
}

/* While a round is sent the guest writes the next one's pages, and those of this one. */
static void
stream_rounds(const struct vm *vm, PageSource *source)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) runs = pagescan_runs();
    struct page_round round;
    g_autoptr(Tracker) tracker = tracker_open(vm->pid, vm->memory, &error);
    g_assert_no_error(error);
    g_assert_true(tracker_arm(tracker, &error));
    g_assert_true(pagescan_extents(vm->memory, MEMORY, runs, &error));
    for (guint i = 0; i < STREAM_ROUNDS; i++) {
        vm_go(vm, 50 + i, 4 * WRITES);
        g_assert_true(pagesource_round(source, runs, NULL, false, &round, &error));
        vm_await(vm);
        g_array_set_size(runs, 0);
        g_assert_true(tracker_scan(tracker, true, runs, &error));
        g_assert_cmpuint(runs->len, >, 0);
    }
    g_assert_true(pagesource_round(source, runs, NULL, true, &round, &error));
    g_assert_no_error(error);
}

static void
arrives_whole(void)
{
    struct vm vm;
    int pair[2];
    g_autoptr(GError) error = NULL;
    haw_autofd int target = memfd_create("target", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(target, MEMORY), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    vm_start(&vm);
    vm_go(&vm, 1, DATA_PAGES);
    vm_await(&vm);
    struct sink sink = {.options = {.memory_fd = target,
                                    .memory_bytes = MEMORY,
                                    .sockets = &pair[1],
                                    .channels = 1,
                                    .token = "a migration",
                                    .cancel_fd = -1,
                                    .done = sink_done,
                                    .data = &sink}};
    const struct page_source_options options = {.memory_fd = vm.memory,
                                                .memory_bytes = MEMORY,
                                                .sockets = &pair[0],
                                                .channels = 1,
                                                .token = "a migration",
                                                .route = PAGE_ROUTE_COPY,
                                                .cancel_fd = -1};
    sink.thread = g_thread_new("sink", sink_thread, &sink);
    g_autoptr(PageSource) source = pagesource_new(&options, &error);
    g_assert_no_error(error);
    stream_rounds(&vm, source);
    g_assert_true(GPOINTER_TO_INT(g_thread_join(sink.thread)));
    g_assert_no_error(sink.error);
    assert_same(&vm, target);
    vm_end(&vm);
    close(pair[0]);
    close(pair[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pages/kvm/a-scan-finds-the-very-pages-that-a-guest-wrote",
                    finds_the_very_pages);
    g_test_add_func("/pages/kvm/a-guest-that-writes-meanwhile-arrives-whole", arrives_whole);
    return g_test_run();
}
