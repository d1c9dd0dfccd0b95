/* SPDX-License-Identifier: Apache-2.0 */
/* When backends are gone, whoever is connected to them must learn so: their sockets are destroyed (inet_diag), on the
 * host and in every pod, and translations of packets that lead there are forgotten.
 *
 * All of it happens on one worker thread, which lives only while there is something to do: a look at the sockets of a
 * hundred namespaces takes milliseconds that the loop does not have. One pass serves everything that was queued
 * meanwhile. No diag socket is kept open between passes: a descriptor and its netlink tables for every pod would cost
 * more memory all the time than opening them costs now and then. Netlink destroys sockets on every kernel from 6.1 on;
 * bpf_sock_destroy() would need 6.5, and an iterator run inside every namespace as well.
 *
 * Shared between the threads, under the lock: the queue and `running`. A pass has its own copies of everything else
 * but the map's descriptor, which stays open until the worker has ended. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "bpf/include/nat.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

#define SOCKETS_TCP_STATES                                                                                             \
	((1u << TCP_ESTABLISHED) | (1u << TCP_SYN_SENT) | (1u << TCP_FIN_WAIT1) | (1u << TCP_CLOSE_WAIT))
#define SOCKETS_UDP_STATES (1u << TCP_ESTABLISHED)
#define SOCKETS_NAT_BATCH 512 /* translations read at once; more than any bucket holds */

struct gone_backend {
	struct k3c_addr addr;
	uint16_t port; /* network order; 0: every port */
	uint8_t proto, pad;
	uint32_t pad2;
};
_Static_assert(sizeof(struct gone_backend) == 24, "compared as bytes");

struct gone_set {
	struct gone_backend *items;
	size_t n, cap;
};

struct sockets_worker {
	pthread_mutex_t lock;
	pthread_t thread;
	bool running, started; /* started: there is a thread to join */
	int nat_fd;
	struct gone_set queue;
	char **paths; /* of the pods' namespaces, as of the last call */
	size_t n_paths;
};

static int gone_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct gone_backend));
}

static bool gone_has(const struct gone_set *s, const struct k3c_addr *addr, uint16_t port, uint8_t proto)
{
	struct gone_backend key = { .addr = *addr, .port = port, .proto = proto };

	if (bsearch(&key, s->items, s->n, sizeof(key), gone_cmp))
		return true;
	key.port = 0;
	return bsearch(&key, s->items, s->n, sizeof(key), gone_cmp) != NULL;
}

static bool gone_has_proto(const struct gone_set *s, uint8_t proto)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->items[i].proto == proto)
			return true;
	return false;
}

/* ---- one namespace ---- */

struct socket_ref {
	uint8_t family;
	struct inet_diag_sockid id;
};

struct socket_search {
	const struct gone_set *gone;
	uint8_t proto;
	struct socket_ref *found;
	size_t n, cap;
};

static int socket_seen(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct socket_search *s = arg;
	struct k3c_addr dst;

	if (m->idiag_family == AF_INET)
		dst = dp_addr_v4(m->id.idiag_dst[0]);
	else
		memcpy(dst.b, m->id.idiag_dst, 16);
	if (!gone_has(s->gone, &dst, m->id.idiag_dport, s->proto))
		return 0;
	mem_grow(s->found, s->cap, s->n + 1);
	s->found[s->n++] = (struct socket_ref){ .family = m->idiag_family, .id = m->id };
	return 0;
}

static int sockets_destroy_found(struct nl *nl, const struct socket_search *s, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n; i++) {
		struct nlmsghdr *h = nl_begin(nl, SOCK_DESTROY, 0, "destroy a socket", ENOENT);
		struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		q->sdiag_family = s->found[i].family;
		q->sdiag_protocol = s->proto;
		q->id = s->found[i].id;
		if (i % NL_BATCH_MAX == NL_BATCH_MAX - 1 || i == s->n - 1)
			r = nl_commit(nl, err);
	}
	return r;
}

static int sockets_destroy_proto(struct nl *nl, const struct gone_set *gone, uint8_t proto, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct socket_search s = { .gone = gone, .proto = proto };
	int r = 0;

	if (!gone_has_proto(gone, proto))
		return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++) {
		struct nlmsghdr *h = nl_request(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
		struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

		q->sdiag_family = families[i];
		q->sdiag_protocol = proto;
		q->idiag_states = proto == IPPROTO_TCP ? SOCKETS_TCP_STATES : SOCKETS_UDP_STATES;
		r = nl_query(nl, socket_seen, &s, err);
	}
	if (r == 0)
		r = sockets_destroy_found(nl, &s, err);
	free(s.found);
	return r;
}

/* In the namespace that the thread is in. */
static void sockets_destroy_here(const struct gone_set *gone, const char *where)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct nl *nl;
	int r = nl_open(NETLINK_SOCK_DIAG, &nl, &err);

	if (r == 0) {
		r = sockets_destroy_proto(nl, gone, IPPROTO_TCP, &err);
		if (r == 0)
			r = sockets_destroy_proto(nl, gone, IPPROTO_UDP, &err);
		nl_close(nl);
	}
	if (r < 0)
		log_warn("sockets of vanished backends not told where=%s error=\"%s\"", where, err_message(&err));
}

/* ---- translations ---- */

struct nat_batch {
	struct k3c_nat_key keys[SOCKETS_NAT_BATCH];
	struct k3c_nat values[SOCKETS_NAT_BATCH];
};

