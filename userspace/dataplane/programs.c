/* SPDX-License-Identifier: Apache-2.0 */
/* The programs: one row each. A program of a new build replaces the old one in place (a link's program is exchanged,
 * a tc filter replaced under its handle), so no packet ever meets a hook without a program. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf/include/meta.h" /* the skeletons name its types */

#include "bpf/bind.skel.h"
#include "bpf/host.skel.h"
#include "bpf/own.skel.h"
#include "bpf/pod.skel.h"
#include "bpf/rate.skel.h"
#include "bpf/service.skel.h"
#include "bpf/sock4.skel.h"
#include "bpf/sock6.skel.h"
#include "bpf/xdp.skel.h"
#include "userspace/base/encode.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/pinset.h"

struct object_row {
	const char *name;
	const void *(*elf)(size_t *size);
	bool l3;  /* loaded once more, for links whose packets begin with the IP header */
	bool xdp; /* loaded where the options ask for XDP */
};

enum {
	OBJECT_SOCK4,
	OBJECT_SOCK6,
	OBJECT_BIND,
	OBJECT_POD,
	OBJECT_SERVICE,
	OBJECT_RATE,
	OBJECT_HOST,
	OBJECT_HOST_L3,
	OBJECT_OWN,
	OBJECT_XDP,
	OBJECT_COUNT
};

static const struct object_row object_rows[OBJECT_COUNT] = {
	[OBJECT_SOCK4] = { "sock4", sock4_bpf__elf_bytes },
	[OBJECT_SOCK6] = { "sock6", sock6_bpf__elf_bytes },
	[OBJECT_BIND] = { "bind", bind_bpf__elf_bytes },
	[OBJECT_POD] = { "pod", pod_bpf__elf_bytes },
	[OBJECT_SERVICE] = { "service", service_bpf__elf_bytes },
	[OBJECT_RATE] = { "rate", rate_bpf__elf_bytes },
	[OBJECT_HOST] = { "host", host_bpf__elf_bytes },
	[OBJECT_HOST_L3] = { "host_l3", host_bpf__elf_bytes, true },
	[OBJECT_OWN] = { "own", own_bpf__elf_bytes },
	[OBJECT_XDP] = { "xdp", xdp_bpf__elf_bytes, .xdp = true },
};

struct program_row {
	const char *name;
	int object;
	int attach_type;      /* at the cgroup2 root; -1: on links, by tc */
	const char *function; /* NULL: `name` */
};

static const struct program_row program_rows[DP_PROGRAM_COUNT] = {
	[DP_PROGRAM_CONNECT4] = { "sock_connect4", OBJECT_SOCK4, BPF_CGROUP_INET4_CONNECT },
	[DP_PROGRAM_SENDMSG4] = { "sock_sendmsg4", OBJECT_SOCK4, BPF_CGROUP_UDP4_SENDMSG },
	[DP_PROGRAM_RECVMSG4] = { "sock_recvmsg4", OBJECT_SOCK4, BPF_CGROUP_UDP4_RECVMSG },
	[DP_PROGRAM_GETPEER4] = { "sock_getpeer4", OBJECT_SOCK4, BPF_CGROUP_INET4_GETPEERNAME },
	[DP_PROGRAM_CONNECT6] = { "sock_connect6", OBJECT_SOCK6, BPF_CGROUP_INET6_CONNECT },
	[DP_PROGRAM_SENDMSG6] = { "sock_sendmsg6", OBJECT_SOCK6, BPF_CGROUP_UDP6_SENDMSG },
	[DP_PROGRAM_RECVMSG6] = { "sock_recvmsg6", OBJECT_SOCK6, BPF_CGROUP_UDP6_RECVMSG },
	[DP_PROGRAM_GETPEER6] = { "sock_getpeer6", OBJECT_SOCK6, BPF_CGROUP_INET6_GETPEERNAME },
	[DP_PROGRAM_BIND4] = { "sock_bind4", OBJECT_BIND, BPF_CGROUP_INET4_BIND },
	[DP_PROGRAM_BIND6] = { "sock_bind6", OBJECT_BIND, BPF_CGROUP_INET6_BIND },
	[DP_PROGRAM_POD_OUT] = { "pod_out", OBJECT_POD, -1 },
	[DP_PROGRAM_POD_IN] = { "pod_in", OBJECT_POD, -1 },
	[DP_PROGRAM_POD_PASS] = { "pod_pass", OBJECT_POD, -1 },
	[DP_PROGRAM_SERVICE_OUT] = { "service_out", OBJECT_SERVICE, -1 },
	[DP_PROGRAM_SERVICE_BACK] = { "service_back", OBJECT_SERVICE, -1 },
	[DP_PROGRAM_POD_PACE] = { "pod_pace", OBJECT_RATE, -1 },
	[DP_PROGRAM_HOST_IN] = { "host_in", OBJECT_HOST, -1 },
	[DP_PROGRAM_HOST_OUT] = { "host_out", OBJECT_HOST, -1 },
	[DP_PROGRAM_HOST_L3_IN] = { "host_l3_in", OBJECT_HOST_L3, -1, "host_in" },
	[DP_PROGRAM_HOST_L3_OUT] = { "host_l3_out", OBJECT_HOST_L3, -1, "host_out" },
	[DP_PROGRAM_OWN_OUT] = { "own_out", OBJECT_OWN, -1 },
	[DP_PROGRAM_OWN_IN] = { "own_in", OBJECT_OWN, -1 },
	[DP_PROGRAM_OWN_LO] = { "own_lo", OBJECT_OWN, -1 },
	[DP_PROGRAM_XDP_IN] = { "xdp_in", OBJECT_XDP, -1 },
};

