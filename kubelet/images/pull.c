/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling from a registry (the OCI distribution protocol): token dance, index, manifest, config, layers. Nothing is
 * believed: each document and layer must have the digest it was asked by. Blocking; worker pool. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "kubelet/images/http.h"
#include "kubelet/images/store.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define PULL_TRIES 3
#define PULL_RETRY_MS 300
#define PULL_TOKEN_MAX (256u << 10)
#define PULL_LAYER_MAX (64ll << 30)

static const char manifest_types[] = "application/vnd.oci.image.manifest.v1+json, "
				     "application/vnd.oci.image.index.v1+json, "
				     "application/vnd.docker.distribution.manifest.v2+json, "
				     "application/vnd.docker.distribution.manifest.list.v2+json";

struct pull {
	struct images *images;
	struct reference ref;
	const struct image_auth *auth;
	struct arena *arena;
	struct http_client http;
	char *base; /* "https://host/v2/repository" */
	images_progress_fn *progress;
	void *progress_arg;
};

/* ---- where, and who we are ---- */

static bool is_loopback(const char *domain)
{
	return strncmp(domain, "127.", 4) == 0 || strncmp(domain, "[::1]", 5) == 0 ||
	       strcmp(domain, "localhost") == 0 || strncmp(domain, "localhost:", 10) == 0;
}

/* key="value" of a challenge */
static char *challenge_value(struct arena *arena, const char *challenge, const char *key)
{
	const char *at = challenge;
	size_t n = strlen(key);

	while ((at = strcasestr(at, key))) {
		const char *end;

		if ((at == challenge || !isalnum((unsigned char)at[-1])) && at[n] == '=' && at[n + 1] == '"') {
			at += n + 2;
			end = strchr(at, '"');
			return end ? arena_strndup(arena, at, (size_t)(end - at)) : NULL;
		}
		at += n;
	}
	return NULL;
}

static char *escape(struct pull *p, const char *s)
{
	char *escaped = sym_curl_easy_escape(p->http.easy, s ? s : "", 0), *copy = arena_strdup(p->arena, escaped);

	sym_curl_free(escaped);
	return copy;
}

static int read_body(struct pull *p, size_t max, struct buf *ret, struct err *err)
{
	const void *bytes;
	ssize_t n;

	while ((n = http_read(&p->http, &bytes, err)) > 0) {
		if (buf_len(ret) + (size_t)n > max)
			return err_set(err, -EFBIG, "registry's answer is larger than %zu bytes", max);
		buf_add(ret, bytes, (size_t)n);
	}
	return n < 0 ? (int)n : 0;
}

static int get_token(struct pull *p, const char *challenge, struct err *err)
{
	char *realm = challenge_value(p->arena, challenge, "realm");
	char *service = challenge_value(p->arena, challenge, "service");
	char *scope = challenge_value(p->arena, challenge, "scope");
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *answer;
	struct str token;
	char *url;
	int r;

	if (!realm)
		return err_set(err, -EACCES, "registry asks for a token, but not where");
	if (!scope)
		scope = arena_printf(p->arena, "repository:%s:pull", p->ref.repository);
	url = arena_printf(p->arena, "%s%sservice=%s&scope=%s", realm, strchr(realm, '?') ? "&" : "?",
			   escape(p, service), escape(p, scope));
	p->http.basic = true;
	r = http_open(&p->http, url, NULL, true, err);
	p->http.basic = false;
	if (r < 0)
		return err_wrap(err, r, "token from %s", realm);
	if (r != 200)
		return err_set(err, -EACCES, "unauthorized: no token from %s (status %d)", realm, r);
	r = read_body(p, PULL_TOKEN_MAX, &text, err);
	if (r >= 0)
		r = json_parse(p->arena, arena_str(p->arena, buf_str(&text)), 0, &answer, err);
	if (r < 0)
		return err_wrap(err, r, "token");
	token = json_get_str(answer, "token");
	if (!token.n)
		token = json_get_str(answer, "access_token");
	if (!token.n)
		return err_set(err, -EACCES, "unauthorized: the token is empty");
	p->http.bearer = str_dup(token);
	return 0;
}

/* What a 401 asks for; -EACCES when we cannot give it. */
static int authenticate(struct pull *p, struct err *err)
{
	char *challenge = arena_strdup(p->arena, p->http.authenticate);

	free(p->http.bearer);
	p->http.bearer = NULL;
	if (strncasecmp(challenge, "Bearer", 6) == 0)
		return get_token(p, challenge, err);
	if (strncasecmp(challenge, "Basic", 5) == 0 && p->auth && p->auth->username && !p->http.basic) {
		p->http.basic = true;
		return 0;
	}
	return err_set(err, -EACCES, "unauthorized: authentication required");
}

static bool transient(int code)
{
	return code == -EIO || code == -ETIMEDOUT || code == -EAGAIN || code == -ECONNREFUSED;
}

