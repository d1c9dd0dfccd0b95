/* SPDX-License-Identifier: Apache-2.0 */
/* The audit policy: which rule decides, and what is no policy. The audit log: whole lines in order, rotation, the end,
 * and what a full queue costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "userspace/apiserver/audit_log.h"
#include "userspace/apiserver/audit_policy.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define HEAD "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

static struct audit_policy *parse(const char *text)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct audit_policy *p;

	if (audit_policy_parse(str_of(text), &p, &err) < 0)
		fail_msg("%s", err_message(&err));
	return p;
}

static const struct str GROUPS[] = { { "devs", 4 }, { "system:authenticated", 20 } };
static const struct request_user JANE = { .name = { "jane", 4 }, .groups = GROUPS, .n_groups = 2 };

static struct authz_attributes resource(const char *verb, const char *group, const char *res, const char *sub,
					const char *ns, const char *name)
{
	return (struct authz_attributes){ .user = &JANE,
					  .verb = str_of(verb),
					  .group = str_of(group),
					  .version = STR("v1"),
					  .resource = str_of(res),
					  .subresource = str_of(sub),
					  .ns = str_of(ns),
					  .name = str_of(name) };
}

static struct authz_attributes path(const char *p)
{
	return (struct authz_attributes){ .user = &JANE, .verb = STR("get"), .is_path = true, .path = str_of(p) };
}

static enum audit_level level(const char *rules, struct authz_attributes a)
{
	_cleanup_free_ char *text = mem_printf(HEAD "rules:\n%s", rules);
	struct audit_policy *p = parse(text);
	struct audit_decision d;

	audit_policy_decide(p, &a, &d);
	audit_policy_destroy(p);
	return d.level;
}

static void rules_match(void **state)
{
	const struct authz_attributes pod = resource("get", "", "pods", "", "ns", "p");
	const struct authz_attributes pod_log = resource("get", "", "pods", "log", "ns", "p");
	const struct authz_attributes deploy = resource("list", "apps", "deployments", "", "ns", "");
	const struct authz_attributes node = resource("get", "", "nodes", "", "", "n");
	struct authz_attributes stranger = pod;
	const struct {
		const char *rule;
		struct authz_attributes a;
		bool matches;
	} rows[] = {
		{ "users: [jane]", pod, true },
		{ "users: [joe]", pod, false },
		{ "userGroups: [ops, devs]", pod, true },
		{ "userGroups: [ops]", pod, false },
		{ "verbs: [get]", pod, true },
		{ "verbs: [list]", pod, false },
		{ "resources: [{group: \"\"}]", pod, true },
		{ "resources: [{group: apps}]", pod, false },
		{ "resources: [{group: apps}]", deploy, true },
		{ "resources: [{group: \"\", resources: [pods]}]", pod, true },
		{ "resources: [{group: \"\", resources: [pods]}]", pod_log, false },
		{ "resources: [{group: \"\", resources: [pods/log]}]", pod_log, true },
		{ "resources: [{group: \"\", resources: [pods/log]}]", pod, false },
		{ "resources: [{group: \"\", resources: [pods/*]}]", pod, true },
		{ "resources: [{group: \"\", resources: [pods/*]}]", pod_log, true },
		{ "resources: [{group: \"\", resources: [pods/*]}]", node, false },
		{ "resources: [{group: \"\", resources: [\"*/log\"]}]", pod_log, true },
		{ "resources: [{group: \"\", resources: [\"*/log\"]}]", pod, false },
		{ "resources: [{group: \"\", resources: [\"*\"]}]", pod_log, true },
		{ "resources: [{group: \"\", resources: [pods], resourceNames: [p]}]", pod, true },
		{ "resources: [{group: \"\", resources: [pods], resourceNames: [q]}]", pod, false },
		{ "namespaces: [ns]", pod, true },
		{ "namespaces: [other]", pod, false },
		{ "namespaces: [\"\"]", node, true },
		{ "namespaces: [\"\"]", pod, false },
		{ "namespaces: [ns]", path("/version"), false },
		{ "nonResourceURLs: [/version]", path("/version"), true },
		{ "nonResourceURLs: [/version]", path("/version/x"), false },
		{ "nonResourceURLs: [/healthz*]", path("/healthz/etcd"), true },
		{ "nonResourceURLs: [\"*\"]", path("/metrics"), true },
		{ "nonResourceURLs: [\"*\"]", pod, false },
		{ "resources: [{group: \"\"}]", path("/version"), false },
		{ "users: []", pod, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *rule = mem_printf("- level: Request\n  %s\n", rows[i].rule);

		if (level(rule, rows[i].a) != (rows[i].matches ? AUDIT_REQUEST : AUDIT_NONE))
			fail_msg("%zu: %s", i, rows[i].rule);
	}
	stranger.user = NULL;
	assert_int_equal(level("- level: Metadata\n  users: [jane]\n", stranger), AUDIT_NONE);
	assert_int_equal(level("- level: Metadata\n", stranger), AUDIT_METADATA);
	/* the first one decides */
	assert_int_equal(level("- level: None\n  users: [jane]\n- level: RequestResponse\n", pod), AUDIT_NONE);
	assert_int_equal(level("- level: None\n  users: [joe]\n- level: RequestResponse\n", pod),
			 AUDIT_REQUEST_RESPONSE);
}

