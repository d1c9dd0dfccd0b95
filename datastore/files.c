/* SPDX-License-Identifier: Apache-2.0 */
/* The objects from the files, for commands that run while the server is down. Nothing is changed: the
 * log that a killed server left is read where it lies. Any thread. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datastore/internal.h"
#include "userspace/base/mem.h"

static const char OBJECTS[] = "SELECT r.grp, r.plural, o.revision, o.value FROM object o"
			      " JOIN resource r ON r.id=o.resource ORDER BY o.resource, o.id";

static int failed(const char *path, int code, struct err *err)
{
	struct database db = { .path = (char *)(uintptr_t)path };

	return database_error(&db, "read", code, err);
}

static int read_objects(sqlite3 *handle, const char *path, store_file_fn *fn, void *arg, struct store_file_info *info,
			struct err *err)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(handle, OBJECTS, -1, &s, NULL);

	if (code != SQLITE_OK)
		return failed(path, code, err);
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		info->objects++;
		if (fn)
			fn(arg, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
			   sqlite3_column_int64(s, 2),
			   str_make(sqlite3_column_blob(s, 3), (size_t)sqlite3_column_bytes(s, 3)));
	}
	sqlite3_finalize(s);
	return code == SQLITE_DONE ? 0 : failed(path, code, err);
}

static int read_revision(sqlite3 *handle, const char *path, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(handle, "SELECT value FROM meta WHERE name='revision'", -1, &s, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : failed(path, code, err);
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

int store_read_files(const char *path, store_file_fn *fn, void *arg, struct store_file_info *ret, struct err *err)
{
	_cleanup_free_ char *wal = mem_printf("%s-wal", path);
	struct store_file_info info = { 0 };
	sqlite3 *handle = NULL;
	int code, r;

	if (access(path, R_OK) < 0)
		return err_set(err, -errno, "database %s: %s", path, strerror(errno));
	info.db_bytes = size_of(path);
	info.wal_bytes = size_of(wal);
	/* Reading a log needs its index, which exclusive mode keeps in this process's memory; that mode wants a
	 * handle that could write. */
	code = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(handle, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA query_only=1; BEGIN", NULL, NULL,
				    NULL);
	r = code == SQLITE_OK ? read_revision(handle, path, &info.revision, err) : failed(path, code, err);
	if (r >= 0)
		r = read_objects(handle, path, fn, arg, &info, err);
	sqlite3_close(handle);
	if (r < 0)
		return r;
	*ret = info;
	return 0;
}
