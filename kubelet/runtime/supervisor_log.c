/* SPDX-License-Identifier: Apache-2.0 */
/* Container output into CRI log files: "<time> <stream> <F|P> <text>". A file past its limit is renamed to
 * <path>.<time> and a new one begun; the oldest go. A disk that refuses costs lines, never the container.
 * Single thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define ROTATED_MAX 256
#define FINISH_READS_MAX 64

void log_file_open(struct container *c)
{
	_cleanup_free_ char *copy = mem_strdup(c->log.path);
	struct stat st;

	log_file_close(c);
	if (!c->log.path[0])
		return;
	fs_mkdirs(dirname(copy), 0755, NULL);
	c->log.fd = open(c->log.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	c->log.size = c->log.fd >= 0 && fstat(c->log.fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void log_file_close(struct container *c)
{
	if (c->log.fd >= 0)
		close(c->log.fd);
	c->log.fd = -1;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names carry the time, so order by name is order by age. */
static void drop_oldest(const char *path, unsigned keep)
{
	_cleanup_free_ char *dir_copy = mem_strdup(path), *base_copy = mem_strdup(path);
	const char *dir = dirname(dir_copy), *base = basename(base_copy);
	char *names[ROTATED_MAX];
	size_t n = 0;
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && n < ROTATED_MAX && (entry = readdir(d)))
		if (strncmp(entry->d_name, base, strlen(base)) == 0 && entry->d_name[strlen(base)] == '.')
			names[n++] = mem_strdup(entry->d_name);
	if (d)
		closedir(d);
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *victim = mem_printf("%s/%s", dir, names[i]);

		if (n - i > keep)
			unlink(victim);
		free(names[i]);
	}
}

static void rotate(struct supervisor *s, struct container *c)
{
	_cleanup_free_ char *rotated = NULL;
	int64_t now = clock_real_ns();
	time_t seconds = (time_t)(now / NS_PER_S);
	char stamp[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
	rotated = mem_printf("%s.%s.%09lld", c->log.path, stamp, (long long)(now % NS_PER_S));
	if (rename(c->log.path, rotated) < 0)
		return;
	log_file_open(c);
	drop_oldest(c->log.path, s->log_max_files > 1 ? s->log_max_files - 1 : 0);
}

static void flush(struct supervisor *s, struct container *c)
{
	struct str text = buf_str(&s->out);

	if (!text.n)
		return;
	if (c->log.size && s->log_max_bytes && c->log.size + text.n > s->log_max_bytes)
		rotate(s, c);
	while (c->log.fd >= 0 && text.n) {
		ssize_t n = write(c->log.fd, text.p, text.n);

		if (n <= 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		c->log.size += (uint64_t)n;
		text = str_make(text.p + n, text.n - (size_t)n);
	}
	buf_reset(&s->out);
}

static void add_record(struct supervisor *s, const struct log_stream *stream, const char *stamp, char tag,
		       struct str text)
{
	buf_printf(&s->out, "%s %s %c ", stamp, stream->name, tag);
	buf_add_str(&s->out, text);
	buf_add_char(&s->out, '\n');
}

static void take(struct supervisor *s, struct log_stream *stream, struct str data)
{
	char stamp[CLOCK_RFC3339_MAX];

	clock_format_rfc3339_nano(clock_real_ns(), stamp);
	while (data.n) {
		const char *newline = memchr(data.p, '\n', data.n);
		size_t room = SUPERVISOR_LINE_MAX - buf_len(&stream->pending);
		size_t n = newline ? (size_t)(newline - data.p) : data.n;
		bool whole = newline && n <= room;

		if (n > room)
			n = room;
		if (whole && !buf_len(&stream->pending)) {
			add_record(s, stream, stamp, 'F', str_make(data.p, n));
		} else {
			buf_add(&stream->pending, data.p, n);
			if (whole || buf_len(&stream->pending) == SUPERVISOR_LINE_MAX) {
				add_record(s, stream, stamp, whole ? 'F' : 'P', buf_str(&stream->pending));
				buf_reset(&stream->pending);
				buf_release(&stream->pending);
			}
		}
		n += whole ? 1 : 0;
		data = str_make(data.p + n, data.n - n);
	}
	flush(s, stream->container);
}

static void copy_to_attached(struct container *c, int which, const char *p, size_t n)
{
	for (int i = 0; i < SUPERVISOR_ATTACH_MAX; i++) {
		int *fd = &c->attached[i][which];

		/* a listener that is slow or gone must not hold the container up */
		if (*fd >= 0 && write(*fd, p, n) < 0 && errno != EAGAIN) {
			close(*fd);
			*fd = -1;
		}
	}
}

/* false: the end */
static bool pump(struct supervisor *s, struct log_stream *stream)
{
	ssize_t n = read(stream->source.fd, s->read_buffer, SUPERVISOR_READ_BYTES);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	if (n <= 0)
		return false;
	copy_to_attached(stream->container, stream == &stream->container->err, s->read_buffer, (size_t)n);
	take(s, stream, str_make(s->read_buffer, (size_t)n));
	return true;
}

void log_stream_ready(struct supervisor *s, struct source *source, uint32_t events)
{
	struct log_stream *stream = container_of(source, struct log_stream, source);

	if (!pump(s, stream) && (events & (EPOLLHUP | EPOLLERR)))
		log_stream_finish(s, stream);
}

void log_stream_finish(struct supervisor *s, struct log_stream *stream)
{
	char stamp[CLOCK_RFC3339_MAX];

	if (stream->source.fd < 0)
		return;
	/* bounded: a process outside of the pid namespace may go on writing */
	for (int i = 0; i < FINISH_READS_MAX && pump(s, stream); i++)
		;
	if (buf_len(&stream->pending)) {
		clock_format_rfc3339_nano(clock_real_ns(), stamp);
		add_record(s, stream, stamp, 'F', buf_str(&stream->pending));
		flush(s, stream->container);
	}
	buf_finish(&stream->pending);
	stream->pending = BUF_INIT;
	supervisor_unwatch(s, &stream->source);
}
