/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted in a pod spec but most likely not meant: said in Warning headers. No state. Any thread. */
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

static const char *path_text(struct arena *arena, const struct field_path *path)
{
	char text[FIELD_PATH_MAX];

	field_path_render(path, text);
	return arena_strdup(arena, text);
}

static void warn_env(struct arena *arena, const struct json *container, const struct field_path *at,
		     struct hooks_warnings *w)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(v, json_get(container, "env")) {
		const struct field_path *path = FIELD_INDEX(FIELD(at, "env"), i++);
		struct str name = json_get_str(v, "name");

		if (name.n && name_set_put(&seen, name, v) != v)
			hooks_warn(w,
				   arena_printf(
					   arena,
					   "%s: hides previous definition of \"%.*s\", which may be dropped when using "
					   "apply",
					   path_text(arena, path), STR_ARG(name)));
		if (w->n == HOOKS_WARNINGS_MAX)
			return;
	}
}

static size_t place_of(const struct json *list, const struct json *item)
{
	size_t i = 0;

	json_foreach(it, list) {
		if (it == item)
			break;
		i++;
	}
	return i;
}

static void warn_ports(struct arena *arena, const struct json *container, const struct field_path *at,
		       struct hooks_warnings *w)
{
	const struct json *ports = json_get(container, "ports");
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(p, ports) {
		const struct field_path *path = FIELD_INDEX(FIELD(at, "ports"), i++);
		_cleanup_buf_ struct buf text = BUF_INIT;
		const struct json *first;

		buf_printf(&text, "%lld/%.*s/%lld", (long long)json_get_int(p, "containerPort", 0),
			   STR_ARG(json_get_str(p, "protocol")), (long long)json_get_int(p, "hostPort", 0));
		first = name_set_put(&seen, buf_str(&text), p);
		if (first != p)
			hooks_warn(w,
				   arena_printf(
					   arena, "%s: duplicate port definition with %s", path_text(arena, path),
					   path_text(arena, FIELD_INDEX(FIELD(at, "ports"), place_of(ports, first)))));
		if (w->n == HOOKS_WARNINGS_MAX)
			return;
	}
}

/* "100m" of memory is a tenth of a byte: a slip for "100M". */
static void warn_fractions(struct arena *arena, const struct json *container, const struct field_path *at,
			   struct hooks_warnings *w)
{
	static const char *const sides[] = { "limits", "requests" };
	static const char *const names[] = { "memory", "ephemeral-storage" };

	for (size_t s = 0; s < ARRAY_SIZE(sides); s++)
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			const struct json *v = json_get(json_get(json_get(container, "resources"), sides[s]), names[i]);
			struct quantity q = quantity_of(v);

			if (!(q.nano % 1000000000))
				continue;
			hooks_warn(w,
				   arena_printf(arena,
						"%s.resources.%s[%s]: fractional byte value \"%.*s\" is invalid, must "
						"be an integer",
						path_text(arena, at), sides[s], names[i], STR_ARG(json_str(v))));
		}
}

static void warn_labels(struct arena *arena, const struct json *spec, const struct field_path *path,
			struct hooks_warnings *w)
{
	static const char *const old[][3] = {
		{ "beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch" },
		{ "beta.kubernetes.io/os", "v1.14", "kubernetes.io/os" },
		{ "failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region" },
		{ "failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone" },
		{ "beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(old); i++)
		if (json_get(json_get(spec, "nodeSelector"), old[i][0]))
			hooks_warn(w,
				   arena_printf(arena, "%s.nodeSelector[%s]: deprecated since %s; use \"%s\" instead",
						path_text(arena, path), old[i][0], old[i][1], old[i][2]));
}

static void warn_spec(struct arena *arena, const struct json *spec, const struct field_path *path,
		      struct hooks_warnings *w)
{
	static const char *const lists[] = { "initContainers", "containers" };

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
		size_t i = 0;

		json_foreach(c, json_get(spec, lists[l])) {
			const struct field_path *at = FIELD_INDEX(FIELD_STR(path, str_of(lists[l])), i++);

			warn_env(arena, c, at, w);
			warn_ports(arena, c, at, w);
			warn_fractions(arena, c, at, w);
		}
	}
	warn_labels(arena, spec, path, w);
}

void hooks_pod_warnings(struct arena *arena, const struct json *object, const struct json *old,
			struct hooks_warnings *w)
{
	/* Only what a client newly asks for is worth a word. */
	if (!old || !json_equal(json_get(object, "spec"), json_get(old, "spec")))
		warn_spec(arena, json_get(object, "spec"), FIELD(NULL, "spec"), w);
}

void hooks_template_warnings(struct arena *arena, const struct json *object, const struct json *old,
			     struct hooks_warnings *w)
{
	static const char *const paths[] = { "spec.template.spec", "spec.jobTemplate.spec.template.spec" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		const struct json *spec = json_at(object, paths[i]), *before = old ? json_at(old, paths[i]) : NULL;

		if (spec && (!before || !json_equal(spec, before)))
			warn_spec(arena, spec, FIELD_STR(NULL, str_of(paths[i])), w);
	}
}
