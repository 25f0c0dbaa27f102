#include "agent/store/pool.h"
const Route pool_routes[] = {{NULL}};
const Route volume_routes[] = {{NULL}};
