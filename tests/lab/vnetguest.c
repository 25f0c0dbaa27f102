/* vnetguest: the smallest guest that drives a virtio NIC: boots by multiboot (qemu -kernel) in no time, also under an
 * emulator inside an emulator. It finds a transitional virtio-net, says its MAC on the serial port, sends one
 * broadcast, waits for one frame (the kernel's vDPA simulator gives what it gets), says so, and halts.
 * Freestanding 32-bit code without a library; legacy interface: virtio 0.9.5, "PCI device layout". */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { COM1 = 0x3f8, QUEUE_MAX = 1024, FRAME_BYTES = 70 };
enum { /* registers of a legacy device */
       DEVICE_FEATURES = 0,
       DRIVER_FEATURES = 4,
       QUEUE_PFN = 8,
       QUEUE_SIZE = 12,
       QUEUE_SELECT = 14,
       QUEUE_NOTIFY = 16,
       STATUS = 18,
       MAC = 20,
};
enum { FEATURE_MAC = 1 << 5, RX = 0, TX = 1, DESC_WRITE = 2 };

__attribute__((section(".multiboot"), used)) static const u32 multiboot[] = {0x1badb002, 0,
                                                                             0u - 0x1badb002u};

struct desc {
    u32 address, address_high, size;
    u16 flags, next;
};
static u8 rings[2][16 * 4096] __attribute__((aligned(4096)));
static u8 received[2048], sent[FRAME_BYTES];
static u8 stack[16384] __attribute__((aligned(16), used));

static inline void
out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void
out16(u16 port, u16 value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
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

static inline u16
in16(u16 port)
{
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
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

static void
halt(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

static u32
pci_read(u32 slot, u32 offset)
{
    out32(0xcf8, 0x80000000u | slot << 11 | offset);
    return in32(0xcfc);
}

/* The I/O ports of the first virtio-net; 0 without one. */
static u16
find_nic(void)
{
    for (u32 slot = 0; slot < 32; slot++) {
        if (pci_read(slot, 0) == 0x10001af4) {
            out32(0xcf8, 0x80000000u | slot << 11 | 4);
            out32(0xcfc, 7); /* I/O, memory, bus master */
            return (u16) (pci_read(slot, 0x10) & ~3u);
        }
    }
    return 0;
}

/* Descriptor 0 of the queue is the buffer, and is made available. Returns the used ring's index. */
static volatile u16 *
offer(u16 nic, u16 queue, void *buffer, u32 bytes, u16 flags)
{
    out16(nic + QUEUE_SELECT, queue);
    u32 size = in16(nic + QUEUE_SIZE);
    if (size == 0 || size > QUEUE_MAX) {
        say("GUEST-FAILED queue\n");
        halt();
    }
    u8 *ring = rings[queue];
    struct desc *first = (struct desc *) ring;
    u16 *avail = (u16 *) (ring + size * sizeof(struct desc));
    u32 used = (size * sizeof(struct desc) + 6 + 2 * size + 4095) & ~4095u;
    first->address = (u32) buffer;
    first->size = bytes;
    first->flags = flags;
    avail[2] = 0;
    __asm__ volatile("" : : : "memory");
    avail[1] = 1;
    out32(nic + QUEUE_PFN, (u32) ring >> 12);
    return (volatile u16 *) (ring + used + 2);
}

static int
wait_for(volatile u16 *index)
{
    for (u32 turn = 0; turn < 20000000; turn++) {
        if (*index == 1) {
            return 1;
        }
        (void) in8(0x80); /* leaves the emulator to others for a moment */
    }
    return 0;
}

__attribute__((used)) static void
guest(void)
{
    u16 nic = find_nic();
    if (nic == 0) {
        say("GUEST-FAILED no virtio-net\n");
        halt();
    }
    out8(nic + STATUS, 0);
    out8(nic + STATUS, 3); /* acknowledge, driver */
    out32(nic + DRIVER_FEATURES, in32(nic + DEVICE_FEATURES) & FEATURE_MAC);
    say("GUEST-MAC ");
    for (u16 i = 0; i < 6; i++) {
        u8 byte = in8(nic + MAC + i);
        say_hex(byte);
        sent[10 + i] = 0xff;
        sent[16 + i] = byte;
    }
    sent[22] = 0x88;
    sent[23] = 0xb5; /* for local experiments */
    say("\n");
    volatile u16 *rx = offer(nic, RX, received, sizeof received, DESC_WRITE);
    volatile u16 *tx = offer(nic, TX, sent, sizeof sent, 0);
    out8(nic + STATUS, 7); /* driver ok */
    out16(nic + QUEUE_NOTIFY, RX);
    out16(nic + QUEUE_NOTIFY, TX);
    say(wait_for(tx) ? "GUEST-SENT\n" : "GUEST-FAILED to send\n");
    say(wait_for(rx) && received[22] == 0x88 ? "GUEST-RECEIVED\n" : "GUEST-FAILED to receive\n");
    halt();
}

__attribute__((naked, used, section(".start"))) void _start(void);
void
_start(void)
{
    __asm__ volatile("mov $stack + 16384, %esp; call guest");
}
