/* SPDX-License-Identifier: Apache-2.0 */
/* "0-2,5" and back. Any thread. */
#include "userspace/controllers/job_indexes.h"

#include <inttypes.h>

#include "userspace/base/buf.h"

bool job_indexes_has(const struct job_indexes *set, int64_t i)
{
	return i >= 0 && i < set->n && set->has[i];
}

void job_indexes_add(struct job_indexes *set, int64_t i)
{
	if (i >= 0 && i < set->n)
		set->has[i] = true;
}

struct job_indexes job_indexes_parse(struct arena *arena, struct str text, int64_t completions)
{
	struct job_indexes set = { .n = completions < JOB_INDEXES_MAX ? completions : JOB_INDEXES_MAX };
	struct str part;

	set.n = set.n > 0 ? set.n : 0;
	set.has = arena_new_array(arena, bool, (size_t)set.n + 1);
	while (str_split(&text, ',', &part)) {
		int64_t first, last;
		long dash = str_find(part, '-');
		struct str low = dash < 0 ? part : str_make(part.p, (size_t)dash);
		struct str high = dash < 0 ? part : str_make(part.p + dash + 1, part.n - (size_t)dash - 1);

		if (str_to_int64(low, &first) < 0 || str_to_int64(high, &last) < 0)
			continue;
		for (int64_t i = first; i <= last && i < set.n; i++)
			job_indexes_add(&set, i);
	}
	return set;
}

int64_t job_indexes_count(const struct job_indexes *set)
{
	int64_t n = 0;

	for (int64_t i = 0; i < set->n; i++)
		n += set->has[i];
	return n;
}

const char *job_indexes_text(struct arena *arena, const struct job_indexes *set)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (int64_t i = 0; i < set->n; i++) {
		int64_t last = i;

		if (!set->has[i])
			continue;
		while (job_indexes_has(set, last + 1))
			last++;
		buf_printf(&text, "%s%" PRId64, buf_len(&text) ? "," : "", i);
		if (last > i)
			buf_printf(&text, "%c%" PRId64, last == i + 1 ? ',' : '-', last);
		i = last;
	}
	return arena_strdup(arena, buf_cstr(&text));
}
