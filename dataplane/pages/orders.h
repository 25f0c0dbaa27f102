/* orders.h: the socket between a hawser-pages and the agent that started it.
 * Threads: one; calls block. One Report or Order of proto/pages.proto a packet. */
#pragma once
#include "base/error.h"
#include "proto/pages.pb-c.h"

enum { ORDERS_FDS_MAX = 65, ORDERS_BYTES_MAX = 4096 };

/* Waits for an order, caller frees with pages__order__free_unpacked(). Descriptors that came along are
 * put into ret_fds, at most ORDERS_FDS_MAX; with ret_fds NULL they are refused. UNAVAILABLE when the
 * agent has gone. */
Pages__Order *orders_receive(int fd, int *ret_fds, guint *ret_n_fds, GError **error);
bool orders_report(int fd, const Pages__Report *report, GError **error);
