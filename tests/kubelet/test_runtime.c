/* SPDX-License-Identifier: Apache-2.0 */
/* Real containers of a real busybox, by each OCI runtime found: logs, exit codes, exec, users, limits, the OOM killer,
 * a server that is killed and comes back, a supervisor that is killed. Needs root; all in a private mount namespace,
 * and everything made is removed also on failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/cgroup/cgroup.h"
#include "kubelet/runtime/runtime.h"
#include "kubelet/runtime/supervisor.h"
#include "tests/kubelet/test_images_fixture.h"
#include "userspace/base/clock.h"
#include "userspace/loop/loop.h"

#define WAIT_NS (20 * NS_PER_S)

struct state {
	char dir[64], log[128], root[64];
	struct loop *loop;
	struct runtime *rt;
	struct images *images;
	struct arena arena;
	struct image image;
	struct loop_timer guard;
	bool done, timed_out, lost;
	int done_code;
	char done_message[512], id[80];
	unsigned exits;
	struct runtime_container last;
	char last_id[80];
	struct runtime_options options;
	char data_dir[80], run_dir[80];
	/* exec */
	uint64_t exec_id;
	struct runtime_streams streams;
	int exec_code;
	bool exec_done;
	char output[256 << 10];
	unsigned pending;
};

static const char *oci;

/* ---- helpers ---- */

static void on_exit_event(void *ctx, const struct runtime_container *c)
{
	struct state *s = ctx;

	s->exits++;
	s->last = *c;
	snprintf(s->last_id, sizeof(s->last_id), "%s", c->id);
	loop_stop(s->loop, 0);
}

static void on_lost(void *ctx)
{
	struct state *s = ctx;

	s->lost = true;
	loop_stop(s->loop, 0);
}

static void on_guard(struct loop_timer *timer)
{
	struct state *s = container_of(timer, struct state, guard);

	s->timed_out = true;
	loop_stop(s->loop, 0);
}

#define wait_for(s, condition)                                                                                         \
	do {                                                                                                           \
		(s)->timed_out = false;                                                                                \
		loop_timer_arm((s)->loop, &(s)->guard, WAIT_NS);                                                       \
		while (!(condition) && !(s)->timed_out)                                                                \
			loop_run((s)->loop);                                                                           \
		loop_timer_cancel((s)->loop, &(s)->guard);                                                             \
		assert_true(condition);                                                                                \
	} while (0)

static void on_done(void *arg, const struct err *err)
{
	struct state *s = arg;

	s->done = true;
	s->done_code = err ? err->code : 0;
	snprintf(s->done_message, sizeof(s->done_message), "%s", err ? err_message(err) : "");
	loop_stop(s->loop, 0);
}

static void on_created(void *arg, const char *id, const struct err *err)
{
	struct state *s = arg;

	snprintf(s->id, sizeof(s->id), "%s", id ? id : "");
	on_done(arg, err);
}

static int wait_done(struct state *s)
{
	wait_for(s, s->done);
	s->done = false;
	if (s->done_code)
		print_message("answer: %s\n", s->done_message);
	return s->done_code;
}

static void start_runtime(struct state *s)
{
	const struct runtime_events events = { .ctx = s, .exited = on_exit_event, .lost = on_lost };
	_cleanup_err_ struct err err = ERR_INIT;
	int r = runtime_start(s->loop, &s->options, &events, &s->rt, &err);

	if (r < 0)
		print_error("%s\n", err_message(&err));
	assert_int_equal(r, 0);
}

static void import_busybox(struct state *s)
{
	_cleanup_free_ char *file = mem_printf("%s/image.tar", s->dir), *store = mem_printf("%s/images", s->dir);
	_cleanup_err_ struct err err = ERR_INIT;
	struct fixture_layer layer;

	fixture_busybox_layer(&layer, false);
	fixture_docker(file, &layer, 1, "{\"Cmd\":[\"sh\"]}", "busybox", 0);
	buf_finish(&layer.tar);
	assert_int_equal(images_open(store, &s->images, &err), 0);
	assert_int_equal(images_import(s->images, file, NULL, NULL, NULL, &s->arena, &s->image, &err), 0);
}

