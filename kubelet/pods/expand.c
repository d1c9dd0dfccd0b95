/* SPDX-License-Identifier: Apache-2.0 */
/* See expand.h. Any thread. */
#include "kubelet/pods/expand.h"

#include "userspace/base/buf.h"

char *expand(struct arena *arena, struct str text, expand_lookup_fn *lookup, void *arg)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	size_t i = 0;

	while (i < text.n) {
		if (text.p[i] != '$' || i + 1 == text.n) {
			buf_add_char(&out, text.p[i++]);
			continue;
		}
		if (text.p[i + 1] == '$') {
			buf_add_char(&out, '$');
			i += 2;
			continue;
		}
		if (text.p[i + 1] != '(') {
			buf_add(&out, text.p + i, 2);
			i += 2;
			continue;
		}
		struct str rest = str_make(text.p + i + 2, text.n - i - 2);
		long close = str_find(rest, ')');

		if (close < 0) { /* never closed: the two characters stand for themselves */
			buf_add(&out, text.p + i, 2);
			i += 2;
			continue;
		}
		const char *value = lookup(arg, str_make(rest.p, (size_t)close));

		if (value)
			buf_add_cstr(&out, value);
		else
			buf_add(&out, text.p + i, (size_t)close + 3);
		i += (size_t)close + 3;
	}
	return arena_strndup(arena, buf_len(&out) ? buf_str(&out).p : "", buf_len(&out));
}

struct env_array {
	char *const *env;
	size_t n;
};

static const char *lookup_env(void *arg, struct str name)
{
	const struct env_array *a = arg;

	for (size_t i = a->n; i-- > 0;)
		if (strncmp(a->env[i], name.p, name.n) == 0 && a->env[i][name.n] == '=')
			return a->env[i] + name.n + 1;
	return NULL;
}

char *expand_env(struct arena *arena, struct str text, char *const *env, size_t n_env)
{
	struct env_array a = { env, n_env };

	return expand(arena, text, lookup_env, &a);
}