const char *programs_name(enum dp_program p)
{
	return program_rows[p].name;
}

static void programs_path(const char *pin_dir, const char *kind, enum dp_program p, char ret[static DP_PATH_MAX])
{
	snprintf(ret, DP_PATH_MAX, "%s/%s/%s", pin_dir, kind, program_rows[p].name);
}

/* Of all that is compiled into this binary. */
static const uint8_t *programs_code_id(void)
{
	static uint8_t id[32];
	static bool known;
	_cleanup_buf_ struct buf all = BUF_INIT;

	for (int i = 0; i < OBJECT_COUNT && !known; i++) {
		size_t size;
		const void *elf = object_rows[i].elf(&size);

		buf_add(&all, elf, size);
	}
	if (!known)
		sha256(all.data + all.start, buf_len(&all), id);
	known = true;
	return id;
}

void programs_build_id(const struct k3c_options *options, uint64_t host_netns, uint8_t ret[static 32])
{
	_cleanup_buf_ struct buf all = BUF_INIT;

	buf_add(&all, programs_code_id(), 32);
	buf_add(&all, options, sizeof(*options));
	buf_add(&all, &host_netns, sizeof(host_netns));
	sha256(all.data + all.start, buf_len(&all), ret);
}

static bool programs_wants(const struct dataplane *dp, int object)
{
	return !object_rows[object].xdp || dp->options.xdp != DP_XDP_OFF;
}

/* Who only looks takes what is there. */
int programs_open_pinned(struct dataplane *dp, struct err *err)
{
	char folder[DP_PATH_MAX];
	int r = 0;

	if (dp->readonly)
		snprintf(folder, sizeof(folder), "%s/" PINSET_PROGRAMS, dp->pin_dir);
	else
		pinset_own(dp->pin_dir, PINSET_PROGRAMS, folder);
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", folder, program_rows[p].name);

		if (!dp->readonly && !programs_wants(dp, program_rows[p].object))
			continue;
		if (dp->programs[p] < 0)
			dp->programs[p] = bpf_obj_get(path);
		if (dp->programs[p] < 0 && programs_wants(dp, program_rows[p].object) && r == 0)
			r = err_set(err, -errno, "%s: %s", path, strerror(errno));
	}
	return r;
}

#define PROGRAMS_MARK "build_" /* and its number */
#define PROGRAMS_MARK_SIZE (sizeof(PROGRAMS_MARK) + 64)

