/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor from inside. One thread; memory is small on purpose: no heavy library is touched here. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kubelet/runtime/protocol.h"
#include "userspace/base/buf.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"

#define SUPERVISOR_ORPHANS_MAX 128
#define SUPERVISOR_LINE_MAX 16384 /* longer lines are cut into partial ones */
#define SUPERVISOR_READ_BYTES 32768
#define SUPERVISOR_CONTAINERS_MAX 4096
#define SUPERVISOR_EXECS_MAX 1024
#define SUPERVISOR_ATTACH_MAX 8 /* listeners of one container */
#define SUPERVISOR_SEND_QUEUE_MAX (8u << 20)

struct supervisor;

/* A descriptor that epoll watches. */
struct source {
	int fd; /* -1: none */
	void (*ready)(struct supervisor *s, struct source *source, uint32_t events);
};

/* A short-lived child: an OCI runtime at work, or a namespace being pinned. */
struct job {
	struct list link; /* supervisor.jobs while running */
	pid_t pid;
	int64_t started_ns;
	void (*done)(struct supervisor *s, struct job *job, int status);
};

struct log_file {
	char *path;
	int fd;
	uint64_t size;
};

/* stdout, stderr, or a terminal's one stream */
struct log_stream {
	struct source source;
	struct container *container;
	const char *name;
	struct buf pending; /* an incomplete line */
};

enum container_state { STATE_CREATED, STATE_STARTING, STATE_RUNNING, STATE_EXITED };

struct container {
	struct list link;
	char *id, *pod_uid, *name, *annotations, *bundle, *oom_file;
	unsigned attempt;
	int oom_score_adj;
	enum container_state state;
	pid_t pid;
	uint64_t pid_start; /* /proc/<pid>/stat: tells a reused pid */
	int64_t created_ns, started_ns, finished_ns;
	int exit_code, signal;
	bool oom_killed, acked, tty, stdin_open, stdin_once;
	struct log_file log;
	struct log_stream out, err;
	int stdin_fd;   /* our end of the container's standard input, or the terminal */
	int console_fd; /* listening while a terminal is awaited */
	char *console_path;
	int attached[SUPERVISOR_ATTACH_MAX][2]; /* stdout and stderr of listeners; -1 */
	struct job job;
	uint64_t start_seq, remove_seq; /* requests to answer; 0: none */
	int pending_signal;
};

struct exec {
	struct list link;
	uint64_t number, seq;
	struct job job;
	pid_t pid;
	bool tty, killed, replied;
	int fds[PROTOCOL_FDS_MAX]; /* the client's ends */
	int console_fd;
	char *console_path, *pid_path, *log_path, *process_path;
};

/* A child that ended before anyone knew whose it was. */
struct orphan {
	pid_t pid;
	int status;
	int64_t at_ns;
};

struct supervisor {
	char *run_dir, *oci, *cgroup_root;
	uint64_t log_max_bytes;
	unsigned log_max_files;
	int epoll_fd, lock_fd;
	struct source listen, client, signals;
	struct list send_queue;
	size_t send_queued;
	struct list containers, execs, jobs;
	size_t n_containers, n_execs;
	struct orphan orphans[SUPERVISOR_ORPHANS_MAX];
	unsigned next_orphan;
	uint64_t next_name;
	bool ending;
	char *read_buffer;
	struct buf out; /* log records being written */
};

/* supervisor.c */
int supervisor_watch(struct supervisor *s, struct source *source, uint32_t events);
void supervisor_unwatch(struct supervisor *s, struct source *source); /* and closes */
void supervisor_send(struct supervisor *s, const struct buf *message, const int *fds, size_t n_fds);
void supervisor_reply(struct supervisor *s, uint64_t seq, int code, const char *message);
void supervisor_request(struct supervisor *s, struct arena *arena, const struct json *request);

/* supervisor_spawn.c */
/* oom_score_adj is inherited by all that the child becomes; where the host does not let us lower it, ours is. */
int job_spawn(struct supervisor *s, struct job *job, char *const *argv, const int stdio[3], int oom_score_adj);
/* forks; runs `child` there, which returns an exit code. Its complaint comes through ret_error_fd. */
int job_fork(struct supervisor *s, struct job *job, int (*child)(void *arg, int error_fd), void *arg,
	     int *ret_error_fd);
void job_reap(struct supervisor *s);
bool orphan_take(struct supervisor *s, pid_t pid, int64_t since_ns, int *ret_status);
/* The newest error an OCI runtime wrote to its log, else `otherwise`. */
char *runtime_log_message(const char *path, const char *otherwise);
pid_t read_pid_file(const char *path);
uint64_t process_start_time(pid_t pid);
int console_listen(struct supervisor *s, char **ret_path);
int console_take(int listen_fd);

/* supervisor_container.c */
struct container *container_find(struct supervisor *s, struct str id);
void container_create(struct supervisor *s, uint64_t seq, const struct json *request);
void container_start(struct supervisor *s, uint64_t seq, struct container *c);
void container_signal(struct supervisor *s, uint64_t seq, struct container *c, int signo);
void container_remove(struct supervisor *s, uint64_t seq, struct container *c);
void container_exited(struct supervisor *s, struct container *c, int status);
void container_attach(struct supervisor *s, uint64_t seq, struct container *c, const struct json *request);
void container_announce(struct supervisor *s, const struct container *c, const char *event);
void container_free(struct supervisor *s, struct container *c);

/* supervisor_record.c */
void record_write(const struct container *c);
void record_load_all(struct supervisor *s);
void record_describe(const struct container *c, struct buf *out); /* members, without braces */

/* supervisor_exec.c */
void exec_start(struct supervisor *s, uint64_t seq, const struct json *request);
void exec_exited(struct supervisor *s, struct exec *e, int status);
void exec_kill(struct supervisor *s, uint64_t number);
void exec_kill_all(struct supervisor *s);

/* supervisor_log.c */
void log_file_open(struct container *c);
void log_file_close(struct container *c);
void log_stream_ready(struct supervisor *s, struct source *source, uint32_t events);
/* Reads what is there, ends an open line, closes. */
void log_stream_finish(struct supervisor *s, struct log_stream *stream);

/* supervisor_ns.c */
void sandbox_create(struct supervisor *s, uint64_t seq, const struct json *request);
void sandbox_remove(struct supervisor *s, uint64_t seq, const struct json *request);
