/* pageowed.h: which pages of a memory are owed: a bit a page, which several threads may ask and change.
 * Threads: any; a page's bit is cleared by one. */
#pragma once
#include "dataplane/pages/pagescan.h"

typedef struct PageOwed PageOwed;

PageOwed *pageowed_new(guint64 memory_bytes);
void pageowed_free(PageOwed *owed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageOwed, pageowed_free)

void pageowed_add(PageOwed *owed, guint64 offset, guint64 bytes);
/* Whether any of them was owed. */
bool pageowed_pay(PageOwed *owed, guint64 offset, guint64 bytes);
bool pageowed_is(const PageOwed *owed, guint64 offset);
/* How many bytes from 'offset' on, at most 'most', are owed as the page at 'offset' is, or not as it is not. */
guint64 pageowed_alike(const PageOwed *owed, guint64 offset, guint64 most);
/* All of them, sorted. */
GArray *pageowed_runs(const PageOwed *owed);
