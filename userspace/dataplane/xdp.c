/* SPDX-License-Identifier: Apache-2.0 */
/* The XDP program on the host's links, where the options ask for it: a pinned link for each, named after the mode and
 * the interface, so that a later server knows what is there. A driver that cannot run it is told once and its link
 * goes on with tc alone. What ends in an orderly way leaves a program on them that passes everything on: an older build
 * may come next that knows nothing of XDP, and tc does the same work meanwhile. Loop thread. */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

#define XDP_PIN "xdp_in_" /* the program, then mode and interface */

static const char *const xdp_modes[] = {
	[DP_XDP_OFF] = "off", [DP_XDP_NATIVE] = "native", [DP_XDP_GENERIC] = "generic"
};

static void xdp_path(const struct dataplane *dp, int ifindex, char ret[static DP_PATH_MAX])
{
	snprintf(ret, DP_PATH_MAX, "%s/links/" XDP_PIN "%s_%d", dp->pin_dir, xdp_modes[dp->options.xdp], ifindex);
}

/* The link that this pin keeps, when it is still on that interface. */
static int xdp_pinned(const char *path, int ifindex)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return -1;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_LINK_TYPE_XDP &&
	    info.xdp.ifindex == (uint32_t)ifindex)
		return fd;
	close(fd);
	unlink(path);
	return -1;
}

static int xdp_attach(struct dataplane *dp, int ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	_cleanup_close_ int link = -1;
	char path[DP_PATH_MAX];

	xdp_path(dp, ifindex, path);
	link = xdp_pinned(path, ifindex);
	if (link >= 0)
		return bpf_link_update(link, dp->programs[DP_PROGRAM_XDP_IN], NULL) < 0 ? -errno : 0;
	opts.flags = dp->options.xdp == DP_XDP_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	link = bpf_link_create(dp->programs[DP_PROGRAM_XDP_IN], ifindex, BPF_XDP, &opts);
	if (link < 0)
		return -errno;
	return bpf_obj_pin(link, path) < 0 ? -errno : 0;
}

/* Of the same attach type as what it replaces: libbpf leaves that out where a kernel does not know it. */
static int xdp_load_pass(enum bpf_attach_type type)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = type);
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, "xdp_rest", "GPL", pass, ARRAY_SIZE(pass), &opts);
}

static bool xdp_replace_by_pass(const char *path)
{
	static const enum bpf_attach_type types[] = { BPF_XDP, 0 };
	_cleanup_close_ int link = bpf_obj_get(path);
	bool done = link < 0;

	for (size_t i = 0; i < ARRAY_SIZE(types) && !done; i++) {
		_cleanup_close_ int program = xdp_load_pass(types[i]);

		done = program >= 0 && bpf_link_update(link, program, NULL) == 0;
	}
	return done || errno == ENOLINK; /* its interface is gone */
}

/* The link itself stays: taking it away would make some drivers set up their queues anew. */
void xdp_rest(const struct dataplane *dp)
{
	_cleanup_free_ char *dir = mem_printf("%s/links", dp->pin_dir);
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, e->d_name);

		if (strncmp(e->d_name, XDP_PIN, strlen(XDP_PIN)) == 0 && !xdp_replace_by_pass(path))
			log_warn("xdp goes on without a server link=%s error=\"%s\"", e->d_name, strerror(errno));
	}
	if (d)
		closedir(d);
}

static bool xdp_wants(const struct dataplane *dp, const char *pin, const int *ifindexes, size_t n)
{
	size_t mode = strlen(xdp_modes[dp->options.xdp]);
	int ifindex = 0;

	pin += strlen(XDP_PIN);
	if (dp->options.xdp == DP_XDP_OFF || strncmp(pin, xdp_modes[dp->options.xdp], mode) != 0 ||
	    sscanf(pin + mode, "_%d", &ifindex) != 1)
		return false;
	for (size_t i = 0; i < n; i++)
		if (ifindexes[i] == ifindex)
			return true;
	return false;
}

static void xdp_detach(const char *path)
{
	_cleanup_close_ int link = bpf_obj_get(path);

	/* One whose interface is gone is nothing to detach. */
	if (link >= 0)
		(void)bpf_link_detach(link);
	unlink(path);
}

/* Of links that are gone or not wanted, or of another mode. */
static void xdp_detach_others(const struct dataplane *dp, const int *ifindexes, size_t n)
{
	_cleanup_free_ char *dir = mem_printf("%s/links", dp->pin_dir);
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		char path[DP_PATH_MAX];

		if (strncmp(e->d_name, XDP_PIN, strlen(XDP_PIN)) != 0 || xdp_wants(dp, e->d_name, ifindexes, n) ||
		    (size_t)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= sizeof(path))
			continue;
		xdp_detach(path);
	}
	closedir(d);
}

static void xdp_tell(struct dataplane *dp)
{
	uint32_t before = dp->meta.flags;

	dp->meta.flags = dp->options.xdp == DP_XDP_OFF ? before & ~(uint32_t)K3C_META_XDP : before | K3C_META_XDP;
	if (dp->meta.flags != before)
		(void)dataplane_meta_write(dp, NULL);
}

void xdp_sync(struct dataplane *dp, const int *ifindexes, size_t n)
{
	/* Until the maps are filled for this build, what runs is the one before's. */
	if (dp->unsettled)
		return;
	xdp_tell(dp);
	xdp_detach_others(dp, ifindexes, n);
	if (dp->options.xdp == DP_XDP_OFF)
		return;
	for (size_t i = 0; i < n; i++) {
		int r = xdp_attach(dp, ifindexes[i]);
		char name[IF_NAMESIZE] = "?";

		if (r == 0 || r == -ENODEV)
			continue;
		if_indextoname((unsigned)ifindexes[i], name);
		log_info("a link does without xdp link=%s mode=%s error=\"%s\"", name, xdp_modes[dp->options.xdp],
			 strerror(-r));
	}
}

void xdp_purge(const char *pin_dir)
{
	_cleanup_free_ char *copy = mem_strdup(pin_dir);
	struct dataplane dp = { .pin_dir = copy };

	xdp_detach_others(&dp, NULL, 0);
}

uint32_t xdp_attached(const struct dataplane *dp)
{
	_cleanup_free_ char *dir = mem_printf("%s/links", dp->pin_dir);
	DIR *d = opendir(dir);
	uint32_t n = 0;
	struct dirent *e;

	if (!d)
		return 0;
	while ((e = readdir(d))) {
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		_cleanup_close_ int link = -1;
		char path[DP_PATH_MAX];

		if (strncmp(e->d_name, XDP_PIN, strlen(XDP_PIN)) != 0 ||
		    (size_t)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= sizeof(path))
			continue;
		link = bpf_obj_get(path);
		n += link >= 0 && bpf_obj_get_info_by_fd(link, &info, &len) == 0 && info.xdp.ifindex != 0;
	}
	closedir(d);
	return n;
}
