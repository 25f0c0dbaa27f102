/* vnetguest: the smallest guest that drives a NIC: boots by multiboot (qemu -kernel) in no time, also under an emulator
 * inside an emulator. It finds a virtio-net (1.0) or an Intel e1000e on the buses that the BIOS has set up, says its
 * MAC on the serial port, sends one broadcast, waits for one frame, says so. A virtio-net that is taken out it lets go
 * (ACPI), and one that comes in its place it drives as well, but waits for no frame there.
 * Freestanding 32-bit code without a library; virtio 1.0, section 4.1; Intel 82574, chapter 10. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { COM1 = 0x3f8, BUSES = 32, FRAME_BYTES = 64, VIRTIO_HEADER = 12, RX = 0, TX = 1 };

__attribute__((section(".multiboot"), used)) static const u32 multiboot[] = {0x1badb002, 0,
                                                                             0u - 0x1badb002u};

static u8 rings[2][4096] __attribute__((aligned(4096)));
static u8 received[2048], sent[VIRTIO_HEADER + FRAME_BYTES];
static u8 stack[16384] __attribute__((aligned(16), used));

static inline void
out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void
out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline u8
in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline u32
in32(u16 port)
{
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static void
say(const char *text)
{
    for (; *text != '\0'; text++) {
        out8(COM1, (u8) *text);
    }
}

static void
say_hex(u8 byte)
{
    static const char digits[] = "0123456789abcdef";
    char text[3] = {digits[byte >> 4], digits[byte & 15], '\0'};
    say(text);
}

__attribute__((noreturn)) static void
halt(const char *why)
{
    say(why);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

/* ---- PCI ---- */

static u32
pci_read(u32 dev, u32 offset)
{
    out32(0xcf8, 0x80000000u | dev | (offset & ~3u));
    return in32(0xcfc);
}

static void
pci_write(u32 dev, u32 offset, u32 value)
{
    out32(0xcf8, 0x80000000u | dev | offset);
    out32(0xcfc, value);
}

static u8
pci_byte(u32 dev, u32 offset)
{
    return (u8) (pci_read(dev, offset) >> 8 * (offset & 3));
}

/* ACPI's hot plug as QEMU's q35 has it: what a guest of ours would read in the DSDT. */
enum { HOT_DOWN = 0xcc4, HOT_EJECT = 0xcc8, HOT_BUS = 0xcd0, HOT_BUSES = 32 };

static void
let_go(void)
{
    for (u32 bus = 0; bus < HOT_BUSES; bus++) {
        out32(HOT_BUS, bus);
        u32 asked = in32(HOT_DOWN);
        if (asked != 0 && asked != ~0u) {
            out32(HOT_EJECT, asked);
        }
    }
}

/* The memory behind a base address register. */
static volatile u8 *
bar(u32 dev, u32 number)
{
    u32 low = pci_read(dev, 0x10 + 4 * number);
    if ((low & 4) != 0 && pci_read(dev, 0x14 + 4 * number) != 0) {
        halt("GUEST-FAILED a BAR beyond 4 GiB\n");
    }
    return (volatile u8 *) (low & ~15u);
}

static u32
find(u32 id, u32 other)
{
    for (u32 dev = 0; dev < BUSES << 16; dev += 1 << 11) {
        u32 found = pci_read(dev, 0);
        if (found == id || found == other) {
            pci_write(dev, 4, 6); /* memory, bus master */
            return dev | 1;       /* so that 0:0.0 is not "none" */
        }
    }
    return 0;
}

/* ---- what both do ---- */

static inline u32
get32(volatile u8 *base, u32 offset)
{
    return *(volatile u32 *) (base + offset);
}

static inline void
put32(volatile u8 *base, u32 offset, u32 value)
{
    *(volatile u32 *) (base + offset) = value;
}

static inline void
put16(volatile u8 *base, u32 offset, u16 value)
{
    *(volatile u16 *) (base + offset) = value;
}

/* A broadcast from 'mac', of the protocol for local experiments. */
static void
compose(u8 *frame, const u8 *mac)
{
    say("GUEST-MAC ");
    for (u32 i = 0; i < 6; i++) {
        say_hex(mac[i]);
        frame[i] = 0xff;
        frame[6 + i] = mac[i];
    }
    frame[12] = 0x88;
    frame[13] = 0xb5;
    say("\n");
}

