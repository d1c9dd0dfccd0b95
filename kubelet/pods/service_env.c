/* SPDX-License-Identifier: Apache-2.0 */
/* See service_env.h. Loop thread. */
#include "kubelet/pods/service_env.h"

#include <ctype.h>
#include <inttypes.h>

#include "userspace/registry/registry.h"

static char *upper(struct arena *arena, struct str s)
{
	char *p = arena_strndup(arena, s.p ? s.p : "", s.n);

	for (char *c = p; *c; c++)
		*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
	return p;
}

__attribute__((format(printf, 4, 5))) static void set(struct arena *arena, struct env *env, const char *name,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *value = arena_vprintf(arena, fmt, ap);
	va_end(ap);
	env_set(arena, env, str_of(name), str_of(value));
}

static void add_port(struct arena *arena, struct env *env, const char *name, struct str ip, const struct json *port,
		     bool first)
{
	int64_t number = json_get_int(port, "port", 0);
	struct str proto = json_get_str(port, "protocol"), port_name = json_get_str(port, "name");
	bool v6 = str_find(ip, ':') >= 0;

	if (!proto.n)
		proto = STR("TCP");
	char *lower = arena_strndup(arena, proto.p, proto.n);

	for (char *c = lower; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	char *url = arena_printf(arena, v6 ? "%s://[%.*s]:%" PRId64 : "%s://%.*s:%" PRId64, lower, STR_ARG(ip), number);
	char *prefix = arena_printf(arena, "%s_PORT_%" PRId64 "_%s", name, number, upper(arena, proto));

	if (first) {
		set(arena, env, arena_printf(arena, "%s_SERVICE_PORT", name), "%" PRId64, number);
		set(arena, env, arena_printf(arena, "%s_PORT", name), "%s", url);
	}
	if (port_name.n)
		set(arena, env, arena_printf(arena, "%s_SERVICE_PORT_%s", name, upper(arena, port_name)), "%" PRId64,
		    number);
	set(arena, env, prefix, "%s", url);
	set(arena, env, arena_printf(arena, "%s_PROTO", prefix), "%s", lower);
	set(arena, env, arena_printf(arena, "%s_PORT", prefix), "%" PRId64, number);
	set(arena, env, arena_printf(arena, "%s_ADDR", prefix), "%.*s", STR_ARG(ip));
}

void service_env_add(struct arena *arena, struct env *env, const struct json *service)
{
	const struct json *spec = json_get(service, "spec");
	struct str ip = json_get_str(spec, "clusterIP");
	bool first = true;

	if (!ip.n || str_is(ip, "None"))
		return;
	char *name = upper(arena, json_at_str(service, "metadata.name"));

	set(arena, env, arena_printf(arena, "%s_SERVICE_HOST", name), "%.*s", STR_ARG(ip));
	json_foreach(port, json_get(spec, "ports")) {
		add_port(arena, env, name, ip, port, first);
		first = false;
	}
}

struct collect {
	struct arena *arena;
	struct registry *reg;
	struct env *env;
};

static void collect_one(void *arg, const struct object *o)
{
	struct collect *c = arg;

	service_env_add(c->arena, c->env, registry_parse(c->arena, o));
}

void service_env_collect(struct arena *arena, struct registry *reg, struct str ns, bool links, struct env *env)
{
	struct collect c = { arena, reg, env };
	const struct object *master = registry_get(reg, KIND_SERVICE, STR("default"), STR("kubernetes"));

	if (links)
		registry_each(reg, KIND_SERVICE, ns, collect_one, &c);
	if (master && !(links && str_is(ns, "default")))
		collect_one(&c, master);
}