static int setup(void **ret)
{
	struct state *s = mem_new(struct state);

	strcpy(s->dir, "/tmp/k3c-rt-XXXXXX");
	if (!mkdtemp(s->dir))
		return -1;
	*ret = s;
	snprintf(s->data_dir, sizeof(s->data_dir), "%s/d", s->dir);
	snprintf(s->run_dir, sizeof(s->run_dir), "%s/r", s->dir);
	snprintf(s->log, sizeof(s->log), "%s/log/c/0.log", s->dir);
	snprintf(s->root, sizeof(s->root), "k3c-test-%d", getpid());
	s->options = (struct runtime_options){ .data_dir = s->data_dir,
					       .run_dir = s->run_dir,
					       .log_dir = s->dir,
					       .oci_runtime = oci,
					       .cgroup_root = s->root,
					       .log_max_bytes = 64 << 10,
					       .log_max_files = 3 };
	if (loop_create(NULL, &s->loop, NULL) < 0)
		return -1;
	loop_timer_init(&s->guard, on_guard);
	import_busybox(s);
	start_runtime(s);
	return 0;
}

static int teardown(void **ret)
{
	struct state *s = *ret;
	_cleanup_err_ struct err err = ERR_INIT;

	runtime_stop(s->rt);
	if (runtime_shutdown_all(&s->options, &err) < 0)
		print_error("%s\n", err_message(&err));
	loop_destroy(s->loop);
	images_close(s->images);
	arena_finish(&s->arena);
	fixture_remove(s->dir);
	free(s);
	return 0;
}

static void make_sandbox(struct state *s, const char *uid)
{
	const struct runtime_sandbox sandbox = {
		.pod_uid = uid, .ns = "default", .name = "p", .hostname = "the-pod", .qos = "burstable"
	};

	runtime_sandbox_create(s->rt, &sandbox, on_done, s);
	assert_int_equal(wait_done(s), 0);
}

static void spec_init(struct state *s, struct runtime_container_spec *spec, const char *const *args)
{
	static const char *const env[] = { "GREETING=hello", NULL };

	*spec = (struct runtime_container_spec){ .pod_uid = "uid-1",
						 .name = "c",
						 .image = &s->image,
						 .args = args,
						 .env = env,
						 .run_as_user = -1,
						 .run_as_group = -1,
						 .log_path = s->log,
						 .annotations = "note" };
}

static int launch_spec(struct state *s, const struct runtime_container_spec *spec)
{
	runtime_container_create(s->rt, spec, on_created, s);
	assert_int_equal(wait_done(s), 0);
	runtime_container_start(s->rt, s->id, on_done, s);
	return wait_done(s);
}

static void launch(struct state *s, const char *script)
{
	const char *const args[] = { "/bin/sh", "-c", script, NULL };
	struct runtime_container_spec spec;

	spec_init(s, &spec, args);
	assert_int_equal(launch_spec(s, &spec), 0);
}

static void remove_container(struct state *s, const char *id)
{
	runtime_container_remove(s->rt, id, true, on_done, s);
	assert_int_equal(wait_done(s), 0);
}

/* The text of the log without its stamps: "stdout F line\n..." */
static const char *log_text(struct state *s)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str rest, line;
	size_t n = 0;

	assert_true(fs_read(s->log, 1 << 20, &text, NULL) >= 0);
	rest = buf_str(&text);
	s->output[0] = 0;
	while (str_split(&rest, '\n', &line)) {
		int64_t stamp;
		struct str time;

		if (!line.n)
			continue;
		assert_true(str_split(&line, ' ', &time));
		assert_int_equal(clock_parse_rfc3339(time, &stamp), 0);
		assert_int_equal(time.n, strlen("2026-01-01T00:00:00.123456789Z"));
		n += (size_t)snprintf(s->output + n, sizeof(s->output) - n, "%.*s\n", STR_ARG(line));
	}
	return s->output;
}

/* The supervisor writes it: another process, so this looks again and again, but not for ever. */
static void wait_log(struct state *s, const char *text)
{
	int64_t until = clock_monotonic_ns() + WAIT_NS;

	while (!fs_exists(s->log) || !strstr(log_text(s), text)) {
		assert_true(clock_monotonic_ns() < until);
		usleep(2000);
	}
}

/* ---- tests ---- */

