/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a container, in <bundle>/record.json: rewritten at each step (on a tmpfs, renamed into place), so
 * that a new supervisor knows what the old one had. Single thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define RECORD_MAX (1u << 20)
#define EXIT_LOST 137

static void add_string(struct buf *out, const char *key, const char *value)
{
	buf_printf(out, "\"%s\":", key);
	json_write_str(out, str_of(value ? value : ""));
	buf_add_char(out, ',');
}

void record_describe(const struct container *c, struct buf *out)
{
	static const char *const states[] = { "created", "created", "running", "exited" };

	add_string(out, "id", c->id);
	add_string(out, "pod_uid", c->pod_uid);
	add_string(out, "name", c->name);
	add_string(out, "log_path", c->log.path);
	add_string(out, "annotations", c->annotations);
	add_string(out, "oom_file", c->oom_file);
	add_string(out, "state", states[c->state]);
	buf_printf(out,
		   "\"attempt\":%u,\"pid\":%d,\"pid_start\":%" PRIu64 ",\"created\":%" PRId64 ",\"started\":%" PRId64
		   ",\"finished\":%" PRId64 ",\"exit_code\":%d,\"signal\":%d,\"oom_killed\":%s,\"acked\":%s,\"tty\":%s,"
		   "\"stdin_open\":%s",
		   c->attempt, c->pid, c->pid_start, c->created_ns, c->started_ns, c->finished_ns, c->exit_code,
		   c->signal, c->oom_killed ? "true" : "false", c->acked ? "true" : "false", c->tty ? "true" : "false",
		   c->stdin_open ? "true" : "false");
}

void record_write(const struct container *c)
{
	_cleanup_free_ char *path = mem_printf("%s/record.json", c->bundle);
	_cleanup_free_ char *temporary = mem_printf("%s/.record", c->bundle);
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_close_ int fd = -1;

	buf_add_char(&b, '{');
	record_describe(c, &b);
	buf_add_char(&b, '}');
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0 && write(fd, buf_str(&b).p, buf_len(&b)) == (ssize_t)buf_len(&b))
		rename(temporary, path);
}

static char *copy(const struct json *record, const char *key)
{
	return str_dup(json_get_str(record, key));
}

static struct container *from_json(struct supervisor *s, const struct json *record)
{
	struct container *c = mem_new(struct container);
	struct str state = json_get_str(record, "state");

	c->id = copy(record, "id");
	c->pod_uid = copy(record, "pod_uid");
	c->name = copy(record, "name");
	c->log.path = copy(record, "log_path");
	c->annotations = copy(record, "annotations");
	c->oom_file = copy(record, "oom_file");
	c->bundle = mem_printf("%s/containers/%s", s->run_dir, c->id);
	c->attempt = (unsigned)json_get_int(record, "attempt", 0);
	c->pid = (pid_t)json_get_int(record, "pid", 0);
	c->pid_start = (uint64_t)json_get_int(record, "pid_start", 0);
	c->created_ns = json_get_int(record, "created", 0);
	c->started_ns = json_get_int(record, "started", 0);
	c->finished_ns = json_get_int(record, "finished", 0);
	c->exit_code = (int)json_get_int(record, "exit_code", 0);
	c->signal = (int)json_get_int(record, "signal", 0);
	c->oom_killed = json_get_bool(record, "oom_killed", false);
	c->acked = json_get_bool(record, "acked", false);
	c->tty = json_get_bool(record, "tty", false);
	c->stdin_open = json_get_bool(record, "stdin_open", false);
	c->state = str_is(state, "running") ? STATE_RUNNING : str_is(state, "exited") ? STATE_EXITED : STATE_CREATED;
	c->log.fd = c->out.source.fd = c->err.source.fd = c->stdin_fd = c->console_fd = -1;
	memset(c->attached, 0xff, sizeof(c->attached));
	return c;
}

/* It ran under a supervisor that is gone: its pipes are broken and its exit cannot be learnt. It is ended. */
static void end_lost(struct container *c)
{
	if (c->pid > 1 && c->pid_start && process_start_time(c->pid) == c->pid_start)
		kill(c->pid, SIGKILL);
	c->state = STATE_EXITED;
	c->exit_code = EXIT_LOST;
	c->signal = SIGKILL;
	c->finished_ns = clock_real_ns();
	c->acked = false;
	record_write(c);
}

void record_load_all(struct supervisor *s)
{
	_cleanup_free_ char *dir = mem_printf("%s/containers", s->run_dir);
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d))) {
		_cleanup_free_ char *path = mem_printf("%s/%s/record.json", dir, entry->d_name);
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		_cleanup_buf_ struct buf text = BUF_INIT;
		struct json *record;
		struct container *c;

		if (entry->d_name[0] == '.' || fs_read(path, RECORD_MAX, &text, NULL) < 0 ||
		    json_parse(&arena, buf_str(&text), 0, &record, NULL) < 0)
			continue;
		c = from_json(s, record);
		if (c->state == STATE_RUNNING)
			end_lost(c);
		list_init(&c->job.link);
		list_add_tail(&s->containers, &c->link);
		s->n_containers++;
	}
	if (d)
		closedir(d);
}