static void
await(volatile u8 *done, const char *success, const char *failure)
{
    for (u32 turn = 0; turn < 20000000; turn++) {
        if ((*done & 1) != 0) {
            say(success);
            return;
        }
        (void) in8(0x80); /* leaves the emulator to others for a moment */
    }
    halt(failure);
}

/* ---- virtio ---- */

enum { /* the common configuration */
       DEVICE_SELECT = 0,
       DEVICE_FEATURES = 4,
       DRIVER_SELECT = 8,
       DRIVER_FEATURES = 12,
       STATUS = 20,
       QUEUE_SELECT = 22,
       QUEUE_SIZE = 24,
       QUEUE_ENABLE = 28,
       QUEUE_NOTIFY = 30,
       QUEUE_DESC = 32,
       QUEUE_AVAIL = 40,
       QUEUE_USED = 48,
};
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4, FEATURE_MAC = 1 << 5, DESC_WRITE = 2 };
enum { AVAIL = 1024, USED = 2048, ENTRIES = 4 }; /* offsets in a ring's page */
struct virtio {
    volatile u8 *common, *notify, *device;
    u32 notify_step;
};

static void
find_parts(u32 dev, struct virtio *nic)
{
    for (u32 cap = pci_byte(dev, 0x34); cap != 0; cap = pci_byte(dev, cap + 1)) {
        if (pci_byte(dev, cap) != 9) {
            continue;
        }
        u32 kind = pci_byte(dev, cap + 3);
        volatile u8 *part = bar(dev, pci_byte(dev, cap + 4)) + pci_read(dev, cap + 8);
        if (kind == CAP_COMMON) {
            nic->common = part;
        } else if (kind == CAP_NOTIFY) {
            nic->notify = part;
            nic->notify_step = pci_read(dev, cap + 16);
        } else if (kind == CAP_DEVICE) {
            nic->device = part;
        }
    }
    if (nic->common == 0 || nic->notify == 0 || nic->device == 0) {
        halt("GUEST-FAILED no virtio 1.0\n");
    }
}

/* The MAC, and what the device insists on: version 1, and its own view of memory. */
static void
agree(struct virtio *nic)
{
    nic->common[STATUS] = 0;
    nic->common[STATUS] = 3; /* acknowledge, driver */
    for (u32 word = 0; word < 2; word++) {
        put32(nic->common, DEVICE_SELECT, word);
        u32 offered = get32(nic->common, DEVICE_FEATURES);
        put32(nic->common, DRIVER_SELECT, word);
        put32(nic->common, DRIVER_FEATURES, offered & (word == 0 ? FEATURE_MAC : 3));
    }
    nic->common[STATUS] = 11;
    if ((nic->common[STATUS] & 8) == 0) {
        halt("GUEST-FAILED features\n");
    }
}

/* Descriptor 0 of the queue is the buffer, and is made available. */
static void
offer(struct virtio *nic, u16 queue, void *buffer, u32 bytes, u16 flags)
{
    u8 *ring = rings[queue];
    put16(nic->common, QUEUE_SELECT, queue);
    put16(nic->common, QUEUE_SIZE, ENTRIES);
    put32(nic->common, QUEUE_DESC, (u32) ring);
    put32(nic->common, QUEUE_AVAIL, (u32) ring + AVAIL);
    put32(nic->common, QUEUE_USED, (u32) ring + USED);
    put32(ring, 0, (u32) buffer);
    put32(ring, 8, bytes);
    put16(ring, 12, flags);
    put16(ring, AVAIL + 2, 1);
    put16(nic->common, QUEUE_ENABLE, 1);
}

static void
kick(struct virtio *nic, u16 queue)
{
    put16(nic->common, QUEUE_SELECT, queue);
    u32 place = *(volatile u16 *) (nic->common + QUEUE_NOTIFY);
    put16(nic->notify, place * nic->notify_step, queue);
}

