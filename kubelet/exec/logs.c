/* SPDX-License-Identifier: Apache-2.0 */
/* kubectl logs: the container's log by kubelet/logs, which is told when a followed container ends. See kubelet.h and
 * kubelet.h. Loop thread. */
#include "kubelet/exec/log_follow.h"
#include "kubelet/kubelet.h"
#include "kubelet/logs/logs.h"
#include "kubelet/pods/worker.h"

struct follow {
	struct node_log_source source; /* what the caller holds */
	struct list link;              /* of the container's followers */
	struct node_log_sink *sink;
	struct log_reader *reader;
};

static bool pass(void *ctx, const void *p, size_t n)
{
	struct follow *f = ctx;

	return f->sink->write(f->sink, p, n);
}

static void follow_free(struct follow *f)
{
	list_del(&f->link);
	log_reader_destroy(f->reader);
	free(f);
}

static void ended(void *ctx, const struct err *err)
{
	struct follow *f = ctx;

	f->sink->end(f->sink, err);
	follow_free(f);
}

static void resume(struct node_log_source *source)
{
	log_reader_resume(container_of(source, struct follow, source)->reader);
}

static void close_source(struct node_log_source *source)
{
	follow_free(container_of(source, struct follow, source));
}

void log_follow_container_ended(struct pod_container *c)
{
	if (!c->followers.next)
		return;
	/* each may close itself, or others, meanwhile: take one at a time off the list */
	while (!list_empty(&c->followers)) {
		struct follow *f = list_first(&c->followers, struct follow, link);

		list_del(&f->link);
		log_reader_container_ended(f->reader);
	}
}

int kubelet_logs(void *ctx, const struct object *pod, const struct node_log_options *options,
		 struct node_log_sink *sink, struct node_log_source **ret, struct err *err)
{
	struct kubelet *kl = ctx;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct log_reader_sink to = { .write = pass, .end = ended };
	struct pod_worker *w;
	struct pod_container *c;
	struct follow *f;
	bool running;
	char *path;
	int r = kubelet_log_path(kl, pod, options->container, options->previous, &arena, &path, &running, err);

	if (r < 0)
		return r;
	const struct log_reader_options o = {
		.path = path,
		.follow = options->follow,
		.timestamps = options->timestamps,
		.tail_lines = options->tail_lines,
		.since_real_ns = options->since_real_ns,
		.limit_bytes = options->limit_bytes,
		.ended = !running,
	};

	f = mem_new(struct follow);
	f->source = (struct node_log_source){ resume, close_source };
	f->sink = sink;
	list_init(&f->link);
	to.ctx = f;
	r = log_reader_create(kl->loop, &o, &to, &f->reader, err);
	if (r < 0) {
		free(f);
		return r;
	}
	w = map_get(&kl->workers, pod->uid);
	c = w ? worker_find(w, str_of(options->container)) : NULL;
	if (c && running && options->follow) {
		if (!c->followers.next)
			list_init(&c->followers);
		list_add_tail(&c->followers, &f->link);
	}
	*ret = &f->source;
	return 0;
}
