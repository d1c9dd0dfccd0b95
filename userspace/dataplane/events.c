/* SPDX-License-Identifier: Apache-2.0 */
/* The one who listens to the programs. A lock on the pin folder says who; the row that wakes the programs is mapped, so
 * that it is renewed without losing what they count in it. See inspect.h. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/include/event.h"
#include "userspace/base/clock.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/dataplane/internal.h"

/* A listener that dies costs the programs this long, and a clock reading at drops from then on. */
#define EVENTS_LEASE_NS (5 * NS_PER_S)

_Static_assert(DP_EVENT_DROP == (int)K3C_EVENT_DROP && DP_EVENT_TRANSLATE == (int)K3C_EVENT_TRANSLATE, "types");
_Static_assert(DP_VIA_SOCKET == (int)K3C_VIA_SOCKET && DP_VIA_MASQUERADE == (int)K3C_VIA_MASQUERADE, "via");

struct dp_listener {
	struct dataplane *dp;
	int lock_fd;
	volatile struct k3c_listen *row;
	size_t row_size;
	struct ring_buffer *ring;
	uint64_t host_cookie;
	dataplane_event_fn *fn; /* NULL: what comes is thrown away */
	void *arg;
};

/* Programs tell the identities that they had at hand; a socket has none. */
static uint32_t event_identity(struct dataplane *dp, uint32_t told, const struct dp_addr *addr)
{
	struct dp_endpoint e;

	return !told && dataplane_endpoint_get(dp, addr, &e) == 0 ? e.identity : told;
}

static void event_of_socket(const struct dp_listener *l, const struct k3c_event *e, struct dp_event *ret)
{
	struct dp_addr addrs[DP_FAMILIES];

	ret->in_host = e->netns_cookie && e->netns_cookie == l->host_cookie;
	ret->in_pod = !ret->in_host && e->netns_cookie && dataplane_netns_pod(l->dp, e->netns_cookie, addrs);
	if (ret->in_pod && dp_addr_is_zero(&e->src))
		ret->src = addrs[dp_addr_is_v4(&e->dst) ? DP_V4 : DP_V6];
}

static void event_out(const struct dp_listener *l, const struct k3c_event *e, struct dp_event *ret)
{

	*ret = (struct dp_event){
		.time_ns = e->time_ns,
		.type = e->type,
		.via = e->via,
		.proto = e->proto,
		.reason = e->type == K3C_EVENT_DROP ? dataplane_drop_name(e->reason) : NULL,
		.src = dp_addr_out(&e->src),
		.dst = dp_addr_out(&e->dst),
		.to = dp_addr_out(&e->to),
		.sport = ntohs(e->sport),
		.dport = ntohs(e->dport),
		.to_port = ntohs(e->to_port),
		.src_identity = e->src_identity,
		.dst_identity = e->dst_identity,
		.ifindex = e->ifindex,
		.length = e->length,
		.netns_cookie = e->netns_cookie,
	};
	event_of_socket(l, e, ret);
	ret->src_identity = event_identity(l->dp, e->src_identity, &ret->src);
	ret->dst_identity = event_identity(l->dp, e->dst_identity, &ret->dst);
}

static int listener_event(void *arg, void *data, size_t size)
{
	struct dp_listener *l = arg;
	struct dp_event e;

	if (!l->fn || size < sizeof(struct k3c_event))
		return 0;
	event_out(l, data, &e);
	l->fn(l->arg, &e);
	return 0;
}

static void listener_renew(struct dp_listener *l)
{
	l->row->until_ns = (uint64_t)(clock_monotonic_ns() + EVENTS_LEASE_NS);
}

/* Who listens never asks for longer, and renews it all the time. */
uint32_t events_repair(struct dataplane *dp)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	volatile struct k3c_listen *row =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dp->maps[DP_MAP_LISTEN], 0);
	uint64_t until_ns;
	bool wrong;

	if (row == MAP_FAILED)
		return 0;
	until_ns = row->until_ns; /* before the clock: it may be renewed meanwhile */
	wrong = until_ns > (uint64_t)(clock_monotonic_ns() + EVENTS_LEASE_NS);
	if (wrong)
		row->until_ns = 0;
	munmap((void *)row, size);
	return wrong;
}

static int listener_lock(struct dp_listener *l, struct err *err)
{
	const char *dir = l->dp->pin_dir;

	l->lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->lock_fd < 0)
		return err_set(err, -errno, "open %s: %s", dir, strerror(errno));
	if (flock(l->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? err_set(err, -EBUSY, "another monitor listens already: there can be one at a time")
			       : err_set(err, -errno, "lock %s: %s", dir, strerror(errno));
	return 0;
}

static int listener_open(struct dp_listener *l, uint32_t types, struct err *err)
{
	int r = listener_lock(l, err);
	void *row;

	if (r < 0)
		return r;
	l->row_size = (size_t)sysconf(_SC_PAGESIZE);
	row = mmap(NULL, l->row_size, PROT_READ | PROT_WRITE, MAP_SHARED, l->dp->maps[DP_MAP_LISTEN], 0);
	if (row == MAP_FAILED)
		return err_set(err, -errno, "map %s: %s", maps_name(DP_MAP_LISTEN), strerror(errno));
	l->row = row;
	l->row->mask = 0;
	l->ring = ring_buffer__new(l->dp->maps[DP_MAP_EVENT], listener_event, l, NULL);
	if (!l->ring)
		return err_set(err, -errno, "map %s: %s", maps_name(DP_MAP_EVENT), strerror(errno));
	ring_buffer__consume(l->ring);
	l->row->lost = 0;
	listener_renew(l);
	l->row->mask = types;
	return 0;
}

int dataplane_listen(struct dataplane *dp, uint32_t types, struct dp_listener **ret, struct err *err)
{
	struct dp_listener *l = mem_new(struct dp_listener);
	int r;

	l->dp = dp;
	l->host_cookie = dataplane_netns_cookie();
	r = listener_open(l, types, err);
	if (r < 0) {
		dp_listener_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

/* A server with another layout of the maps pins new ones: nobody writes to these any more. */
static bool listener_is_stale(const struct dp_listener *l)
{
	struct bpf_map_info mine = {}, pinned = {};
	uint32_t len = sizeof(mine);
	_cleanup_close_ int fd = -1;
	char path[DP_PATH_MAX];

	if (maps_path(l->dp->pin_dir, DP_MAP_EVENT, path, sizeof(path)) < 0)
		return true;
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &pinned, &len) < 0)
		return true;
	len = sizeof(mine);
	return bpf_obj_get_info_by_fd(l->dp->maps[DP_MAP_EVENT], &mine, &len) < 0 || mine.id != pinned.id;
}

int dp_listener_poll(struct dp_listener *l, int timeout_ms, dataplane_event_fn *fn, void *arg)
{
	int r;

	listener_renew(l);
	l->fn = fn;
	l->arg = arg;
	r = ring_buffer__poll(l->ring, timeout_ms);
	l->fn = NULL;
	return r == 0 && listener_is_stale(l) ? -ESTALE : r;
}

uint64_t dp_listener_lost(const struct dp_listener *l)
{
	return l->row->lost;
}

void dp_listener_close(struct dp_listener *l)
{
	if (!l)
		return;
	if (l->row) {
		/* Only who holds the lock has mapped it. */
		l->row->mask = 0;
		l->row->until_ns = 0;
		munmap((void *)l->row, l->row_size);
	}
	ring_buffer__free(l->ring);
	mem_closep(&l->lock_fd);
	free(l);
}
