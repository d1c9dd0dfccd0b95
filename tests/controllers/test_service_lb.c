/* SPDX-License-Identifier: Apache-2.0 */
/* Services of type LoadBalancer: the node's addresses are the ingress, live; ports have one holder; who waits gets
 * them. */
#include "tests/controllers/house.h"

#define DEFAULT STR("default")

struct expect {
	const char *name, *ingress; /* "a b" */
};

static char *ingress_of(struct house *h, const char *name, struct arena *arena)
{
	const struct object *o = registry_get(h->reg, KIND_SERVICE, DEFAULT, str_of(name));
	char *text = arena_strdup(arena, "");

	json_foreach(in, json_at(o ? registry_parse(arena, o) : NULL, "status.loadBalancer.ingress")) {
		assert_true(str_is(json_get_str(in, "ipMode"), "VIP"));
		text = arena_printf(arena, "%s%s%.*s", text, *text ? " " : "", STR_ARG(json_get_str(in, "ip")));
	}
	return text;
}

static bool has_ingress(struct house *h, void *arg)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const struct expect *e = arg;

	return strcmp(ingress_of(h, e->name, &arena), e->ingress) == 0;
}

#define expect(h, name, ingress) house_wait(h, has_ingress, (&(struct expect){ name, ingress }))

struct look_for {
	struct registry *reg;
	const char *about, *reason, *text;
	bool found;
};

static void look_at_event(void *arg, const struct object *o)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct look_for *l = arg;
	const struct json *v = registry_parse(&arena, o);
	struct str message = json_get_str(v, "message");

	l->found |= str_is(json_at_str(v, "involvedObject.name"), l->about) &&
		    str_is(json_get_str(v, "reason"), l->reason) &&
		    memmem(message.p, message.n, l->text, strlen(l->text)) != NULL;
}

static bool has_event(struct house *h, void *arg)
{
	struct look_for *l = arg;

	l->reg = h->reg;
	registry_each(h->reg, KIND_EVENT, DEFAULT, look_at_event, l);
	return l->found;
}

#define expect_event(h, about, reason, text) house_wait(h, has_event, (&(struct look_for){ NULL, about, reason, text }))

#define SERVICE(name, more, ports)                                                                                     \
	"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"" name                                   \
	"\",\"namespace\":\"default\"},\"spec\":{\"type\":\"LoadBalancer\"" more ",\"ports\":[" ports "]}}"
#define PORT(n) "{\"name\":\"p" #n "\",\"port\":" #n "}"

static int set_addresses(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *list;

	if (json_parse(arena, str_of(arg), 0, &list, NULL) < 0)
		return -1;
	json_set(json_ensure_object(arena, object, "status"), "addresses", list);
	return 0;
}

static void node_addresses(struct house *h, const char *list)
{
	registry_update(h->reg, KIND_NODE, STR_NULL, STR("node"), "status", set_addresses, (void *)list, NULL, NULL);
}

#define INTERNAL "{\"type\":\"InternalIP\",\"address\":\"192.0.2.1\"}"

static void make_node(struct house *h)
{
	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"node\"}}");
	node_addresses(h, "[{\"type\":\"Hostname\",\"address\":\"node\"}," INTERNAL "]");
}

static int set_spec(void *arg, struct arena *arena, struct json *object, struct err *err)
{
	struct json *members;

	if (json_parse(arena, str_of(arg), 0, &members, NULL) < 0)
		return -1;
	json_foreach(m, members)
		json_set_n(json_get(object, "spec"), m->key, json_clone(arena, m));
	return 0;
}

static void change(struct house *h, const char *name, const char *members)
{
	registry_update(h->reg, KIND_SERVICE, DEFAULT, str_of(name), NULL, set_spec, (void *)members, NULL, NULL);
}

static void delete_service(struct house *h, const char *name)
{
	registry_delete(h->reg, KIND_SERVICE, DEFAULT, str_of(name), NULL, NULL, NULL);
}

static void test_ingress_is_the_nodes(void **state)
{
	struct house *h = *state;

	house_create(h, SERVICE("web", "", PORT(80)));
	house_wait(h, house_is_quiet, NULL);
	expect(h, "web", ""); /* no node yet */
	make_node(h);
	expect(h, "web", "192.0.2.1");
	expect_event(h, "web", "EnsuringLoadBalancer", "Ensuring load balancer");
	expect_event(h, "web", "EnsuredLoadBalancer", "Ensured load balancer");
	/* live; external ones come first; of the Service's families only */
	node_addresses(h, "[" INTERNAL ",{\"type\":\"InternalIP\",\"address\":\"192.0.2.2\"},"
			  "{\"type\":\"InternalIP\",\"address\":\"2001:db8::1\"}]");
	expect(h, "web", "192.0.2.1 192.0.2.2");
	node_addresses(h, "[" INTERNAL ",{\"type\":\"ExternalIP\",\"address\":\"198.51.100.1\"}]");
	expect(h, "web", "198.51.100.1");
	node_addresses(h, "[" INTERNAL "]");
	expect(h, "web", "192.0.2.1");
	/* no balancer any more, and one again */
	change(h, "web", "{\"type\":\"ClusterIP\"}");
	expect(h, "web", "");
	expect_event(h, "web", "DeletedLoadBalancer", "Deleted load balancer");
	change(h, "web", "{\"type\":\"LoadBalancer\"}");
	expect(h, "web", "192.0.2.1");
}

