/* SPDX-License-Identifier: Apache-2.0 */
/* Starts that are killed at any of their steps, under traffic, each followed by one of the same build or of the other:
 * nothing is refused, nobody reaches another's backend, what is denied never passes, and nothing is left behind. A step
 * is a system call that changes something: the start runs as a traced child, which dies before it makes the n-th. */
#include "tests/dataplane/traffic.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "userspace/dataplane/maps.h"

/* Of the two builds that differ most. K3C_UPGRADE_CUTS: so many, 0: at every step; K3C_UPGRADE_PAIRS: of every pair. */
#define CUTS 4
/* While programs of two builds run, a table may fill with what only the other one saw end. */
#define ENTRIES 16384
#define ENTRIES_MORE 20480
#define PROGRESS 3 /* new connections of each client between a death and the next start */
#define PROGRESS_WAIT_MS 400
#define EXIT_FAILED 3

enum build { BUILD_USUAL, BUILD_PROGRAMS, BUILD_SIZES, BUILD_SERVICES, BUILD_META, BUILD_ALL, BUILD_COUNT };

static const char *const build_names[] = {
	[BUILD_USUAL] = "usual",
	[BUILD_PROGRAMS] = "other programs",
	[BUILD_SIZES] = "other sizes",
	[BUILD_SERVICES] = "other layout of services",
	[BUILD_META] = "other layout of the meta row",
	[BUILD_ALL] = "other layouts of all objects, programs and sizes",
};

static struct traffic traffic;
static unsigned cuts = CUTS;
static enum build other_first = BUILD_ALL;

/* ---- builds: what this one is made of, with other numbers ---- */

static struct dataplane_options build_options(enum build b)
{
	struct dataplane_options o = world_options();

	o.max_connections = ENTRIES;
	o.max_services = 512;
	if (b == BUILD_PROGRAMS || b == BUILD_ALL)
		o.service_nets[DP_V4].bits = 96 + 17;
	if (b == BUILD_SIZES || b == BUILD_ALL) {
		o.max_connections = ENTRIES_MORE;
		o.max_services = 700;
		o.max_policy_entries = 5000;
	}
	return o;
}

static bool build_has_other(enum build b, enum dp_map m)
{
	switch (b) {
	case BUILD_SERVICES:
		return m == DP_MAP_SERVICE;
	case BUILD_META:
		return m == DP_MAP_META;
	case BUILD_ALL:
		return map_rows[m].keep == MAP_REBUILD;
	default:
		return false;
	}
}

/* The table is a constant, but this is a process of its own. */
static void build_become(enum build b)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)map_rows & ~(page - 1);

	if (mprotect((void *)begin, (uintptr_t)(map_rows + DP_MAP_COUNT) - begin, PROT_READ | PROT_WRITE) < 0)
		_exit(EXIT_FAILED);
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		if (build_has_other(b, m))
			((struct map_row *)(uintptr_t)&map_rows[m])->version += 40;
}

/* A server's life, as far as this room knows it: it is killed in the end. */
static _Noreturn void build_run(enum build b)
{
	struct dataplane_options o = build_options(b);
	struct err err = ERR_INIT;

	build_become(b);
	if (dataplane_open(&o, &world.dp, &err) < 0) {
		print_error("%s: %s\n", build_names[b], err_message(&err));
		_exit(EXIT_FAILED);
	}
	write_objects();
	_exit(0);
}

/* ---- starts ---- */

static bool is_step(const struct __ptrace_syscall_info *i)
{
	switch (i->entry.nr) {
	case SYS_bpf:
		switch (i->entry.args[0]) {
		case BPF_MAP_CREATE:
		case BPF_MAP_DELETE_ELEM:
		case BPF_PROG_LOAD:
		case BPF_OBJ_PIN:
		case BPF_LINK_CREATE:
		case BPF_LINK_UPDATE:
		case BPF_LINK_DETACH:
			return true;
		}
		return false;
	case SYS_mkdirat:
	case SYS_unlinkat:
	case SYS_renameat2:
	case SYS_sendto: /* netlink */
	case SYS_sendmsg:
#ifdef SYS_mkdir
	case SYS_mkdir:
	case SYS_rmdir:
	case SYS_unlink:
	case SYS_rename:
#endif
		return true;
	}
	return false;
}

/* True: it was killed before that step (0: never); false: it came to its end. *ret_steps: those that it made. */
static bool start_traced(enum build b, unsigned cut, unsigned *ret_steps)
{
	pid_t child = fork();
	int status;

	*ret_steps = 0;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		build_run(b);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
	for (;;) {
		struct __ptrace_syscall_info i = { 0 };

		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80) ||
		    ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof(i), &i) <= 0 ||
		    i.op != PTRACE_SYSCALL_INFO_ENTRY || !is_step(&i) || ++*ret_steps != cut)
			continue;
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		return true;
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

static void start(enum build b)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		build_run(b);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- what is left ---- */

/* Folders but those that a whole start leaves, and pins but this build's. */
static void nothing_is_left(void)
{
	DIR *d = opendir(world.pin_dir);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, "maps") != 0 && strcmp(e->d_name, "programs") != 0 &&
		    strcmp(e->d_name, "links") != 0)
			fail_msg("left behind: %s", e->d_name);
	closedir(d);
}