static void programs_mark(const uint8_t build_id[static 32], char ret[static PROGRAMS_MARK_SIZE])
{
	char *end = stpcpy(ret, PROGRAMS_MARK);

	for (int i = 0; i < 32; i++)
		end += sprintf(end, "%02x", build_id[i]);
}

bool programs_are_of(const char *pin_dir, const uint8_t build_id[static 32])
{
	char mark[PROGRAMS_MARK_SIZE];

	programs_mark(build_id, mark);
	return pinset_is_marked(pin_dir, PINSET_PROGRAMS, mark);
}

static bool programs_are_in_place(const struct dataplane *dp, const uint8_t build_id[static 32])
{
	bool same = programs_are_of(dp->pin_dir, build_id);
	size_t n = 0;

	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT && same; p++) {
		if (!programs_wants(dp, program_rows[p].object))
			continue;
		n++;
		same = pinset_holds(dp->pin_dir, PINSET_PROGRAMS, program_rows[p].name, dp->programs[p]);
	}
	return same && pinset_count(dp->pin_dir, PINSET_PROGRAMS) == n;
}

int programs_put_in_place(struct dataplane *dp, const uint8_t build_id[static 32], struct err *err)
{
	char mark[PROGRAMS_MARK_SIZE];
	int r;

	pinset_drop_old(dp->pin_dir, PINSET_PROGRAMS); /* those that are attached live on by that */
	if (programs_are_in_place(dp, build_id))
		return 0;
	r = pinset_begin(dp->pin_dir, PINSET_PROGRAMS, err);
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT && r == 0; p++)
		if (programs_wants(dp, program_rows[p].object))
			r = pinset_add(dp->pin_dir, PINSET_PROGRAMS, program_rows[p].name, dp->programs[p], err);
	programs_mark(build_id, mark);
	if (r == 0)
		r = pinset_mark(dp->pin_dir, PINSET_PROGRAMS, mark, err);
	if (r == 0)
		r = pinset_commit(dp->pin_dir, PINSET_PROGRAMS, err);
	if (r == 0)
		pinset_drop_old(dp->pin_dir, PINSET_PROGRAMS);
	return r;
}

static int programs_keep(struct dataplane *dp, enum dp_program p, int fd, struct err *err)
{
	if (dp->programs[p] >= 0)
		close(dp->programs[p]);
	dp->programs[p] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return dp->programs[p] < 0 ? err_set(err, -errno, "program %s: %s", program_rows[p].name, strerror(errno)) : 0;
}

static int programs_set_constant(struct bpf_object *object, struct bpf_map *map, const void *value, size_t size,
				 struct err *err)
{
	int r = bpf_map__set_initial_value(map, value, size);

	return r < 0 ? err_set(err, r, "%s of %s: %s", bpf_map__name(map), bpf_object__name(object), strerror(-r)) : 0;
}

static int programs_prepare(struct dataplane *dp, struct bpf_object *object, const struct k3c_options *options,
			    struct err *err)
{
	uint64_t host_netns;
	struct bpf_map *map;
	int r;

	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);

		r = 0;
		if (strcmp(name, ".rodata.options") == 0)
			r = programs_set_constant(object, map, options, sizeof(*options), err);
		if (strcmp(name, ".rodata.host") == 0) {
			host_netns = dataplane_netns_cookie();
			r = programs_set_constant(object, map, &host_netns, sizeof(host_netns), err);
		}
		if (r < 0)
			return r;
		for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
			if (strcmp(name, maps_name(m)) != 0)
				continue;
			r = bpf_map__reuse_fd(map, dp->maps[m]);
			if (r < 0)
				return err_set(err, r, "map %s: %s", maps_name(m), strerror(-r));
			break; /* reuse replaced the name */
		}
	}
	return 0;
}

/* libbpf's own words about the last failure; one thread loads. Of a verifier's log the end is what tells. */
#define PROGRAMS_LOG_BYTES 2048
static char programs_log[PROGRAMS_LOG_BYTES];

