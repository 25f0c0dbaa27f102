/* errand.h: one session: a child of ours and its three streams.
 * Threads: the guest's only one. */
#pragma once
#include "guest/asked.h"
#include <poll.h>

struct errand {
    uint32_t id;
    uint8_t *ask; /* gathered until it is whole; then NULL */
    size_t ask_size;
    pid_t pid; /* 0 until it starts, and after it was reaped */
    bool started, exited, exit_sent, pty;
    uint32_t status; /* as a shell's */
    int failed;      /* errno: it could not start */

    int in; /* the child's input; -1 once closed */
    uint8_t *in_bytes;
    size_t in_at, in_size; /* a ring of GUESTWIRE_WINDOW */
    uint32_t in_used;      /* consumed, and not yet reported */
    bool in_end;

    int out[GUESTWIRE_STREAMS]; /* [1] and [2] */
    uint32_t credit[GUESTWIRE_STREAMS];
    bool end_sent[GUESTWIRE_STREAMS];
    int64_t dry_ms; /* since when a pty without its child says nothing; 0 */
};

/* A session without a child yet. NULL without memory. */
struct errand *errand_new(uint32_t id);
/* Kills what runs, closes everything. */
void errand_free(struct errand *errand);
/* A piece of the OPEN; false when it grows too large. */
bool errand_ask(struct errand *errand, const uint8_t *bytes, size_t size);
/* Starts what was asked for; failures are in 'failed'. */
void errand_start(struct errand *errand);
/* Bytes for the child's input; false when more came than there was credit for. */
bool errand_feed(struct errand *errand, const uint8_t *bytes, size_t size);
/* The agent is done with a stream: no more input, or nobody reads the output. */
void errand_end(struct errand *errand, uint8_t stream);
/* Writes what the child takes. */
void errand_pour(struct errand *errand);
/* The child was reaped with waitpid's status. */
void errand_ended(struct errand *errand, int status);
void errand_signal(struct errand *errand, int number);
void errand_resize(struct errand *errand, unsigned width, unsigned height);
/* Nothing is left to be said. */
bool errand_over(const struct errand *errand);

/* What a child does; each returns an exit status. Standard input and output are the streams. */
typedef int (*ErrandFn)(const struct asked *asked);
int command_run(const struct asked *asked); /* runs the command: returns only on failure */
int fileserve_get(const struct asked *asked);
int fileserve_put(const struct asked *asked);
int fileserve_delete(const struct asked *asked);
int sftpserve_run(const struct asked *asked);
int report_state(const struct asked *asked);
int report_metrics(const struct asked *asked);
int setup_power(const struct asked *asked);
int setup_hostname(const struct asked *asked);
int setup_time(const struct asked *asked);
int setup_mount(const struct asked *asked);
int setup_umount(const struct asked *asked);
int setup_nics(const struct asked *asked);
int setup_ready(const struct asked *asked);
int devsock_run(const struct asked *asked);
/* The socket that sessions of that kind have as descriptor ERRAND_LISTENER; -1 with errno. */
int devsock_listener(void);
enum { ERRAND_LISTENER = 3 };
/* Tells systemd that we are ready. */
void setup_notify(void);
