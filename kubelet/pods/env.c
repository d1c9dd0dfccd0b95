/* SPDX-License-Identifier: Apache-2.0 */
/* See env.h. Loop thread. */
#include "kubelet/pods/env.h"

#include <errno.h>

#include "kubelet/pods/expand.h"
#include "kubelet/pods/service_env.h"
#include "userspace/base/encode.h"
#include "userspace/registry/registry.h"

static char **find(const struct env *env, struct str name)
{
	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->vars[i], name.p, name.n) == 0 && env->vars[i][name.n] == '=')
			return &env->vars[i];
	return NULL;
}

bool env_has(const struct env *env, struct str name)
{
	return find(env, name) != NULL;
}

void env_set(struct arena *arena, struct env *env, struct str name, struct str value)
{
	char *text = arena_printf(arena, "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
	char **at = find(env, name);

	if (at) {
		*at = text;
		return;
	}
	if (env->n + 1 >= env->cap) {
		size_t cap = env->cap ? env->cap * 2 : 32;
		char **vars = arena_new_array(arena, char *, cap);

		if (env->n)
			memcpy(vars, env->vars, env->n * sizeof(*vars));
		env->vars = vars;
		env->cap = cap;
	}
	env->vars[env->n++] = text;
	env->vars[env->n] = NULL;
}

static struct json *get_object(struct arena *arena, const struct env_source *src, const struct api_kind *kind,
			       struct str name)
{
	const struct object *o = registry_get(src->reg, kind, src->ns, name);

	return o ? registry_parse(arena, o) : NULL;
}

static int not_found(struct err *err, bool secret, struct str name)
{
	return err_set(err, -ENOENT, "%s \"%.*s\" not found", secret ? "secret" : "configmap", STR_ARG(name));
}

static struct str decode_secret(struct arena *arena, struct str text)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (base64_decode(&b, text, BASE64_STD) < 0)
		return STR_NULL;
	return arena_str(arena, buf_str(&b));
}

static int add_from_one(struct arena *arena, const struct env_source *src, const struct json *from, bool secret,
			struct env *env, struct err *err)
{
	const struct json *ref = json_get(from, secret ? "secretRef" : "configMapRef");
	struct str name = json_get_str(ref, "name"), prefix = json_get_str(from, "prefix");

	if (!ref)
		return 0;
	struct json *o = get_object(arena, src, secret ? KIND_SECRET : KIND_CONFIGMAP, name);

	if (!o)
		return json_get_bool(ref, "optional", false) ? 0 : not_found(err, secret, name);
	json_foreach(it, json_get(o, "data")) {
		struct str value = secret ? decode_secret(arena, json_str(it)) : json_str(it);
		char *key = arena_printf(arena, "%.*s%.*s", STR_ARG(prefix), STR_ARG(it->key));

		if (!*key || strchr(key, '='))
			continue;
		if (env->n >= ENV_MAX)
			return err_set(err, -E2BIG, "more than %d environment variables", ENV_MAX);
		env_set(arena, env, str_of(key), value);
	}
	return 0;
}

static int key_value(struct arena *arena, const struct env_source *src, const struct json *ref, bool secret,
		     bool *ret_skip, struct str *ret, struct err *err)
{
	struct str name = json_get_str(ref, "name"), key = json_get_str(ref, "key");
	bool optional = json_get_bool(ref, "optional", false);
	struct json *o = get_object(arena, src, secret ? KIND_SECRET : KIND_CONFIGMAP, name);

	*ret_skip = false;
	if (!o && !optional)
		return not_found(err, secret, name);
	struct json *value = json_get_n(json_get(o, "data"), key);

	if (!value) {
		if (optional) {
			*ret_skip = true;
			return 0;
		}
		return err_set(err, -ENOENT, "couldn't find key %.*s in %s %.*s/%.*s", STR_ARG(key),
			       secret ? "Secret" : "ConfigMap", STR_ARG(src->ns), STR_ARG(name));
	}
	*ret = secret ? decode_secret(arena, json_str(value)) : json_str(value);
	return 0;
}

