/* SPDX-License-Identifier: Apache-2.0 */
/* Encryption at rest over a real store: what lies in the files, rotation, wrong keys, changed bytes, crashes. */
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/registry/registry_fixture.h"
#include "userspace/registry/encryption.h"

#define HEAD "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
#define FOR(resources, providers) HEAD "- resources: [" resources "]\n  providers:\n" providers
#define KEYS(cipher, keys) "  - " cipher ":\n      keys:\n" keys
#define KEY(name, secret) "      - name: " name "\n        secret: " secret "\n"
#define IDENTITY "  - identity: {}\n"
#define SECRET_1 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" /* 32 bytes */
#define SECRET_2 "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
#define SECRET_16 "MDEyMzQ1Njc4OWFiY2RlZg=="
#define SECRET_24 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
/* In every secret of these tests; base64 of it is what objects hold. */
#define PLAIN "cGxhaW5seS12aXNpYmxl"

static const char GCM_1[] = FOR("secrets", KEYS("aesgcm", KEY("key1", SECRET_1)) IDENTITY);
static const char CBC_1[] = FOR("secrets", KEYS("aescbc", KEY("key1", SECRET_1)) IDENTITY);
static const char BOX_1[] = FOR("secrets", KEYS("secretbox", KEY("key1", SECRET_1)) IDENTITY);
static const char BOX_2_CBC_1[] =
	FOR("secrets", KEYS("secretbox", KEY("key2", SECRET_2)) KEYS("aescbc", KEY("key1", SECRET_1)));
static const char GCM_2_1[] = FOR("secrets", KEYS("aesgcm", KEY("key2", SECRET_2) KEY("key1", SECRET_1)) IDENTITY);
static const char OFF_GCM_1[] = FOR("secrets", IDENTITY KEYS("aesgcm", KEY("key1", SECRET_1)));

/* ---- a registry that is opened with a configuration ---- */

struct vault {
	struct fixture f;
	struct encryption *encryption;
};

/* NULL: none. Returns 0 or what opening says. */
static int try_open(struct vault *v, const char *config, struct err *err)
{
	struct store_options so = { .path = v->f.path };
	int r = config ? encryption_parse(str_of(config), &v->encryption, err)
		       : encryption_load(NULL, &v->encryption, err);

	if (r < 0)
		return r;
	so.transform = encryption_transform(v->encryption);
	r = store_open(v->f.loop, &so, &v->f.store, err);
	if (r >= 0)
		r = registry_create_all(v->f.loop, v->f.store, &v->f.options, &v->f.reg, err);
	return r;
}

static void shut(struct vault *v)
{
	fixture_clear(&v->f);
	fixture_close(&v->f);
	encryption_destroy(v->encryption);
	v->encryption = NULL;
}

static void open_with(struct vault *v, const char *config)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (try_open(v, config, &err) < 0)
		fail_msg("%s", err_message(&err));
}

static void must_not_open(struct vault *v, const char *config, const char *words)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (try_open(v, config, &err) >= 0)
		fail_msg("opened, but expected: %s", words);
	assert_string_equal(err_message(&err), words);
	shut(v);
}

static int setup(void **state)
{
	struct vault *v = mem_new(struct vault);
	struct loop_options options = { 0 };

	snprintf(v->f.dir, sizeof(v->f.dir), "/tmp/k3c-encryption-XXXXXX");
	assert_non_null(mkdtemp(v->f.dir));
	snprintf(v->f.path, sizeof(v->f.path), "%s/state.db", v->f.dir);
	assert_int_equal(loop_create(&options, &v->f.loop, NULL), 0);
	v->f.options = (struct registry_options){ "10.43.0.0/16", 30000, 32767, "cluster.local", "10.43.0.10" };
	*state = v;
	return 0;
}

static int teardown(void **state)
{
	struct vault *v = *state;

	shut(v);
	loop_destroy(v->f.loop);
	fs_remove_tree(v->f.dir, NULL);
	free(v);
	return 0;
}

static void make_namespace(struct vault *v)
{
	fixture_namespace(&v->f, "default");
}

static void put(struct vault *v, const struct api_kind *kind, const char *name, const char *data)
{
	char body[512];

	snprintf(body, sizeof(body), "{\"metadata\":{\"name\":\"%s\"},\"data\":{\"k\":\"%s\"}}", name, data);
	fixture_do(&v->f, API_VERB_CREATE, kind, "default", "", body);
	fixture_expect(&v->f, 201, name);
}