static int programs_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	_cleanup_free_ char *line = NULL;
	size_t n, have;

	if (level != LIBBPF_WARN || vasprintf(&line, fmt, ap) < 0)
		return 0;
	log_debug("libbpf: %s", line);
	n = strlen(line);
	if (n >= sizeof(programs_log) / 2) {
		memmove(line, line + n - sizeof(programs_log) / 2, sizeof(programs_log) / 2 + 1);
		n = sizeof(programs_log) / 2;
	}
	have = strlen(programs_log);
	if (have + n >= sizeof(programs_log)) {
		memmove(programs_log, programs_log + have - (sizeof(programs_log) - n - 1), sizeof(programs_log) - n);
		have = sizeof(programs_log) - n - 1;
	}
	memcpy(programs_log + have, line, n + 1);
	return 0;
}

int programs_open_object(struct dataplane *dp, int o, const struct k3c_options *options, struct bpf_object **ret,
			 struct err *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = object_rows[o].name);
	struct k3c_options own = *options;
	struct bpf_object *object;
	size_t size;
	const void *elf = object_rows[o].elf(&size);
	int r;

	if (object_rows[o].l3)
		own.link_header = 0;
	object = bpf_object__open_mem(elf, size, &opts);
	if (!object)
		return err_set(err, -errno, "object %s: %s", object_rows[o].name, strerror(errno));
	r = programs_prepare(dp, object, &own, err);
	if (r < 0) {
		bpf_object__close(object);
		return r;
	}
	*ret = object;
	return 0;
}

int programs_object_count(void)
{
	return OBJECT_COUNT;
}

static const char *programs_function(enum dp_program p)
{
	return program_rows[p].function ? program_rows[p].function : program_rows[p].name;
}

const char *programs_name_in(int o, const char *function)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++)
		if (program_rows[p].object == o && strcmp(programs_function(p), function) == 0)
			return program_rows[p].name;
	return NULL;
}

static int programs_load_object(struct dataplane *dp, int o, const struct k3c_options *options, struct err *err)
{
	struct bpf_object *object = NULL;
	int r = programs_open_object(dp, o, options, &object, err);

	if (r < 0)
		return r;
	r = bpf_object__load(object);
	if (r < 0)
		err_set(err, r, "load %s: %s: %s", object_rows[o].name, strerror(-r), programs_log);
	for (enum dp_program p = 0; r == 0 && p < DP_PROGRAM_COUNT; p++) {
		struct bpf_program *program;

		if (program_rows[p].object != o)
			continue;
		program = bpf_object__find_program_by_name(object, programs_function(p));
		if (!program)
			r = err_set(err, -ENOENT, "program %s: not in its object", program_rows[p].name);
		else
			r = programs_keep(dp, p, bpf_program__fd(program), err);
	}
	bpf_object__close(object);
	return r;
}

int programs_load(struct dataplane *dp, const struct k3c_options *options, struct err *err)
{
	libbpf_print_fn_t before = libbpf_set_print(programs_print);
	int r = 0;

	programs_log[0] = 0;
	for (int o = 0; r == 0 && o < OBJECT_COUNT; o++)
		if (programs_wants(dp, o))
			r = programs_load_object(dp, o, options, err);
	libbpf_set_print(before);
	return r;
}

/* Programs that are gone on in (bpf/include/tail.h); a pinned map keeps them. */
static const enum dp_program program_tails[K3C_TAIL_COUNT] = {
	[K3C_TAIL_SERVICE_OUT] = DP_PROGRAM_SERVICE_OUT,
	[K3C_TAIL_SERVICE_BACK] = DP_PROGRAM_SERVICE_BACK,
	[K3C_TAIL_POD_PASS] = DP_PROGRAM_POD_PASS,
	[K3C_TAIL_POD_IN] = DP_PROGRAM_POD_IN,
};

uint32_t programs_id(int fd)
{
	return pinset_id(fd);
}

uint32_t programs_tails_missing(struct dataplane *dp)
{
	uint32_t missing = 0;

	for (uint32_t i = 0; i < K3C_TAIL_COUNT; i++) {
		uint32_t id;

		if (bpf_map_lookup_elem(dp->maps[DP_MAP_TAIL], &i, &id) < 0 ||
		    id != programs_id(dp->programs[program_tails[i]]))
			missing++;
	}
	return missing;
}