static void stages_and_fields(void **state)
{
	struct audit_policy *p = parse(HEAD "omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n"
					    "- level: Metadata\n  users: [jane]\n  omitStages: [ResponseStarted]\n"
					    "  omitManagedFields: false\n- level: Metadata\n");
	struct authz_attributes a = path("/x");
	struct audit_decision d;

	(void)state;
	audit_policy_decide(p, &a, &d);
	assert_int_equal(d.omit_stages, AUDIT_RECEIVED | AUDIT_STARTED);
	assert_false(d.omit_managed_fields);
	a.user = NULL;
	audit_policy_decide(p, &a, &d);
	assert_int_equal(d.omit_stages, AUDIT_RECEIVED);
	assert_true(d.omit_managed_fields);
	audit_policy_destroy(p);
}

static void bad_policies(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "", "a mapping is wanted" },
		{ "kind: Policy\nrules: []\n", "apiVersion audit.k8s.io/v1 and kind Policy are wanted" },
		{ HEAD, "rules: at least one rule is wanted" },
		{ HEAD "rules: []\n", "rules: at least one rule is wanted" },
		{ HEAD "rules: [1]\n", "rules[0]: a mapping is wanted" },
		{ HEAD "rules: [{}]\n", "rules[0].level: Required value" },
		{ HEAD "rules: [{level: metadata}]\n", "rules[0].level: Unsupported value: \"metadata\"" },
		{ HEAD "rules: [{level: None, user: [x]}]\n", "unknown field \"rules[0].user\"" },
		{ HEAD "rule: []\n", "unknown field \"rule\"" },
		{ HEAD "rules: [{level: None, users: x}]\n", "rules[0].users: a list of strings is wanted" },
		{ HEAD "rules: [{level: None}, {level: None, verbs: [1]}]\n", "rules[1].verbs[0]: a string is wanted" },
		{ HEAD "rules: [{level: None, omitStages: [Begin]}]\n",
		  "rules[0].omitStages[0]: Invalid value: \"Begin\"" },
		{ HEAD "omitStages: [x]\nrules: [{level: None}]\n", "omitStages[0]: Invalid value: \"x\"" },
		{ HEAD "rules: [{level: None, omitManagedFields: 1}]\n",
		  "rules[0].omitManagedFields: true or false is wanted" },
		{ HEAD "rules: [{level: None, nonResourceURLs: [/x], namespaces: [a]}]\n",
		  "rules cannot apply to both regular resources and non-resource URLs" },
		{ HEAD "rules: [{level: None, nonResourceURLs: [x]}]\n", "must begin with a '/' character" },
		{ HEAD "rules: [{level: None, nonResourceURLs: [/x*y]}]\n", "must be the final character of the rule" },
		{ HEAD "rules: [{level: None, resources: [{group: apps/v1}]}]\n",
		  "rules[0].resources[0].group: Invalid value: \"apps/v1\"" },
		{ HEAD "rules: [{level: None, resources: [{group: \"\", resourceNames: [x]}]}]\n",
		  "using resourceNames requires at least one resource" },
		{ HEAD "rules: [{level: None, resources: [{kind: x}]}]\n",
		  "unknown field \"rules[0].resources[0].kind\"" },
		{ "\t: [", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct audit_policy *p = NULL;

		assert_int_equal(audit_policy_parse(str_of(rows[i].text), &p, &err), -EINVAL);
		assert_null(p);
		if (!strstr(err_message(&err), rows[i].says) || strchr(err_message(&err), '\n'))
			fail_msg("%zu: %s", i, err_message(&err));
	}
}

