/* pagesource.h: the sending end of a page stream: rounds of runs of the memory file, over N sockets.
 * Threads: one, which each call blocks until the sink has all of the round. */
#pragma once
#include "dataplane/pages/pagecrypt.h"

typedef struct PageSource PageSource;

enum page_route {
    PAGE_ROUTE_AUTO, /* the first of the stream is sent by each in turn; the cheapest in CPU stays */
    PAGE_ROUTE_COPY,   /* sendmsg from the mapping */
    PAGE_ROUTE_SPLICE, /* splice from the file: no copy on this side */
    PAGE_ROUTE_ZC,     /* SENDMSG_ZC from the mapping: none either where the NIC can */
};

struct page_source_options {
    int memory_fd;
    guint64 memory_bytes;            /* a multiple of PAGE_BYTES */
    const int *sockets;              /* connected streams, borrowed until pagesource_free() */
    guint channels;                  /* 1..FRAME_CHANNELS_MAX */
    guint8 token[FRAME_TOKEN_BYTES]; /* says to the sink which migration this is */
    const guint8 *key; /* PAGECRYPT_KEY_BYTES; NULL: plain, for a network that is trusted */
    enum page_route route;
    guint64 limit_bytes_s; /* 0: none */
    gint64 idle_ms;        /* gives up after so long without a byte; 0: 30 s */
    int cancel_fd;         /* readable: give up with CANCELLED; -1: none */
    void (*progress)(guint64 sent_bytes,
                     void *data); /* of this round, some times a second; may be NULL */
    void *data;
};

struct page_round {
    guint64 data_bytes, punched_bytes; /* as sent; punched: were zero */
    gint64 wall_us, cpu_us;
};

/* Says hello on every channel. */
PageSource *pagesource_new(const struct page_source_options *options, GError **error);
/* Unless the final round is over the connections are cut. */
void pagesource_free(PageSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageSource, pagesource_free)

/* Sends what the runs hold now, and that 'holes' (may be NULL) are zero, and waits until the sink says
 * that it has it. 'final': the guest stands still, and both sides check the contents. Rounds are
 * numbered from 0 by the source. After an error only abort and free may follow. */
bool pagesource_round(PageSource *source, const GArray *runs, const GArray *holes, bool final,
                      struct page_round *ret_round, GError **error);
/* In place of a final round: says that the runs, and 'holes' (may be NULL), are owed: what the sink has of them is out
 * of date. pagesource_pay() has to follow. */
bool pagesource_owe(PageSource *source, const GArray *runs, const GArray *holes,
                    struct page_round *ret_round, GError **error);
/* What pagesource_owe() has named. */
guint64 pagesource_owed(const PageSource *source);
/* Sends what is owed, what the sink asks for first. From here on cancel_fd ends it by bytes only, not when its other
 * end goes. */
bool pagesource_pay(PageSource *source, struct page_round *ret_round, GError **error);
/* Appends what was sent once and is a hole by now: a balloon may have punched it since, which no scan
 * reports. They are the holes of the final round. */
bool pagesource_punched(PageSource *source, GArray *holes, GError **error);
/* Tells the sink why it ends; best effort. */
void pagesource_abort(PageSource *source, const char *reason);
enum page_route pagesource_route(const PageSource *source);
