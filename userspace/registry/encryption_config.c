/* SPDX-License-Identifier: Apache-2.0 */
/* EncryptionConfiguration, strictly: what is not known is an error, as a typing mistake here would leave secrets in
 * the clear. Messages name fields, never values of secrets. */
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"
#include "userspace/registry/encryption_internal.h"

static const struct encryption_cipher *const CIPHERS[] = { &ENCRYPTION_AESGCM, &ENCRYPTION_AESCBC,
							   &ENCRYPTION_SECRETBOX };

/* ---- the shape of the document ---- */

static int check_members(const struct json *object, const char *path, const char *const *known, size_t n,
			 struct err *err)
{
	if (!json_is(object, JSON_OBJECT))
		return err_set(err, -EINVAL, "%s: a mapping is wanted", path);
	json_foreach(m, object) {
		bool found = false;

		for (size_t i = 0; i < n; i++)
			found = found || str_is(m->key, known[i]);
		if (!found)
			return err_set(err, -EINVAL, "%s: unknown field \"%.*s\"", path, STR_ARG(m->key));
	}
	return 0;
}

/* A list of at least one and at most `max` members. */
static int check_list(const struct json *list, const char *path, const char *of, size_t max, struct err *err)
{
	if (list && list->type != JSON_NULL && list->type != JSON_ARRAY)
		return err_set(err, -EINVAL, "%s: a list is wanted", path);
	if (json_count(list) == 0)
		return err_set(err, -EINVAL, "%s: Required value: at least one %s is required", path, of);
	if (json_count(list) > max)
		return err_set(err, -E2BIG, "%s: more than %zu", path, max);
	return 0;
}

/* ---- keys ---- */

static int decode_secret(const struct encryption_cipher *cipher, const struct json *value, const char *path,
			 struct encryption_key *key, struct err *err)
{
	_cleanup_buf_ struct buf raw = BUF_INIT;
	struct str text = json_str(value);
	bool fits = false;
	int r = 0;

	if (!json_is(value, JSON_STRING) || text.n == 0)
		return err_set(err, -EINVAL, "%s.secret: Required value: secret is a mandatory field for a key", path);
	buf_reserve(&raw, text.n + 4); /* so that it does not grow, which would leave a copy */
	if (base64_decode(&raw, text, BASE64_STD) < 0)
		r = err_set(err, -EINVAL, "%s.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
			    path);
	for (size_t i = 0; i < ARRAY_SIZE(cipher->lengths) && cipher->lengths[i]; i++)
		fits = fits || buf_len(&raw) == cipher->lengths[i];
	if (r == 0 && !fits)
		r = err_set(err, -EINVAL,
			    "%s.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got %zu, "
			    "expected one of %s",
			    path, buf_len(&raw), cipher->lengths[1] ? "[16 24 32]" : "[32]");
	if (r == 0) {
		memcpy(key->secret, buf_str(&raw).p, buf_len(&raw));
		key->secret_len = buf_len(&raw);
	}
	if (raw.data)
		OPENSSL_cleanse(raw.data, raw.cap);
	return r;
}

static int parse_key(const struct encryption_cipher *cipher, const struct json *v, const char *path,
		     const struct encryption_provider *before, struct encryption_key *key, struct err *err)
{
	static const char *const members[] = { "name", "secret" };
	struct str name;
	int r = check_members(v, path, members, ARRAY_SIZE(members), err);

	if (r < 0)
		return r;
	name = json_get_str(v, "name");
	if (name.n == 0)
		return err_set(err, -EINVAL, "%s.name: Required value: name is a mandatory field for a key", path);
	if (name.n > ENCRYPTION_NAME_MAX || str_find(name, ':') >= 0)
		return err_set(err, -EINVAL, "%s.name: Invalid value: at most %d bytes, and no \":\"", path,
			       ENCRYPTION_NAME_MAX);
	for (size_t i = 0; i < name.n; i++)
		if (!isprint((unsigned char)name.p[i]))
			return err_set(err, -EINVAL, "%s.name: Invalid value: must be printable", path);
	for (size_t i = 0; i < before->n_keys; i++)
		if (str_is(name, before->keys[i].name))
			return err_set(err, -EINVAL, "%s.name: Duplicate value: \"%.*s\"", path, STR_ARG(name));
	r = decode_secret(cipher, json_get(v, "secret"), path, key, err);
	if (r < 0)
		return r;
	key->name = mem_strndup(name.p, name.n);
	key->prefix = mem_printf("k8s:enc:%s:v1:%s:", cipher->name, key->name);
	key->prefix_len = strlen(key->prefix);
	return 0;
}

