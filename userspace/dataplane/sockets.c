/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever talks to a backend that is gone, or that its frontend does not lead to any more, must learn so: the sockets
 * are destroyed (inet_diag), on the host and in every pod, and translations of packets are forgotten. Only an address
 * that is nobody's any more (a pod's that is gone) ends whatever is connected to it. Else a socket ends for what it
 * came by: who connected to the address itself has nothing to do with what Services do. Which frontend it used
 * stands in the socket's own storage (k3c_sock: inet_diag shows that of TCP sockets, sock_memory.h that of others), of
 * TCP also in the row of k3c_sock_tcp that its cookie names, as long as no later one has it. A translation is of a
 * frontend by its key. What is not remembered is left alone.
 *
 * All of it happens on one worker thread, which lives only while there is something to do: a look at the sockets of a
 * hundred namespaces takes milliseconds that the loop does not have. One pass serves everything that was queued
 * meanwhile. No diag socket is kept open between passes: a descriptor and its netlink tables for every pod would cost
 * more memory all the time than opening them costs now and then. Netlink destroys sockets on every kernel from 6.1 on;
 * bpf_sock_destroy() would need 6.5, and an iterator run inside every namespace as well.
 *
 * Shared between the threads, under the lock: the next job and `running`. A pass has its own copies of everything else
 * but the maps' descriptors, which stay open until the worker has ended. */
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

#include "bpf/include/endpoint.h"
#include "bpf/include/conn.h"
#include "bpf/include/nat.h"
#include "bpf/include/service.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/flows.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/sock_memory.h"

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

/* What one pass looks for. */
struct sockets_job {
	struct gone_set gone;
	struct gone_set left;   /* gone from an address that is others' too: who came by a Service is told */
	struct gone_set lost;   /* UDP backends: sockets there are judged by their frontends */
	struct gone_set living; /* proto 0: whatever it is; for `adopt` */
	bool check;             /* UDP translations: by the frontends */
	bool adopt;             /* TCP and SCTP: by the pods and `living` */
	char **paths;           /* of the pods' namespaces, as of the last call */
	size_t n_paths;
	struct flows_view *view;    /* with `check` */
	struct sock_memory *memory; /* with `lost` */
	size_t n_memory;
};

struct sockets_worker {
	pthread_mutex_t lock;
	pthread_t thread;
	bool running, started; /* started: there is a thread to join */
	int maps[DP_MAP_COUNT];
	struct dp_net pod_nets[DP_FAMILIES];
	int iterator; /* of sock_memory.h; the thread's; 0: not opened yet, else negative errno when it cannot be */
	struct sockets_job next;
};

static void job_finish(struct sockets_job *job)
{
	for (size_t i = 0; i < job->n_paths; i++)
		free(job->paths[i]);
	free(job->paths);
	free(job->gone.items);
	free(job->left.items);
	free(job->lost.items);
	free(job->memory);
	free(job->living.items);
	flows_view_free(job->view);
}

static int gone_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct gone_backend));
}

static void gone_sort(struct gone_set *s)
{
	if (s->n)
		qsort(s->items, s->n, sizeof(*s->items), gone_cmp);
}

