/* guestwire.h: frames between the agent and hawser-guest, over a virtio-serial port.
 * Plain C without GLib: the guest's program is linked with it, too.
 * Threads: any; a reader and a writer belong to one caller. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The port's name inside: LXD's, so that images with LXD's udev rules start us; or our own. */
#define GUESTWIRE_PORT        "org.linuxcontainers.lxd"
#define GUESTWIRE_PORT_OWN    "org.hawser.guest.0"
#define GUESTWIRE_VERSION_MIN 1
#define GUESTWIRE_VERSION_MAX 1
#define GUESTWIRE_HEAD        16
#define GUESTWIRE_PAYLOAD_MAX 32768
#define GUESTWIRE_RAW_MAX     (GUESTWIRE_HEAD + GUESTWIRE_PAYLOAD_MAX)
/* On the wire: a byte more for each 254, and one zero at each end. */
#define GUESTWIRE_FRAME_MAX   (GUESTWIRE_RAW_MAX + GUESTWIRE_RAW_MAX / 254 + 4)
/* What may be under way in one direction of one stream before the receiver has to give credit. */
#define GUESTWIRE_WINDOW      (256 * 1024)
#define GUESTWIRE_STREAMS     3
#define GUESTWIRE_ASK_MAX     (1024 * 1024) /* a whole OPEN, all its frames together */
#define GUESTWIRE_SESSION_MAX 256

enum guestwire_type {
    GUESTWIRE_HELLO = 1, /* agent: u16 lowest and highest version; guest: u16 version, text.
                            With epoch 0, from the guest: "I have just started, greet me" */
    GUESTWIRE_PING,      /* either way, any payload up to 64 bytes */
    GUESTWIRE_PONG,      /* the ping's payload */
    GUESTWIRE_OPEN,      /* stream 1: more follows; payload: u8 kind, then fields */
    GUESTWIRE_DATA,      /* of 'stream': 0 towards the guest's child, 1 and 2 from it */
    GUESTWIRE_END,       /* no more DATA on 'stream' */
    GUESTWIRE_CREDIT,    /* u32: so many bytes of 'stream' were consumed */
    GUESTWIRE_SIGNAL,    /* u32: number */
    GUESTWIRE_RESIZE,    /* u16 width, u16 height */
    GUESTWIRE_EXIT,      /* guest: u32 status as a shell's */
    GUESTWIRE_FAILED,    /* guest: u32 errno, text: it never started */
    GUESTWIRE_CLOSE,     /* agent: forget the session, kill what runs */
    GUESTWIRE_TYPE_COUNT,
};

enum guestwire_kind {
    GUESTWIRE_EXEC = 1,
    GUESTWIRE_GET,    /* stream 1: a reply (u32 size, JSON), then the content */
    GUESTWIRE_PUT,    /* stream 0: the content; stream 1: a reply */
    GUESTWIRE_DELETE, /* stream 1: a reply */
    GUESTWIRE_SFTP,   /* streams 0 and 1: SFTP version 3 */
    GUESTWIRE_STATE,  /* stream 1: a reply, as "state" of LXD's REST */
    GUESTWIRE_METRICS,
    GUESTWIRE_POWER,    /* NAME: "off", "reboot" */
    GUESTWIRE_HOSTNAME, /* NAME */
    GUESTWIRE_TIME,     /* NUMBER: nanoseconds since 1970 */
    GUESTWIRE_MOUNT,    /* NAME: tag, PATH, TYPE: "virtiofs" or "9p", ARG: options, in order */
    GUESTWIRE_UMOUNT,   /* PATH */
    GUESTWIRE_NICS,     /* ARG: "MAC NAME MTU" each */
    GUESTWIRE_READY,    /* the agent has set up what it had to: whoever waits for us may go on */
    GUESTWIRE_DEVLXD, /* a connection to /dev/lxd/sock: stream 1: u32 user id, then its bytes; stream 0:
                           the answers */
    GUESTWIRE_KIND_COUNT,
};

enum guestwire_tag {
    GUESTWIRE_ARG = 1, /* repeats */
    GUESTWIRE_ENV,     /* repeats: NAME=VALUE */
    GUESTWIRE_CWD,
    GUESTWIRE_UID, /* numbers are texts */
    GUESTWIRE_GID,
    GUESTWIRE_MODE,
    GUESTWIRE_SIZE, /* "WIDTHxHEIGHT": a terminal */
    GUESTWIRE_PATH,
    GUESTWIRE_TYPE,
    GUESTWIRE_APPEND,
    GUESTWIRE_HEAD_ONLY,
    GUESTWIRE_TARGET,
    GUESTWIRE_NAME,
    GUESTWIRE_NUMBER,
    GUESTWIRE_TAG_COUNT,
};

struct guestwire_head {
    uint8_t type, stream;
    uint32_t epoch, session, size;
};

/* Into 'out' (GUESTWIRE_FRAME_MAX bytes); returns how many. head->size is at most
 * GUESTWIRE_PAYLOAD_MAX. */
size_t guestwire_encode(const struct guestwire_head *head, const void *payload, uint8_t *out);

/* Begins as {0}. A payload is read in place, until the next call. */
struct guestwire_reader {
    uint8_t raw[GUESTWIRE_RAW_MAX];
    uint32_t have;
    uint8_t left;    /* of the current run */
    bool zero, deaf; /* a zero is due before the next run; until the next delimiter */
    uint64_t bad;    /* frames that were none */
};
/* Reads up to 'size' bytes and returns how many it took; true in *ret_frame when they completed a
 * frame. Call until everything is taken. What is no frame is counted and passed over. */
size_t guestwire_take(struct guestwire_reader *reader, const uint8_t *bytes, size_t size,
                      bool *ret_frame, struct guestwire_head *head, const uint8_t **ret_payload);

uint32_t guestwire_u32(const uint8_t *at);
uint16_t guestwire_u16(const uint8_t *at);
void guestwire_put_u32(uint8_t *at, uint32_t value);
void guestwire_put_u16(uint8_t *at, uint16_t value);

/* Fields of an OPEN, behind its kind: u8 tag, u32 size, bytes. A writer grows its own memory. */
struct guestwire_ask {
    uint8_t *bytes;
    size_t size, room;
    bool full; /* it grew beyond GUESTWIRE_ASK_MAX */
};
void guestwire_ask_begin(struct guestwire_ask *ask, enum guestwire_kind kind);
void guestwire_ask_add(struct guestwire_ask *ask, enum guestwire_tag tag, const char *text);
void guestwire_ask_number(struct guestwire_ask *ask, enum guestwire_tag tag, int64_t value);
void guestwire_ask_done(struct guestwire_ask *ask);
/* A cursor over the fields; values end in a NUL behind 'size' only if the sender put one. Returns
 * false at the end, or where the bytes make no sense (*ret_bad). */
struct guestwire_field {
    uint8_t tag;
    const uint8_t *value;
    uint32_t size;
};
bool guestwire_next(const uint8_t **at, const uint8_t *end, struct guestwire_field *ret_field,
                    bool *ret_bad);
