/* SPDX-License-Identifier: Apache-2.0 */
/* See pull.h. Loop thread, but for pull_run(). */
#include "kubelet/pods/pull.h"

#include "kubelet/internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/list.h"

struct waiter {
	pull_done_fn *done;
	void *arg;
};

struct pull {
	struct loop_work work;
	struct list link;
	struct puller *p; /* NULL: the puller is gone */
	char *reference, *user, *password;
	struct image_auth auth;
	struct images *images;
	struct waiter *waiters;
	size_t n_waiters, cap;
	bool running;
	int result;
	struct pull_result out;
	struct err err;
};

struct puller {
	struct kubelet *kl;
	struct list pulls;
	unsigned running;
};

struct puller *puller_create(struct kubelet *kl)
{
	struct puller *p = mem_new(struct puller);

	p->kl = kl;
	list_init(&p->pulls);
	return p;
}

static void pull_free(struct pull *q)
{
	free(q->reference);
	free(q->user);
	free(q->password);
	free(q->waiters);
	err_finish(&q->err);
	free(q);
}

bool puller_destroy(struct puller *p)
{
	bool busy;

	if (!p)
		return false;
	busy = p->running > 0;
	list_foreach_safe(q, &p->pulls, struct pull, link) {
		list_del(&q->link);
		q->p = NULL;
		if (!q->running)
			pull_free(q);
	}
	free(p);
	return busy;
}

static void pull_run(struct loop_work *work)
{
	struct pull *q = container_of(work, struct pull, work);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	int64_t began_ns = clock_monotonic_ns();
	struct image image = { 0 };

	q->result = images_pull(q->images, q->reference, &q->auth, NULL, NULL, &arena, &image, &q->err);
	q->out.size_bytes = image.size_bytes;
	q->out.pull_ns = clock_monotonic_ns() - began_ns;
}

static void next(struct puller *p);

static void pull_done(struct loop_work *work)
{
	struct pull *q = container_of(work, struct pull, work);

	if (q->p) {
		struct puller *p = q->p;

		list_del(&q->link);
		p->running--;
		for (size_t i = 0; i < q->n_waiters; i++)
			q->waiters[i].done(q->waiters[i].arg, q->result < 0 ? NULL : &q->out,
					   q->result < 0 ? &q->err : NULL);
		next(p);
	}
	pull_free(q);
}

static void next(struct puller *p)
{
	list_foreach(q, &p->pulls, struct pull, link) {
		if (p->running >= PULLS_MAX)
			return;
		if (q->running)
			continue;
		q->running = true;
		p->running++;
		q->work.run = pull_run;
		q->work.done = pull_done;
		loop_work_submit(p->kl->loop, &q->work);
	}
}

/* ---- credentials ---- */

struct str pull_host(struct str normalized)
{
	long slash = str_find(normalized, '/');

	return slash < 0 ? STR("docker.io") : str_make(normalized.p, (size_t)slash);
}

/* "https://index.docker.io/v1/" means docker.io; schemes and paths after the host are ignored. */
static struct str key_host(struct str key)
{
	if (str_starts(key, STR("https://")))
		key = str_make(key.p + 8, key.n - 8);
	else if (str_starts(key, STR("http://")))
		key = str_make(key.p + 7, key.n - 7);
	long slash = str_find(key, '/');

	if (slash >= 0)
		key.n = (size_t)slash;
	return str_is(key, "index.docker.io") || str_is(key, "registry-1.docker.io") ? STR("docker.io") : key;
}

static bool split_auth(struct arena *arena, struct str auth, char **ret_user, char **ret_password)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (base64_decode(&b, auth, BASE64_STD) < 0)
		return false;
	struct str text = buf_str(&b);
	long colon = str_find(text, ':');

	if (colon < 0)
		return false;
	*ret_user = arena_strndup(arena, text.p, (size_t)colon);
	*ret_password = arena_strndup(arena, text.p + colon + 1, text.n - (size_t)colon - 1);
	return true;
}

bool pull_credentials(struct arena *arena, const struct json *docker_config, struct str normalized, char **ret_user,
		      char **ret_password)
{
	const struct json *auths = json_get(docker_config, "auths");

	json_foreach(a, auths ? auths : docker_config) {
		struct str user = json_get_str(a, "username"), password = json_get_str(a, "password");

		if (!str_eq(key_host(a->key), pull_host(normalized)))
			continue;
		if (user.n) {
			*ret_user = arena_strndup(arena, user.p, user.n);
			*ret_password = arena_strndup(arena, password.p ? password.p : "", password.n);
			return true;
		}
		if (split_auth(arena, json_get_str(a, "auth"), ret_user, ret_password))
			return true;
	}
	return false;
}

static bool secret_credentials(struct puller *p, struct arena *arena, struct str ns, struct str name,
			       struct str normalized, char **ret_user, char **ret_password)
{
	const struct object *o = registry_get(p->kl->reg, KIND_SECRET, ns, name);
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct json *data, *value, *config;

	if (!o)
		return false;
	data = json_get(registry_parse(arena, o), "data");
	value = json_get(data, ".dockerconfigjson");
	if (!value)
		value = json_get(data, ".dockercfg");
	if (!value || base64_decode(&b, json_str(value), BASE64_STD) < 0)
		return false;
	if (json_parse(arena, arena_str(arena, buf_str(&b)), 0, &config, NULL) < 0)
		return false;
	return pull_credentials(arena, config, normalized, ret_user, ret_password);
}

static void find_auth(struct puller *p, struct pull *q, const struct json *pod_spec, struct str ns)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	char *normalized, *user = NULL, *password = NULL;
	const struct kubelet_options *o = &p->kl->options;

	if (images_normalize(q->reference, &arena, &normalized, NULL) < 0)
		return;
	for (size_t i = 0; i < o->n_registries; i++) {
		const struct kubelet_image_registry *r = &o->registries[i];

		if (!str_is(pull_host(str_of(normalized)), r->host))
			continue;
		q->auth = (struct image_auth){ r->username, r->password, r->ca_file, r->insecure_http };
	}
	json_foreach(s, json_get(pod_spec, "imagePullSecrets")) {
		if (!secret_credentials(p, &arena, ns, json_get_str(s, "name"), str_of(normalized), &user, &password))
			continue;
		q->auth.username = q->user = mem_strdup(user);
		q->auth.password = q->password = mem_strdup(password);
		return;
	}
}

static bool same_auth(const struct pull *a, const struct pull *b)
{
	return str_eq(str_of(a->user), str_of(b->user)) && str_eq(str_of(a->password), str_of(b->password));
}

static void add_waiter(struct pull *q, pull_done_fn *done, void *arg)
{
	mem_grow(q->waiters, q->cap, q->n_waiters + 1);
	q->waiters[q->n_waiters++] = (struct waiter){ done, arg };
}

void puller_pull(struct puller *p, const char *reference, const struct json *pod_spec, struct str ns,
		 pull_done_fn *done, void *arg)
{
	struct pull *q = mem_new(struct pull);

	q->reference = mem_strdup(reference);
	q->p = p;
	q->images = p->kl->images;
	find_auth(p, q, pod_spec, ns);
	list_foreach(other, &p->pulls, struct pull, link) {
		if (strcmp(other->reference, reference) != 0 || !same_auth(other, q))
			continue;
		add_waiter(other, done, arg);
		pull_free(q);
		return;
	}
	add_waiter(q, done, arg);
	list_add_tail(&p->pulls, &q->link);
	next(p);
}
