/* offer.h: what source and target of a copy tell each other before content flows, and what follows.
 * Pure: messages in, an agreement out. Threads: any. */
#pragma once
#include "agent/move/pour.h"
#include "agent/state/inst_rows.h"

/* What this side can do for the volume. */
typedef struct {
    bool btrfs;    /* send and receive subvolumes */
    bool compress; /* rsync.compression of the pool */
    bool block;    /* the volume is one raw file */
} OfferOurs;

typedef struct {
    Migrate__FsType fs;
    PourRsync rsync;
    bool index_header; /* a frame of JSON comes first */
} OfferAgreed;

/* A header under construction; owns what it points to. */
typedef struct Offer Offer;
Offer *offer_new(const OfferOurs *ours);
/* As the target answers: only what was agreed. */
Offer *offer_answer(const OfferAgreed *agreed, bool refresh);
void offer_free(Offer *offer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Offer, offer_free)
Migrate__Header *offer_header(Offer *offer);
/* [{"Isuid","Isgid","Hostid","Nsid","Maprange"}…]; NULL adds nothing. */
void offer_add_idmap(Offer *offer, json_t *idmap);
/* In order of creation. */
void offer_add_snapshot(Offer *offer, const SnapRow *snap);

/* The first kind of transfer of ours that they offer; rsync is always understood to be. UNSUPPORTED. */
bool offer_match(const Migrate__Header *theirs, const OfferOurs *ours, OfferAgreed *ret,
                 GError **error);
/* Snapshots of a header as rows, in order; names are checked. INVALID. Caller unrefs. */
GPtrArray *offer_snapshots(const Migrate__Header *theirs, GError **error);
/* The map that ids of the content have; a new array. */
json_t *offer_idmap(const Migrate__Header *theirs);
/* Whether two snapshots are the same: by name and (when known) second of creation, which is all that
 * travels. */
bool offer_same_snapshot(const SnapRow *a, const SnapRow *b);