static int programs_set_tails(struct dataplane *dp, struct err *err)
{
	for (uint32_t i = 0; i < K3C_TAIL_COUNT; i++)
		if (bpf_map_update_elem(dp->maps[DP_MAP_TAIL], &i, &dp->programs[program_tails[i]], BPF_ANY) < 0)
			return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_TAIL), strerror(errno));
	return 0;
}

/* The pinned link, when it is still attached to that cgroup. */
static int programs_link(const char *path, uint64_t cgroup_id)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return -1;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
	    info.cgroup.cgroup_id == cgroup_id)
		return fd;
	close(fd);
	unlink(path);
	return -1;
}

/* Attached is not enough: an exclusive program nearer to the root would keep ours from running. */
static bool programs_effective(int cgroup_fd, int attach_type, uint32_t id)
{
	uint32_t ids[64], n = ARRAY_SIZE(ids), flags = 0;

	if (bpf_prog_query(cgroup_fd, (enum bpf_attach_type)attach_type, BPF_F_QUERY_EFFECTIVE, &flags, ids, &n) < 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static int programs_attach_one(struct dataplane *dp, enum dp_program p, int cgroup_fd, uint64_t cgroup_id,
			       struct err *err)
{
	_cleanup_close_ int link = -1;
	char path[DP_PATH_MAX];

	programs_path(dp->pin_dir, "links", p, path);
	link = programs_link(path, cgroup_id);
	if (link >= 0) {
		if (bpf_link_update(link, dp->programs[p], NULL) < 0)
			return err_set(err, -errno, "replace %s: %s", program_rows[p].name, strerror(errno));
	} else {
		link = bpf_link_create(dp->programs[p], cgroup_fd, (enum bpf_attach_type)program_rows[p].attach_type,
				       NULL);
		if (link < 0)
			return err_set(err, -errno, "attach %s to %s: %s", program_rows[p].name, dp->cgroup2_dir,
				       strerror(errno));
		if (bpf_obj_pin(link, path) < 0)
			return err_set(err, -errno, "pin %s: %s", path, strerror(errno));
	}
	if (!programs_effective(cgroup_fd, program_rows[p].attach_type, programs_id(dp->programs[p])))
		return err_set(err, -EBUSY, "%s is attached to %s but not effective there", program_rows[p].name,
			       dp->cgroup2_dir);
	return 0;
}

int programs_attach_cgroup(struct dataplane *dp, struct err *err)
{
	_cleanup_close_ int cgroup_fd = open(dp->cgroup2_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char links[DP_PATH_MAX];
	struct stat st;
	int r = 0;

	snprintf(links, sizeof(links), "%s/links", dp->pin_dir);
	if (cgroup_fd < 0 || fstat(cgroup_fd, &st) < 0)
		return err_set(err, -errno, "%s: %s", dp->cgroup2_dir, strerror(errno));
	if (mkdir(links, 0700) < 0 && errno != EEXIST) /* somebody took it away */
		return err_set(err, -errno, "%s: %s", links, strerror(errno));
	for (enum dp_program p = 0; r == 0 && p < DP_PROGRAM_COUNT; p++)
		if (program_rows[p].attach_type >= 0)
			r = programs_attach_one(dp, p, cgroup_fd, st.st_ino, err);
	return r == 0 ? programs_set_tails(dp, err) : r;
}

void programs_detach_cgroup(const char *pin_dir)
{
	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT; p++) {
		_cleanup_close_ int link = -1;
		char path[DP_PATH_MAX];

		programs_path(pin_dir, "links", p, path);
		link = bpf_obj_get(path);
		if (link >= 0)
			bpf_link_detach(link);
	}
}

bool programs_is_at_cgroup(enum dp_program p)
{
	return program_rows[p].attach_type >= 0;
}

bool programs_is_attached(struct dataplane *dp, enum dp_program p)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	_cleanup_close_ int link = -1;
	char path[DP_PATH_MAX];

	programs_path(dp->pin_dir, "links", p, path);
	link = bpf_obj_get(path);
	return link >= 0 && bpf_obj_get_info_by_fd(link, &info, &len) == 0 && info.cgroup.cgroup_id != 0;
}
