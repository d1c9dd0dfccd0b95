/* SPDX-License-Identifier: Apache-2.0 */
/* The reader: an ordered list of files, a position, one step per turn of the loop. Following: inotify on the folder
 * tells of writes and of the rename that a rotation is; the old file is read to its end before the new one is opened.
 * Loop thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kubelet/logs/logs.h"
#include "userspace/base/buf.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

struct watch {
	struct loop_op op;
	struct log_reader *reader; /* NULL: forgotten; frees itself */
	int fd;
};

struct log_reader {
	struct loop *loop;
	struct log_reader_sink sink;
	struct loop_defer step;
	struct watch *watch;
	char *path;
	char *files[LOGS_FILES_MAX + 1]; /* oldest first; the last is `path` */
	size_t n_files, at;              /* files[at] is open as fd */
	int fd;
	int64_t skip_lines; /* of what is ahead, for the tail */
	int64_t since_ns, limit;
	bool follow, timestamps, ended, full, finished;
	bool partial;     /* the last record was a partial one */
	struct buf carry; /* an incomplete record */
};

/* ---- files ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void find_files(struct log_reader *r)
{
	_cleanup_free_ char *dir_copy = mem_strdup(r->path), *base_copy = mem_strdup(r->path);
	const char *dir = dirname(dir_copy), *base = basename(base_copy);
	size_t n = strlen(base);
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d)) && r->n_files < LOGS_FILES_MAX)
		if (strncmp(entry->d_name, base, n) == 0 && entry->d_name[n] == '.')
			r->files[r->n_files++] = mem_printf("%s/%s", dir, entry->d_name);
	if (d)
		closedir(d);
	qsort(r->files, r->n_files, sizeof(*r->files), by_name);
	r->files[r->n_files++] = mem_strdup(r->path);
}

static bool open_file(struct log_reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = open(r->files[r->at], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return r->fd >= 0;
}

/* ---- the tail: newlines counted from the end ---- */

/* Whole lines end in an F record; P records are parts. Counts up to `want` line ends before `end`; returns the offset
 * where the wanted lines begin, or 0 with *ret_found fewer. */
static int64_t scan_back(int fd, int64_t end, int64_t want, int64_t *ret_found)
{
	_cleanup_free_ char *block = mem_alloc(LOGS_STEP_BYTES);
	int64_t found = 0, at = end;

	while (at > 0) {
		int64_t from = at > (int64_t)LOGS_STEP_BYTES ? at - (int64_t)LOGS_STEP_BYTES : 0;
		ssize_t n = pread(fd, block, (size_t)(at - from), from);

		if (n <= 0)
			break;
		for (ssize_t i = n; i-- > 0;) {
			/* the newline that ends the file ends the last line, and begins none */
			if (block[i] != '\n' || from + i + 1 == end)
				continue;
			if (++found == want) {
				*ret_found = found;
				return from + i + 1;
			}
		}
		at = from;
	}
	*ret_found = end > 0 ? found + 1 : 0;
	return 0;
}

/* Positions at the oldest record of the tail. Partial records count as lines here, as upstream counts them. */
static void seek_tail(struct log_reader *r, int64_t lines)
{
	size_t i = r->n_files;

	while (i-- > 0) {
		struct stat st;
		int64_t found = 0, offset = 0;

		r->at = i;
		if (!open_file(r) || fstat(r->fd, &st) < 0)
			continue;
		if (lines == 0) {
			lseek(r->fd, 0, SEEK_END);
			return;
		}
		offset = scan_back(r->fd, st.st_size, lines, &found);
		lseek(r->fd, offset, SEEK_SET);
		if (found >= lines)
			return;
		lines -= found;
	}
	r->at = 0;
	open_file(r);
}

/* ---- records ---- */

/* "<time> <stream> <tags> <text>"; false: not a record */
static bool split_record(struct str line, struct str *ret_time, bool *ret_partial, struct str *ret_text)
{
	struct str stream, tags;

	if (!str_split(&line, ' ', ret_time) || !str_split(&line, ' ', &stream) || !str_split(&line, ' ', &tags))
		return false;
	*ret_partial = tags.n >= 1 && tags.p[0] == 'P';
	*ret_text = line;
	return true;
}

static void add_record(struct log_reader *r, struct str line, struct buf *out)
{
	struct str time, text;
	bool partial, continued = r->partial;
	int64_t at_ns;

	if (!split_record(line, &time, &partial, &text))
		return;
	if (r->since_ns && clock_parse_rfc3339(time, &at_ns) == 0 && at_ns < r->since_ns)
		return;
	if (r->timestamps && !continued) {
		buf_add_str(out, time);
		buf_add_char(out, ' ');
	}
	buf_add_str(out, text);
	if (!partial)
		buf_add_char(out, '\n');
	r->partial = partial;
}

static void take(struct log_reader *r, struct buf *out)
{
	const char *newline;

	while ((newline = memchr(r->carry.data + r->carry.start, '\n', buf_len(&r->carry)))) {
		size_t n = (size_t)(newline - (r->carry.data + r->carry.start));

		add_record(r, str_make(r->carry.data + r->carry.start, n), out);
		buf_consume(&r->carry, n + 1);
	}
	if (buf_len(&r->carry) > LOGS_LINE_MAX) /* no record is that long: damaged */
		buf_reset(&r->carry);
}

