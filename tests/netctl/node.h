/* SPDX-License-Identifier: Apache-2.0 */
/* The room with its real neighbours: objects go into a real registry, packets meet the real dataplane, in the small
 * world of the dataplane's tests. One node at a time. */
#pragma once

#include "tests/dataplane/world.h"
#include "tests/registry/registry_fixture.h"

#include "userspace/base/log.h"
#include "userspace/netctl/netctl.h"

#define NODE "node"
#define CLUSTER_IP "10.43.0.77"

struct node {
	struct fixture *f;
	struct netctl *nc;
	struct loop_timer turn;
};

static struct node node;

/* ---- the node ---- */

static inline void turn_over(struct loop_timer *t)
{
	loop_stop(node.f->loop, 0);
}

/* What was deferred has run when a later timer fires. */
static inline void settle(void)
{
	for (int i = 0; i < 2; i++) {
		loop_timer_init(&node.turn, turn_over);
		loop_timer_arm(node.f->loop, &node.turn, 1);
		loop_run(node.f->loop);
	}
}

static inline void node_start_with(const char *pod_cidr)
{
	const struct netctl_options options = { .node_name = NODE, .pod_cidr = pod_cidr, .cluster_dns = "10.43.0.10" };

	world_open();
	ok(netctl_create(node.f->loop, node.f->reg, world.dp, &options, &node.nc, err));
	ok(netctl_start(node.nc, err));
}

static inline void node_stop(void)
{
	netctl_destroy(node.nc);
	node.nc = NULL;
	settle();
	dataplane_close(world.dp);
	world.dp = NULL;
}

static inline int setup(void **state)
{
	fixture_setup((void **)&node.f);
	fixture_do(node.f, API_VERB_CREATE, KIND_SERVICEACCOUNT, "default", "",
		   "{\"metadata\":{\"name\":\"default\"}}");
	fixture_expect(node.f, 201, "account");
	node_start_with("10.42.0.0/24");
	return 0;
}

static inline int teardown(void **state)
{
	if (node.nc)
		node_stop();
	dataplane_purge(world.pin_dir, NULL);
	return fixture_teardown((void **)&node.f);
}

static inline void create(const struct api_kind *kind, const char *text)
{
	char *copy = mem_strdup(text);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	fixture_do(node.f, API_VERB_CREATE, kind, "default", "", copy);
	free(copy);
	fixture_expect(node.f, 201, text);
	settle();
}

static inline void patch(const struct api_kind *kind, const char *name, const char *text)
{
	struct request rq = fixture_request(API_VERB_PATCH, kind, "default", name, text);

	rq.patch = REQUEST_PATCH_MERGE;
	fixture_run(node.f, &rq);
	fixture_expect(node.f, 200, name);
	settle();
}

static inline void delete (const struct api_kind *kind, const char *name)
{
	fixture_do(node.f, API_VERB_DELETE, kind, "default", name, "{\"gracePeriodSeconds\":0}");
	fixture_expect(node.f, 200, name);
	settle();
}

/* ---- what it says ---- */

struct said {
	const char *reason, *text;
	unsigned n;
};

static inline void count_said(void *arg, const struct object *o)
{
	struct said *s = arg;

	s->n += memmem(o->json.p, o->json.n, s->reason, strlen(s->reason)) &&
		memmem(o->json.p, o->json.n, s->text, strlen(s->text));
}

/* How many Events there are with that reason (in its quotes) and that text. */
static inline unsigned events_said(const char *reason, const char *text)
{
	struct said s = { reason, text, 0 };

	settle();
	registry_each(node.f->reg, KIND_EVENT, STR("default"), count_said, &s);
	return s.n;
}

/* ---- pods ---- */

struct pod {
	int ns;
	char name[16], uid[64], addr[NETCTL_ADDRESS_MAX];
	char addr6[NETCTL_ADDRESS_MAX]; /* the second one, where there are two */
};

static inline int pod_attach_again(struct pod *p)
{
	const struct object *o = registry_get(node.f->reg, KIND_POD, STR("default"), str_of(p->name));
	_cleanup_err_ struct err err = ERR_INIT;
	struct netctl_addresses given;
	char path[64];
	int r;

	assert_non_null(o);
	snprintf(p->uid, sizeof(p->uid), "%.*s", STR_ARG(o->uid));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->ns);
	r = netctl_pod_attach(node.nc, o, path, &given, &err);
	*p->addr6 = '\0';
	if (r == 0)
		memcpy(p->addr, given.texts[0], sizeof(p->addr));
	if (r == 0 && given.n > 1)
		memcpy(p->addr6, given.texts[1], sizeof(p->addr6));
	return r;
}

static inline int pod_try(struct pod *p, const char *name)
{
	char text[256];

	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s','labels':{'app':'%s'}},'spec':{'containers':[{'name':'c',"
		 "'image':'i','ports':[{'name':'http','containerPort':8080}]}]}}",
		 name, name);
	create(KIND_POD, text);
	p->ns = ns_new();
	return pod_attach_again(p);
}

static inline void pod_add(struct pod *p, const char *name)
{
	assert_int_equal(pod_try(p, name), 0);
}

static inline void pod_end(struct pod *p)
{
	ok(netctl_pod_detach(node.nc, str_of(p->uid), err));
	close(p->ns);
	settle();
}

static inline void expect_connect(const struct pod *from, const struct pod *to, const char *addr, uint16_t port,
				  uint16_t to_port)
{
	int server = server_in(to->ns, SOCK_STREAM, to->addr, to_port), client, conn;
	struct sockaddr_in peer;

	assert_int_equal(client_in(from->ns, SOCK_STREAM, addr, port, &client), 0);
	conn = accept_from(server, &peer);
	assert_true(addr_is(&peer, from->addr, 0));
	pass_bytes(client, conn, "question");
	close(conn);
	close(client);
	close(server);
}

/* ---- services ---- */

struct seen {
	unsigned n;
	uint32_t id; /* of the frontend at `port` */
	uint16_t port;
	size_t n_backends;
};

static inline void see(void *arg, const struct dp_service *s)
{
	struct seen *seen = arg;

	seen->n++;
	if (s->port != seen->port)
		return;
	seen->id = s->id;
	seen->n_backends = s->n_backends;
}

static inline struct seen frontend(uint16_t port)
{
	struct seen seen = { .port = port };

	ok(dataplane_service_each(world.dp, see, &seen, err));
	return seen;
}

static inline void service(const char *name, const char *cluster_ip, uint16_t port, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text), "{'metadata':{'name':'%s'},'spec':{'clusterIP':'%s','ports':[{'port':%u}]%s}}",
		 name, cluster_ip, port, more);
	create(KIND_SERVICE, text);
}

static inline void slice(const char *of, const char *addr, uint16_t port)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{'metadata':{'name':'%s-1','labels':{'kubernetes.io/service-name':'%s'}},'addressType':"
		 "'IPv4','ports':[{'name':'','protocol':'TCP','port':%u}],'endpoints':[{'addresses':['%s'],"
		 "'conditions':{'ready':true}}]}",
		 of, of, port, addr);
	create(KIND_ENDPOINTSLICE, text);
}
