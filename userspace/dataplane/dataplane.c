/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, adopting and closing. The kernel holds the state (pinned maps, programs, links); this process holds only
 * what makes writing to it quick, and can rebuild that from the kernel at any time. Loop thread. */
#include "userspace/dataplane/dataplane.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/legacy.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/pressure.h"
#include "userspace/dataplane/strangers.h"

#define DATAPLANE_IP_FORWARD "/proc/sys/net/ipv4/ip_forward"
#define DATAPLANE_IP6_FORWARD "/proc/sys/net/ipv6/conf/all/forwarding"

struct k3c_addr dp_mask(unsigned bits)
{
	struct k3c_addr m = { 0 };

	for (unsigned i = 0; i < bits && i < 128; i++)
		m.b[i / 8] |= (uint8_t)(0x80u >> (i % 8));
	return m;
}

bool dp_addr_in_net(const struct k3c_addr *a, const struct dp_addr *net, unsigned bits)
{
	struct k3c_addr m = dp_mask(bits);

	/* ::/0 and its like contain the mapped addresses only by the way these are written. */
	if (bits < DP_V4_BITS && dp_addr_is_v4(a))
		return false;
	for (int i = 0; i < 16; i++)
		if ((a->b[i] & m.b[i]) != (net->b[i] & m.b[i]))
			return false;
	return true;
}

int dataplane_meta_write(struct dataplane *dp, struct err *err)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(dp->maps[DP_MAP_META], &zero, &dp->meta, BPF_ANY) < 0)
		return err_set(err, -errno, "write %s: %s", maps_name(DP_MAP_META), strerror(errno));
	return 0;
}

uint32_t dataplane_next_set(struct dataplane *dp)
{
	if (dp->next_set == dp->meta.next_set) {
		dp->meta.next_set += DP_SETS_RESERVED;
		if (dp->meta.next_set < DP_SETS_RESERVED) /* 0 means none */
			dp->next_set = 1;
		(void)dataplane_meta_write(dp, NULL);
	}
	return dp->next_set++;
}

static int dataplane_meta_read(struct dataplane *dp, struct err *err)
{
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(dp->maps[DP_MAP_META], &zero, &dp->meta) < 0)
		return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_META), strerror(errno));
	if (dp->meta.next_set == 0) { /* fresh */
		dp->meta.next_set = 1;
		dp->meta.saved_ip_forward = -1;
	}
	dp->next_set = dp->meta.next_set;
	return 0;
}

static void dataplane_net(const struct dp_net *net, struct k3c_addr *ret_net, struct k3c_addr *ret_mask)
{
	*ret_net = (struct k3c_addr){ 0 };
	*ret_mask = (struct k3c_addr){ 0 };
	if (!net->bits)
		return;
	*ret_mask = dp_mask(net->bits);
	for (int i = 0; i < 16; i++)
		ret_net->b[i] = net->addr.b[i] & ret_mask->b[i];
}

uint64_t dataplane_netns_cookie(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0)
		return 0;
	return cookie;
}

static void dataplane_program_options(const struct dataplane *dp, struct k3c_options *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (int f = 0; f < DP_FAMILIES; f++) {
		dataplane_net(&dp->options.pod_nets[f], &ret->pod_net[f], &ret->pod_mask[f]);
		dataplane_net(&dp->options.service_nets[f], &ret->service_net[f], &ret->service_mask[f]);
	}
	ret->link_header = ETHER_HDR_LEN;
	snat_ranges(dp->options.node_port_min, dp->options.node_port_max, ret);
}

static struct dataplane *dataplane_new(const char *pin_dir)
{
	struct dataplane *dp = mem_new(struct dataplane);

	dp->pin_dir = mem_strdup(pin_dir);
	dp->mtu = DP_MTU_DEFAULT;
	for (int i = 0; i < DP_MAP_COUNT; i++)
		dp->maps[i] = -1;
	for (int i = 0; i < DP_SETS_MAX; i++)
		for (int m = 0; m < DP_MAP_COUNT; m++)
			dp->old_maps[i][m] = -1;
	for (int i = 0; i < DP_PROGRAM_COUNT; i++)
		dp->programs[i] = -1;
	return dp;
}