static bool gone_has(const struct gone_set *s, const struct k3c_addr *addr, uint16_t port, uint8_t proto)
{
	struct gone_backend key = { .addr = *addr, .port = port, .proto = proto };

	if (!s->n)
		return false;
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

/* ---- which flows end ---- */

struct flow_use {
	struct k3c_addr frontend, backend;
	uint16_t frontend_port, backend_port; /* network order */
	uint8_t proto;
};

static bool flow_leads_to_pods(const struct sockets_worker *w, const struct flow_use *u)
{
	for (int f = 0; f < DP_FAMILIES; f++)
		if (w->pod_nets[f].bits && dp_addr_in_net(&u->backend, &w->pod_nets[f].addr, w->pod_nets[f].bits))
			return true;
	return false;
}

/* UDP clients never learn by themselves: theirs live as long as the frontend leads there. Others finish what they began
 * for as long as the backend lives: of an address that is no pod's nobody here knows how long that is, unless told. */
static bool flow_is_over(const struct sockets_worker *w, const struct sockets_job *job, const struct flow_use *u)
{
	struct k3c_endpoint pod;

	if (u->proto == IPPROTO_UDP)
		return job->view && !flows_view_leads(job->view, &u->frontend, u->frontend_port, u->proto, &u->backend,
						      u->backend_port);
	if (gone_has(&job->left, &u->backend, u->backend_port, u->proto))
		return true;
	return job->adopt && flow_leads_to_pods(w, u) &&
	       bpf_map_lookup_elem(w->maps[DP_MAP_ENDPOINT], &u->backend, &pod) < 0 &&
	       !gone_has(&job->living, &u->backend, u->backend_port, 0);
}

/* ---- one namespace ---- */

struct socket_ref {
	uint8_t family;
	struct inet_diag_sockid id;
};

struct socket_search {
	const struct sockets_worker *w;
	const struct sockets_job *job;
	uint8_t proto;
	struct socket_ref *found;
	size_t n, cap;
};

/* The value of k3c_sock: the only map that was asked for. NULL: the socket has none. */
static const struct nlattr *socket_storage(const struct nlmsghdr *h)
{
	const struct nlattr *all, *one, *attr;

	mnl_attr_for_each(all, h, sizeof(struct inet_diag_msg)) {
		if (mnl_attr_get_type(all) != INET_DIAG_SK_BPF_STORAGES)
			continue;
		mnl_attr_for_each_nested(one, all)
		{
			mnl_attr_for_each_nested(attr, one)
			{
				if (mnl_attr_get_type(attr) == SK_DIAG_BPF_STORAGE_MAP_VALUE &&
				    mnl_attr_get_payload_len(attr) >= sizeof(struct k3c_sock))
					return attr;
			}
		}
	}
	return NULL;
}

static void socket_peers_tcp(const struct socket_search *s, const struct nlmsghdr *h, uint64_t cookie,
			     struct k3c_sock_peer ret[static K3C_SOCK_PEERS + 1])
{
	uint32_t row = cookie & (K3C_SOCK_TCP_ROWS - 1);
	const struct nlattr *attr = socket_storage(h);
	struct k3c_sock_tcp tcp;
	struct k3c_sock sock;

	if (attr) {
		memcpy(&sock, mnl_attr_get_payload(attr), sizeof(sock));
		sock_memory_peers(&sock, ret);
	}
	if (bpf_map_lookup_elem(s->w->maps[DP_MAP_SOCK_TCP], &row, &tcp) == 0 && tcp.cookie == cookie)
		ret[K3C_SOCK_PEERS] = tcp.peer;
}

/* What is remembered of a socket. */
static void socket_peers(const struct socket_search *s, const struct nlmsghdr *h,
			 struct k3c_sock_peer ret[static K3C_SOCK_PEERS + 1])
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	uint64_t cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];
	const struct sock_memory *memory;

	memset(ret, 0, (K3C_SOCK_PEERS + 1) * sizeof(*ret));
	if (s->proto == IPPROTO_TCP) {
		socket_peers_tcp(s, h, cookie, ret);
		return;
	}
	memory = sock_memory_find(s->job->memory, s->job->n_memory, cookie);
	if (memory)
		sock_memory_peers(&memory->sock, ret);
}

/* Is anything asked of what sockets remember? */
static bool job_asks_memory(const struct sockets_job *job, uint8_t proto)
{
	if (proto != IPPROTO_TCP)
		return job->n_memory > 0;
	return job->adopt || gone_has_proto(&job->left, proto);
}

/* A socket that came here by several frontends, one after the other, may stay for any of them. */
static bool socket_is_over(const struct socket_search *s, const struct nlmsghdr *h, const struct k3c_addr *dst,
			   uint16_t port)
{
	struct k3c_sock_peer peers[K3C_SOCK_PEERS + 1];
	bool over = false;

	if (!job_asks_memory(s->job, s->proto))
		return false;
	if (s->proto == IPPROTO_UDP && !gone_has(&s->job->lost, dst, port, s->proto))
		return false;
	socket_peers(s, h, peers);
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
		const struct k3c_sock_peer *p = &peers[i];
		struct flow_use use = { p->service, *dst, p->service_port, port, s->proto };

		if (!p->service_port || p->backend_port != port || memcmp(&p->backend, dst, sizeof(*dst)) != 0)
			continue;
		if (!flow_is_over(s->w, s->job, &use))
			return false;
		over = true;
	}
	return over;
}