/* ---- providers ---- */

static int parse_keys(const struct json *v, const char *path, struct encryption_provider *p, struct err *err)
{
	static const char *const members[] = { "keys" };
	const struct json *keys;
	_cleanup_arena_ struct arena paths = ARENA_INIT;
	const char *at;
	size_t i = 0;
	int r = check_members(v, path, members, ARRAY_SIZE(members), err);

	if (r < 0)
		return r;
	keys = json_get(v, "keys");
	at = arena_printf(&paths, "%s.keys", path);
	r = check_list(keys, at, "key", ENCRYPTION_KEYS_MAX, err);
	if (r < 0)
		return r;
	p->keys = mem_new_array(struct encryption_key, json_count(keys));
	json_foreach(k, keys) {
		at = arena_printf(&paths, "%s.keys[%zu]", path, i++);
		r = parse_key(p->cipher, k, at, p, &p->keys[p->n_keys], err);
		if (r < 0)
			return r;
		p->n_keys++;
	}
	return p->cipher->prepare ? p->cipher->prepare(err) : 0;
}

static int parse_provider(const struct json *v, const char *path, struct encryption_provider *p, struct err *err)
{
	static const char *const members[] = { "identity", "aesgcm", "aescbc", "secretbox", "kms" };
	int r = check_members(v, path, members, ARRAY_SIZE(members), err);
	_cleanup_arena_ struct arena paths = ARENA_INIT;
	const char *at;

	if (r < 0)
		return r;
	if (json_count(v) != 1)
		return err_set(err, -EINVAL,
			       "%s: exactly one provider is wanted: identity, aesgcm, aescbc or secretbox", path);
	if (json_get(v, "kms"))
		return err_set(err, -EOPNOTSUPP,
			       "%s.kms: key management services are not supported: use aesgcm, aescbc or secretbox",
			       path);
	for (size_t i = 0; i < ARRAY_SIZE(CIPHERS); i++) {
		const struct json *cipher = json_get(v, CIPHERS[i]->name);

		if (!cipher)
			continue;
		p->cipher = CIPHERS[i];
		at = arena_printf(&paths, "%s.%s", path, CIPHERS[i]->name);
		return parse_keys(cipher, at, p, err);
	}
	return 0;
}

/* ---- resources ---- */

static int check_resource(struct str s, const char *path, struct err *err)
{
	long dot = str_find(s, '.');
	struct str resource = dot < 0 ? s : str_make(s.p, (size_t)dot);
	struct str group = dot < 0 ? STR_NULL : str_make(s.p + dot + 1, s.n - (size_t)dot - 1);

	if (s.n == 0 || s.n > ENCRYPTION_NAME_MAX)
		return err_set(err, -EINVAL, "%s: Invalid value: a resource's name is wanted", path);
	for (size_t i = 0; i < s.n; i++)
		if (isupper((unsigned char)s.p[i]))
			return err_set(err, -EINVAL,
				       "%s: Invalid value: \"%.*s\": resource name should not contain capital "
				       "letters",
				       path, STR_ARG(s));
	if (str_find(s, '/') >= 0)
		return err_set(err, -EINVAL, "%s: Invalid value: \"%.*s\": subresources have no bytes of their own",
			       path, STR_ARG(s));
	if (str_is(s, "*") || (!str_is(resource, "*") && str_find(resource, '*') >= 0) ||
	    (str_find(group, '*') >= 0 && !(str_is(group, "*") && str_is(resource, "*"))))
		return err_set(err, -EINVAL,
			       "%s: Invalid value: \"%.*s\": wildcards are \"*.\", \"*.<group>\" and \"*.*\"", path,
			       STR_ARG(s));
	return 0;
}

static int parse_resources(const struct json *list, const char *path, const struct encryption *e,
			   struct encryption_rule *rule, struct err *err)
{
	_cleanup_arena_ struct arena paths = ARENA_INIT;
	const char *at;
	size_t n = 0;
	int r;

