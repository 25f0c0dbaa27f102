/* dpdsession.h: one connection to hawser-dpd: requests and their answers.
 * Threads: main loop, inside fibers. For dpdclient.c. */
#pragma once
#include "base/error.h"
#include "proto/dpd.pb-c.h"
#include <jansson.h>

typedef struct DpdSession DpdSession;
/* Connects and says hello; *ret_generation is the last that dpd applied. 'on_end' is called once, when
 * the connection ends by itself. NOT_FOUND and UNAVAILABLE: nobody listens. UNSUPPORTED: no version that
 * both speak. Yields. */
DpdSession *dpdsession_open(const char *path, void (*on_end)(void *data), void *data,
                            guint64 *ret_generation, GError **error);
/* Takes the caller's share; requests in flight fail with CANCELLED. NULL is fine. */
void dpdsession_end(DpdSession *session);
bool dpdsession_alive(const DpdSession *session);

/* The answer has as many ports as were sent and removed, in that order. UNAVAILABLE: the connection
 * ended; whether it took place is unknown. Yields. */
Dpd__Frame *dpdsession_apply(DpdSession *session, Dpd__Apply *apply, GError **error);
void dpdsession_answer_free(Dpd__Frame *answer);
int dpdsession_take(DpdSession *session, const char *id, GError **error);
json_t *dpdsession_status(DpdSession *session, GError **error);
/* A request of the fast path; its answer is of the same kind, or Done. Yields. */
Dpd__Frame *dpdsession_ask(DpdSession *session, Dpd__Frame *request, gint64 wait_ms,
                           GError **error);