static int socket_seen(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct socket_search *s = arg;
	struct k3c_addr dst;

	if (m->idiag_family == AF_INET)
		dst = dp_addr_v4(m->id.idiag_dst[0]);
	else
		memcpy(dst.b, m->id.idiag_dst, 16);
	if (!gone_has(&s->job->gone, &dst, m->id.idiag_dport, s->proto) &&
	    !socket_is_over(s, h, &dst, m->id.idiag_dport))
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

struct nlmsghdr *sockets_request(struct nl *nl, uint8_t family, uint8_t proto, uint32_t states)
{
	struct nlmsghdr *h = nl_request(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
	struct inet_diag_req_v2 *q = mnl_nlmsg_put_extra_header(h, sizeof(*q));

	q->sdiag_family = family;
	q->sdiag_protocol = proto;
	q->idiag_states = states;
	return h;
}

/* Storage is read only where it decides something. */
static void sockets_request_clients(struct nl *nl, const struct socket_search *s, uint8_t family, bool storage)
{
	struct nlmsghdr *h = sockets_request(nl, family, s->proto,
					     s->proto == IPPROTO_TCP ? SOCKETS_TCP_STATES : SOCKETS_UDP_STATES);

	if (storage) {
		struct nlattr *nest = mnl_attr_nest_start(h, INET_DIAG_REQ_SK_BPF_STORAGES);

		mnl_attr_put_u32(h, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)s->w->maps[DP_MAP_SOCK]);
		mnl_attr_nest_end(h, nest);
	}
}

static int sockets_destroy_proto(struct nl *nl, const struct sockets_worker *w, const struct sockets_job *job,
				 uint8_t proto, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct socket_search s = { .w = w, .job = job, .proto = proto };
	bool ask = job_asks_memory(job, proto);
	int r = 0;

	if (!ask && !gone_has_proto(&job->gone, proto))
		return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(families); i++) {
		sockets_request_clients(nl, &s, families[i], ask && proto == IPPROTO_TCP);
		r = nl_query(nl, socket_seen, &s, err);
	}
	if (r == 0)
		r = sockets_destroy_found(nl, &s, err);
	free(s.found);
	return r;
}

/* In the namespace that the thread is in. */
static void sockets_destroy_here(const struct sockets_worker *w, const struct sockets_job *job, const char *where)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct nl *nl;
	int r = nl_open(NETLINK_SOCK_DIAG, &nl, &err);

	if (r == 0) {
		r = sockets_destroy_proto(nl, w, job, IPPROTO_TCP, &err);
		if (r == 0)
			r = sockets_destroy_proto(nl, w, job, IPPROTO_UDP, &err);
		nl_close(nl);
	}
	if (r < 0)
		log_warn("sockets of vanished backends not told where=%s error=\"%s\"", where, err_message(&err));
}

/* ---- translations ---- */

/* In the order that flows go through them: one that moves meanwhile is seen. */
static const enum dp_map nat_tables[] = { DP_MAP_UNASSURED, DP_MAP_NAT };

struct nat_batch {
	struct k3c_nat_key keys[SOCKETS_NAT_BATCH];
	struct k3c_nat values[SOCKETS_NAT_BATCH];
};

static void conn_drop(const struct sockets_worker *w, const struct k3c_conn_key *key)
{
	bool connection = key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP;

	bpf_map_delete_elem(w->maps[connection ? DP_MAP_CONN : DP_MAP_DATAGRAM], key);
	if (!connection)
		bpf_map_delete_elem(w->maps[DP_MAP_POLICED], key);
}

/* What the pod knows of the flow: without a translation it would count as one that somebody has straight with the pod,
 * and keep the client's port from the next. */