static void test_logs_and_exit(void **state)
{
	struct state *s = *state;

	make_sandbox(s, "uid-1");
	launch(s, "echo out $GREETING; echo err >&2; hostname; id -u; printf tail; exit 3");
	wait_for(s, s->exits);
	assert_string_equal(s->last_id, s->id);
	assert_int_equal(s->last.exit_code, 3);
	assert_int_equal(s->last.state, CONTAINER_EXITED);
	assert_string_equal(s->last.annotations, "note");
	assert_true(s->last.finished_real_ns >= s->last.started_real_ns && s->last.started_real_ns > 0);
	log_text(s);
	assert_non_null(strstr(s->output, "stdout F out hello\n"));
	assert_non_null(strstr(s->output, "stderr F err\n"));
	assert_non_null(strstr(s->output, "stdout F the-pod\n"));
	assert_non_null(strstr(s->output, "stdout F 0\n"));
	assert_non_null(strstr(s->output, "stdout F tail\n"));
	remove_container(s, s->id);
	assert_false(fs_exists(s->log));
	runtime_sandbox_remove(s->rt, "uid-1", on_done, s);
	assert_int_equal(wait_done(s), 0);
}

static void test_missing_executable(void **state)
{
	struct state *s = *state;
	const char *const args[] = { "/no/such/program", NULL };
	struct runtime_container_spec spec;

	make_sandbox(s, "uid-1");
	spec_init(s, &spec, args);
	assert_true(launch_spec(s, &spec) < 0);
	assert_non_null(strstr(s->done_message, "/no/such/program"));
	assert_int_equal(s->exits, 0);
	remove_container(s, s->id);
}

static void test_users(void **state)
{
	struct state *s = *state;
	const char *const args[] = { "/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME; pwd; touch /x && echo writable",
				     NULL };
	struct runtime_container_spec spec;
	struct image image = s->image;

	make_sandbox(s, "uid-1");
	spec_init(s, &spec, args);
	image.user = "web";
	spec.working_dir = "/made/on//the/way/";
	spec.image = &image;
	spec.read_only_root = true;
	assert_int_equal(launch_spec(s, &spec), 0);
	wait_for(s, s->exits);
	log_text(s);
	assert_non_null(strstr(s->output, "stdout F 1234\nstdout F 1235\nstdout F 1235 1300\nstdout F /srv\n"
					  "stdout F /made/on/the/way\n"));
	assert_null(strstr(s->output, "writable"));
}

