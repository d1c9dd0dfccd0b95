/* SPDX-License-Identifier: Apache-2.0 */
/* The transform: which entry of the configuration speaks for a resource, and bytes to and from what it says. */
#include "userspace/registry/encryption.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/encode.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"
#include "userspace/registry/encryption_internal.h"

#define PREFIX "k8s:enc:"

/* ---- which entry ---- */

static bool names(struct str entry, struct str group, struct str plural)
{
	struct str of_entry = STR_NULL, resource = entry;
	long dot = str_find(entry, '.');

	if (dot >= 0) {
		resource = str_make(entry.p, (size_t)dot);
		of_entry = str_make(entry.p + dot + 1, entry.n - (size_t)dot - 1);
	}
	if (!str_is(resource, "*"))
		return str_eq(resource, plural) && str_eq(of_entry, group);
	return str_is(of_entry, "*") || str_eq(of_entry, group);
}

static const void *find(void *arg, const char *group, const char *plural)
{
	const struct encryption *e = arg;

	for (size_t i = 0; i < e->n_rules; i++)
		for (size_t k = 0; k < e->rules[i].n_resources; k++)
			if (names(str_of(e->rules[i].resources[k]), str_of(group), str_of(plural)))
				return &e->rules[i];
	return &e->outside;
}

/* ---- writing ---- */

static const struct encryption_key *writing_key(const struct encryption_rule *rule)
{
	return rule->n_providers > 0 && rule->providers[0].cipher ? &rule->providers[0].keys[0] : NULL;
}

/* What upstream's etcd would call the object. */
static void bound_to(struct buf *out, const struct transform_place *place)
{
	buf_printf(out, "/registry/%s%s%s/%.*s", place->group, *place->group ? "/" : "", place->plural,
		   STR_ARG(place->key));
}

static int seal(const void *how, const struct transform_place *place, struct str plain, struct buf *out,
		struct err *err)
{
	const struct encryption_rule *rule = how;
	const struct encryption_key *key = writing_key(rule);
	_cleanup_buf_ struct buf bound = BUF_INIT;
	int r;

	if (!key)
		return 1;
	bound_to(&bound, place);
	buf_add(out, key->prefix, key->prefix_len);
	r = rule->providers[0].cipher->seal(key, buf_str(&bound), plain, out);
	if (r < 0)
		return err_set(err, r, "%s %.*s cannot be encrypted with %s key \"%s\"", place->plural,
			       STR_ARG(place->key), rule->providers[0].cipher->name, key->name);
	return 0;
}

/* ---- reading ---- */

/* The name of what is not encrypted stands in its bytes alone. */
static void describe_plain(struct buf *out, const struct transform_place *place, struct str plain)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *tree = NULL;
	struct str ns, name;

	buf_add_cstr(out, place->plural);
	if (json_parse(&arena, plain, 0, &tree, NULL) < 0)
		return;
	ns = json_at_str(tree, "metadata.namespace");
	name = json_at_str(tree, "metadata.name");
	buf_printf(out, " %.*s%s%.*s", STR_ARG(ns), ns.n > 0 ? "/" : "", STR_ARG(name));
}

static int open_plain(const struct encryption_rule *rule, const struct transform_place *place, struct str stored,
		      bool *ret_stale, struct err *err)
{
	_cleanup_buf_ struct buf what = BUF_INIT;
	bool readable = rule->outside;

	for (size_t i = 0; i < rule->n_providers; i++)
		readable = readable || !rule->providers[i].cipher;
	if (readable) {
		*ret_stale = writing_key(rule) != NULL;
		return 0;
	}
	describe_plain(&what, place, stored);
	return err_set(
		err, -EACCES,
		"%s is not encrypted, and the encryption configuration does not list the provider identity for it",
		buf_cstr(&what));
}

/* "k8s:enc:aescbc:v1:key1:..." told as `aescbc key "key1"`; what is not of that form is not repeated. */
static void describe_key(struct buf *out, struct str stored)
{
	struct str rest = str_make(stored.p + sizeof(PREFIX) - 1, stored.n - (sizeof(PREFIX) - 1)), part[3];

	for (size_t i = 0; i < ARRAY_SIZE(part); i++) {
		bool ok = str_split(&rest, ':', &part[i]) && part[i].n > 0 && part[i].n <= ENCRYPTION_NAME_MAX;

		for (size_t k = 0; ok && k < part[i].n; k++)
			ok = isprint((unsigned char)part[i].p[k]);
		if (!ok) {
			buf_add_cstr(out, "a key that has no readable name");
			return;
		}
	}
	buf_printf(out, "%.*s key \"%.*s\"", STR_ARG(part[0]), STR_ARG(part[2]));
}

static int unknown_key(const struct encryption_rule *rule, const struct transform_place *place, struct str stored,
		       struct err *err)
{
	_cleanup_buf_ struct buf key = BUF_INIT;

	describe_key(&key, stored);
	return err_set(err, -ENOKEY, "%s %.*s is encrypted with %s, which %s", place->plural, STR_ARG(place->key),
		       buf_cstr(&key),
		       rule->outside ? "no encryption configuration gives for it (--encryption-provider-config)"
				     : "the encryption configuration does not have");
}

