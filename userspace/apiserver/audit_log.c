/* SPDX-License-Identifier: Apache-2.0 */
/* The writer thread of the audit log. See audit_log.h. */
#include "userspace/apiserver/audit_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

#define FILE_MODE 0600
#define STAMP_FORMAT "%Y-%m-%dT%H-%M-%S"
#define STAMP_LEN 23 /* with milliseconds */
#define BACKUPS_SEEN_MAX 4096

struct audit_log {
	struct audit_log_options options;
	char *path;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock. */
	struct buf queue;
	size_t queued; /* lines */
	bool ending;
	struct audit_log_stats stats;
	/* The writer's own. */
	int fd;
	uint64_t size;
	uint64_t told_dropped;
	bool failing;
	bool torn; /* the file's last line has no end: a line break goes first */
};

/* ---- files ---- */

/* What a full disk or the end of the process has left of a line must not become the beginning of another. */
static bool is_torn(const char *path, uint64_t size)
{
	char last = '\n';
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (pread(fd, &last, 1, (off_t)size - 1) != 1)
		last = '\n';
	close(fd);
	return last != '\n';
}

static int open_file(struct audit_log *log)
{
	struct stat st;

	if (strcmp(log->path, "-") == 0) {
		log->fd = STDOUT_FILENO;
		return 0;
	}
	log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FILE_MODE);
	if (log->fd < 0)
		return -errno;
	log->size = fstat(log->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	log->torn = log->size && S_ISREG(st.st_mode) && is_torn(log->path, log->size);
	return 0;
}

static void close_file(struct audit_log *log)
{
	if (log->fd >= 0 && log->fd != STDOUT_FILENO)
		close(log->fd);
	log->fd = -1;
}

/* The parts of the path: "/var/log/" "audit" ".log". */
struct parts {
	const char *dir, *prefix, *suffix;
};

static struct parts split_path(struct arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
	struct parts p = { .dir = slash ? arena_strndup(arena, path, (size_t)(base - path)) : "./" };

	if (!dot || dot == base)
		dot = base + strlen(base);
	p.prefix = arena_strndup(arena, base, (size_t)(dot - base));
	p.suffix = dot;
	return p;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "audit-STAMP.log": names sort as their times do. */
static bool is_backup(const char *name, const struct parts *p)
{
	size_t prefix = strlen(p->prefix), suffix = strlen(p->suffix);

	return strlen(name) == prefix + 1 + STAMP_LEN + suffix && strncmp(name, p->prefix, prefix) == 0 &&
	       name[prefix] == '-' && name[prefix + 1 + 10] == 'T' &&
	       strcmp(name + prefix + 1 + STAMP_LEN, p->suffix) == 0;
}

static size_t list_backups(struct arena *arena, const struct parts *p, const char **names)
{
	DIR *d = opendir(p->dir);
	struct dirent *entry;
	size_t n = 0;

	while (d && n < BACKUPS_SEEN_MAX && (entry = readdir(d)))
		if (is_backup(entry->d_name, p))
			names[n++] = arena_strdup(arena, entry->d_name);
	if (d)
		closedir(d);
	qsort(names, n, sizeof(names[0]), by_name);
	return n;
}

static bool is_too_old(const struct audit_log *log, const char *path)
{
	struct stat st;

	return log->options.max_age_days && stat(path, &st) == 0 &&
	       (int64_t)st.st_mtime + (int64_t)log->options.max_age_days * 86400 < clock_real_ns() / NS_PER_S;
}

static void remove_old(struct audit_log *log)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct parts p = split_path(&arena, log->path);
	const char **names;
	size_t n;

	if (!log->options.max_backups && !log->options.max_age_days)
		return;
	names = arena_new_array(&arena, const char *, BACKUPS_SEEN_MAX);
	n = list_backups(&arena, &p, names);
	for (size_t i = 0; i < n; i++) {
		const char *path = arena_printf(&arena, "%s%s", p.dir, names[i]);

		if ((log->options.max_backups && n - i > log->options.max_backups) || is_too_old(log, path))
			unlink(path);
	}
}

static void rotate(struct audit_log *log)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct parts p = split_path(&arena, log->path);
	int64_t now_ns = clock_real_ns();
	time_t seconds = (time_t)(now_ns / NS_PER_S);
	char stamp[40];
	const char *to;
	struct tm tm;
	int ms = (int)(now_ns % NS_PER_S / NS_PER_MS);

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), STAMP_FORMAT, &tm);
	/* Two within one millisecond: the later name is the next free one. */
	do
		to = arena_printf(&arena, "%s%s-%s.%03d%s", p.dir, p.prefix, stamp, ms, p.suffix);
	while (access(to, F_OK) == 0 && ++ms < 1000);
	close_file(log);
	if (rename(log->path, to) < 0)
		log_warn("audit log not rotated path=\"%s\" error=\"%s\"", log->path, strerror(errno));
	if (open_file(log) < 0)
		log_error("audit log not opened path=\"%s\" error=\"%s\"", log->path, strerror(errno));
	remove_old(log);
}

/* ---- writing ---- */

