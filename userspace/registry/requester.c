/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks, as a CertificateSigningRequest remembers it. Loop thread. */
#include "userspace/registry/internal.h"

static struct json *strings(struct arena *arena, const struct str *items, size_t n)
{
	struct json *v = json_new_array(arena);

	for (size_t i = 0; i < n; i++)
		json_append(v, json_new_str(arena, items[i]));
	return v;
}

void requester_fill(struct write *w)
{
	static const char *const own[] = { "username", "uid", "groups", "extra" };
	struct json *spec = json_ensure_object(&w->arena, w->object, "spec"), *extra;
	const struct request_user *user = w->user;

	if (!user)
		return;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		json_remove(spec, own[i]);
	json_set_str(&w->arena, spec, "username", arena_str(&w->arena, user->name));
	if (user->uid.n)
		json_set_str(&w->arena, spec, "uid", arena_str(&w->arena, user->uid));
	if (user->n_groups)
		json_set(spec, "groups", strings(&w->arena, user->groups, user->n_groups));
	if (!user->n_extra)
		return;
	extra = json_ensure_object(&w->arena, spec, "extra");
	for (size_t i = 0; i < user->n_extra; i++)
		json_set_n(extra, user->extra[i].key,
			   strings(&w->arena, user->extra[i].values, user->extra[i].n_values));
}
