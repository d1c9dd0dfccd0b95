/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a query of the cluster DNS, and as what an upstream says to one. First byte: over TCP or not, with
 * upstreams or without, and how the rest is parted between the two. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datastore/store.h"
#include "userspace/api/meta.h"
#include "userspace/base/fs.h"
#include "userspace/dns/answer.h"
#include "userspace/loop/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct zone zone;
static struct registry *reg;
static struct loop *loop;
static unsigned pending; /* writes on their way */

static void done(void *arg, const struct object *o, const struct err *err)
{
	if (err) {
		fprintf(stderr, "%s\n", err_message(err));
		abort();
	}
	if (!--pending)
		loop_stop(loop, 0);
}

static void put(const struct api_kind *kind, const char *text)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v;

	if (json_parse(&arena, str_of(text), 0, &v, NULL) < 0)
		abort();
	pending++;
	registry_create(reg, kind, v, done, NULL);
	if (pending)
		loop_run(loop);
}

/* A zone with one name of each sort. */
static void prepare(void)
{
	static const struct registry_options options = { .service_cidr = "10.43.0.0/16,fd43::/112",
							 .node_port_min = 30000,
							 .node_port_max = 32767,
							 .cluster_domain = "cluster.local",
							 .cluster_dns = "10.43.0.10,fd43::a" };
	char dir[] = "/tmp/k3c-fuzz-dns-XXXXXX", path[64];
	struct store_options so = { .path = path };
	struct store *store;

	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/state.db", dir);
	if (loop_create(NULL, &loop, NULL) < 0 || store_open(loop, &so, &store, NULL) < 0 ||
	    registry_create_all(loop, store, &options, &reg, NULL) < 0)
		abort();
	put(KIND_NAMESPACE, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"n\"}}");
	put(KIND_SERVICE,
	    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\",\"namespace\":\"n\"},\"spec\":{"
	    "\"clusterIPs\":[\"10.43.0.5\",\"fd43::5\"],\"ipFamilyPolicy\":\"RequireDualStack\",\"ports\":[{\"name\":\"p\",\"port\":80}]}}");
	put(KIND_SERVICE,
	    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"h\",\"namespace\":\"n\"},\"spec\":{"
	    "\"clusterIP\":\"None\",\"ports\":[{\"name\":\"p\",\"port\":80}]}}");
	put(KIND_SERVICE,
	    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"e\",\"namespace\":\"n\"},\"spec\":{"
	    "\"type\":\"ExternalName\",\"externalName\":\"x.org\"}}");
	put(KIND_ENDPOINTSLICE,
	    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"h-1\","
	    "\"namespace\":\"n\",\"labels\":{\"kubernetes.io/service-name\":\"h\"}},\"addressType\":\"IPv4\","
	    "\"ports\":[{\"name\":\"p\",\"port\":80,\"protocol\":\"TCP\"}],\"endpoints\":[{\"addresses\":["
	    "\"10.42.0.5\"],\"hostname\":\"a\"}]}");
	put(KIND_ENDPOINTSLICE,
	    "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"h-2\","
	    "\"namespace\":\"n\",\"labels\":{\"kubernetes.io/service-name\":\"h\"}},\"addressType\":\"IPv6\","
	    "\"ports\":[{\"name\":\"p\",\"port\":80,\"protocol\":\"TCP\"}],\"endpoints\":[{\"addresses\":["
	    "\"fd42::5\"],\"hostname\":\"a\"}]}");
	zone_init(&zone, reg, "cluster.local");
	/* everything is in memory by now */
	fs_remove_tree(dir, NULL);
}

static void answer_to(struct str query, struct str upstream, bool tcp, bool can_forward)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct answer a;

	switch (answer_query(&zone, query, tcp, can_forward, &a)) {
	case ANSWER_READY:
		/* an answer to that query, and no larger than it may be */
		if (buf_len(&a.wire) < 12 || memcmp(buf_str(&a.wire).p, query.p, 2) != 0 ||
		    !(buf_str(&a.wire).p[2] & 0x80) || buf_len(&a.wire) > (tcp ? ANSWER_TCP_MAX : ANSWER_UDP_MAX))
			abort();
		break;
	case ANSWER_FORWARD:
		if (!can_forward || buf_len(&a.wire) < 12)
			abort();
		if (answer_from_upstream(&zone, &a, upstream, tcp, &out) == 0 &&
		    (buf_len(&out) < 12 || memcmp(buf_str(&out).p, query.p, 2) != 0))
			abort();
		break;
	case ANSWER_DROP:
		if (buf_len(&a.wire))
			abort();
	}
	answer_finish(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *query, *upstream;
	size_t cut;

	if (!reg)
		prepare();
	if (n < 1)
		return 0;
	cut = (n - 1) * ((data[0] >> 2) + 1) / 64;
	/* Exactly as large as the messages, so that reading past them is seen. */
	query = mem_alloc(cut + 1);
	upstream = mem_alloc(n - cut);
	memcpy(query, data + 1, cut);
	memcpy(upstream, data + 1 + cut, n - 1 - cut);
	query = realloc(query, cut ? cut : 1);
	answer_to(str_make(query, cut), str_make(upstream, n - 1 - cut), data[0] & 1, data[0] & 2);
	free(query);
	free(upstream);
	return 0;
}