/* Whoever is refused will be at once: a few connections tell. */
static void traffic_goes_on(const char *when, enum build before, enum build cut_one, unsigned step)
{
	unsigned at[ARRAY_SIZE(frontends)];
	struct timespec pause = { .tv_nsec = 1000000 };
	bool more = true;

	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
		at[i] = *(volatile unsigned *)&traffic.new[i].connections;
	for (int ms = 0; ms < PROGRESS_WAIT_MS && more; ms++) {
		more = false;
		for (size_t i = 0; i < ARRAY_SIZE(frontends); i++)
			more |= *(volatile unsigned *)&traffic.new[i].connections - at[i] < PROGRESS;
		nanosleep(&pause, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(frontends); i++) {
		const volatile struct load *n = &traffic.new[i], *o = &traffic.old[i];

		if (n->refused + n->wrong + n->broken + o->refused + o->wrong + o->broken)
			fail_msg("%s, step %u of %s after %s: %s:%u: new: %u refused (%s), %u wrong, %u broken, "
				 "old: %u wrong, %u broken",
				 when, step, build_names[cut_one], build_names[before], frontends[i].addr,
				 frontends[i].port, n->refused, strerror(-n->why), n->wrong, n->broken, o->wrong,
				 o->broken);
	}
}

/* ---- builds from before sets of pins: their own are renamed over those that are there, one by one ---- */

/* A map like that one, and empty. */
static int older_map(int fd)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		return -1;
	opts.map_flags = info.map_flags;
	return bpf_map_create(info.type, info.name, info.key_size, info.value_size, info.max_entries, &opts);
}

/* So many of them, then it is killed. */
static void older_lays_out(size_t n)
{
	char dir[128], path[512], fresh[600];
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/maps", world.pin_dir);
	d = opendir(dir);
	assert_non_null(d);
	while (n && (e = readdir(d))) {
		int was, is;

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		was = e->d_type == DT_DIR ? -1 : bpf_obj_get(path);
		is = was < 0 ? -1 : older_map(was);
		if (is >= 0) { /* of sockets' storage there is none without types */
			snprintf(fresh, sizeof(fresh), "%s/fresh", dir);
			assert_int_equal(bpf_obj_pin(is, fresh), 0);
			assert_int_equal(rename(fresh, path), 0);
			close(is);
			n--;
		}
		if (was >= 0)
			close(was);
	}
	closedir(d);
}

/* ---- the tests ---- */

static void cut_at(enum build a, enum build b, enum build next, unsigned step)
{
	unsigned steps;

	start(a);
	nothing_is_left();
	start_traced(b, step, &steps);
	traffic_goes_on("dead", a, b, step);
	start(next);
	traffic_goes_on("started again", a, b, step);
	nothing_is_left();
}

/* The later steps are those that replace. */
static void cut_pair(enum build a, enum build b)
{
	unsigned steps, stride, n = 0;

	start(a);
	assert_false(start_traced(b, 0, &steps));
	stride = cuts && steps > cuts ? steps / cuts : 1;
	print_message("%s, then %s: %u steps\n", build_names[a], build_names[b], steps);
	for (unsigned step = steps; step > 0 && step <= steps; step -= stride) {
		cut_at(a, b, n++ % 2 ? a : b, step);
		if (!cuts)
			cut_at(a, b, n++ % 2 ? a : b, step);
	}
}

static int setup(void **state)
{
	struct dataplane_options o = build_options(BUILD_USUAL);

	ok(dataplane_open(&o, &world.dp, err));
	traffic_begin(&traffic);
	dataplane_close(world.dp);
	world.dp = NULL;
	return 0;
}

static int teardown(void **state)
{
	struct dataplane_options o = build_options(BUILD_USUAL);

	ok(dataplane_open(&o, &world.dp, err));
	write_objects();
	traffic_end(&traffic);
	dataplane_close(world.dp);
	world.dp = NULL;
	return 0;
}

/* Its pins lead to maps that nobody fills; what is at work is still whole. */
static void test_older_build(void **state)
{
	static const enum build next[] = { BUILD_USUAL, BUILD_ALL, BUILD_SIZES };

	for (size_t n = 1; n < DP_MAP_COUNT; n += cuts ? DP_MAP_COUNT / cuts : 1) {
		start(BUILD_USUAL);
		older_lays_out(n);
		traffic_goes_on("laid out", BUILD_USUAL, BUILD_USUAL, (unsigned)n);
		start(next[n % ARRAY_SIZE(next)]);
		traffic_goes_on("started again", BUILD_USUAL, BUILD_USUAL, (unsigned)n);
		nothing_is_left();
	}
}

static void test_cut_short(void **state)
{
	for (enum build other = other_first; other < BUILD_COUNT; other++) {
		cut_pair(BUILD_USUAL, other);
		cut_pair(other, BUILD_USUAL);
	}
}

static void cuts_of_environment(void)
{
	const char *text = getenv("K3C_UPGRADE_CUTS");

	if (text)
		cuts = (unsigned)atoi(text);
	if (getenv("K3C_UPGRADE_PAIRS"))
		other_first = BUILD_USUAL + 1;
}

static int tests(void)
{
	const struct CMUnitTest all[] = {
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_older_build),
	};

	cuts_of_environment();
	world_uplink();
	return cmocka_run_group_tests(all, setup, teardown);
}

int main(void)
{
	return world_run(tests);
}
