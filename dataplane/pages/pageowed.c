/* The bits. Changes are atomic, for the thread that waits for faults asks while those of channels clear.
 * Called by both ends of a stream. */
#include "dataplane/pages/pageowed.h"

struct PageOwed {
    guint64 pages;
    guint8 *bits;
};

PageOwed *
pageowed_new(guint64 memory_bytes)
{
    PageOwed *owed = g_new0(PageOwed, 1);
    owed->pages = memory_bytes / PAGE_BYTES;
    owed->bits = g_malloc0(owed->pages / 8 + 1);
    return owed;
}

void
pageowed_free(PageOwed *owed)
{
    if (owed != NULL) {
        g_free(owed->bits);
        g_free(owed);
    }
}

void
pageowed_add(PageOwed *owed, guint64 offset, guint64 bytes)
{
    for (guint64 page = offset / PAGE_BYTES; page < (offset + bytes) / PAGE_BYTES; page++) {
        __atomic_fetch_or(&owed->bits[page >> 3], (guint8) (1 << (page & 7)), __ATOMIC_ACQ_REL);
    }
}

bool
pageowed_pay(PageOwed *owed, guint64 offset, guint64 bytes)
{
    bool some = false;
    for (guint64 page = offset / PAGE_BYTES; page < (offset + bytes) / PAGE_BYTES; page++) {
        guint8 mask = (guint8) (1 << (page & 7));
        some |= (__atomic_fetch_and(&owed->bits[page >> 3], (guint8) ~mask, __ATOMIC_ACQ_REL) &
                 mask) != 0;
    }
    return some;
}

bool
pageowed_is(const PageOwed *owed, guint64 offset)
{
    guint64 page = offset / PAGE_BYTES;
    return page < owed->pages &&
           (__atomic_load_n(&owed->bits[page >> 3], __ATOMIC_ACQUIRE) & (1 << (page & 7))) != 0;
}

guint64
pageowed_alike(const PageOwed *owed, guint64 offset, guint64 most)
{
    bool first = pageowed_is(owed, offset);
    guint64 bytes = PAGE_BYTES;
    while (bytes < most && pageowed_is(owed, offset + bytes) == first) {
        bytes += PAGE_BYTES;
    }
    return MIN(bytes, most);
}

GArray *
pageowed_runs(const PageOwed *owed)
{
    GArray *runs = pagescan_runs();
    for (guint64 page = 0; page < owed->pages; page++) {
        if ((page & 7) == 0 && owed->bits[page >> 3] == 0) {
            page += 7;
        } else if (pageowed_is(owed, page * PAGE_BYTES)) {
            pagescan_append(runs, page * PAGE_BYTES, PAGE_BYTES);
        }
    }
    return runs;
}
