/* SPDX-License-Identifier: Apache-2.0 */
/* The image of one container: pull policy, pull, back-off. See worker.h. Loop thread. */
#include <errno.h>
#include <inttypes.h>

#include "kubelet/pods/pull.h"
#include "kubelet/pods/worker.h"
#include "userspace/api/names.h"
#include "userspace/base/clock.h"

#define PULL_ERROR_SHOWN_NS (3 * NS_PER_S) /* ErrImagePull stands at least so long before ImagePullBackOff */
#define IMAGE_NEVER_RETRY_NS (10 * NS_PER_S)

enum policy { PULL_ALWAYS, PULL_IF_NOT_PRESENT, PULL_NEVER };

static enum policy pull_policy(struct str policy, struct str image)
{
	if (str_is(policy, "Always"))
		return PULL_ALWAYS;
	if (str_is(policy, "Never"))
		return PULL_NEVER;
	if (str_is(policy, "IfNotPresent"))
		return PULL_IF_NOT_PRESENT;
	return names_image_is_latest(image) ? PULL_ALWAYS : PULL_IF_NOT_PRESENT;
}

/* 123ms, 1.234s, 1m2.5s: as Go prints a duration rounded to milliseconds. */
static char *duration(struct arena *arena, int64_t ns)
{
	int64_t ms = (ns + NS_PER_MS / 2) / NS_PER_MS;

	if (ms < 1000)
		return ms ? arena_printf(arena, "%" PRId64 "ms", ms) : arena_strdup(arena, "0s");
	char *s = ms % 1000 ? arena_printf(arena, "%" PRId64 ".%03d", ms / 1000 % 60, (int)(ms % 1000))
			    : arena_printf(arena, "%" PRId64, ms / 1000 % 60);

	if (ms % 1000)
		while (s[strlen(s) - 1] == '0')
			s[strlen(s) - 1] = '\0';
	return ms >= 60000 ? arena_printf(arena, "%" PRId64 "m%ss", ms / 60000, s) : arena_printf(arena, "%ss", s);
}

static void pulled(void *arg, const struct pull_result *result, const struct err *err)
{
	struct pod_container *c = arg;
	struct pod_worker *w = c->w;
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	if (!w->kl || c->step != STEP_PULL) {
		worker_unref(w);
		return;
	}
	struct str s = json_get_str(worker_container_json(c), "image");

	c->step = STEP_IDLE;
	if (err) {
		int64_t now_ns = loop_now_ns(w->kl->loop);

		worker_event(w, c, true, "Failed", "Failed to pull image \"%.*s\": %s", STR_ARG(s), err_message(err));
		worker_event(w, c, true, "Failed", "Error: ErrImagePull");
		backoff_next(&c->image_backoff, now_ns, now_ns);
		c->image_failed_ns = now_ns;
		free(c->image_error);
		c->image_error = mem_strdup(err_message(err));
		container_set_waiting(c, "ErrImagePull", c->image_error);
	} else {
		int64_t waited_ns = clock_monotonic_ns() - c->pull_began_ns;

		worker_event(w, c, false, "Pulled",
			     "Successfully pulled image \"%.*s\" in %s (%s including waiting). Image size: %" PRIu64
			     " bytes.",
			     STR_ARG(s), duration(&arena, result->pull_ns), duration(&arena, waited_ns),
			     result->size_bytes);
		c->image_ready = true;
		backoff_reset(&c->image_backoff);
		c->image_failed_ns = 0;
		container_set_waiting(c, NULL, NULL);
	}
	worker_kick(w);
	worker_unref(w);
}

static bool held_back(struct pod_container *c, struct str image)
{
	struct pod_worker *w = c->w;
	int64_t now_ns = loop_now_ns(w->kl->loop), left_ns;

	if (!c->image_failed_ns || !backoff_active(&c->image_backoff, c->image_failed_ns, now_ns, &left_ns))
		return false;
	if (now_ns < c->image_failed_ns + PULL_ERROR_SHOWN_NS) {
		worker_wake_at(w, c->image_failed_ns + PULL_ERROR_SHOWN_NS);
		return true;
	}
	worker_wake_at(w, now_ns + left_ns);
	if (!c->waiting_reason || strcmp(c->waiting_reason, "ImagePullBackOff") != 0) {
		_cleanup_free_ char *message =
			mem_printf("Back-off pulling image \"%.*s\": ErrImagePull: %s", STR_ARG(image), c->image_error);

		container_set_waiting(c, "ImagePullBackOff", message);
		worker_event(w, c, false, "BackOff", "Back-off pulling image \"%.*s\"", STR_ARG(image));
		worker_event(w, c, true, "Failed", "Error: ImagePullBackOff");
	}
	return true;
}

static bool never_present(struct pod_container *c, struct str image)
{
	struct pod_worker *w = c->w;
	_cleanup_free_ char *message =
		mem_printf("Container image \"%.*s\" is not present with pull policy of Never", STR_ARG(image));

	if (!c->waiting_reason || strcmp(c->waiting_reason, "ErrImageNeverPull") != 0) {
		worker_event(w, c, true, "ErrImageNeverPull", "%s", message);
		worker_event(w, c, true, "Failed", "Error: ErrImageNeverPull");
	}
	container_set_waiting(c, "ErrImageNeverPull", message);
	/* an import does not tell */
	worker_wake_at(w, loop_now_ns(w->kl->loop) + IMAGE_NEVER_RETRY_NS);
	return false;
}

static bool bad_name(struct pod_container *c, struct str image, const struct err *err)
{
	_cleanup_free_ char *message =
		mem_printf("Failed to apply default image tag \"%.*s\": %s", STR_ARG(image), err_message(err));

	if (!c->image_error_final) {
		c->image_error_final = true;
		worker_event(c->w, c, true, "InspectFailed", "%s", message);
		worker_event(c->w, c, true, "Failed", "Error: InvalidImageName");
	}
	container_set_waiting(c, "InvalidImageName", message);
	return false;
}

bool container_image_step(struct pod_container *c)
{
	struct pod_worker *w = c->w;
	const struct json *j = worker_container_json(c);
	struct str name = json_get_str(j, "image");
	enum policy policy = pull_policy(json_get_str(j, "imagePullPolicy"), name);
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct image image;
	char *normalized, *reference = arena_strndup(&arena, name.p ? name.p : "", name.n);

	if (c->image_ready)
		return true;
	if (images_normalize(reference, &arena, &normalized, &err) < 0)
		return bad_name(c, name, &err);
	bool present = images_lookup(w->kl->images, reference, &arena, &image, NULL) >= 0;

	if (policy != PULL_ALWAYS && present) {
		worker_event(w, c, false, "Pulled", "Container image \"%.*s\" already present on machine",
			     STR_ARG(name));
		c->image_ready = true;
		container_set_waiting(c, NULL, NULL);
		return true;
	}
	if (policy == PULL_NEVER)
		return never_present(c, name);
	if (held_back(c, name))
		return false;
	worker_event(w, c, false, "Pulling", "Pulling image \"%.*s\"", STR_ARG(name));
	c->step = STEP_PULL;
	c->pull_began_ns = clock_monotonic_ns();
	container_set_waiting(c, NULL, NULL);
	puller_pull(w->kl->puller, reference, json_get(worker_json(w), "spec"), str_of(w->ns), pulled,
		    (worker_ref(w), c));
	return false;
}
