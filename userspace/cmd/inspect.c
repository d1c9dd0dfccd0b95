/* SPDX-License-Identifier: Apache-2.0 */
/* See inspect.h. */
#include "userspace/cmd/inspect.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "userspace/cmd/status_collect.h"
#include "userspace/netctl/address.h"

#define INSPECT_NAME_MAX 253
#define INSPECT_KEY_LEN 20

void inspect_finish(struct inspect *in)
{
	map_finish(&in->pods);
	map_finish(&in->services);
	dataplane_close(in->dp);
	arena_finish(&in->arena);
	config_finish(&in->config);
	*in = (struct inspect){ 0 };
}

static struct str address_key(const struct dp_addr *a)
{
	return str_make((const char *)a->b, sizeof(a->b));
}

static struct str place_key(const struct dp_addr *addr, uint16_t port, uint8_t proto, char ret[static INSPECT_KEY_LEN])
{
	memset(ret, 0, INSPECT_KEY_LEN);
	ret[0] = (char)proto;
	ret[1] = (char)(port >> 8);
	ret[2] = (char)port;
	memcpy(ret + 4, addr->b, sizeof(addr->b));
	return str_make(ret, INSPECT_KEY_LEN);
}

static void index_pod(struct inspect *in, struct json *pod)
{
	struct dp_addr a;

	if (json_get_bool(pod, "hostNetwork", false) || json_get_bool(pod, "finished", false))
		return;
	if (address_parse(json_get_str(pod, "address"), &a) == 0)
		map_put(&in->pods, address_key(&a), pod);
	json_foreach(text, json_get(pod, "addresses"))
		if (address_parse(json_str(text), &a) == 0)
			map_put(&in->pods, address_key(&a), pod);
}

static void index_service(struct inspect *in, struct json *service)
{
	json_foreach(f, json_get(service, "frontends")) {
		char key[INSPECT_KEY_LEN];
		struct dp_addr a;
		uint8_t proto;

		if (args_protocol(
			    arena_strndup(&in->arena, json_get_str(f, "protocol").p, json_get_str(f, "protocol").n),
			    &proto, NULL) < 0)
			continue;
		/* A node port of each family has a row; both answer to every address of the node. */
		if (address_parse(json_get_str(f, "address"), &a) < 0)
			memset(&a, 0, sizeof(a));
		if (address_is_zero(&a))
			memset(&a, 0, sizeof(a));
		map_put(&in->services, place_key(&a, (uint16_t)json_get_int(f, "port", 0), proto, key), service);
	}
}

void inspect_refresh(struct inspect *in)
{
	_cleanup_err_ struct err err = ERR_INIT, files = ERR_INIT;
	struct json *facts = NULL;

	map_finish(&in->pods);
	map_finish(&in->services);
	in->network = NULL;
	in->server = status_fetch(&in->config, &in->arena, "/k3c-bpf/network", &in->network, &err) == 0;
	if (in->server) {
		in->objects = "the running server";
	} else if (status_from_files(&in->config, &in->arena, &facts, &files) == 0) {
		in->network = json_get(facts, "network");
		in->objects = arena_printf(&in->arena, "the files in %s (no server: %s)", in->config.data_dir,
					   err_message(&err));
	} else {
		in->objects = arena_printf(&in->arena, "nowhere: %s; %s", err_message(&err), err_message(&files));
	}
	json_foreach(pod, json_get(in->network, "pods"))
		index_pod(in, pod);
	json_foreach(service, json_get(in->network, "services"))
		index_service(in, service);
}

int inspect_open(struct inspect *in, struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT;
	int r = dataplane_open_readonly(in->config.pin_dir, &in->dp, &why);

	if (r < 0)
		return err_set(err, r == -ENOENT ? -ENODEV : r, "no dataplane below %s: %s", in->config.pin_dir,
			       err_message(&why));
	inspect_refresh(in);
	return 0;
}

const struct json *inspect_pod(const struct inspect *in, const struct dp_addr *addr)
{
	return map_get(&in->pods, address_key(addr));
}