static void check_secret(struct vault *v, const char *name)
{
	fixture_do(&v->f, API_VERB_GET, KIND_SECRET, "default", name, "");
	fixture_expect(&v->f, 200, name);
	assert_string_equal(fixture_at(&v->f, "data.k"), PLAIN);
}

/* ---- the files ---- */

/* How often `text` stands in the database and its log. */
static size_t occurrences(const struct vault *v, const char *text)
{
	static const char *const suffixes[] = { "", "-wal" };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		char path[128];
		const char *at, *end;

		snprintf(path, sizeof(path), "%s%s", v->f.path, suffixes[i]);
		if (!fs_exists(path))
			continue;
		assert_int_equal(fs_read(path, 1 << 28, &b, NULL), 0);
		end = b.data + b.end;
		for (at = b.data + b.start; (at = memmem(at, (size_t)(end - at), text, strlen(text))); at++)
			n++;
	}
	return n;
}

static int first_column(void *arg, int n, char **values, char **names)
{
	(void)n;
	(void)names;
	snprintf(arg, 256, "%s", values[0] ? values[0] : "NULL");
	return 0;
}

static void sql(const struct vault *v, const char *text, char ret[static 256])
{
	sqlite3 *db = NULL;
	char *why = NULL;

	ret[0] = 0;
	assert_int_equal(sqlite3_open(v->f.path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, first_column, ret, &why) != SQLITE_OK)
		fail_msg("%s: %s", text, why);
	sqlite3_close(db);
}

/* ---- waiting for the background ---- */

struct rewriting {
	struct vault *v;
	struct loop_timer timer;
	uint64_t stop_at; /* objects left */
};

static void look(struct loop_timer *timer)
{
	struct rewriting *w = container_of(timer, struct rewriting, timer);
	struct store_stats s;

	store_get_stats(w->v->f.store, &s);
	if (w->stop_at > 0 ? s.rewrite_left <= w->stop_at : !s.rewriting)
		loop_stop(w->v->f.loop, 0);
	else
		loop_timer_arm(w->v->f.loop, timer, NS_PER_MS);
}

static void wait_rewritten(struct vault *v)
{
	struct rewriting w = { .v = v };

	loop_timer_init(&w.timer, look);
	loop_timer_arm(v->f.loop, &w.timer, 0);
	loop_timer_init(&v->f.deadline, fixture_late);
	loop_timer_arm(v->f.loop, &v->f.deadline, 60 * NS_PER_S);
	loop_run(v->f.loop);
	loop_timer_cancel(v->f.loop, &v->f.deadline);
	loop_timer_cancel(v->f.loop, &w.timer);
}

/* ---- tests ---- */

static void test_each_provider(void **state)
{
	static const struct {
		const char *config, *prefix;
	} cases[] = {
		{ GCM_1, "k8s:enc:aesgcm:v1:key1:" },
		{ CBC_1, "k8s:enc:aescbc:v1:key1:" },
		{ BOX_1, "k8s:enc:secretbox:v1:key1:" },
		{ FOR("secrets", KEYS("aesgcm", KEY("a", SECRET_16))), "k8s:enc:aesgcm:v1:a:" },
		{ FOR("secrets", KEYS("aescbc", KEY("b", SECRET_24))), "k8s:enc:aescbc:v1:b:" },
		{ FOR("'*.'", KEYS("aesgcm", KEY("c", SECRET_24))), "k8s:enc:aesgcm:v1:c:" },
		{ FOR("'*.*'", KEYS("secretbox", KEY("d", SECRET_2))), "k8s:enc:secretbox:v1:d:" },
	};
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vault *v;

		if (i > 0) {
			teardown(state);
			setup(state);
		}
		v = *state;
		open_with(v, cases[i].config);
		make_namespace(v);
		put(v, KIND_SECRET, "s", PLAIN);
		check_secret(v, "s");
		shut(v);
		assert_int_equal(occurrences(v, PLAIN), 0);
		sql(v, "SELECT CAST(substr(value, 1, 30) AS TEXT) FROM object WHERE key='default/s'", text);
		assert_memory_equal(text, cases[i].prefix, strlen(cases[i].prefix));
		open_with(v, cases[i].config);
		check_secret(v, "s");
	}
}