static void conn_forget(const struct sockets_worker *w, const struct k3c_nat_key *answer)
{
	struct k3c_conn_key key = {
		.a = answer->src,
		.b = answer->dst,
		.a_port = answer->sport,
		.b_port = answer->dport,
		.proto = answer->proto,
	};

	conn_drop(w, &key);
	key.a = answer->dst;
	key.b = answer->src;
	key.a_port = answer->dport;
	key.b_port = answer->sport;
	conn_drop(w, &key);
}

static void nat_forget(const struct sockets_worker *w, const struct k3c_nat_key *key, const struct k3c_nat *value)
{
	struct k3c_nat_key back;

	k3c_nat_mirror(key, value, true, &back); /* only services' are forgotten, by what arrives: nat_is_over() */
	for (size_t i = 0; i < ARRAY_SIZE(nat_tables); i++) {
		bpf_map_delete_elem(w->maps[nat_tables[i]], key);
		bpf_map_delete_elem(w->maps[nat_tables[i]], &back);
	}
	conn_forget(w, &back);
}

/* Of a client who has a way of his own to the pod, and only another port there: no service's. */
static bool nat_is_straight(const struct k3c_nat_key *key, const struct k3c_nat *value)
{
	return memcmp(&key->dst, &value->addr, sizeof(key->dst)) == 0 && key->dport == value->port;
}

static bool nat_is_over(const struct sockets_worker *w, const struct sockets_job *job, const struct k3c_nat_key *key,
			const struct k3c_nat *value)
{
	const struct flow_use use = { key->dst, value->addr, key->dport, value->port, key->proto };

	if (key->kind != K3C_NAT_IN || !(value->flags & K3C_NAT_SERVICE) || nat_is_straight(key, value))
		return false;
	return gone_has(&job->gone, &value->addr, value->port, key->proto) || flow_is_over(w, job, &use);
}

static void sockets_forget_translations(const struct sockets_worker *w, const struct sockets_job *job, int fd)
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
			if (!nat_is_over(w, job, &b->keys[i], &b->values[i]))
				continue;
			mem_grow(keys, cap_keys, found + 1);
			mem_grow(values, cap_values, found + 1);
			keys[found] = b->keys[i];
			values[found++] = b->values[i];
		}
	}
	for (size_t i = 0; i < found; i++)
		nat_forget(w, &keys[i], &values[i]);
	free(values);
}

/* ---- the worker ---- */

/* Where nothing can be read nobody is told: a socket ended without need may be of somebody who never tries again. */
static void sockets_read_memory(struct sockets_worker *w, struct sockets_job *job)
{
	int r;

	if (!w->iterator)
		w->iterator = sock_memory_open(w->maps[DP_MAP_SOCK]);
	r = w->iterator < 0 ? w->iterator : sock_memory_read(w->iterator, &job->memory, &job->n_memory);
	if (r < 0)
		log_warn("datagram sockets of moved frontends not told error=\"%s\"", strerror(-r));
}

static void sockets_pass(struct sockets_worker *w, int host_ns, struct sockets_job *job)
{
	int r = job->check ? flows_view_read(w->maps[DP_MAP_SERVICE], w->maps[DP_MAP_BACKEND], &job->view) : 0;

	if (r < 0)
		log_warn("sockets: frontends not read error=\"%s\"", strerror(-r));
	gone_sort(&job->gone);
	gone_sort(&job->left);
	gone_sort(&job->lost);
	gone_sort(&job->living);
	if (job->lost.n && job->view)
		sockets_read_memory(w, job);
	for (size_t i = 0; i < ARRAY_SIZE(nat_tables); i++)
		sockets_forget_translations(w, job, w->maps[nat_tables[i]]);
	sockets_destroy_here(w, job, "host");
	for (size_t i = 0; i < job->n_paths; i++) {
		_cleanup_close_ int ns = open(job->paths[i], O_RDONLY | O_CLOEXEC);

		/* A pod that is gone took its sockets with it. */
		if (ns >= 0 && setns(ns, CLONE_NEWNET) == 0)
			sockets_destroy_here(w, job, job->paths[i]);
	}
	if (job->n_paths && setns(host_ns, CLONE_NEWNET) < 0)
		log_warn("sockets: no way back to the host's namespace error=\"%s\"", strerror(errno));
}