static void test_kill_and_signal(void **state)
{
	struct state *s = *state;

	make_sandbox(s, "uid-1");
	launch(s, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
	wait_log(s, "ready");
	runtime_container_signal(s->rt, s->id, SIGTERM, on_done, s);
	assert_int_equal(wait_done(s), 0);
	wait_for(s, s->exits);
	assert_int_equal(s->last.exit_code, 7);
	launch(s, "exec sleep 1000");
	runtime_container_signal(s->rt, s->id, SIGKILL, on_done, s);
	assert_int_equal(wait_done(s), 0);
	wait_for(s, s->exits == 2);
	assert_int_equal(s->last.exit_code, 137);
	assert_int_equal(s->last.signal, SIGKILL);
	assert_false(s->last.oom_killed);
}

static void test_long_lines_and_rotation(void **state)
{
	struct state *s = *state;
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_free_ char *dir = mem_printf("%s/log/c", s->dir);
	unsigned files = 0;
	struct dirent *e;
	DIR *d;

	make_sandbox(s, "uid-1");
	launch(s, "head -c 20000 /dev/zero | tr '\\0' x; echo");
	wait_for(s, s->exits);
	assert_true(fs_read(s->log, 1 << 20, &text, NULL) >= 0);
	assert_non_null(strstr(buf_cstr(&text), " stdout P xxx"));
	assert_non_null(strstr(buf_cstr(&text), " stdout F xxx"));
	launch(s, "i=0; while [ $i -lt 6000 ]; do echo line number $i of many; i=$((i+1)); done");
	wait_for(s, s->exits == 2);
	d = opendir(dir);
	while ((e = readdir(d)))
		files += e->d_name[0] != '.';
	closedir(d);
	assert_int_equal(files, 3);
	assert_non_null(strstr(log_text(s), "line number 5999 of many"));
}

static void test_limits(void **state)
{
	struct state *s = *state;
	const char *const args[] = { "/bin/sh", "-c", "x=a; while :; do x=$x$x; done", NULL };
	const char *const forks[] = { "/bin/sh", "-c",
				      "i=0; while [ $i -lt 50 ]; do sleep 5 & i=$((i+1)); done 2>/dev/null; echo all",
				      NULL };
	struct runtime_container_spec spec;
	struct runtime_usage usage;

	make_sandbox(s, "uid-1");
	spec_init(s, &spec, args);
	spec.resources.memory_limit_bytes = 32 << 20;
	spec.resources.cpu_shares = 256;
	assert_int_equal(launch_spec(s, &spec), 0);
	wait_for(s, s->exits);
	assert_int_equal(s->last.exit_code, 137);
	assert_true(s->last.oom_killed);
	spec_init(s, &spec, forks);
	spec.resources.pids_limit = 10;
	assert_int_equal(launch_spec(s, &spec), 0);
	wait_for(s, s->exits == 2);
	log_text(s);
	assert_null(strstr(s->output, "all"));
	launch(s, "exec sleep 1000");
	assert_int_equal(runtime_container_usage(s->rt, s->id, &usage), 0);
	assert_true(usage.memory_bytes > 0 && usage.pids == 1);
}

/* ---- exec ---- */

static void on_started(void *arg, uint64_t id, const struct runtime_streams *streams, const struct err *err)
{
	struct state *s = arg;

	s->exec_id = id;
	if (streams)
		s->streams = *streams;
	on_done(arg, err);
}

static void on_exec_exited(void *arg, uint64_t id, int code)
{
	struct state *s = arg;

	assert_int_equal(id, s->exec_id);
	s->exec_done = true;
	s->exec_code = code;
	loop_stop(s->loop, 0);
}

static void on_sync(void *arg, int code, struct str output, const struct err *err)
{
	struct state *s = arg;

	s->exec_code = code;
	snprintf(s->output, sizeof(s->output), "%.*s", STR_ARG(output));
	on_done(arg, err);
}

static void read_all(int fd, char *ret, size_t size)
{
	size_t n = 0;
	ssize_t r;

	while (n + 1 < size && (r = read(fd, ret + n, size - n - 1)) > 0)
		n += (size_t)r;
	ret[n] = 0;
}

static void test_exec(void **state)
{
	struct state *s = *state;
	const char *const argv[] = { "sh", "-c", "cat; echo $GREETING; echo e >&2; exit 5", NULL };
	const char *const missing[] = { "/nope", NULL };
	struct runtime_exec_spec spec = { .argv = argv, .want_stdin = true, .want_stdout = true, .want_stderr = true };

	make_sandbox(s, "uid-1");
	launch(s, "exec sleep 1000");
	spec.container_id = s->id;
	runtime_exec(s->rt, &spec, on_started, on_exec_exited, s);
	assert_int_equal(wait_done(s), 0);
	assert_int_equal(write(s->streams.stdin_fd, "input\n", 6), 6);
	close(s->streams.stdin_fd);
	wait_for(s, s->exec_done);
	assert_int_equal(s->exec_code, 5);
	read_all(s->streams.stdout_fd, s->output, sizeof(s->output));
	assert_string_equal(s->output, "input\nhello\n");
	read_all(s->streams.stderr_fd, s->output, sizeof(s->output));
	assert_string_equal(s->output, "e\n");
	close(s->streams.stdout_fd);
	close(s->streams.stderr_fd);
	spec.argv = missing;
	runtime_exec(s->rt, &spec, on_started, on_exec_exited, s);
	assert_true(wait_done(s) < 0);
	assert_non_null(strstr(s->done_message, "/nope"));
}

static void test_exec_tty(void **state)
{
	struct state *s = *state;
	const char *const argv[] = { "sh", "-c", "tty; stty size; read x; echo got $x; exit 4", NULL };
	struct runtime_exec_spec spec = { .argv = argv, .tty = true, .want_stdin = true, .want_stdout = true };

	make_sandbox(s, "uid-1");
	launch(s, "exec sleep 1000");
	spec.container_id = s->id;
	spec.rows = 33;
	spec.cols = 99;
	runtime_exec(s->rt, &spec, on_started, on_exec_exited, s);
	assert_int_equal(wait_done(s), 0);
	assert_true(isatty(s->streams.stdout_fd));
	runtime_resize(s->streams.stdout_fd, 33, 99);
	assert_int_equal(write(s->streams.stdin_fd, "word\n", 5), 5);
	wait_for(s, s->exec_done);
	assert_int_equal(s->exec_code, 4);
	read_all(s->streams.stdout_fd, s->output, sizeof(s->output));
	assert_non_null(strstr(s->output, "/dev/pts/"));
	assert_non_null(strstr(s->output, "got word"));
	close(s->streams.stdin_fd);
	close(s->streams.stdout_fd);
}

static void test_exec_sync(void **state)
{
	struct state *s = *state;
	const char *const argv[] = { "sh", "-c", "echo one; echo two >&2; exit 1", NULL };
	const char *const slow[] = { "sleep", "100", NULL };
	const char *const much[] = { "sh", "-c", "head -c 100000 /dev/zero", NULL };
	int64_t before;

	make_sandbox(s, "uid-1");
	launch(s, "exec sleep 1000");
	runtime_exec_sync(s->rt, s->id, argv, 5 * NS_PER_S, on_sync, s);
	assert_int_equal(wait_done(s), 0);
	assert_int_equal(s->exec_code, 1);
	assert_true(strstr(s->output, "one\n") && strstr(s->output, "two\n"));
	before = clock_monotonic_ns();
	runtime_exec_sync(s->rt, s->id, slow, 300 * NS_PER_MS, on_sync, s);
	assert_int_equal(wait_done(s), -ETIMEDOUT);
	assert_true(clock_monotonic_ns() - before < 5 * NS_PER_S);
	runtime_exec_sync(s->rt, s->id, much, 10 * NS_PER_S, on_sync, s);
	assert_int_equal(wait_done(s), 0);
	assert_int_equal(s->exec_code, 0);
}

static void test_tty_container(void **state)
{
	struct state *s = *state;
	const char *const args[] = { "/bin/sh", "-c", "tty; read x; echo got $x; exit 6", NULL };
	struct runtime_exec_spec attach = { .tty = true, .want_stdin = true, .want_stdout = true };
	struct runtime_container_spec spec;

	make_sandbox(s, "uid-1");
	spec_init(s, &spec, args);
	spec.tty = spec.stdin_open = true;
	assert_int_equal(launch_spec(s, &spec), 0);
	attach.container_id = s->id;
	runtime_attach(s->rt, &attach, on_started, s);
	assert_int_equal(wait_done(s), 0);
	assert_int_equal(write(s->streams.stdin_fd, "attached\n", 9), 9);
	wait_for(s, s->exits);
	assert_int_equal(s->last.exit_code, 6);
	read_all(s->streams.stdout_fd, s->output, sizeof(s->output));
	assert_non_null(strstr(s->output, "got attached"));
	assert_non_null(strstr(log_text(s), "got attached"));
	close(s->streams.stdin_fd);
	close(s->streams.stdout_fd);
}

/* ---- the server dies, the supervisor dies ---- */

static void count_one(void *arg, const struct runtime_container *c)
{
	unsigned *n = arg;

	*n += c->state == CONTAINER_RUNNING;
}

/* A "server" in another process that starts two containers and is killed with SIGKILL. */
static void doomed_server(struct state *s, int ready)
{
	make_sandbox(s, "uid-1");
	launch(s, "echo begun; while [ ! -e /go ]; do sleep 0.02; done; echo while-away; exit 9");
	if (write(ready, s->id, 64) != 64)
		_exit(1);
	launch(s, "exec sleep 1000");
	if (write(ready, s->id, 64) != 64)
		_exit(1);
	for (;;)
		pause();
}

static void test_server_killed(void **state)
{
	struct state *s = *state;
	_cleanup_free_ char *go = NULL;
	char first[65] = "", second[65] = "";
	pid_t before = runtime_supervisor_pid(s->rt), server;
	unsigned running = 0;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	/* this process only watches: the doomed one makes its own loop */
	runtime_stop(s->rt);
	s->rt = NULL;
	loop_destroy(s->loop);
	s->loop = NULL;
	server = fork();
	if (server == 0) {
		loop_create(NULL, &s->loop, NULL);
		loop_timer_init(&s->guard, on_guard);
		start_runtime(s);
		doomed_server(s, fds[1]);
	}
	assert_int_equal(read(fds[0], first, 64), 64);
	assert_int_equal(read(fds[0], second, 64), 64);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	go = mem_printf("%s/runtime/containers/%s/rootfs/go", s->run_dir, first);
	close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	wait_log(s, "while-away");
	assert_int_equal(loop_create(NULL, &s->loop, NULL), 0);
	loop_timer_init(&s->guard, on_guard);
	start_runtime(s);
	assert_int_equal(runtime_supervisor_pid(s->rt), before);
	wait_for(s, s->exits);
	assert_string_equal(s->last_id, first);
	assert_int_equal(s->last.exit_code, 9);
	runtime_each(s->rt, "uid-1", count_one, &running);
	assert_int_equal(running, 1);
	/* told once: not again to the next server */
	remove_container(s, second);
	runtime_stop(s->rt);
	s->exits = 0;
	start_runtime(s);
	remove_container(s, first);
	assert_int_equal(s->exits, 0);
	close(fds[0]);
	close(fds[1]);
}

/* Nobody here is its parent: gone, or a zombie of somebody else's. */
static void wait_dead(pid_t pid)
{
	_cleanup_free_ char *path = mem_printf("/proc/%d/stat", pid);
	int64_t until = clock_monotonic_ns() + WAIT_NS;

	for (;;) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		if (fs_read(path, 4096, &text, NULL) < 0 || strstr(buf_cstr(&text), ") Z "))
			return;
		assert_true(clock_monotonic_ns() < until);
		usleep(2000);
	}
}