/* ---- the log ---- */

struct fixture {
	char dir[64], path[96];
};

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);

	strcpy(f->dir, "/tmp/k3c-audit-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/audit.log", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fs_remove_tree(f->dir, NULL);
	free(f);
	return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	/* the one without a stamp is the newest */
	bool x = strcmp((*a)->d_name, "audit.log") == 0, y = strcmp((*b)->d_name, "audit.log") == 0;

	return x != y ? (x ? 1 : -1) : strcmp((*a)->d_name, (*b)->d_name);
}

static int only_logs(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void read_all(const struct fixture *f, struct buf *out, int *ret_files)
{
	struct dirent **names;
	int n = scandir(f->dir, &names, only_logs, by_name);

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *p = mem_printf("%s/%s", f->dir, names[i]->d_name);
		struct buf b = BUF_INIT;

		assert_int_equal(fs_read(p, 64 * 1024 * 1024, &b, NULL), 0);
		buf_add_str(out, buf_str(&b));
		buf_finish(&b);
		free(names[i]);
	}
	free(names);
	*ret_files = n;
}

static void lines_in_order(void **state)
{
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path, .max_bytes = 10000 };
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct audit_log_stats stats;
	struct audit_log *log;
	struct str rest, line;
	int files, next = 0;
	struct stat st;

	/* two lives of one file */
	for (int life = 0; life < 2; life++) {
		assert_int_equal(audit_log_open(&options, &log, NULL), 0);
		for (int i = 0; i < 5000; i++) {
			char text[64];
			int n = snprintf(text, sizeof(text), "{\"n\":%d}", life * 5000 + i);

			audit_log_write(log, str_make(text, (size_t)n));
		}
		audit_log_get_stats(log, &stats);
		assert_int_equal(stats.dropped, 0);
		audit_log_close(log);
	}
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	read_all(f, &all, &files);
	assert_true(files > 5);
	rest = buf_str(&all);
	while (str_split(&rest, '\n', &line) && line.n) {
		char text[64];

		snprintf(text, sizeof(text), "{\"n\":%d}", next++);
		assert_true(str_is(line, text));
	}
	assert_int_equal(next, 10000);
}

static void old_ones_go(void **state)
{
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path, .max_bytes = 1000, .max_backups = 2 };
	_cleanup_free_ char *other = mem_printf("%s/audit-other.log", f->dir);
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct audit_log *log;
	char line[301];
	int files;

	assert_int_equal(fs_write_atomic(other, "x", 1, 0600, NULL), 0);
	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 20; i++) {
		assert_int_equal(audit_log_open(&options, &log, NULL), 0);
		audit_log_write(log, str_make(line, sizeof(line)));
		audit_log_close(log);
	}
	read_all(f, &all, &files);
	assert_int_equal(files, 4); /* the file, two before it, and the foreign one */
	assert_true(fs_exists(other));
}

/* A line longer than a file may be has a file of its own. */
static void long_lines(void **state)
{
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path, .max_bytes = 100 };
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct audit_log *log;
	char line[500];
	int files;

	memset(line, 'y', sizeof(line));
	assert_int_equal(audit_log_open(&options, &log, NULL), 0);
	for (int i = 0; i < 3; i++)
		audit_log_write(log, str_make(line, sizeof(line)));
	audit_log_close(log);
	read_all(f, &all, &files);
	assert_int_equal(files, 3);
	assert_int_equal(buf_len(&all), 3 * 501);
}

