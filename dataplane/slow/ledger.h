/* ledger.h: which ports hawser-dpd has made, how far it got with each, and what every claimed virtual
 * function was before: what a crash must not make it forget.
 * Threads: main loop, inside fibers.  Durable: what a call has recorded survives the power. */
#pragma once
#include "base/error.h"

typedef struct Ledger Ledger;

/* In the order in which a port is made; taken back in the opposite one. A step is recorded before it
 * is made, and before it is undone: the world is at most one step away from the record. */
typedef enum {
    LEDGER_NEW,        /* nothing but the record */
    LEDGER_CLAIMED,    /* a virtual function is ours */
    LEDGER_CONFIGURED, /* its MAC, VLAN, spoof check, … are the port's */
    LEDGER_BOUND,      /* it is bound to vfio-pci, or has a vdpa device */
    LEDGER_PLUGGED,    /* the port is on its bridge */
    LEDGER_READY       /* all steps are complete */
} LedgerStep;

/* A row; texts are NULL where they do not apply. */
typedef struct {
    char *id;
    GBytes *spec; /* the port as it was asked for, packed */
    LedgerStep step;
    bool going;   /* is being taken back */
    char *vf;     /* key of the claimed function */
    char *before; /* JSON: what the function was */
    char *made;   /* JSON: the names of what was made */
} LedgerRow;

/* Opens or creates the file. CORRUPT names the next step. Blocks: call it at start. */
Ledger *ledger_open(const char *path, GError **error);
void ledger_close(Ledger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ledger, ledger_close)

/* Borrowed until the row changes; NULL when there is none. */
const LedgerRow *ledger_find(Ledger *ledger, const char *id);
/* The port that holds a function; NULL when it is free. Borrowed. */
const char *ledger_holder(Ledger *ledger, const char *vf);
/* Every row's id, sorted; free the array only. */
GPtrArray *ledger_ids(Ledger *ledger);

/* A port that is about to be made, and how far it counts as made; one that is there gets the new spec
 * only. Yields. */
bool ledger_begin(Ledger *ledger, const char *id, GBytes *spec, LedgerStep step, GError **error);
/* Takes 'vf' for it, which is about to be configured; makes the row if there is none. BUSY when another
 * port holds it. Yields. */
bool ledger_claim(Ledger *ledger, const char *id, GBytes *spec, const char *vf, const char *before,
                  GError **error);
/* A step that is about to be made ('going' false) or undone. Yields. */
bool ledger_step(Ledger *ledger, const char *id, LedgerStep step, bool going, GError **error);
/* The names of what is about to be made. Yields. */
bool ledger_note(Ledger *ledger, const char *id, const char *made, GError **error);
/* All is undone. Yields. */
bool ledger_forget(Ledger *ledger, const char *id, GError **error);
