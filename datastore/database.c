/* SPDX-License-Identifier: Apache-2.0 */
/* The SQLite file: schema, settings, statements.
 *
 * One row an object under an integer key that only grows: a creation appends to the last page, an
 * update rewrites one row, and no index is kept on disk because memory has them all: few bytes a
 * write. The handle belongs to the thread that opened it until the writer starts, then to the writer. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datastore/internal.h"
#include "userspace/base/mem.h"

#define DATABASE_BUSY_MS 2000
#define DATABASE_APPLICATION_ID 0x6b336362 /* "k3cb" */
#define DATABASE_VERSION 2
#define DATABASE_CACHE_KIB 1024

static const char SETTINGS[] = "PRAGMA page_size=4096;"
			       "PRAGMA auto_vacuum=INCREMENTAL;"
			       "PRAGMA locking_mode=EXCLUSIVE;"
			       "PRAGMA journal_mode=WAL;"
			       "PRAGMA synchronous=FULL;"
			       "PRAGMA wal_autocheckpoint=0;"
			       "PRAGMA temp_store=MEMORY;";

static const char SCHEMA[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE IF NOT EXISTS resource(id INTEGER PRIMARY KEY, grp TEXT NOT NULL, plural TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS object(id INTEGER PRIMARY KEY, resource INTEGER NOT NULL,"
	" revision INTEGER NOT NULL, value BLOB NOT NULL, key TEXT);"
	"CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"PRAGMA application_id=1798529890;"
	"PRAGMA user_version=2;"
	"COMMIT;";

/* Rows whose bytes were transformed say whose they are. */
static const char FROM_VERSION_1[] = "BEGIN IMMEDIATE;"
				     "ALTER TABLE object ADD COLUMN key TEXT;"
				     "PRAGMA user_version=2;"
				     "COMMIT;";

_Static_assert(DATABASE_APPLICATION_ID == 1798529890, "the schema spells the application id in decimal");

int database_errno(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
		return -EUCLEAN;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

int database_error(struct database *db, const char *doing, int code, struct err *err)
{
	int r = database_errno(code);

	if (r == -EUCLEAN)
		return err_set(err, r, "database %s is damaged (%s): restore a copy, or move it away to start empty",
			       db->path, sqlite3_errstr(code));
	if (r == -EBUSY)
		return err_set(err, r, "database %s is held by another process", db->path);
	return err_set(err, r, "cannot %s database %s: %s", doing, db->path,
		       db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code));
}

static int on_wal(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct database *db = arg;

	(void)handle;
	(void)name;
	db->wal_pages = pages;
	return SQLITE_OK;
}

static int prepare(struct database *db, const char *sql, sqlite3_stmt **ret, struct err *err)
{
	int code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	return code == SQLITE_OK ? 0 : database_error(db, "prepare", code, err);
}

static int prepare_all(struct database *db, struct err *err)
{
	const struct {
		const char *sql;
		sqlite3_stmt **ret;
	} statements[] = {
		{ "BEGIN IMMEDIATE", &db->begin },
		{ "COMMIT", &db->commit },
		{ "INSERT INTO object(id, resource, revision, value, key) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(id) DO"
		  " UPDATE SET revision=?3, value=?4, key=?5",
		  &db->put },
		{ "DELETE FROM object WHERE id=?1", &db->remove },
		{ "INSERT INTO meta(name, value) VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value=?2",
		  &db->set_meta },
		{ "INSERT INTO resource(grp, plural) VALUES(?1, ?2)", &db->add_resource },
	};

	for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
		int r = prepare(db, statements[i].sql, statements[i].ret, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* First column of the first row as an integer. */
static int query_int(struct database *db, const char *sql, const char *bind, int64_t *ret, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int r = prepare(db, sql, &s, err), code;

	if (r < 0)
		return r;
	if (bind)
		sqlite3_bind_text(s, 1, bind, -1, SQLITE_STATIC);
	code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		return database_error(db, "read", code, err);
	return code == SQLITE_ROW;
}

static int check_ours(struct database *db, struct err *err)
{
	int64_t application = 0, version = 0;
	int r = query_int(db, "PRAGMA application_id", NULL, &application, err);

	if (r >= 0)
		r = query_int(db, "PRAGMA user_version", NULL, &version, err);
	if (r < 0)
		return r;
	if (application != 0 && application != DATABASE_APPLICATION_ID)
		return err_set(err, -EUCLEAN, "database %s belongs to another program", db->path);
	if (version > DATABASE_VERSION)
		return err_set(err, -EUCLEAN, "database %s was written by a newer version (format %lld, known: %d)",
			       db->path, (long long)version, DATABASE_VERSION);
	if (version == 1 && sqlite3_exec(db->handle, FROM_VERSION_1, NULL, NULL, NULL) != SQLITE_OK)
		return database_error(db, "upgrade", sqlite3_errcode(db->handle), err);
	return 0;
}

/* Secrets are in it: nobody else reads it, nor the log, which gets the mode of the database. */
static int make_private(const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), r = 0;

	if (fd < 0 || fchmod(fd, 0600) < 0)
		r = err_set(err, -errno, "cannot open database %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd); /* before SQLite locks it: closing drops a process's locks */
	return r;
}

int database_open(struct database *db, const char *path, struct err *err)
{
	int code, r;

	*db = (struct database){ .path = mem_strdup(path), .wal_path = mem_printf("%s-wal", path), .page_size = 4096 };
	r = make_private(path, err);
	if (r < 0)
		return r;
	code = sqlite3_open_v2(path, &db->handle,
			       SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
			       NULL);
	if (code != SQLITE_OK)
		return database_error(db, "open", code, err);
	sqlite3_extended_result_codes(db->handle, 1);
	/* A `status` that is reading the files lets go soon; another server does not. */
	sqlite3_busy_timeout(db->handle, DATABASE_BUSY_MS);
	code = sqlite3_exec(db->handle, SETTINGS, NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return database_error(db, "open", code, err);
	r = check_ours(db, err);
	if (r < 0)
		return r;
	code = sqlite3_exec(db->handle, "PRAGMA cache_size=-1024", NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db->handle, SCHEMA, NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return database_error(db, "open", code, err);
	sqlite3_wal_hook(db->handle, on_wal, db);
	return prepare_all(db, err);
}

void database_close(struct database *db)
{
	sqlite3_stmt **statements[] = {
		&db->begin, &db->commit, &db->put, &db->remove, &db->set_meta, &db->add_resource
	};

	for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
		sqlite3_finalize(*statements[i]);
	sqlite3_close(db->handle);
	buf_finish(&db->sealed);
	buf_finish(&db->key);
	err_finish(&db->sealing);
	free(db->path);
	free(db->wal_path);
	*db = (struct database){ 0 };
}

int database_meta(struct database *db, const char *key, int64_t *ret, struct err *err)
{
	return query_int(db, "SELECT value FROM meta WHERE name=?1", key, ret, err);
}

int database_max_row(struct database *db, int64_t *ret, struct err *err)
{
	return query_int(db, "SELECT max(id) FROM object", NULL, ret, err);
}

int database_load_resources(struct database *db, struct store_resource **resources, size_t n, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int r = prepare(db, "SELECT id, grp, plural FROM resource", &s, err), code;

	if (r < 0)
		return r;
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		struct str group = str_of((const char *)sqlite3_column_text(s, 1));
		struct str plural = str_of((const char *)sqlite3_column_text(s, 2));

		for (size_t i = 0; i < n; i++)
			if (str_is(group, resources[i]->group) && str_is(plural, resources[i]->plural))
				resources[i]->disk_id = sqlite3_column_int64(s, 0);
	}
	sqlite3_finalize(s);
	return code == SQLITE_DONE ? 0 : database_error(db, "read", code, err);
}

int database_each(struct database *db, database_row_fn *fn, void *arg, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int r = prepare(db, "SELECT id, resource, revision, value, key FROM object ORDER BY id", &s, err),
	    code = SQLITE_DONE;

	while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
		struct database_row row = {
			.id = sqlite3_column_int64(s, 0),
			.resource_id = sqlite3_column_int64(s, 1),
			.revision = sqlite3_column_int64(s, 2),
			.value = str_make(sqlite3_column_blob(s, 3), (size_t)sqlite3_column_bytes(s, 3)),
			.key = str_make(sqlite3_column_blob(s, 4), (size_t)sqlite3_column_bytes(s, 4)),
		};

		r = fn(arg, &row, err);
	}
	sqlite3_finalize(s);
	if (r < 0)
		return r;
	return code == SQLITE_DONE ? 0 : database_error(db, "read", code, err);
}

int database_step(sqlite3_stmt *s)
{
	int code = sqlite3_step(s);

	sqlite3_reset(s);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int ensure_resource(struct database *db, struct store_resource *r)
{
	int code;

	if (r->disk_id != 0)
		return SQLITE_OK;
	sqlite3_bind_text(db->add_resource, 1, r->group, -1, SQLITE_STATIC);
	sqlite3_bind_text(db->add_resource, 2, r->plural, -1, SQLITE_STATIC);
	code = database_step(db->add_resource);
	if (code == SQLITE_OK)
		r->disk_id = sqlite3_last_insert_rowid(db->handle);
	return code;
}

/* 1: the row holds the bytes as they are. */
static int seal(struct database *db, const struct store_resource *r, const struct object *o)
{
	struct transform_place place = { r->group, r->plural, STR_NULL };

	if (!r->how)
		return 1;
	buf_reset(&db->sealed);
	buf_reset(&db->key);
	buf_printf(&db->key, "%.*s%s%.*s", STR_ARG(o->ns), o->ns.n > 0 ? "/" : "", STR_ARG(o->name));
	place.key = buf_str(&db->key);
	return db->transform->seal(r->how, &place, o->json, &db->sealed, &db->sealing);
}

int database_put(struct database *db, struct store_resource *r, int64_t row, const struct object *o)
{
	int code = ensure_resource(db, r), sealed;
	struct str value = o->json, key = STR_NULL;

	if (code != SQLITE_OK)
		return code;
	sealed = seal(db, r, o);
	if (sealed < 0)
		return SQLITE_ERROR;
	if (sealed == 0) {
		value = buf_str(&db->sealed);
		key = buf_str(&db->key);
	}
	sqlite3_bind_int64(db->put, 1, row);
	sqlite3_bind_int64(db->put, 2, r->disk_id);
	sqlite3_bind_int64(db->put, 3, o->revision);
	sqlite3_bind_blob64(db->put, 4, value.p, value.n, SQLITE_STATIC);
	if (key.n > 0)
		sqlite3_bind_text(db->put, 5, key.p, (int)key.n, SQLITE_STATIC);
	else
		sqlite3_bind_null(db->put, 5);
	return database_step(db->put);
}

/* The database is written anew without its free space, and the log, which had it all too, starts from nothing. */
int database_scrub(struct database *db)
{
	int code = sqlite3_exec(db->handle, "VACUUM", NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	if (code == SQLITE_OK)
		db->wal_pages = 0;
	return code;
}

int database_remove(struct database *db, int64_t row)
{
	sqlite3_bind_int64(db->remove, 1, row);
	return database_step(db->remove);
}

int database_set_meta(struct database *db, const char *key, int64_t value)
{
	sqlite3_bind_text(db->set_meta, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(db->set_meta, 2, value);
	return database_step(db->set_meta);
}