void dataplane_close(struct dataplane *dp)
{
	if (!dp)
		return;
	if (dp->started && !dp->unsettled) /* else an older build's own are still there */
		legacy_leave(dp);
	sockets_finish(dp);
	policy_unload_sets(dp);
	pods_forget(dp);
	links_finish(dp);
	nl_close(dp->nl);
	nl_close(dp->links);
	for (int i = 0; i < DP_MAP_COUNT; i++)
		mem_closep(&dp->maps[i]);
	maps_forget_old(dp);
	for (int i = 0; i < DP_PROGRAM_COUNT; i++)
		mem_closep(&dp->programs[i]);
	own_finish(dp);
	pressure_finish(dp);
	free(dp->direct);
	free(dp->pin_dir);
	free(dp->cgroup2_dir);
	free(dp);
}

static void dataplane_closep(struct dataplane **dp)
{
	dataplane_close(*dp);
}

/* 1: it was off. */
static int dataplane_sysctl_raise(const char *path, struct err *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	int r = fs_read(path, 16, &text, err);

	if (r < 0 || (buf_len(&text) && text.data[text.start] == '1'))
		return r < 0 ? r : 0;
	r = fs_write(path, "1", err);
	return r < 0 ? r : 1;
}

/* Remembered in the meta row until purge. A family without pods is left alone. */
static int dataplane_forwarding(struct dataplane *dp, struct err *err)
{
	int r = 0;

	if (dp->options.pod_nets[DP_V4].bits)
		r = dataplane_sysctl_raise(DATAPLANE_IP_FORWARD, err);
	if (r > 0)
		dp->meta.saved_ip_forward = 0;
	if (r < 0 || !dp->options.pod_nets[DP_V6].bits)
		return r < 0 ? r : 0;
	/* Links that learn their routes from routers first: turning forwarding on makes the others forget theirs. */
	r = links_keep_router_advertisements(dp, err);
	if (r == 0)
		r = dataplane_sysctl_raise(DATAPLANE_IP6_FORWARD, err);
	if (r > 0)
		dp->meta.raised_ip6_forward = 1;
	return r < 0 ? r : 0;
}

/* Same build and options, and everything there: nothing to load. */
static int dataplane_load_programs(struct dataplane *dp, uint8_t ret_id[static 32], struct err *err)
{
	struct k3c_options options;
	uint8_t id[32];
	int r = 0;

	dataplane_program_options(dp, &options);
	programs_build_id(&options, dataplane_netns_cookie(), id);
	if (!programs_are_of(dp->pin_dir, id) || programs_open_pinned(dp, NULL) < 0 || strangers_use_other_maps(dp))
		r = programs_load(dp, &options, err);
	if (r < 0)
		return r;
	/* For builds that look there: before these are pinned, so that they are never taken for another's. */
	memcpy(dp->meta.build_id, id, sizeof(id));
	memcpy(ret_id, id, sizeof(id));
	return dataplane_meta_write(dp, err);
}

/* Programs that run on meanwhile are told, as far as their row can be read. */
static void dataplane_tell_old(struct dataplane *dp)
{
	uint32_t zero = 0;

	for (size_t i = 0; i < DP_SETS_MAX; i++) {
		int fd = dp->old_maps[i][DP_MAP_META];
		struct k3c_meta row;

		if (fd < 0 || bpf_map_lookup_elem(fd, &zero, &row) < 0 || (row.flags & K3C_META_MOVING))
			continue;
		row.flags |= K3C_META_MOVING;
		(void)bpf_map_update_elem(fd, &zero, &row, BPF_ANY);
	}
}

/* From before the first program is replaced until the last one is and the tables are one again. */
static int dataplane_moving(struct dataplane *dp, bool moving, struct err *err)
{
	uint32_t before = dp->meta.flags;

	if (moving)
		dataplane_tell_old(dp);
	dp->meta.flags = moving ? before | K3C_META_MOVING : before & ~(uint32_t)K3C_META_MOVING;
	return dp->meta.flags != before ? dataplane_meta_write(dp, err) : 0;
}

static int dataplane_forget_old(struct dataplane *dp, struct err *err)
{
	strangers_drop(dp);
	maps_settle(dp);
	dp->maps_changed = dp->maps_anew = false;
	return dataplane_moving(dp, false, err);
}