static void pause_before(int attempt)
{
	struct timespec t = { .tv_nsec = PULL_RETRY_MS * 1000000L * (attempt + 1) };

	nanosleep(&t, NULL);
}

/* Opens; on success the body follows. */
static int open_url(struct pull *p, const char *url, const char *accept, struct err *err)
{
	int r = http_open(&p->http, url, accept, true, err);

	if (r == 401) {
		r = authenticate(p, err);
		if (r < 0)
			return r;
		r = http_open(&p->http, url, accept, true, err);
	}
	if (r < 0 || r == 200)
		return r < 0 ? r : 0;
	if (r == 404)
		return err_set(err, -ENOENT, "%s: not found", url);
	if (r == 401 || r == 403)
		return err_set(err, -EACCES, "%s: pull access denied (status %d)", url, r);
	return err_set(err, r == 429 || r >= 500 ? -EAGAIN : -EINVAL, "%s: unexpected status %d", url, r);
}

/* ---- documents ---- */

static int fetch(struct pull *p, const char *kind, const char *what, const char *accept, struct str *ret_text,
		 struct json **ret, struct err *err)
{
	char *url = arena_printf(p->arena, "%s/%s/%s", p->base, kind, what), got[STORE_HEX_LEN + 1];
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct str hex;
	int r;

	for (int i = 0;; i++) {
		buf_reset(&text);
		r = open_url(p, url, accept, err);
		if (r >= 0)
			r = read_body(p, STORE_JSON_MAX, &text, err);
		if (!transient(r) || i + 1 >= PULL_TRIES)
			break;
		pause_before(i);
	}
	if (r < 0)
		return r;
	sha256_hex(buf_str(&text).p, buf_len(&text), got);
	if ((store_digest_hex(str_of(what), &hex) == 0 || store_digest_hex(str_of(p->http.digest), &hex) == 0) &&
	    !str_is(hex, got))
		return err_set(err, -EBADMSG, "registry lies: asked for sha256:%.*s, got sha256:%s", STR_ARG(hex), got);
	*ret_text = arena_str(p->arena, buf_str(&text));
	r = json_parse(p->arena, *ret_text, 0, ret, err);
	return r < 0 ? err_wrap(err, -EBADMSG, "%s", url) : 0;
}

/* Through indexes down to the manifest; *ret_top is the digest of what the reference itself names. */
static int resolve(struct pull *p, struct str *ret_text, struct json **ret, char ret_top[static STORE_HEX_LEN + 1],
		   struct err *err)
{
	char *what = p->ref.digest ? p->ref.digest : p->ref.tag;

	for (int depth = 0;; depth++) {
		const struct json *chosen;
		struct str digest, hex;
		int r = fetch(p, "manifests", what, manifest_types, ret_text, ret, err);

		if (r < 0)
			return r;
		if (depth == 0)
			sha256_hex(ret_text->p, ret_text->n, ret_top);
		if (json_get(*ret, "layers"))
			return 0;
		if (!json_get(*ret, "manifests"))
			return err_set(err, -EINVAL, "%s: manifest of a kind that is not supported", what);
		chosen = store_index_choose(*ret);
		if (!chosen || depth >= STORE_INDEX_DEPTH_MAX)
			return err_set(err, -ENOENT, "no match for platform linux/%s in manifest: not found",
				       store_architecture());
		digest = json_get_str(chosen, "digest");
		if (store_digest_hex(digest, &hex) < 0)
			return err_set(err, -EINVAL, "index has a malformed digest");
		what = arena_strndup(p->arena, digest.p, digest.n);
	}
}

/* ---- layers ---- */

struct blob_source {
	struct layer_source source;
	struct pull *p;
	int64_t size, seen; /* size -1: not said */
	int network;        /* the error that the network gave */
	size_t number, count;
	int percent;
};

static void report(struct blob_source *s)
{
	int percent = s->size > 0 ? (int)(s->seen * 100 / s->size) : 0;
	char text[64];

	if (!s->p->progress || percent == s->percent)
		return;
	s->percent = percent;
	snprintf(text, sizeof(text), "layer %zu/%zu %d%%", s->number, s->count, percent);
	s->p->progress(s->p->progress_arg, text);
}

static ssize_t read_blob(struct layer_source *source, const void **ret, struct err *err)
{
	struct blob_source *s = container_of(source, struct blob_source, source);
	ssize_t n = http_read(&s->p->http, ret, err);

	if (n < 0) {
		s->network = (int)n;
		return n;
	}
	s->seen += n;
	if (s->seen > (s->size >= 0 ? s->size : PULL_LAYER_MAX))
		return err_set(err, -EBADMSG, "registry lies: layer is larger than the %lld bytes promised",
			       (long long)(s->size >= 0 ? s->size : PULL_LAYER_MAX));
	report(s);
	return n;
}

