/* SPDX-License-Identifier: Apache-2.0 */
/* See termination_message.h. Loop thread. */
#include "kubelet/pods/termination_message.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "kubelet/pods/worker.h"
#include "userspace/base/buf.h"

#define LOG_READ_MAX (16 * 1024)

char *termination_message_path(const struct pod_worker *w, struct arena *arena, const char *container, unsigned attempt)
{
	return arena_printf(arena, "%s/containers/%s/%u", w->tmpfs_dir, container, attempt);
}

/* At most `max` bytes from the end. A container may have put anything here: no links are followed. */
static int read_end(const char *path, size_t max, struct buf *out)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	off_t from = st.st_size > (off_t)max ? st.st_size - (off_t)max : 0;
	ssize_t n = pread(fd, buf_reserve(out, max), max, from);

	if (n < 0)
		return -1;
	buf_commit(out, (size_t)n);
	return 0;
}

static size_t tail_start(struct str text)
{
	size_t at = text.n, lines = 0;

	while (at > 0 && text.n - at < TERMINATION_LOG_MAX) {
		if (text.p[at - 1] == '\n' && at != text.n && ++lines == TERMINATION_LOG_LINES_MAX)
			break;
		at--;
	}
	return at;
}

void termination_log_tail(struct str log, struct buf *out)
{
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct str line, part;

	while (str_split(&log, '\n', &line)) {
		struct str rest = line;
		bool full;

		if (!str_split(&rest, ' ', &part) || !str_split(&rest, ' ', &part) || !str_split(&rest, ' ', &part))
			continue;
		full = str_is(part, "F");
		buf_add_str(&all, rest);
		if (full)
			buf_add_char(&all, '\n');
	}
	struct str text = buf_str(&all);
	size_t from = tail_start(text);

	buf_add(out, text.p + from, text.n - from);
}

char *termination_message(struct pod_worker *w, const struct json *container, const char *name, unsigned attempt,
			  int exit_code)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf b = BUF_INIT;

	read_end(termination_message_path(w, &arena, name, attempt), TERMINATION_MESSAGE_MAX, &b);
	if (buf_len(&b))
		return str_dup(buf_str(&b));
	if (exit_code == 0 || !str_is(json_get_str(container, "terminationMessagePolicy"), "FallbackToLogsOnError"))
		return NULL;
	_cleanup_buf_ struct buf log = BUF_INIT;
	char *path = container_log_path(w->kl, &arena, str_of(w->ns), str_of(w->name), str_of(w->uid), name, attempt);

	if (read_end(path, LOG_READ_MAX, &log) < 0)
		return NULL;
	termination_log_tail(buf_str(&log), &b);
	return buf_len(&b) ? str_dup(buf_str(&b)) : NULL;
}