static void *sockets_work(void *arg)
{
	_cleanup_close_ int host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct sockets_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (w->next.gone.n || w->next.left.n || w->next.check || w->next.adopt) {
		_cleanup_(job_finish) struct sockets_job job = w->next;

		w->next = (struct sockets_job){ 0 };
		pthread_mutex_unlock(&w->lock);
		sockets_pass(w, host_ns, &job);
		pthread_mutex_lock(&w->lock);
	}
	w->running = false;
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void sockets_take_paths(struct dataplane *dp, struct sockets_job *job)
{
	for (size_t i = 0; i < job->n_paths; i++)
		free(job->paths[i]);
	free(job->paths);
	job->paths = mem_new_array(char *, dp->pods.n + 1);
	job->n_paths = 0;
	map_foreach(e, &dp->pods) {
		const struct pod_state *s = e->value;

		if (s->netns_path)
			job->paths[job->n_paths++] = mem_strdup(s->netns_path);
	}
}

/* Locked: what is to be looked for is added to the next job. */
static struct sockets_worker *sockets_begin(struct dataplane *dp)
{
	if (!dp->sockets) {
		dp->sockets = mem_new(struct sockets_worker);
		pthread_mutex_init(&dp->sockets->lock, NULL);
		memcpy(dp->sockets->maps, dp->maps, sizeof(dp->maps));
		memcpy(dp->sockets->pod_nets, dp->options.pod_nets, sizeof(dp->options.pod_nets));
	}
	pthread_mutex_lock(&dp->sockets->lock);
	return dp->sockets;
}

/* Unlocks. */
static int sockets_start(struct dataplane *dp, struct sockets_worker *w, struct err *err)
{
	bool start = !w->running;
	int r;

	sockets_take_paths(dp, &w->next);
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

static void gone_queue(struct gone_set *s, const struct dp_backend *backends, size_t n, uint8_t proto)
{
	mem_grow(s->items, s->cap, s->n + n + 1);
	for (size_t i = 0; i < n; i++)
		s->items[s->n++] = (struct gone_backend){ .addr = dp_addr_in(&backends[i].addr),
							  .port = htons(backends[i].port),
							  .proto = proto };
}

int dataplane_backends_gone(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err)
{
	struct sockets_worker *w;

	if (!n)
		return 0;
	w = sockets_begin(dp);
	gone_queue(&w->next.gone, backends, n, proto);
	return sockets_start(dp, w, err);
}

int dataplane_backends_left(struct dataplane *dp, const struct dp_backend *backends, size_t n, uint8_t proto,
			    struct err *err)
{
	struct sockets_worker *w;

	if (!n)
		return 0;
	w = sockets_begin(dp);
	gone_queue(&w->next.left, backends, n, proto);
	return sockets_start(dp, w, err);
}

int dataplane_flows_check(struct dataplane *dp, const struct dp_backend *lost, size_t n, struct err *err)
{
	struct sockets_worker *w = sockets_begin(dp);

	gone_queue(&w->next.lost, lost, n, IPPROTO_UDP);
	w->next.check = true;
	return sockets_start(dp, w, err);
}

int dataplane_flows_adopt(struct dataplane *dp, const struct dp_backend *living, size_t n, struct err *err)
{
	struct sockets_worker *w = sockets_begin(dp);

	gone_queue(&w->next.living, living, n, 0);
	w->next.check = w->next.adopt = true;
	return sockets_start(dp, w, err);
}

void sockets_finish(struct dataplane *dp)
{
	struct sockets_worker *w = dp->sockets;

	if (!w)
		return;
	if (w->started)
		pthread_join(w->thread, NULL);
	if (w->iterator > 0)
		close(w->iterator);
	pthread_mutex_destroy(&w->lock);
	job_finish(&w->next);
	free(w);
	dp->sockets = NULL;
}
