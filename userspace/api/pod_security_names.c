/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of the Pod Security Standards share: walking containers, and naming them in messages. */
#include "userspace/api/pod_security_checks.h"
#include "userspace/base/mem.h"

static const char *const GROUPS[] = { "initContainers", "containers", "ephemeralContainers" };

struct json *pod_security_first(const struct pod_security_subject *s, int *group)
{
	for (; *group < (int)ARRAY_SIZE(GROUPS); (*group)++) {
		struct json *first = json_first(json_get(s->spec, GROUPS[*group]));

		if (first)
			return first;
	}
	return NULL;
}

struct json *pod_security_next(const struct pod_security_subject *s, int *group, struct json *container)
{
	if (container->next)
		return container->next;
	(*group)++;
	return pod_security_first(s, group);
}

void pod_security_names_add(struct arena *arena, struct pod_security_names *names, struct str name)
{
	if (names->n == names->cap) {
		size_t cap = names->cap ? names->cap * 2 : 8;
		struct str *items = arena_new_array(arena, struct str, cap);

		if (names->n > 0)
			memcpy(items, names->items, names->n * sizeof(*items));
		names->items = items;
		names->cap = cap;
	}
	names->items[names->n++] = name;
}

void pod_security_names_insert(struct arena *arena, struct pod_security_names *names, struct str name)
{
	size_t low = 0, high = names->n;

	while (low < high) {
		size_t at = (low + high) / 2;
		int r = str_cmp(names->items[at], name);

		if (r == 0)
			return;
		if (r < 0)
			low = at + 1;
		else
			high = at;
	}
	pod_security_names_add(arena, names, name);
	memmove(&names->items[low + 1], &names->items[low], (names->n - 1 - low) * sizeof(name));
	names->items[low] = name;
}

void pod_security_names_write(struct buf *out, const struct pod_security_names *names, const char *quote)
{
	for (size_t i = 0; i < names->n; i++)
		buf_printf(out, "%s%s%.*s%s", i ? ", " : "", quote, STR_ARG(names->items[i]), quote);
}

void pod_security_containers_write(struct buf *out, const struct pod_security_names *containers)
{
	buf_printf(out, "%s ", pod_security_plural(containers->n, "container", "containers"));
	pod_security_names_write(out, containers, "\"");
}

void pod_security_setters_write(struct buf *out, bool pod, const struct pod_security_names *containers)
{
	if (pod)
		buf_add_cstr(out, containers->n > 0 ? "pod and " : "pod");
	if (containers->n > 0)
		pod_security_containers_write(out, containers);
}