/* ---- the pump ---- */

static void finish(struct log_reader *r, const struct err *err)
{
	if (r->finished)
		return;
	r->finished = true;
	r->sink.end(r->sink.ctx, err);
}

static bool hand_over(struct log_reader *r, struct buf *out)
{
	size_t n = buf_len(out);

	if (!n)
		return true;
	if (r->limit >= 0 && (int64_t)n > r->limit)
		n = (size_t)r->limit;
	if (r->limit >= 0)
		r->limit -= (int64_t)n;
	if (n && !r->sink.write(r->sink.ctx, buf_str(out).p, n))
		r->full = true;
	return r->limit != 0;
}

/* Was the open file renamed away and a new one begun? */
static bool rotated(struct log_reader *r)
{
	struct stat open_st, path_st;

	return fstat(r->fd, &open_st) == 0 && stat(r->path, &path_st) == 0 && open_st.st_ino != path_st.st_ino;
}

/* true: there is another file to read */
static bool next_file(struct log_reader *r)
{
	if (r->at + 1 < r->n_files) {
		r->at++;
		open_file(r);
		return true;
	}
	if (r->fd >= 0 && !rotated(r))
		return false;
	return open_file(r);
}

static void step(struct loop_defer *defer)
{
	struct log_reader *r = container_of(defer, struct log_reader, step);
	_cleanup_buf_ struct buf out = BUF_INIT;
	ssize_t n = 0;

	if (r->finished || r->full)
		return;
	if (r->limit == 0) {
		finish(r, NULL);
		return;
	}
	if (r->fd >= 0)
		n = read(r->fd, buf_reserve(&r->carry, LOGS_STEP_BYTES), LOGS_STEP_BYTES);
	if (n > 0) {
		buf_commit(&r->carry, (size_t)n);
		take(r, &out);
		if (!hand_over(r, &out)) {
			finish(r, NULL);
			return;
		}
		if (!r->full)
			loop_defer(r->loop, &r->step);
		return;
	}
	buf_reset(&r->carry);
	buf_release(&r->carry);
	if (next_file(r))
		loop_defer(r->loop, &r->step);
	else if (!r->follow || r->ended)
		finish(r, NULL);
}

/* ---- following ---- */

static void watch_free(struct watch *w)
{
	close(w->fd);
	free(w);
}

static void changed(struct loop_op *op, int res, bool more)
{
	struct watch *w = container_of(op, struct watch, op);
	char events[4096];

	if (!w->reader) {
		watch_free(w);
		return;
	}
	while (read(w->fd, events, sizeof(events)) > 0)
		;
	loop_defer(w->reader->loop, &w->reader->step);
	if (res >= 0)
		loop_poll(w->reader->loop, &w->op, w->fd, POLLIN, false, changed);
}

static int watch_start(struct log_reader *r, struct err *err)
{
	_cleanup_free_ char *copy = mem_strdup(r->path);
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, dirname(copy), IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO) < 0) {
		int code = -errno;

		if (fd >= 0)
			close(fd);
		return err_set(err, code, "cannot watch the log: %s", strerror(-code));
	}
	r->watch = mem_new(struct watch);
	r->watch->reader = r;
	r->watch->fd = fd;
	loop_poll(r->loop, &r->watch->op, fd, POLLIN, false, changed);
	return 0;
}

/* ---- life ---- */

int log_reader_create(struct loop *loop, const struct log_reader_options *o, const struct log_reader_sink *sink,
		      struct log_reader **ret, struct err *err)
{
	struct log_reader *r;
	int code = 0;

	if (access(o->path, R_OK) < 0)
		return err_set(err, -errno, "log file %s: %s", o->path, strerror(errno));
	r = mem_new(struct log_reader);
	r->loop = loop;
	r->sink = *sink;
	r->step.fn = step;
	r->path = mem_strdup(o->path);
	r->fd = -1;
	r->since_ns = o->since_real_ns;
	r->limit = o->limit_bytes;
	r->follow = o->follow;
	r->timestamps = o->timestamps;
	r->ended = o->ended;
	if (r->follow && !r->ended)
		code = watch_start(r, err); /* before looking, so that no write falls between */
	if (code < 0) {
		log_reader_destroy(r);
		return code;
	}
	find_files(r);
	if (o->tail_lines >= 0)
		seek_tail(r, o->tail_lines);
	else
		open_file(r);
	loop_defer(loop, &r->step);
	*ret = r;
	return 0;
}

void log_reader_resume(struct log_reader *r)
{
	r->full = false;
	loop_defer(r->loop, &r->step);
}

void log_reader_container_ended(struct log_reader *r)
{
	r->ended = true;
	loop_defer(r->loop, &r->step);
}

void log_reader_destroy(struct log_reader *r)
{
	if (!r)
		return;
	loop_defer_cancel(r->loop, &r->step);
	if (r->watch) {
		r->watch->reader = NULL;
		if (loop_op_pending(&r->watch->op))
			loop_cancel(r->loop, &r->watch->op);
		else
			watch_free(r->watch);
	}
	if (r->fd >= 0)
		close(r->fd);
	for (size_t i = 0; i < r->n_files; i++)
		free(r->files[i]);
	buf_finish(&r->carry);
	free(r->path);
	free(r);
}