	rule->resources = mem_new_array(char *, json_count(list));
	json_foreach(v, list) {
		struct str s = json_str(v);

		at = arena_printf(&paths, "%s[%zu]", path, n++);
		r = check_resource(s, at, err);
		if (r < 0)
			return r;
		/* "secrets." is "secrets" */
		if (s.n > 1 && s.p[s.n - 1] == '.' && s.p[0] != '*')
			s.n--;
		for (size_t i = 0; i <= e->n_rules; i++) {
			const struct encryption_rule *other = i < e->n_rules ? &e->rules[i] : rule;

			for (size_t k = 0; k < other->n_resources; k++)
				if (str_is(s, other->resources[k]))
					return err_set(err, -EINVAL, "%s: Duplicate value: \"%.*s\"", at, STR_ARG(s));
		}
		rule->resources[rule->n_resources++] = mem_strndup(s.p, s.n);
	}
	return 0;
}

static int parse_rule(const struct json *v, const char *path, const struct encryption *e, struct encryption_rule *rule,
		      struct err *err)
{
	static const char *const members[] = { "resources", "providers" };
	const struct json *resources, *providers;
	_cleanup_arena_ struct arena paths = ARENA_INIT;
	const char *at;
	size_t n = 0;
	int r = check_members(v, path, members, ARRAY_SIZE(members), err);

	if (r < 0)
		return r;
	resources = json_get(v, "resources");
	providers = json_get(v, "providers");
	at = arena_printf(&paths, "%s.resources", path);
	r = check_list(resources, at, "resource", ENCRYPTION_RESOURCES_MAX, err);
	if (r >= 0)
		r = parse_resources(resources, at, e, rule, err);
	if (r < 0)
		return r;
	at = arena_printf(&paths, "%s.providers", path);
	r = check_list(providers, at, "provider", ENCRYPTION_PROVIDERS_MAX, err);
	if (r < 0)
		return r;
	rule->providers = mem_new_array(struct encryption_provider, json_count(providers));
	json_foreach(p, providers) {
		at = arena_printf(&paths, "%s.providers[%zu]", path, n++);
		r = parse_provider(p, at, &rule->providers[rule->n_providers++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the document ---- */

static int parse_document(const struct json *v, struct encryption *e, struct err *err)
{
	static const char *const members[] = { "apiVersion", "kind", "resources" };
	const struct json *resources;
	_cleanup_arena_ struct arena paths = ARENA_INIT;
	const char *at;
	int r;

	if (!json_is(v, JSON_OBJECT) || !str_is(json_get_str(v, "kind"), "EncryptionConfiguration") ||
	    !str_is(json_get_str(v, "apiVersion"), "apiserver.config.k8s.io/v1"))
		return err_set(err, -EINVAL, "is no EncryptionConfiguration of apiserver.config.k8s.io/v1");
	r = check_members(v, "EncryptionConfiguration", members, ARRAY_SIZE(members), err);
	if (r < 0)
		return r;
	resources = json_get(v, "resources");
	r = check_list(resources, "resources", "resource configuration", ENCRYPTION_RULES_MAX, err);
	if (r < 0)
		return r;
	e->rules = mem_new_array(struct encryption_rule, json_count(resources));
	json_foreach(rule, resources) {
		at = arena_printf(&paths, "resources[%zu]", e->n_rules);
		/* Counted before it is complete, so that what it has is freed. */
		r = parse_rule(rule, at, &(struct encryption){ .rules = e->rules, .n_rules = e->n_rules },
			       &e->rules[e->n_rules], err);
		e->n_rules++;
		if (r < 0)
			return r;
	}
	e->configured = true;
	return 0;
}

/* The tree is the parser's own copy. */
static void wipe(const struct json *v)
{
	if (json_is(v, JSON_STRING) && v->text.n > 0)
		OPENSSL_cleanse((char *)(uintptr_t)v->text.p, v->text.n);
	json_foreach(child, v)
		wipe(child);
}

int encryption_config_parse(struct str text, struct encryption *e, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err why = ERR_INIT;
	struct json *v = NULL;
	int r = yaml_parse(&arena, text, &v, &why);

	/* The parser's words may repeat what it met. */
	if (r < 0)
		return err_set(err, r, "is no YAML");
	r = parse_document(v, e, err);
	wipe(v);
	return r;
}