static int open_with(const struct encryption_rule *rule, size_t provider, size_t n, const struct transform_place *place,
		     struct str stored, struct buf *out, struct err *err)
{
	const struct encryption_cipher *cipher = rule->providers[provider].cipher;
	const struct encryption_key *key = &rule->providers[provider].keys[n];
	struct str sealed = str_make(stored.p + key->prefix_len, stored.n - key->prefix_len);
	_cleanup_buf_ struct buf bound = BUF_INIT;

	bound_to(&bound, place);
	if (cipher->open(key, buf_str(&bound), sealed, out) < 0)
		return err_set(
			err, -EKEYREJECTED,
			"%s %.*s cannot be decrypted with %s key \"%s\": it was encrypted with another key of that "
			"name, or was changed",
			place->plural, STR_ARG(place->key), cipher->name, key->name);
	return 0;
}

static int open_row(const void *how, const struct transform_place *place, struct str stored, struct buf *out,
		    struct str *ret_plain, bool *ret_stale, struct err *err)
{
	const struct encryption_rule *rule = how;

	if (!str_starts(stored, STR(PREFIX)))
		return open_plain(rule, place, stored, ret_stale, err);
	for (size_t i = 0; i < rule->n_providers; i++) {
		const struct encryption_provider *p = &rule->providers[i];

		for (size_t k = 0; k < p->n_keys; k++) {
			int r;

			if (!str_starts(stored, str_make(p->keys[k].prefix, p->keys[k].prefix_len)))
				continue;
			r = open_with(rule, i, k, place, stored, out, err);
			if (r < 0)
				return r;
			*ret_plain = buf_str(out);
			*ret_stale = i != 0 || k != 0;
			return 0;
		}
	}
	return unknown_key(rule, place, stored, err);
}

/* ---- making ---- */

/* What seal() does, as a number: of names only, never of secrets. */
static int64_t form_of(const struct encryption *e)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	uint8_t digest[SHA256_LEN];
	uint64_t form = 0;
	bool any = false;

	for (size_t i = 0; i < e->n_rules; i++) {
		const struct encryption_key *key = writing_key(&e->rules[i]);

		any = any || key;
		for (size_t k = 0; k < e->rules[i].n_resources; k++)
			buf_printf(&text, "%s %s\n", e->rules[i].resources[k], key ? key->prefix : "");
	}
	if (!any)
		return 0;
	sha256(buf_str(&text).p, buf_len(&text), digest);
	for (size_t i = 0; i < 8; i++)
		form = form << 8 | digest[i];
	form &= INT64_MAX;
	return form ? (int64_t)form : 1;
}

static struct encryption *create(void)
{
	struct encryption *e = mem_new(struct encryption);

	e->outside.outside = true;
	e->transform = (struct store_transform){ .arg = e, .find = find, .seal = seal, .open = open_row };
	return e;
}

static void complete(struct encryption *e)
{
	const struct encryption_rule *rule = find(e, "", "secrets");
	const struct encryption_key *key = writing_key(rule);

	e->transform.form = form_of(e);
	e->of_secrets = key ? mem_printf("%s %s", rule->providers[0].cipher->name, key->name) : mem_strdup("identity");
}

int encryption_parse(struct str text, struct encryption **ret, struct err *err)
{
	struct encryption *e = create();
	int r = encryption_config_parse(text, e, err);

	if (r < 0) {
		encryption_destroy(e);
		return r;
	}
	complete(e);
	*ret = e;
	return 0;
}

/* In one piece of memory that is wiped: a growing buffer would leave copies behind. */
static int load_file(const char *path, struct encryption **ret, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "is not a file");
	if (st.st_uid != 0 || (st.st_mode & 077) != 0)
		return err_set(err, -EPERM,
			       "must belong to root and have mode 0600, it belongs to uid %u and has mode %04o",
			       (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777));
	if (st.st_size > ENCRYPTION_FILE_MAX)
		return err_set(err, -EFBIG, "has more than %d bytes", ENCRYPTION_FILE_MAX);
	text = mem_alloc((size_t)st.st_size + 1);
	n = pread(fd, text, (size_t)st.st_size, 0);
	r = n < 0 ? err_set(err, -errno, "%s", strerror(errno)) : encryption_parse(str_make(text, (size_t)n), ret, err);
	OPENSSL_cleanse(text, (size_t)st.st_size);
	return r;
}

int encryption_load(const char *path, struct encryption **ret, struct err *err)
{
	int r;

	if (!path || !*path) {
		*ret = create();
		complete(*ret);
		return 0;
	}
	r = load_file(path, ret, err);
	return r < 0 ? err_wrap(err, r, "encryption configuration %s", path) : 0;
}

static void rule_finish(struct encryption_rule *rule)
{
	for (size_t i = 0; i < rule->n_providers; i++) {
		struct encryption_provider *p = &rule->providers[i];

		for (size_t k = 0; k < p->n_keys; k++) {
			OPENSSL_cleanse(p->keys[k].secret, sizeof(p->keys[k].secret));
			free(p->keys[k].name);
			free(p->keys[k].prefix);
		}
		free(p->keys);
	}
	for (size_t i = 0; i < rule->n_resources; i++)
		free(rule->resources[i]);
	free(rule->providers);
	free(rule->resources);
}

void encryption_destroy(struct encryption *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->n_rules; i++)
		rule_finish(&e->rules[i]);
	free(e->rules);
	free(e->of_secrets);
	free(e);
}

const struct store_transform *encryption_transform(const struct encryption *e)
{
	return &e->transform;
}

const char *encryption_of_secrets(const struct encryption *e)
{
	return e->of_secrets;
}