static void nat_forget(int fd, const struct k3c_nat_key *key, const struct k3c_nat *value)
{
	struct k3c_nat_key back = {
		.src = value->addr,
		.sport = value->port,
		.dst = key->src,
		.dport = key->sport,
		.proto = key->proto,
		.kind = K3C_NAT_OUT,
	};

	bpf_map_delete_elem(fd, key);
	bpf_map_delete_elem(fd, &back);
}

static void sockets_forget_translations(int fd, const struct gone_set *gone)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	_cleanup_free_ struct nat_batch *b = mem_new(struct nat_batch);
	_cleanup_free_ struct k3c_nat_key *keys = NULL;
	struct k3c_nat *values = NULL;
	size_t found = 0, cap_keys = 0, cap_values = 0;
	uint32_t at = 0, n;
	int r = 0;

	/* Deleted afterwards: a walk over a table that shrinks would miss some. */
	for (bool first = true; r == 0; first = false) {
		n = SOCKETS_NAT_BATCH;
		r = bpf_map_lookup_batch(fd, first ? NULL : &at, &at, b->keys, b->values, &n, &opts);
		if (r < 0 && errno != ENOENT) {
			log_warn("translations to vanished backends not read error=\"%s\"", strerror(errno));
			break;
		}
		for (uint32_t i = 0; i < n; i++) {
			if (b->keys[i].kind != K3C_NAT_IN || !(b->values[i].flags & K3C_NAT_SERVICE) ||
			    !gone_has(gone, &b->values[i].addr, b->values[i].port, b->keys[i].proto))
				continue;
			mem_grow(keys, cap_keys, found + 1);
			mem_grow(values, cap_values, found + 1);
			keys[found] = b->keys[i];
			values[found++] = b->values[i];
		}
	}
	for (size_t i = 0; i < found; i++)
		nat_forget(fd, &keys[i], &values[i]);
	free(values);
}

/* ---- the worker ---- */

static void paths_free(char **paths, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(paths[i]);
	free(paths);
}

static void sockets_pass(int nat_fd, int host_ns, struct gone_set *gone, char **paths, size_t n_paths)
{
	qsort(gone->items, gone->n, sizeof(*gone->items), gone_cmp);
	sockets_forget_translations(nat_fd, gone);
	sockets_destroy_here(gone, "host");
	for (size_t i = 0; i < n_paths; i++) {
		_cleanup_close_ int ns = open(paths[i], O_RDONLY | O_CLOEXEC);

		/* A pod that is gone took its sockets with it. */
		if (ns >= 0 && setns(ns, CLONE_NEWNET) == 0)
			sockets_destroy_here(gone, paths[i]);
	}
	if (n_paths && setns(host_ns, CLONE_NEWNET) < 0)
		log_warn("sockets: no way back to the host's namespace error=\"%s\"", strerror(errno));
}

static void *sockets_work(void *arg)
{
	_cleanup_close_ int host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct sockets_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (w->queue.n) {
		struct gone_set gone = w->queue;
		char **paths = TAKE_PTR(w->paths);
		size_t n_paths = w->n_paths;

		w->queue = (struct gone_set){ 0 };
		w->n_paths = 0;
		pthread_mutex_unlock(&w->lock);
		sockets_pass(w->nat_fd, host_ns, &gone, paths, n_paths);
		free(gone.items);
		paths_free(paths, n_paths);
		pthread_mutex_lock(&w->lock);
	}
	w->running = false;
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void sockets_take_paths(struct dataplane *dp, struct sockets_worker *w)
{
	paths_free(w->paths, w->n_paths);
	w->paths = mem_new_array(char *, dp->pods.n + 1);
	w->n_paths = 0;
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;

		if (s->netns_path)
			w->paths[w->n_paths++] = mem_strdup(s->netns_path);
	}
}

static struct sockets_worker *sockets_worker_of(struct dataplane *dp)
{
	if (!dp->sockets) {
		dp->sockets = mem_new(struct sockets_worker);
		pthread_mutex_init(&dp->sockets->lock, NULL);
		dp->sockets->nat_fd = dp->maps[DP_MAP_NAT];
	}
	return dp->sockets;
}

static void sockets_queue(struct sockets_worker *w, const struct dp_backend *backends, size_t n, uint8_t proto)
{
	mem_grow(w->queue.items, w->queue.cap, w->queue.n + n);
	for (size_t i = 0; i < n; i++)
		w->queue.items[w->queue.n++] = (struct gone_backend){ .addr = dp_addr_in(&backends[i].addr),
								      .port = htons(backends[i].port),
								      .proto = proto };
}

int dataplane_backends_gone(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err)
{
	struct sockets_worker *w;
	bool start;
	int r;

	if (!n)
		return 0;
	w = sockets_worker_of(dp);
	pthread_mutex_lock(&w->lock);
	sockets_queue(w, backends, n, proto);
	sockets_take_paths(dp, w);
	start = !w->running;
	w->running = true;
	pthread_mutex_unlock(&w->lock);
	if (!start)
		return 0;
	if (w->started)
		pthread_join(w->thread, NULL); /* it is ending */
	r = pthread_create(&w->thread, NULL, sockets_work, w);
	w->started = r == 0;
	if (r == 0)
		return 0;
	w->running = false; /* nobody else looks; the next call tries again with all that is queued */
	return err_set(err, -r, "tell the sockets of vanished backends: %s", strerror(r));
}

void sockets_finish(struct dataplane *dp)
{
	struct sockets_worker *w = dp->sockets;

	if (!w)
		return;
	if (w->started)
		pthread_join(w->thread, NULL);
	pthread_mutex_destroy(&w->lock);
	free(w->queue.items);
	paths_free(w->paths, w->n_paths);
	free(w);
	dp->sockets = NULL;
}