static int pull_layer(struct pull *p, struct store_add *add, const struct json *descriptor, struct str diff,
		      size_t number, size_t count, struct err *err)
{
	struct str digest = json_get_str(descriptor, "digest"), hex;
	char *url;
	int r;

	if (store_digest_hex(digest, &hex) < 0)
		return err_set(err, -EINVAL, "manifest has a malformed layer digest");
	url = arena_printf(p->arena, "%s/blobs/%.*s", p->base, STR_ARG(digest));
	for (int i = 0;; i++) {
		struct blob_source source = { .source.read = read_blob,
					      .p = p,
					      .number = number,
					      .count = count,
					      .size = json_get_int(descriptor, "size", -1),
					      .percent = -1 };

		r = open_url(p, url, NULL, err);
		if (r >= 0)
			r = layer_unpack(add, &source.source, hex, diff, err);
		else
			source.network = r;
		if (r >= 0 || !transient(source.network) || i + 1 >= PULL_TRIES)
			break;
		pause_before(i);
	}
	return r < 0 ? err_wrap(err, r, "layer sha256:%.12s", hex.p) : 0;
}

static int pull_layers(struct pull *p, struct store_add *add, const struct json *manifest, const struct json *config,
		       struct err *err)
{
	const struct json *layers = json_get(manifest, "layers");
	struct str *diffs;
	size_t n, i = 0;
	int r = store_config_layers(config, p->arena, &diffs, &n, err);

	if (r < 0)
		return r;
	if (json_count(layers) != n)
		return err_set(err, -EINVAL, "manifest lists %zu layers, the config %zu", json_count(layers), n);
	json_foreach(descriptor, layers) {
		if (!store_add_has(add, diffs[i])) {
			r = pull_layer(p, add, descriptor, diffs[i], i + 1, n, err);
			if (r < 0)
				return r;
		}
		i++;
	}
	return 0;
}

/* ---- the whole ---- */

static int pull_image(struct pull *p, struct store_add *add, struct image *ret, struct err *err)
{
	const char *references[] = { reference_format(&p->ref, p->arena), NULL };
	struct str manifest_text, config_text, digest, hex;
	struct json *manifest, *config;
	char top[STORE_HEX_LEN + 1];
	int r;

	r = resolve(p, &manifest_text, &manifest, top, err);
	if (r < 0)
		return r;
	digest = json_at_str(manifest, "config.digest");
	if (store_digest_hex(digest, &hex) < 0)
		return err_set(err, -EINVAL, "manifest has no config");
	r = fetch(p, "blobs", arena_strndup(p->arena, digest.p, digest.n), NULL, &config_text, &config, err);
	if (r >= 0)
		r = pull_layers(p, add, manifest, config, err);
	if (r < 0)
		return r;
	return store_add_publish(add, config_text, manifest_text, references,
				 arena_printf(p->arena, "%s/%s@sha256:%s", p->ref.domain, p->ref.repository, top),
				 p->arena, ret, err);
}

static int pull_by(struct pull *p, const char *scheme, struct image *ret, struct err *err)
{
	const char *host = strcmp(p->ref.domain, "docker.io") == 0 ? "registry-1.docker.io" : p->ref.domain;
	struct store_add add;
	int r;

	p->base = arena_printf(p->arena, "%s://%s/v2/%s", scheme, host, p->ref.repository);
	r = http_init(&p->http, p->auth, strcmp(scheme, "http") == 0, err);
	if (r < 0)
		return r;
	r = store_add_begin(p->images, &add, err);
	if (r >= 0) {
		r = pull_image(p, &add, ret, err);
		if (r >= 0)
			for (size_t i = 0; i < add.n_layers; i++) {
				free(add.layers[i].tmp);
				add.layers[i].tmp = NULL;
			}
		store_add_finish(&add);
	}
	http_finish(&p->http);
	return r;
}

int images_pull(struct images *images, const char *reference, const struct image_auth *auth,
		images_progress_fn *progress, void *arg, struct arena *arena, struct image *ret, struct err *err)
{
	struct pull p = { .images = images, .auth = auth, .arena = arena, .progress = progress, .progress_arg = arg };
	bool local, insecure = auth && auth->insecure_http;
	_cleanup_err_ struct err own = ERR_INIT;
	int r = reference_parse(reference, arena, &p.ref, err);

	if (r < 0)
		return r;
	local = is_loopback(p.ref.domain);
	if (local && !(auth && auth->ca_file)) {
		r = pull_by(&p, "http", ret, &own);
	} else {
		r = pull_by(&p, "https", ret, &own);
		/* only where TLS itself did not come about: a refusal by the registry stands */
		if (insecure && (r == -EIO || r == -ECONNREFUSED))
			r = pull_by(&p, "http", ret, &own);
	}
	if (r < 0) {
		err_move(err, &own);
		return err_wrap(err, r, "failed to pull image \"%s\"", reference_format(&p.ref, arena));
	}
	return 0;
}