static void test_only_what_is_asked_for(void **state)
{
	struct vault *v = *state;
	char text[256];

	open_with(v, FOR("secrets, deployments.apps", KEYS("aesgcm", KEY("key1", SECRET_1))));
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	put(v, KIND_CONFIGMAP, "c", "in the clear");
	shut(v);
	assert_int_equal(occurrences(v, PLAIN), 0);
	assert_true(occurrences(v, "in the clear") > 0);
	sql(v, "SELECT count(*) FROM object WHERE key IS NOT NULL", text);
	assert_string_equal(text, "1");
}

/* On later: what was there is read, written again, and nothing of it is left, not in free pages either. */
static void test_on_and_off(void **state)
{
	struct vault *v = *state;
	char name[32];

	open_with(v, NULL);
	make_namespace(v);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		put(v, KIND_SECRET, name, PLAIN);
	}
	fixture_do(&v->f, API_VERB_DELETE, KIND_SECRET, "default", "s0", "");
	shut(v);
	assert_true(occurrences(v, PLAIN) > 100);

	open_with(v, GCM_1);
	check_secret(v, "s1");
	wait_rewritten(v);
	assert_int_equal(occurrences(v, PLAIN), 0); /* while it runs, log and all */
	shut(v);
	assert_int_equal(occurrences(v, PLAIN), 0);
	assert_int_equal(occurrences(v, "k8s:enc:aesgcm:v1:key1:"), 199);

	open_with(v, OFF_GCM_1);
	wait_rewritten(v);
	check_secret(v, "s199");
	shut(v);
	assert_int_equal(occurrences(v, "k8s:enc:"), 0);
	open_with(v, NULL);
	check_secret(v, "s1");
}

/* All that is left of deleted secrets goes too, when encryption begins. */
static void test_nothing_of_the_deleted(void **state)
{
	struct vault *v = *state;

	open_with(v, NULL);
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	fixture_do(&v->f, API_VERB_DELETE, KIND_SECRET, "default", "s", "");
	fixture_expect(&v->f, 200, "delete");
	shut(v);
	open_with(v, GCM_1);
	wait_rewritten(v);
	assert_int_equal(occurrences(v, PLAIN), 0);
}

static void test_rotation(void **state)
{
	struct vault *v = *state;
	struct store_stats s;

	open_with(v, CBC_1);
	make_namespace(v);
	put(v, KIND_SECRET, "a", PLAIN);
	put(v, KIND_SECRET, "b", PLAIN);
	shut(v);
	open_with(v, BOX_2_CBC_1);
	store_get_stats(v->f.store, &s);
	assert_int_equal(s.rewrite_total, 2);
	assert_true(s.rewriting);
	/* One is written by somebody before its turn. */
	fixture_do(&v->f, API_VERB_UPDATE, KIND_SECRET, "default", "a",
		   "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"" PLAIN "\",\"l\":\"\"}}");
	fixture_expect(&v->f, 200, "update");
	wait_rewritten(v);
	store_get_stats(v->f.store, &s);
	assert_int_equal(s.rewrite_left, 0);
	check_secret(v, "a");
	assert_int_equal(occurrences(v, "k8s:enc:aescbc:v1:key1:"), 0);
	assert_true(occurrences(v, "k8s:enc:secretbox:v1:key2:") >= 2);
	shut(v);
	/* The old key is not wanted any more, and nothing is left to do. */
	open_with(v, FOR("secrets", KEYS("secretbox", KEY("key2", SECRET_2))));
	store_get_stats(v->f.store, &s);
	assert_int_equal(s.rewrite_total, 0);
	assert_false(s.rewriting);
	assert_int_equal(s.commits, 0);
	check_secret(v, "b");
}

static void test_keys_of_one_provider(void **state)
{
	struct vault *v = *state;

	open_with(v, GCM_1);
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	shut(v);
	open_with(v, GCM_2_1);
	wait_rewritten(v);
	check_secret(v, "s");
	assert_int_equal(occurrences(v, "k8s:enc:aesgcm:v1:key1:"), 0);
}

