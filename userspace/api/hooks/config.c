/* SPDX-License-Identifier: Apache-2.0 */
/* ConfigMaps and Secrets: keys, size, the write-once flag, types of secrets. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define CONFIG_BYTES_MAX (1024 * 1024)

static void validate_key(const struct json *v, const struct field_path *path, struct field_errors *e)
{
	const char *why = validate_config_map_key(v->key);

	if (why)
		field_invalid_str(e, FIELD_KEY(path, v->key), v->key, "%s", why);
}

/* Bytes that base64 text stands for. */
static size_t decoded_size(struct str s)
{
	while (s.n && s.p[s.n - 1] == '=')
		s.n--;
	return s.n * 3 / 4;
}

static void validate_frozen(const struct json *object, const struct json *old, const char *const *fields,
			    struct field_errors *e)
{
	if (!json_get_bool(old, "immutable", false))
		return;
	if (!json_get_bool(object, "immutable", false))
		field_forbidden(e, FIELD(NULL, "immutable"), "field is immutable when `immutable` is set");
	for (; *fields; fields++) {
		const struct json *a = json_get(object, *fields), *b = json_get(old, *fields);

		if (!json_count(a) && !json_count(b))
			continue;
		if (!a || !b || !json_equal(a, b))
			field_forbidden(e, FIELD_STR(NULL, str_of(*fields)),
					"field is immutable when `immutable` is set");
	}
}

/* ---- ConfigMap ---- */

static void configmap_validate(const struct json *object, struct field_errors *e)
{
	const struct json *data = json_get(object, "data"), *binary = json_get(object, "binaryData");
	_cleanup_name_set_ struct name_set binaries;
	size_t total = 0;

	name_set_init(&binaries);
	name_set_add_members(&binaries, binary);
	json_foreach(v, data) {
		validate_key(v, FIELD(NULL, "data"), e);
		if (name_set_get(&binaries, v->key))
			field_invalid_str(e, FIELD_KEY(FIELD(NULL, "data"), v->key), v->key,
					  "duplicate of key present in binaryData");
		total += json_str(v).n;
	}
	json_foreach(v, binary) {
		validate_key(v, FIELD(NULL, "binaryData"), e);
		total += decoded_size(json_str(v));
	}
	if (total > CONFIG_BYTES_MAX)
		field_too_long(e, NULL, CONFIG_BYTES_MAX);
}

static void configmap_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	validate_frozen(object, old, (const char *const[]){ "data", "binaryData", NULL }, e);
}

const struct api_hooks hooks_configmaps = {
	.validate = configmap_validate,
	.validate_update = configmap_validate_update,
};

/* ---- Secret ---- */

/* stringData is a way to write data; it is never stored. */
static void merge_string_data(struct arena *arena, struct json *secret)
{
	struct json *plain = json_remove(secret, "stringData"), *data;
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_name_set_ struct name_set have;

	name_set_init(&have);
	if (!json_count(plain))
		return;
	data = json_ensure_object(arena, secret, "data");
	name_set_add_members(&have, data);
	json_foreach(v, plain) {
		struct str s = json_str(v);
		struct json *coded, *before;

		buf_reset(&text);
		base64_encode(&text, s.p, s.n, BASE64_STD);
		coded = json_new_str(arena, arena_str(arena, buf_str(&text)));
		coded->key = v->key;
		before = (struct json *)name_set_put(&have, v->key, coded);
		if (before == coded)
			json_append(data, coded);
		else
			json_replace(before, coded);
	}
}

static void secret_defaults(struct arena *arena, struct json *secret)
{
	merge_string_data(arena, secret);
	hooks_default_str(arena, secret, "type", "Opaque");
}

/* The configuration of registries is a JSON object. */
static void validate_docker(const struct json *secret, const char *key, struct field_errors *e)
{
	const struct json *v = json_get(json_get(secret, "data"), key);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *tree = NULL;

	if (!v || base64_decode(&text, json_str(v), BASE64_STD) < 0)
		return;
	if (json_parse(&arena, buf_str(&text), 0, &tree, &err) < 0 || !json_is(tree, JSON_OBJECT))
		field_invalid_str(e, FIELD_KEY(FIELD(NULL, "data"), str_of(key)), STR("<secret contents redacted>"),
				  "%s",
				  tree ? "json: cannot unmarshal into Go value of type map[string]interface {}"
				  : buf_len(&text) ? err_message(&err)
						   : "unexpected end of JSON input");
}

static void require_key(const struct json *secret, const char *key, struct field_errors *e)
{
	if (!json_get(json_get(secret, "data"), key))
		field_required(e, FIELD_KEY(FIELD(NULL, "data"), str_of(key)), NULL);
}

static void secret_validate(const struct json *secret, struct field_errors *e)
{
	static const struct {
		const char *type, *keys[2];
	} types[] = {
		{ "kubernetes.io/dockercfg", { ".dockercfg", NULL } },
		{ "kubernetes.io/dockerconfigjson", { ".dockerconfigjson", NULL } },
		{ "kubernetes.io/ssh-auth", { "ssh-privatekey", NULL } },
		{ "kubernetes.io/tls", { "tls.crt", "tls.key" } },
	};
	const struct json *data = json_get(secret, "data");
	struct str type = json_get_str(secret, "type");
	size_t total = 0;

	json_foreach(v, data) {
		validate_key(v, FIELD(NULL, "data"), e);
		total += decoded_size(json_str(v));
	}
	if (total > CONFIG_BYTES_MAX)
		field_too_long(e, FIELD(NULL, "data"), CONFIG_BYTES_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		for (size_t k = 0; str_is(type, types[i].type) && k < 2 && types[i].keys[k]; k++)
			require_key(secret, types[i].keys[k], e);
	if (str_is(type, "kubernetes.io/ssh-auth") && json_get(data, "ssh-privatekey") &&
	    !json_get_str(data, "ssh-privatekey").n)
		field_required(e, FIELD_KEY(FIELD(NULL, "data"), STR("ssh-privatekey")), NULL);
	if (str_is(type, "kubernetes.io/dockercfg"))
		validate_docker(secret, ".dockercfg", e);
	if (str_is(type, "kubernetes.io/dockerconfigjson"))
		validate_docker(secret, ".dockerconfigjson", e);
	if (str_is(type, "kubernetes.io/basic-auth") && !json_get(data, "username") && !json_get(data, "password")) {
		require_key(secret, "username", e);
		require_key(secret, "password", e);
	}
	if (str_is(type, "kubernetes.io/service-account-token") &&
	    !meta_annotation(secret, "kubernetes.io/service-account.name").n)
		field_required(
			e, FIELD_KEY(FIELD(NULL, "metadata.annotations"), STR("kubernetes.io/service-account.name")),
			NULL);
}

static void secret_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	validate_frozen(object, old, (const char *const[]){ "data", NULL }, e);
}

const struct api_hooks hooks_secrets = {
	.defaults = secret_defaults,
	.validate = secret_validate,
	.validate_update = secret_validate_update,
};
