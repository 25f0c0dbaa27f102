/* backup.h: backups of custom volumes: handlers of …/backups, and import.
 * Threads: each runs in a fiber of its own. */
#pragma once
#include "agent/store/pool.h"

bool backup_list(Request *req, GError **error);
bool backup_create(Request *req, GError **error);
bool backup_get(Request *req, GError **error);
bool backup_rename(Request *req, GError **error);
bool backup_delete(Request *req, GError **error);
bool backup_export(Request *req, GError **error);
/* POST …/volumes/{type} with an archive as its body: a new volume from a backup. */
bool backup_import(Request *req, const char *type, GError **error);
/* Removes what has expired. Yields. */
void backup_expire(PoolTable *table, gint64 now_us);
/* fd_place() on a worker. Yields. */
bool backup_place(int fd, const char *temp, const char *file, GError **error);
/* The file of a backup that is being made or renamed to is one operation's: EXISTS for the next. */
bool backup_claim(const char *file, GError **error);
void backup_release(const char *file);
/* With the volume its backups go. Yields. */
bool backup_remove_all(PoolTable *table, const Vol *vol, GError **error);
/* After the volume was renamed: its backups' files. Does not yield. */
void backup_follow(PoolTable *table, const Vol *from, const Vol *to);