static void
drive_virtio(u32 dev, int first)
{
    u8 mac[6];
    struct virtio nic = {0, 0, 0, 0};
    find_parts(dev, &nic);
    agree(&nic);
    for (u32 i = 0; i < 6; i++) {
        mac[i] = nic.device[i];
    }
    compose(sent + VIRTIO_HEADER, mac);
    offer(&nic, RX, received, sizeof received, DESC_WRITE);
    offer(&nic, TX, sent, sizeof sent, 0);
    nic.common[STATUS] = 15;
    kick(&nic, RX);
    kick(&nic, TX);
    await(rings[TX] + USED + 2, "GUEST-SENT\n", "GUEST-FAILED to send\n");
    if (first) {
        await(rings[RX] + USED + 2, "GUEST-RECEIVED\n", "GUEST-FAILED to receive\n");
    }
}

/* Goes, and the same comes back with nothing set up: what the BIOS gave it fits again. */
__attribute__((noreturn)) static void
follow(u32 dev)
{
    u32 bars[6];
    for (u32 i = 0; i < 6; i++) {
        bars[i] = pci_read(dev, 0x10 + 4 * i);
    }
    for (int here = 1;;) {
        let_go();
        u32 id = pci_read(dev, 0);
        if (here && id == ~0u) {
            say("GUEST-GONE\n");
            here = 0;
        } else if (!here && id == 0x10411af4) {
            here = 1;
            for (u32 i = 0; i < 6; i++) {
                pci_write(dev, 0x10 + 4 * i, bars[i]);
            }
            pci_write(dev, 4, 6);
            for (u32 i = 0; i < sizeof rings; i++) {
                ((volatile u8 *) rings)[i] = 0;
            }
            drive_virtio(dev, 0);
        }
        (void) in8(0x80);
    }
}

/* ---- e1000e ---- */

enum { /* registers; a ring's are the same for both directions */
       CTRL = 0,
       RCTL = 0x100,
       TCTL = 0x400,
       RX_RING = 0x2800,
       TX_RING = 0x3800,
       RAL = 0x5400,
       RAH = 0x5404,
};
enum {
    RING_LOW = 0,
    RING_HIGH = 4,
    RING_BYTES = 8,
    RING_HEAD = 16,
    RING_TAIL = 24,
    DESC_STATUS = 12
};

static void
ring_start(volatile u8 *nic, u32 at, u8 *ring, void *buffer)
{
    put32(ring, 0, (u32) buffer);
    put32(nic, at + RING_LOW, (u32) ring);
    put32(nic, at + RING_HIGH, 0);
    put32(nic, at + RING_BYTES, 128); /* the least: 8 descriptors, of which one is used */
    put32(nic, at + RING_HEAD, 0);
    put32(nic, at + RING_TAIL, 0);
}

static void
drive_e1000e(u32 dev)
{
    volatile u8 *nic = bar(dev, 0);
    u32 low = get32(nic, RAL), high = get32(nic, RAH);
    u8 mac[6] = {(u8) low,         (u8) (low >> 8), (u8) (low >> 16),
                 (u8) (low >> 24), (u8) high,       (u8) (high >> 8)};
    compose(sent, mac);
    put32(nic, CTRL, get32(nic, CTRL) | 1 << 6); /* link up */
    ring_start(nic, RX_RING, rings[RX], received);
    ring_start(nic, TX_RING, rings[TX], sent);
    put32(nic, RCTL, 1 << 1 | 1 << 15); /* on, broadcasts */
    put32(nic, TCTL, 1 << 1 | 1 << 3);  /* on, short frames padded */
    put32(nic, RX_RING + RING_TAIL, 1);
    put32(rings[TX], 8, FRAME_BYTES | 11u << 24); /* end of packet, checksum, report */
    put32(nic, TX_RING + RING_TAIL, 1);
    await(rings[TX] + DESC_STATUS, "GUEST-SENT\n", "GUEST-FAILED to send\n");
    await(rings[RX] + DESC_STATUS, "GUEST-RECEIVED\n", "GUEST-FAILED to receive\n");
}

__attribute__((used)) static void
guest(void)
{
    u32 dev = find(0x10001af4, 0x10411af4);
    if (dev != 0) {
        drive_virtio(dev & ~1u, 1);
        follow(dev & ~1u);
    } else if ((dev = find(0x10d38086, 0x10d38086)) != 0) {
        drive_e1000e(dev & ~1u);
    }
    halt(dev != 0 ? "" : "GUEST-FAILED no NIC\n");
}

__attribute__((naked, used, section(".start"))) void _start(void);
void
_start(void)
{
    __asm__ volatile("mov $stack + 16384, %esp; call guest");
}