static void test_refused_starts(void **state)
{
	struct vault *v = *state;

	open_with(v, GCM_1);
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	shut(v);
	must_not_open(
		v, NULL,
		"secrets default/s is encrypted with aesgcm key \"key1\", which no encryption configuration gives "
		"for it (--encryption-provider-config)");
	must_not_open(
		v, FOR("configmaps", KEYS("aesgcm", KEY("key1", SECRET_1))),
		"secrets default/s is encrypted with aesgcm key \"key1\", which no encryption configuration gives "
		"for it (--encryption-provider-config)");
	must_not_open(
		v, FOR("secrets", KEYS("aesgcm", KEY("key2", SECRET_1))),
		"secrets default/s is encrypted with aesgcm key \"key1\", which the encryption configuration does "
		"not have");
	must_not_open(
		v, FOR("secrets", KEYS("aescbc", KEY("key1", SECRET_1))),
		"secrets default/s is encrypted with aesgcm key \"key1\", which the encryption configuration does "
		"not have");
	must_not_open(
		v, FOR("secrets", KEYS("aesgcm", KEY("key1", SECRET_2))),
		"secrets default/s cannot be decrypted with aesgcm key \"key1\": it was encrypted with another key "
		"of that name, or was changed");
	/* Nothing came of it all. */
	open_with(v, GCM_1);
	check_secret(v, "s");
}

static void test_plain_without_identity(void **state)
{
	struct vault *v = *state;

	open_with(v, NULL);
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	shut(v);
	must_not_open(v, FOR("secrets", KEYS("aesgcm", KEY("key1", SECRET_1))),
		      "secrets default/s is not encrypted, and the encryption configuration does not list the provider "
		      "identity for it");
	open_with(v, NULL);
	check_secret(v, "s");
}

/* Any wrong key of any cipher is found; aescbc, which authenticates nothing, by what comes out. */
static void test_wrong_keys(void **state)
{
	struct vault *v = *state;
	char config[512];

	open_with(v, CBC_1);
	make_namespace(v);
	for (char name[2] = "a"; name[0] <= 'j'; name[0]++)
		put(v, KIND_SECRET, name, PLAIN);
	shut(v);
	for (int i = 0; i < 64; i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		snprintf(config, sizeof(config),
			 FOR("secrets", KEYS("aescbc", KEY("key1", "%cDEyMzQ1Njc4OWFiY2RlZg==")) IDENTITY),
			 "BCDEFGHIJKLNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789BCDE"[i]);
		assert_true(try_open(v, config, &err) < 0);
		assert_non_null(strstr(err_message(&err), "secrets default/"));
		shut(v);
	}
	open_with(v, CBC_1);
	check_secret(v, "a");
}

static void test_changed_bytes(void **state)
{
	static const struct {
		const char *config, *change, *words;
	} cases[] = {
		{ GCM_1, "UPDATE object SET value=substr(value,1,60)||x'00'||substr(value,62) WHERE key='default/a'",
		  "cannot be decrypted with aesgcm key \"key1\"" },
		{ GCM_1, "UPDATE object SET value=substr(value,1,30) WHERE key='default/a'",
		  "cannot be decrypted with aesgcm key \"key1\"" },
		{ GCM_1,
		  "UPDATE object SET value=(SELECT value FROM object WHERE key='default/b') WHERE key='default/a'",
		  "cannot be decrypted with aesgcm key \"key1\"" },
		{ GCM_1, "UPDATE object SET key='other/a' WHERE key='default/a'",
		  "secrets other/a cannot be decrypted with aesgcm key \"key1\"" },
		{ BOX_1, "UPDATE object SET value=substr(value,1,60)||x'00'||substr(value,62) WHERE key='default/a'",
		  "cannot be decrypted with secretbox key \"key1\"" },
		{ BOX_1,
		  "UPDATE object SET value=(SELECT value FROM object WHERE key='default/b') WHERE key='default/a'",
		  "secrets default/a: the stored bytes were changed, or their key is another: they are default/b" },
		{ CBC_1,
		  "UPDATE object SET value=(SELECT value FROM object WHERE key='default/b') WHERE key='default/a'",
		  "secrets default/a: the stored bytes were changed, or their key is another: they are default/b" },
		{ CBC_1, "UPDATE object SET value=substr(value,1,60) WHERE key='default/a'",
		  "cannot be decrypted with aescbc key \"key1\"" },
		/* The first block of the text, by way of the IV. */
		{ CBC_1,
		  "UPDATE object SET value=substr(value,1,23)||zeroblob(16)||substr(value,40) WHERE key='default/a'",
		  "secrets default/a: the stored bytes were changed, or their key is another" },
		{ GCM_1, "UPDATE object SET value=x'6b38733a656e633a' WHERE key='default/a'",
		  "secrets default/a is encrypted with a key that has no readable name" },
	};
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct vault *v;

		if (i > 0) {
			teardown(state);
			setup(state);
		}
		v = *state;
		open_with(v, cases[i].config);
		make_namespace(v);
		put(v, KIND_SECRET, "a", PLAIN);
		put(v, KIND_SECRET, "b", PLAIN);
		shut(v);
		sql(v, cases[i].change, text);
		assert_true(try_open(v, cases[i].config, &err) < 0);
		if (!strstr(err_message(&err), cases[i].words))
			fail_msg("%s: %s, expected %s", cases[i].change, err_message(&err), cases[i].words);
		shut(v);
	}
}