/* Up to here a start that is cut short leaves nothing behind. The maps are filled; from here on they and the programs
 * are what the next start goes on from, whatever build it is of, and the programs are replaced one by one. */
static int dataplane_take_over(struct dataplane *dp, const uint8_t build_id[static 32], struct err *err)
{
	int r = dataplane_moving(dp, dp->maps_changed, err);

	if (r < 0)
		return r;
	maps_refresh(dp);
	r = maps_put_in_place(dp, err);
	if (r == 0)
		r = programs_put_in_place(dp, build_id, err);
	return r < 0 ? r : programs_attach_cgroup(dp, err);
}

static int dataplane_start(struct dataplane *dp, struct err *err)
{
	uint8_t id[32];
	int r = dataplane_meta_read(dp, err);

	dp->unsettled = r == 0 && dp->attached && dp->maps_anew;
	if (dp->unsettled)
		(void)programs_open_pinned(dp, NULL);
	if (r == 0)
		r = dataplane_forwarding(dp, err);
	if (r == 0)
		r = dp->unsettled ? dataplane_meta_write(dp, err) : dataplane_load_programs(dp, id, err);
	if (r == 0)
		r = policy_load_sets(dp, err);
	if (r == 0)
		(void)services_collect_orphans(dp);
	if (r == 0 && !dp->unsettled)
		r = dataplane_take_over(dp, id, err);
	if (r == 0)
		r = pods_adopt(dp, err);
	if (r == 0)
		r = direct_open(dp, err);
	if (r == 0)
		r = links_open(dp, err);
	if (r == 0)
		r = links_routes(dp, err);
	if (r == 0)
		own_open(dp);
	if (r == 0 && !dp->unsettled)
		r = dataplane_forget_old(dp, err);
	return r;
}

int dataplane_settle(struct dataplane *dp, struct err *err)
{
	uint8_t id[32];
	int r;

	if (!dp->unsettled)
		return 0;
	dp->unsettled = false;
	r = dataplane_load_programs(dp, id, err);
	if (r == 0)
		r = dataplane_take_over(dp, id, err);
	if (r == 0)
		pods_filters_or_none(dp);
	if (r == 0)
		r = links_sync(dp, err);
	if (r < 0) {
		dp->unsettled = true;
		return err_wrap(err, r, "replace the programs of another build");
	}
	own_follow(dp);
	(void)rates_adopt(dp);
	return dataplane_forget_old(dp, err);
}

int dataplane_open(const struct dataplane_options *options, struct dataplane **ret, struct err *err)
{
	_cleanup_(dataplane_closep) struct dataplane *dp = dataplane_new(options->pin_dir);
	int r;

	dp->options = *options;
	dp->options.pin_dir = dp->pin_dir;
	dp->options.cgroup2_dir = NULL;
	dp->options.cgroup2_own = NULL;
	r = bpffs_prepare(dp->pin_dir, err);
	if (r < 0)
		return r;
	if (options->cgroup2_dir)
		dp->cgroup2_dir = mem_strdup(options->cgroup2_dir);
	else
		r = bpffs_cgroup2_root(options->cgroup2_own, &dp->cgroup2_dir, err);
	if (r == 0)
		r = nl_open(NETLINK_ROUTE, &dp->nl, err);
	if (r == 0)
		r = maps_open(dp, err);
	if (r == 0)
		r = dataplane_start(dp, err);
	dp->options.direct_nets = NULL; /* the caller's */
	dp->options.n_direct_nets = 0;
	if (r < 0)
		return err_wrap(err, r, "dataplane");
	dp->started = true;
	*ret = TAKE_PTR(dp);
	return 0;
}

int dataplane_open_readonly(const char *pin_dir, struct dataplane **ret, struct err *err)
{
	_cleanup_(dataplane_closep) struct dataplane *dp = dataplane_new(pin_dir);
	int r;

	dp->readonly = true;
	r = maps_open_pinned(dp, err);
	if (r < 0)
		return r;
	/* A half-made dataplane can still be looked at. */
	(void)programs_open_pinned(dp, NULL);
	(void)nl_open(NETLINK_ROUTE, &dp->nl, NULL);
	*ret = TAKE_PTR(dp);
	return 0;
}