static int write_all(struct audit_log *log, const char *p, size_t n, size_t *ret_written)
{
	*ret_written = 0;
	while (n) {
		ssize_t done = write(log->fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		p += done;
		n -= (size_t)done;
		log->size += (uint64_t)done;
		*ret_written += (size_t)done;
	}
	return 0;
}

/* Writes whole lines, or as many of them as there is room for: how many bytes those are. */
static int write_lines(struct audit_log *log, const char *p, size_t n, size_t *ret_whole)
{
	size_t written = 0, rest;
	const char *end;
	int r = log->torn ? write_all(log, "\n", 1, &written) : 0;

	*ret_whole = 0;
	if (r < 0)
		return r;
	log->torn = false;
	r = write_all(log, p, n, &written);
	end = written ? memrchr(p, '\n', written) : NULL;
	*ret_whole = end ? (size_t)(end - p) + 1 : 0;
	rest = written - *ret_whole;
	if (!rest)
		return r;
	/* Without the part of a line that is there; what is no file cannot be cut. */
	if (ftruncate(log->fd, (off_t)(log->size - rest)) == 0)
		log->size -= rest;
	else
		log->torn = true;
	return r;
}

/* How much of the batch goes into this file: whole lines, and at least one. */
static size_t fitting(const struct audit_log *log, struct str rest)
{
	uint64_t room = log->options.max_bytes > log->size ? log->options.max_bytes - log->size : 0;
	const char *end;

	if (!log->options.max_bytes || log->fd == STDOUT_FILENO || rest.n <= room)
		return rest.n;
	end = room ? memrchr(rest.p, '\n', (size_t)room) : NULL;
	if (!end && log->size)
		return 0;
	if (!end)
		end = memchr(rest.p, '\n', rest.n);
	return (size_t)(end - rest.p) + 1;
}

static size_t count_lines(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\n';
	return n;
}

static void note_failure(struct audit_log *log, int r, struct str lost)
{
	if (!log->failing)
		log_error("audit log not written path=\"%s\" error=\"%s\"", log->path, strerror(-r));
	log->failing = true;
	pthread_mutex_lock(&log->lock);
	log->stats.failed += count_lines(lost);
	pthread_mutex_unlock(&log->lock);
}

static void write_batch(struct audit_log *log, struct str batch)
{
	while (batch.n) {
		size_t n = fitting(log, batch), whole = 0;
		int r;

		if (n == 0) {
			rotate(log);
			if (log->fd >= 0)
				continue;
		}
		r = log->fd < 0 ? open_file(log) : 0;
		if (r == 0)
			r = write_lines(log, batch.p, n, &whole);
		if (r < 0) {
			note_failure(log, r, str_make(batch.p + whole, batch.n - whole));
			return;
		}
		log->failing = false;
		batch = str_make(batch.p + n, batch.n - n);
	}
}

static void tell_dropped(struct audit_log *log, uint64_t dropped)
{
	if (dropped == log->told_dropped)
		return;
	log_warn("audit events dropped, the disk is slower than the requests count=%llu",
		 (unsigned long long)(dropped - log->told_dropped));
	log->told_dropped = dropped;
}

static void *writer(void *arg)
{
	struct audit_log *log = arg;
	struct buf batch = BUF_INIT;
	uint64_t dropped;
	size_t lines;
	bool ending;

	do {
		pthread_mutex_lock(&log->lock);
		while (!buf_len(&log->queue) && !log->ending)
			pthread_cond_wait(&log->wake, &log->lock);
		/* The two buffers change places: none is ever copied or allocated anew. */
		buf_reset(&batch);
		struct buf swap = batch;
		batch = log->queue;
		log->queue = swap;
		lines = log->queued;
		log->queued = 0;
		ending = log->ending;
		dropped = log->stats.dropped;
		log->stats.written += lines;
		pthread_mutex_unlock(&log->lock);
		write_batch(log, buf_str(&batch));
		tell_dropped(log, dropped);
	} while (!ending);
	buf_finish(&batch);
	return NULL;
}

/* ---- the loop's side ---- */

void audit_log_write(struct audit_log *log, struct str line)
{
	bool wake = false;

	pthread_mutex_lock(&log->lock);
	if (buf_len(&log->queue) + line.n + 1 > AUDIT_QUEUE_BYTES_MAX) {
		log->stats.dropped++;
	} else {
		wake = buf_len(&log->queue) == 0;
		buf_add_str(&log->queue, line);
		buf_add_char(&log->queue, '\n');
		log->queued++;
	}
	pthread_mutex_unlock(&log->lock);
	if (wake)
		pthread_cond_signal(&log->wake);
}

static int start_writer(struct audit_log *log)
{
	sigset_t all, before;
	int r;

	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&log->thread, NULL, writer, log);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int audit_log_open(const struct audit_log_options *options, struct audit_log **ret, struct err *err)
{
	struct audit_log *log = mem_new(struct audit_log);
	int r;

	log->options = *options;
	log->path = mem_strdup(options->path);
	log->options.path = log->path;
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->wake, NULL);
	r = open_file(log);
	if (r < 0)
		err_set(err, r, "audit log %s: %s", log->path, strerror(-r));
	else
		remove_old(log);
	if (r == 0 && (r = start_writer(log)) < 0)
		err_set(err, r, "audit log: start its thread: %s", strerror(-r));
	if (r < 0) {
		close_file(log);
		free(log->path);
		free(log);
		return r;
	}
	*ret = log;
	return 0;
}

void audit_log_close(struct audit_log *log)
{
	if (!log)
		return;
	pthread_mutex_lock(&log->lock);
	log->ending = true;
	pthread_mutex_unlock(&log->lock);
	pthread_cond_signal(&log->wake);
	pthread_join(log->thread, NULL);
	close_file(log);
	buf_finish(&log->queue);
	pthread_cond_destroy(&log->wake);
	pthread_mutex_destroy(&log->lock);
	free(log->path);
	free(log);
}

void audit_log_get_stats(struct audit_log *log, struct audit_log_stats *ret)
{
	pthread_mutex_lock(&log->lock);
	*ret = log->stats;
	pthread_mutex_unlock(&log->lock);
}
