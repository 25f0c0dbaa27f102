/* privilege.h: what hawser-pages may still do once it has its descriptors.
 * Threads: the process's only one. */
#pragma once
#include "base/error.h"

/* Nothing but read, write and map what it holds; with 'trace' also look into another process (a source's
 * tracker). No network of its own, no way to get more. Does nothing where we are not root. */
bool privilege_drop(bool trace, GError **error);