static void test_supervisor_killed(void **state)
{
	struct state *s = *state;
	pid_t before = runtime_supervisor_pid(s->rt);

	make_sandbox(s, "uid-1");
	launch(s, "exec sleep 1000");
	kill(before, SIGKILL);
	wait_for(s, s->lost);
	assert_int_not_equal(runtime_supervisor_pid(s->rt), before);
	wait_for(s, s->exits);
	assert_int_equal(s->last.exit_code, 137);
	wait_dead(s->last.pid);
	launch(s, "exit 0");
	wait_for(s, s->exits == 2);
}

static void test_shared_pid(void **state)
{
	struct state *s = *state;
	const struct runtime_sandbox sandbox = {
		.pod_uid = "uid-1", .hostname = "h", .qos = "guaranteed", .share_pid = true
	};

	runtime_sandbox_create(s->rt, &sandbox, on_done, s);
	assert_int_equal(wait_done(s), 0);
	launch(s, "exec sleep 1000");
	launch(s, "ps");
	wait_for(s, s->exits);
	assert_non_null(strstr(log_text(s), "sleep 1000"));
}

static void test_mounts_and_seccomp(void **state)
{
	struct state *s = *state;
	_cleanup_free_ char *host = mem_printf("%s/host", s->dir), *file = mem_printf("%s/host/file", s->dir);
	const char *const args[] = { "/bin/sh", "-c",
				     "cat /in/file; touch /in/x || echo ro; echo y > /scratch/y && cat /scratch/y; "
				     "mount -t tmpfs none /tmp || echo denied; grep Seccomp: /proc/self/status; "
				     "grep CapEff /proc/self/status; cat /proc/self/oom_score_adj",
				     NULL };
	const struct runtime_mount mounts[] = {
		{ .host_path = host, .container_path = "/in", .read_only = true },
		{ .container_path = "/scratch", .tmpfs = true, .tmpfs_size_bytes = 1 << 20 },
	};
	static const char *const all[] = { "ALL", NULL };
	struct runtime_container_spec spec;
	FILE *f;

	mkdir(host, 0755);
	f = fopen(file, "w");
	fputs("from-host\n", f);
	fclose(f);
	make_sandbox(s, "uid-1");
	spec_init(s, &spec, args);
	spec.mounts = mounts;
	spec.n_mounts = 2;
	spec.cap_drop = all;
	spec.oom_score_adj = 987;
	spec.no_new_privileges = true;
	spec.seccomp_profile = "runtime/default";
	assert_int_equal(launch_spec(s, &spec), 0);
	wait_for(s, s->exits);
	log_text(s);
	assert_non_null(strstr(s->output, "stdout F from-host\n"));
	assert_non_null(strstr(s->output, "stdout F ro\n"));
	assert_non_null(strstr(s->output, "stdout F y\n"));
	assert_non_null(strstr(s->output, "stdout F denied\n"));
	assert_non_null(strstr(s->output, "Seccomp:\t2"));
	assert_non_null(strstr(s->output, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(s->output, "stdout F 987\n"));
}

static void test_privileged_on_the_host(void **state)
{
	struct state *s = *state;
	const struct runtime_sandbox sandbox = { .pod_uid = "uid-1",
						 .hostname = "h",
						 .qos = "besteffort",
						 .host_network = true,
						 .host_pid = true,
						 .host_ipc = true };
	const char *const args[] = { "/bin/sh", "-c",
				     "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; "
				     "mount -t tmpfs none /tmp && echo mounted",
				     NULL };
	struct runtime_container_spec spec;
	char link[64];
	ssize_t n;

	runtime_sandbox_create(s->rt, &sandbox, on_done, s);
	assert_int_equal(wait_done(s), 0);
	spec_init(s, &spec, args);
	spec.privileged = true;
	assert_int_equal(launch_spec(s, &spec), 0);
	wait_for(s, s->exits);
	assert_int_equal(s->last.exit_code, 0);
	log_text(s);
	n = readlink("/proc/self/ns/net", link, sizeof(link) - 1);
	assert_true(n > 0);
	link[n] = 0;
	assert_non_null(strstr(s->output, link));
	assert_non_null(strstr(s->output, "stdout F mounted\n"));
}

static void note_exit(void *arg, const struct err *err)
{
	struct state *s = arg;

	s->pending--;
	s->done_code = err ? err->code : s->done_code;
	if (!s->pending)
		loop_stop(s->loop, 0);
}

static void start_created(void *arg, const char *id, const struct err *err)
{
	struct state *s = arg;

	if (err)
		note_exit(arg, err);
	else
		runtime_container_start(s->rt, id, note_exit, s);
}

static void test_many_at_once(void **state)
{
	struct state *s = *state;
	const char *const args[] = { "/bin/sleep", "1000", NULL };
	struct runtime_container_spec spec;
	int64_t before = clock_monotonic_ns();
	unsigned running = 0;

	make_sandbox(s, "uid-1");
	s->pending = 20;
	for (int i = 0; i < 20; i++) {
		spec_init(s, &spec, args);
		runtime_container_create(s->rt, &spec, start_created, s);
	}
	wait_for(s, !s->pending);
	assert_int_equal(s->done_code, 0);
	runtime_each(s->rt, NULL, count_one, &running);
	assert_int_equal(running, 20);
	print_message("20 containers started in %.0f ms by %s\n", (double)(clock_monotonic_ns() - before) / 1e6,
		      runtime_oci_name(s->rt));
}

/* crun refuses hybrid hosts whose cgroup2 holds controllers: give them a v1 mount, seen by this process only. */
static void free_controllers(const char *dir)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct cgroup_host host;
	struct str rest, name;

	if (cgroup_detect(&host, NULL) < 0 || host.mode != CGROUP_HYBRID)
		return;
	for (size_t i = 0; i < host.n_mounts; i++)
		if (host.mounts[i].v2) {
			_cleanup_free_ char *path = mem_printf("%s/cgroup.controllers", host.mounts[i].path);

			fs_read(path, 4096, &text, NULL);
		}
	rest = str_trim(buf_str(&text));
	while (str_split(&rest, ' ', &name)) {
		_cleanup_free_ char *at = mem_printf("%s/%.*s", dir, STR_ARG(name)), *option = str_dup(name);

		if (mkdir(at, 0700) == 0 && mount("cgroup", at, "cgroup", 0, option) < 0)
			print_message("cannot mount %s: %s\n", option, strerror(errno));
	}
}