/* The file may not grow: what is there of a line goes again, and the next one begins on its own. */
static void a_full_disk(void **state)
{
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path };
	struct rlimit before, small = { .rlim_cur = 20 };
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct audit_log_stats stats;
	struct audit_log *log;
	int files;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(audit_log_open(&options, &log, NULL), 0);
	for (int i = 0; i < 4; i++)
		audit_log_write(log, STR("{\"line\":\"one\"}"));
	do
		audit_log_get_stats(log, &stats);
	while (stats.failed < 3 && !usleep(1000));
	assert_int_equal(stats.failed, 3);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	audit_log_write(log, STR("{\"line\":\"two\"}"));
	audit_log_close(log);
	read_all(f, &all, &files);
	assert_string_equal(buf_cstr(&all), "{\"line\":\"one\"}\n{\"line\":\"two\"}\n");
}

/* The process ended in the middle of a line. */
static void a_torn_line(void **state)
{
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path };
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct audit_log *log;
	int files;

	assert_int_equal(fs_write_atomic(f->path, "{}\n{\"a", 6, 0600, NULL), 0);
	assert_int_equal(audit_log_open(&options, &log, NULL), 0);
	audit_log_write(log, STR("{}"));
	audit_log_close(log);
	read_all(f, &all, &files);
	assert_string_equal(buf_cstr(&all), "{}\n{\"a\n{}\n");
}

struct reader {
	pthread_t thread;
	int fd;
	size_t wanted;
};

static void *read_away(void *arg)
{
	struct reader *r = arg;
	static char bin[65536];
	size_t seen = 0;

	while (seen < r->wanted) {
		ssize_t n = read(r->fd, bin, sizeof(bin));

		if (n <= 0)
			break;
		seen += (size_t)n;
	}
	return NULL;
}

/* A pipe that nobody reads stands for a disk that hangs: the loop goes on, what does not fit is counted. */
static void a_full_queue(void **state)
{
	enum { LINE = 256 * 1024, LINES = 100 };
	struct fixture *f = *state;
	struct audit_log_options options = { .path = f->path };
	_cleanup_free_ char *line = mem_zalloc(LINE);
	struct reader reader = { 0 };
	struct audit_log_stats stats;
	struct audit_log *log;

	memset(line, 'z', LINE);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	reader.fd = open(f->path, O_RDWR | O_CLOEXEC);
	assert_true(reader.fd >= 0);
	assert_int_equal(audit_log_open(&options, &log, NULL), 0);
	for (int i = 0; i < LINES; i++)
		audit_log_write(log, str_make(line, LINE));
	audit_log_get_stats(log, &stats);
	/* At most one queue is being written and one is full. */
	assert_true(stats.dropped >= LINES - 2 * (AUDIT_QUEUE_BYTES_MAX / LINE));
	reader.wanted = (LINES - stats.dropped) * (size_t)(LINE + 1);
	assert_int_equal(pthread_create(&reader.thread, NULL, read_away, &reader), 0);
	audit_log_close(log);
	pthread_join(reader.thread, NULL);
	close(reader.fd);
}

static void no_such_folder(void **state)
{
	const struct audit_log_options options = { .path = "/nonexistent/audit.log" };
	_cleanup_err_ struct err err = ERR_INIT;
	struct audit_log *log = NULL;

	(void)state;
	assert_int_equal(audit_log_open(&options, &log, &err), -ENOENT);
	assert_string_equal(err.message, "audit log /nonexistent/audit.log: No such file or directory");
	assert_null(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_match),
		cmocka_unit_test(stages_and_fields),
		cmocka_unit_test(bad_policies),
		cmocka_unit_test_setup_teardown(lines_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(old_ones_go, setup, teardown),
		cmocka_unit_test_setup_teardown(long_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(a_torn_line, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_queue, setup, teardown),
		cmocka_unit_test(no_such_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