/* As the Node object says it, in its order: the cluster's first family first. */
static bool node_address_at(const struct inspect *in, const struct json *text, struct dp_addr *ret)
{
	return address_parse(json_str(text), ret) == 0 && dataplane_is_node_address(in->dp, ret);
}

struct dp_addr inspect_node_address(const struct inspect *in, enum dp_family family)
{
	struct dp_addr a;

	json_foreach(text, json_get(in->network, "nodeAddresses"))
		if (node_address_at(in, text, &a) && address_family(&a) == family)
			return a;
	return dataplane_node_address(in->dp, family);
}

enum dp_family inspect_primary(const struct inspect *in)
{
	struct dp_addr a;

	json_foreach(text, json_get(in->network, "nodeAddresses"))
		if (node_address_at(in, text, &a))
			return address_family(&a);
	return in->config.primary;
}

static const char *row_name(struct inspect *in, const struct json *row)
{
	return row ? arena_printf(&in->arena, "%.*s/%.*s", STR_ARG(json_get_str(row, "namespace")),
				  STR_ARG(json_get_str(row, "name")))
		   : NULL;
}

const char *inspect_pod_name(struct inspect *in, const struct dp_addr *addr)
{
	return row_name(in, inspect_pod(in, addr));
}

const char *inspect_service_name(struct inspect *in, const struct dp_addr *addr, uint16_t port, uint8_t proto)
{
	static const struct dp_addr any;
	char key[INSPECT_KEY_LEN];
	const struct json *row = map_get(&in->services, place_key(addr, port, proto, key));

	if (!row && (dataplane_is_node_address(in->dp, addr) || address_is_loopback(addr)))
		row = map_get(&in->services, place_key(&any, port, proto, key));
	return row_name(in, row);
}

const char *inspect_address(struct arena *arena, const struct dp_addr *addr)
{
	char text[ADDRESS_TEXT_MAX];

	address_format(addr, text);
	return arena_strdup(arena, text);
}

const char *inspect_place(struct arena *arena, const struct dp_addr *addr, uint16_t port)
{
	const char *text = inspect_address(arena, addr);

	if (!port)
		return text;
	return arena_printf(arena, strchr(text, ':') ? "[%s]:%u" : "%s:%u", text, port);
}

bool inspect_split_name(const char *text, const char *default_ns, struct arena *arena, const char **ret_ns,
			const char **ret_name)
{
	const char *slash = strchr(text, '/');

	if (strlen(text) > 2 * INSPECT_NAME_MAX || (slash && strchr(slash + 1, '/')))
		return false;
	*ret_ns = slash ? arena_strndup(arena, text, (size_t)(slash - text)) : default_ns;
	*ret_name = slash ? slash + 1 : text;
	return **ret_ns && **ret_name;
}

static const struct json *find_row(const struct json *rows, const char *ns, const char *name)
{
	const struct json *found = NULL;

	json_foreach(row, rows) {
		if (!str_is(json_get_str(row, "namespace"), ns) || !str_is(json_get_str(row, "name"), name))
			continue;
		found = row;
		if (!json_get_bool(row, "finished", false))
			return row;
	}
	return found;
}

const struct json *inspect_find_pod(const struct inspect *in, const char *ns, const char *name)
{
	return find_row(json_get(in->network, "pods"), ns, name);
}

const struct json *inspect_find_service(const struct inspect *in, const char *ns, const char *name)
{
	return find_row(json_get(in->network, "services"), ns, name);
}

const char *inspect_labels(struct arena *arena, const struct json *labels)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	json_foreach(l, labels)
		buf_printf(&out, "%s%.*s=%.*s", buf_len(&out) ? "," : "", STR_ARG(l->key), STR_ARG(json_str(l)));
	return arena_strdup(arena, buf_cstr(&out));
}

void inspect_print_json(const struct json *v, bool pretty)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	if (pretty)
		json_write_pretty(&out, v);
	else
		json_write(&out, v);
	puts(buf_cstr(&out));
	fflush(stdout);
}