static void unmount_controllers(const char *dir)
{
	struct cgroup_host host;

	if (cgroup_detect(&host, NULL) < 0)
		return;
	for (size_t i = 0; i < host.n_mounts; i++)
		if (strncmp(host.mounts[i].path, dir, strlen(dir)) == 0)
			umount(host.mounts[i].path);
	fixture_remove(dir);
}

static int run_with(const char *runtime)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_logs_and_exit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_executable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_users, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_and_signal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_lines_and_rotation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_tty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exec_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tty_container, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_supervisor_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_pid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mounts_and_seccomp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_privileged_on_the_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
	};

	oci = runtime;
	return cmocka_run_group_tests_name(runtime, tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/k3c-cg-XXXXXX";
	int failed = 0;

	if (argc > 1 && strcmp(argv[1], "supervisor") == 0)
		return supervisor_main(argc - 1, argv + 1);
	if (geteuid() != 0) {
		printf("needs root\n");
		return 1;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(dir))
		return 1;
	if (fs_exists("/usr/sbin/runc") || fs_exists("/usr/bin/runc"))
		failed += run_with("runc");
	if (fs_exists("/usr/bin/crun")) {
		free_controllers(dir);
		failed += run_with("crun");
	}
	unmount_controllers(dir);
	return failed ? 1 : 0;
}