static void test_others_classes(void **state)
{
	struct house *h = *state;

	make_node(h);
	house_create(h, SERVICE("other", ",\"loadBalancerClass\":\"example.org/x\"", PORT(80)));
	house_create(h, SERVICE("ours", "", PORT(80)));
	expect(h, "ours", "192.0.2.1");
	house_wait(h, house_is_quiet, NULL);
	expect(h, "other", "");
}

static void test_one_port_one_holder(void **state)
{
	struct house *h = *state;

	make_node(h);
	house_create(h, SERVICE("a", "", PORT(80)));
	expect(h, "a", "192.0.2.1");
	house_create(h, SERVICE("b", "", PORT(80) "," PORT(81)));
	house_create(h, SERVICE("c", "", PORT(82)));
	/* the same number of another protocol is another port */
	house_create(h, SERVICE("udp", "", "{\"port\":80,\"protocol\":\"UDP\"}"));
	expect(h, "c", "192.0.2.1");
	expect(h, "udp", "192.0.2.1");
	expect_event(h, "b", "SyncLoadBalancerFailed", "port 80/TCP of the node is taken by Service default/a");
	expect(h, "b", "");
	/* it did not keep 81 from others while it waited */
	house_create(h, SERVICE("d", "", PORT(81)));
	expect(h, "d", "192.0.2.1");
	delete_service(h, "d");
	delete_service(h, "a");
	expect(h, "b", "192.0.2.1");
	/* one that asks for more than it can get keeps what it has */
	change(h, "c", "{\"ports\":[" PORT(82) "," PORT(80) "]}");
	expect_event(h, "c", "SyncLoadBalancerFailed", "port 80/TCP of the node is taken by Service default/b");
	expect(h, "c", "192.0.2.1");
	change(h, "b", "{\"type\":\"ClusterIP\"}");
	house_create(h, SERVICE("e", "", PORT(81)));
	expect(h, "e", "192.0.2.1");
	house_create(h, SERVICE("f", "", PORT(80)));
	expect_event(h, "f", "SyncLoadBalancerFailed", "port 80/TCP of the node is taken by Service default/c");
}

#define POD(name, ports)                                                                                               \
	"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name                                       \
	"\",\"namespace\":\"default\",\"labels\":{\"app\":\"" name                                                     \
	"\"}},\"spec\":{\"nodeName\":\"node\",\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"ports\":[" ports       \
	"]}]}}"
#define HOST_PORT(n) "{\"containerPort\":8080,\"hostPort\":" #n "}"

/* That is no balancer's business: it has its ingress, whoever came first. */
static void test_port_of_a_pod(void **state)
{
	struct house *h = *state;

	make_node(h);
	house_create(h, POD("p", HOST_PORT(80)));
	house_create(h, SERVICE("a", "", PORT(80) "," PORT(83)));
	expect(h, "a", "192.0.2.1");
	house_create(h, POD("late", HOST_PORT(83)));
	house_restart_controllers(h);
	house_wait(h, house_is_quiet, NULL);
	expect(h, "a", "192.0.2.1");
}

static void test_port_of_the_api(void **state)
{
	struct house *h = *state;

	make_node(h);
	house_create(h, SERVICE("api", "", PORT(6443)));
	expect_event(h, "api", "SyncLoadBalancerFailed", "port 6443 of the node is the API server's");
	expect(h, "api", "");
	change(h, "api", "{\"ports\":[" PORT(6443) "," PORT(443) "]}");
	expect(h, "api", "192.0.2.1");
}

static bool is_gone(struct house *h, void *arg)
{
	return !registry_get(h->reg, KIND_SERVICE, DEFAULT, str_of(arg));
}

static void test_finalizer_of_others(void **state)
{
	struct house *h = *state;

	house_create(h, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"old\","
			"\"namespace\":\"default\",\"finalizers\":[\"service.kubernetes.io/load-balancer-cleanup\"]},"
			"\"spec\":{\"type\":\"LoadBalancer\",\"ports\":[{\"port\":80}]}}");
	delete_service(h, "old");
	house_wait(h, is_gone, "old");
}

static bool has_no_ingress_of_others(struct house *h, void *arg)
{
	return house_is_quiet(h, NULL) && has_ingress(h, &(struct expect){ arg, "192.0.2.1" });
}

/* Who had the port keeps it over a restart, though the other is first by name. */
static void test_restart(void **state)
{
	struct house *h = *state;

	make_node(h);
	house_create(h, SERVICE("z", "", PORT(80)));
	expect(h, "z", "192.0.2.1");
	house_create(h, SERVICE("a", "", PORT(80)));
	expect_event(h, "a", "SyncLoadBalancerFailed", "default/z");
	house_restart_controllers(h);
	house_wait(h, has_no_ingress_of_others, "z");
	expect(h, "a", "");
	delete_service(h, "z");
	expect(h, "a", "192.0.2.1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ingress_is_the_nodes, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_others_classes, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_one_port_one_holder, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_port_of_a_pod, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_port_of_the_api, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_finalizer_of_others, house_setup, house_teardown),
		cmocka_unit_test_setup_teardown(test_restart, house_setup, house_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