static const struct json *named_container(const struct json *pod, struct str name, const struct json *otherwise)
{
	static const char *const lists[] = { "spec.containers", "spec.initContainers" };

	if (!name.n)
		return otherwise;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_foreach(c, json_at(pod, lists[i]))
			if (str_eq(json_get_str(c, "name"), name))
				return c;
	return otherwise;
}

static int value_from(struct arena *arena, const struct env_source *src, const struct json *container,
		      const struct json *from, bool *ret_skip, struct str *ret, struct err *err)
{
	const struct json *ref;
	char *text = NULL;
	int r = 0;

	*ret_skip = false;
	if ((ref = json_get(from, "fieldRef"))) {
		r = fieldref_value(arena, src->pod, src->facts, json_get_str(ref, "fieldPath"), &text, err);
	} else if ((ref = json_get(from, "resourceFieldRef"))) {
		const struct json *of = named_container(src->pod, json_get_str(ref, "containerName"), container);

		r = fieldref_resource(arena, of, src->facts, json_get_str(ref, "resource"),
				      json_get_str(ref, "divisor"), &text, err);
	} else if ((ref = json_get(from, "configMapKeyRef"))) {
		return key_value(arena, src, ref, false, ret_skip, ret, err);
	} else if ((ref = json_get(from, "secretKeyRef"))) {
		return key_value(arena, src, ref, true, ret_skip, ret, err);
	}
	if (r < 0)
		return r;
	*ret = str_of(text ? text : "");
	return 0;
}

/* Values may name the services' variables and the entries of `env` above them, not what envFrom brought. */
struct scope {
	const struct env *own, *services;
};

static const char *scope_lookup(void *arg, struct str name)
{
	const struct scope *s = arg;
	char **at = find(s->own, name);

	if (!at)
		at = find(s->services, name);
	return at ? *at + name.n + 1 : NULL;
}

static int add_own(struct arena *arena, const struct env_source *src, const struct json *container,
		   const struct env *services, struct env *env, struct err *err)
{
	struct env own = { 0 };
	struct scope scope = { &own, services };

	json_foreach(it, json_get(container, "env")) {
		struct str name = json_get_str(it, "name"), value = json_get_str(it, "value");
		const struct json *from = json_get(it, "valueFrom");

		if (from && !value.n) {
			bool skip;
			int r = value_from(arena, src, container, from, &skip, &value, err);

			if (r < 0)
				return r;
			if (skip)
				continue;
		} else {
			value = str_of(expand(arena, value, scope_lookup, &scope));
		}
		if (env->n >= ENV_MAX)
			return err_set(err, -E2BIG, "more than %d environment variables", ENV_MAX);
		env_set(arena, &own, name, value);
		env_set(arena, env, name, value);
	}
	return 0;
}

static void add_text(struct arena *arena, struct env *env, const char *text, bool replace)
{
	const char *eq = strchr(text, '=');
	struct str name = eq ? str_make(text, (size_t)(eq - text)) : str_of(text);

	if (replace || !env_has(env, name))
		env_set(arena, env, name, eq ? str_of(eq + 1) : STR_NULL);
}

int env_build(struct arena *arena, const struct env_source *src, const struct json *container, char *const *image_env,
	      struct env *ret, struct err *err)
{
	struct env services = { 0 }, env = { 0 };
	int r;

	service_env_collect(arena, src->reg, src->ns, json_at_bool(src->pod, "spec.enableServiceLinks", true),
			    &services);
	for (char *const *e = image_env; e && *e; e++)
		add_text(arena, &env, *e, true);
	json_foreach(from, json_get(container, "envFrom")) {
		r = add_from_one(arena, src, from, false, &env, err);
		if (r >= 0)
			r = add_from_one(arena, src, from, true, &env, err);
		if (r < 0)
			return r;
	}
	r = add_own(arena, src, container, &services, &env, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < services.n; i++)
		add_text(arena, &env, services.vars[i], false);
	if (!env.vars)
		env.vars = arena_new_array(arena, char *, 1);
	*ret = env;
	return 0;
}
