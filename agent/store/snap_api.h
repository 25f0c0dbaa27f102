/* snap_api.h: handlers of …/volumes/{type}/{volume}/snapshots, for the table in volume_api.c.
 * Threads: each runs in a fiber of its own. */
#pragma once
#include "agent/api/server.h"

bool snap_api_list(Request *req, GError **error);
bool snap_api_create(Request *req, GError **error);
bool snap_api_get(Request *req, GError **error);
bool snap_api_put(Request *req, GError **error);
bool snap_api_patch(Request *req, GError **error);
bool snap_api_rename(Request *req, GError **error);
bool snap_api_delete(Request *req, GError **error);
