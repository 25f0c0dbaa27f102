/* Any bytes as a header of LXD's migration protocol: no crash; what is taken is consistent. */
#include "agent/move/offer.h"
#include "agent/move/subvols.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    json_auto_t *list = json_loadb((const char *) bytes, size, 0, NULL);
    subvols_check(list, NULL);
    Migrate__Header *header = migrate__header__unpack(NULL, size, bytes);
    if (header == NULL) {
        return 0;
    }
    const OfferOurs ours = {.btrfs = size % 2 == 0, .compress = size % 3 == 0};
    OfferAgreed agreed = {0};
    g_autoptr(GPtrArray) rows = offer_snapshots(header, NULL);
    json_auto_t *idmap = offer_idmap(header);
    if (offer_match(header, &ours, &agreed, NULL) && rows != NULL) {
        g_autoptr(Offer) answer = offer_answer(&agreed, header->refresh);
        offer_add_idmap(answer, idmap);
        for (guint i = 0; i < rows->len; i++) {
            offer_add_snapshot(answer, rows->pdata[i]);
        }
        migrate__header__get_packed_size(offer_header(answer));
    }
    migrate__header__free_unpacked(header, NULL);
    return 0;
}
