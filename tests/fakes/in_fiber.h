/* in_fiber.h: what a unit test runs in a fiber, with a main loop of its own. Threads: the test's. */
#pragma once
#include "base/fiber.h"

/* Until no fiber is left. */
static inline void
in_fiber(FiberFn fn, void *data)
{
    fiber_start("test", fn, data);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
}

struct fiber_claim {
    const char *name; /* "/suite/claim" */
    FiberFn fn;
};

static inline void
fiber_claim_run(gconstpointer claim)
{
    in_fiber(((const struct fiber_claim *) claim)->fn, NULL);
}

/* 'claims' outlives the tests. */
static inline void
fiber_claims_add(const struct fiber_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        g_test_add_data_func(claims[i].name, &claims[i], fiber_claim_run);
    }
}
