/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the configuration, strictly: a typing mistake would leave namespaces unguarded. At start-up. */
#include "userspace/registry/admission/pod_security_config.h"

#include <errno.h>
#include <string.h>

#include "userspace/base/fs.h"
#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

#define EXEMPTIONS_MAX 256

static int check_members(const struct json *object, const char *what, const char *const *known, struct err *err)
{
	if (object && !json_is(object, JSON_OBJECT))
		return err_set(err, -EINVAL, "%s: a mapping is wanted", what);
	json_foreach(m, object) {
		const char *const *k = known;

		while (*k && !str_is(m->key, *k))
			k++;
		if (!*k)
			return err_set(err, -EINVAL, "%s: unknown field \"%.*s\"", what, STR_ARG(m->key));
	}
	return 0;
}

static int parse_mode(const struct json *defaults, const char *mode, struct pod_security_policy *ret, struct err *err)
{
	_cleanup_free_ char *version = mem_printf("%s-version", mode);
	struct str level = json_get_str(defaults, mode), number = json_get_str(defaults, version);

	*ret = (struct pod_security_policy){ POD_SECURITY_PRIVILEGED, POD_SECURITY_LATEST };
	if (json_get(defaults, mode) && !pod_security_level(level, &ret->level))
		return err_set(err, -EINVAL,
			       "defaults.%s: Invalid value: \"%.*s\": must be one of privileged, baseline, restricted",
			       mode, STR_ARG(level));
	if (json_get(defaults, version) && !pod_security_version(number, &ret->minor))
		return err_set(err, -EINVAL, "defaults.%s: Invalid value: \"%.*s\": must be \"latest\" or \"v1.x\"",
			       version, STR_ARG(number));
	return 0;
}

static int parse_exemptions(const struct json *exemptions, const char *key, const struct json **ret, struct err *err)
{
	const struct json *list = json_get(exemptions, key);

	if (!list || json_is(list, JSON_NULL))
		return 0;
	if (!json_is(list, JSON_ARRAY) || json_count(list) > EXEMPTIONS_MAX)
		return err_set(err, -EINVAL, "exemptions.%s: a list of at most %d names is wanted", key,
			       EXEMPTIONS_MAX);
	json_foreach(v, list)
		if (json_str(v).n == 0)
			return err_set(err, -EINVAL, "exemptions.%s: a name is wanted", key);
	*ret = list;
	return 0;
}

static int parse_pod_security(struct pod_security_config *c, const struct json *v, struct err *err)
{
	static const char *const members[] = { "apiVersion", "kind", "defaults", "exemptions", NULL };
	static const char *const modes[] = { "enforce", "enforce-version", "audit", "audit-version",
					     "warn",    "warn-version",    NULL };
	static const char *const lists[] = { "usernames", "namespaces", "runtimeClasses", NULL };
	const struct json *defaults = json_get(v, "defaults"), *exemptions = json_get(v, "exemptions");
	int r;

	if (!str_is(json_get_str(v, "kind"), "PodSecurityConfiguration") ||
	    !str_starts(json_get_str(v, "apiVersion"), STR("pod-security.admission.config.k8s.io/v1")))
		return err_set(err, -EINVAL,
			       "is no PodSecurityConfiguration of pod-security.admission.config.k8s.io/v1");
	r = check_members(v, "PodSecurityConfiguration", members, err);
	if (r == 0)
		r = check_members(defaults, "defaults", modes, err);
	if (r == 0)
		r = check_members(exemptions, "exemptions", lists, err);
	if (r == 0)
		r = parse_mode(defaults, "enforce", &c->defaults.enforce, err);
	if (r == 0)
		r = parse_mode(defaults, "audit", &c->defaults.audit, err);
	if (r == 0)
		r = parse_mode(defaults, "warn", &c->defaults.warn, err);
	if (r == 0)
		r = parse_exemptions(exemptions, "usernames", &c->usernames, err);
	if (r == 0)
		r = parse_exemptions(exemptions, "namespaces", &c->namespaces, err);
	return r < 0 ? r : parse_exemptions(exemptions, "runtimeClasses", &c->runtime_classes, err);
}

static int read_yaml(struct arena *arena, const char *path, struct json **ret, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int r = fs_read(path, POD_SECURITY_CONFIG_BYTES_MAX, &b, err);

	return r < 0 ? r : yaml_parse(arena, buf_str(&b), ret, err);
}

static int parse_plugin(struct pod_security_config *c, const struct json *plugin, const char *dir, struct err *err)
{
	static const char *const members[] = { "name", "path", "configuration", NULL };
	struct json *configuration = json_get(plugin, "configuration");
	struct str path = json_get_str(plugin, "path");
	int r = check_members(plugin, "plugins", members, err);

	if (r < 0)
		return r;
	if (!str_is(json_get_str(plugin, "name"), "PodSecurity"))
		return err_set(err, -EINVAL, "plugins: \"%.*s\" has no configuration here, only PodSecurity has",
			       STR_ARG(json_get_str(plugin, "name")));
	if (path.n > 0 && !json_is(configuration, JSON_OBJECT)) {
		const char *file = arena_printf(&c->arena, "%s%s%.*s", path.p[0] == '/' ? "" : dir,
						path.p[0] == '/' ? "" : "/", STR_ARG(path));

		r = read_yaml(&c->arena, file, &configuration, err);
		if (r < 0)
			return r;
	}
	return parse_pod_security(c, configuration, err);
}

int pod_security_config_parse(struct str text, const char *dir, struct pod_security_config **ret, struct err *err)
{
	static const char *const members[] = { "apiVersion", "kind", "plugins", NULL };
	struct pod_security_config *c = mem_new(struct pod_security_config);
	struct json *v = NULL;
	int r = yaml_parse(&c->arena, text, &v, err);

	c->defaults.enforce.minor = c->defaults.audit.minor = c->defaults.warn.minor = POD_SECURITY_LATEST;
	if (r == 0 && (!str_is(json_get_str(v, "kind"), "AdmissionConfiguration") ||
		       !str_is(json_get_str(v, "apiVersion"), "apiserver.config.k8s.io/v1")))
		r = err_set(err, -EINVAL, "is no AdmissionConfiguration of apiserver.config.k8s.io/v1");
	if (r == 0)
		r = check_members(v, "AdmissionConfiguration", members, err);
	if (r == 0)
		json_foreach(plugin, json_get(v, "plugins")) {
			r = parse_plugin(c, plugin, dir, err);
			if (r < 0)
				break;
		}
	if (r < 0) {
		pod_security_config_destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

int pod_security_config_load(const char *path, struct pod_security_config **ret, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_free_ char *dir = NULL;
	const char *slash;
	int r;

	*ret = NULL;
	if (!path || !*path)
		return 0;
	slash = strrchr(path, '/');
	dir = slash ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(".");
	r = fs_read(path, POD_SECURITY_CONFIG_BYTES_MAX, &b, err);
	if (r == 0)
		r = pod_security_config_parse(buf_str(&b), dir, ret, err);
	return r < 0 ? err_wrap(err, r, "admission configuration %s", path) : 0;
}

void pod_security_config_destroy(struct pod_security_config *c)
{
	if (!c)
		return;
	arena_finish(&c->arena);
	free(c);
}