/* ---- a crash at any moment of a rotation ---- */

#define CRASH_SECRETS 400

static void __attribute__((noreturn)) rotate_until_killed(struct vault *v, const char *config)
{
	struct loop_options options = { 0 };

	if (loop_create(&options, &v->f.loop, NULL) < 0 || try_open(v, config, NULL) < 0)
		_exit(1);
	loop_run(v->f.loop);
	_exit(2);
}

static void test_killed_while_rotating(void **state)
{
	struct vault *v = *state;
	char name[32];

	open_with(v, NULL);
	make_namespace(v);
	for (int i = 0; i < CRASH_SECRETS; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		put(v, KIND_SECRET, name, PLAIN);
	}
	shut(v);
	for (int round = 0; round < 10; round++) {
		struct vault child = *v;
		/* The moment of death is what this test varies; nothing is waited for by it. */
		struct timespec pause = { 0, 10000000 + rand() % 150000000 };
		/* To and fro: each start finds some of both. */
		const char *config = round < 4 ? GCM_1 : GCM_2_1;
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			rotate_until_killed(&child, config);
		nanosleep(&pause, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
	}
	open_with(v, GCM_2_1);
	wait_rewritten(v);
	assert_int_equal(occurrences(v, PLAIN), 0);
	assert_int_equal(occurrences(v, "k8s:enc:aesgcm:v1:key1:"), 0);
	for (int i = 0; i < CRASH_SECRETS; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		check_secret(v, name);
	}
}

/* ---- the file ---- */

static void write_config(const struct vault *v, const char *text, mode_t mode, char path[static 128])
{
	int fd;

	snprintf(path, 128, "%s/encryption.yaml", v->f.dir);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void check_file(const char *path, const char *words)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct encryption *e = NULL;
	int r = encryption_load(path, &e, &err);

	encryption_destroy(e);
	if (!words) {
		assert_int_equal(r, 0);
		return;
	}
	assert_true(r < 0);
	assert_non_null(strstr(err_message(&err), path));
	if (!strstr(err_message(&err), words))
		fail_msg("%s, expected %s", err_message(&err), words);
}

static void test_the_file(void **state)
{
	struct vault *v = *state;
	char path[128];

	write_config(v, GCM_1, 0600, path);
	check_file(path, NULL);
	write_config(v, GCM_1, 0400, path);
	check_file(path, NULL);
	write_config(v, GCM_1, 0640, path);
	check_file(path, "must belong to root and have mode 0600, it belongs to uid 0 and has mode 0640");
	write_config(v, GCM_1, 0604, path);
	check_file(path, "has mode 0604");
	write_config(v, GCM_1, 0600, path);
	assert_int_equal(chown(path, 65534, 0), 0);
	check_file(path, "it belongs to uid 65534");
	unlink(path);
	check_file(path, "No such file or directory");
	assert_int_equal(mkdir(path, 0700), 0);
	check_file(path, "is not a file");
	rmdir(path);
	write_config(v, "{", 0600, path);
	check_file(path, "is no YAML");
}

static void test_configurations(void **state)
{
	static const struct {
		const char *text, *words; /* NULL: good */
	} cases[] = {
		{ HEAD "- resources: [secrets]\n  providers: [{identity: {}}]\n", NULL },
		{ FOR("secrets, configmaps, '*.apps'", IDENTITY), NULL },
		{ "", "is no EncryptionConfiguration" },
		{ "apiVersion: v1\nkind: EncryptionConfiguration\n", "is no EncryptionConfiguration" },
		{ HEAD, "resources: Required value: at least one resource configuration is required" },
		{ HEAD "- resources: []\n  providers: [{identity: {}}]\n",
		  "resources[0].resources: Required value: at least one resource is required" },
		{ HEAD "- resources: [secrets]\n",
		  "resources[0].providers: Required value: at least one provider is required" },
		{ HEAD "- resources: [secrets]\n  provider: []\n", "resources[0]: unknown field \"provider\"" },
		{ HEAD "- resources: [secrets]\n  providers: [{}]\n",
		  "resources[0].providers[0]: exactly one provider" },
		{ HEAD "- resources: [secrets]\n  providers: [{identity: {}, aescbc: {}}]\n",
		  "resources[0].providers[0]: exactly one provider" },
		{ HEAD "- resources: [secrets]\n  providers: [{rot13: {}}]\n",
		  "resources[0].providers[0]: unknown field \"rot13\"" },
		{ HEAD "- resources: [secrets]\n  providers: [{kms: {name: x}}]\n",
		  "resources[0].providers[0].kms: key management services are not supported" },
		{ HEAD "- resources: [secrets]\n  providers: [{aesgcm: {keys: []}}]\n",
		  "resources[0].providers[0].aesgcm.keys: Required value: at least one key is required" },
		{ FOR("secrets", KEYS("aescbc", KEY("a", SECRET_16) KEY("a", SECRET_16))),
		  "resources[0].providers[0].aescbc.keys[1].name: Duplicate value: \"a\"" },
		{ FOR("secrets", KEYS("aescbc", KEY("'a:b'", SECRET_16))), "keys[0].name: Invalid value" },
		{ FOR("secrets", KEYS("aescbc", "      - secret: " SECRET_16 "\n")), "keys[0].name: Required value" },
		{ FOR("secrets", KEYS("aescbc", "      - name: a\n")), "keys[0].secret: Required value" },
		{ FOR("secrets", KEYS("aescbc", KEY("a", "'*not base64*'"))),
		  "keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded" },
		{ FOR("secrets", KEYS("aescbc", KEY("a", "c2hvcnQ="))),
		  "secret is not of the expected length, got 5, expected one of [16 24 32]" },
		{ FOR("secrets", KEYS("secretbox", KEY("a", SECRET_16))),
		  "secret is not of the expected length, got 16, expected one of [32]" },
		{ FOR("secrets, secrets", IDENTITY), "resources[0].resources[1]: Duplicate value: \"secrets\"" },
		{ FOR("Secrets", IDENTITY), "resource name should not contain capital letters" },
		{ FOR("'*'", IDENTITY), "wildcards are" },
		{ FOR("'pods.*'", IDENTITY), "wildcards are" },
		{ FOR("pods/status", IDENTITY), "subresources have no bytes of their own" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct encryption *e = NULL;
		int r = encryption_parse(str_of(cases[i].text), &e, &err);

		encryption_destroy(e);
		if ((r < 0) != (cases[i].words != NULL))
			fail_msg("%s: %s", cases[i].text, err_message(&err));
		if (r < 0 && !strstr(err_message(&err), cases[i].words))
			fail_msg("%s, expected %s", err_message(&err), cases[i].words);
		if (r < 0 && (strstr(err_message(&err), "MDEy") || strstr(err_message(&err), "not base64*")))
			fail_msg("a secret is told: %s", err_message(&err));
	}
}

/* A database of before there was encryption gets its new column. */
static void test_an_older_database(void **state)
{
	struct vault *v = *state;
	char text[256];

	open_with(v, NULL);
	make_namespace(v);
	put(v, KIND_SECRET, "s", PLAIN);
	shut(v);
	sql(v, "ALTER TABLE object DROP COLUMN key; PRAGMA user_version=1;", text);
	open_with(v, GCM_1);
	check_secret(v, "s");
	wait_rewritten(v);
	shut(v);
	sql(v, "PRAGMA user_version", text);
	assert_string_equal(text, "2");
	assert_int_equal(occurrences(v, PLAIN), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_provider, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_what_is_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_on_and_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_of_the_deleted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys_of_one_provider, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plain_without_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_while_rotating, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_configurations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_older_database, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
