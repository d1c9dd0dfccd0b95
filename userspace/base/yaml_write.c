/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON tree as a YAML document, as Kubernetes' servers and clients write it: keys in order, sequences not indented,
 * lines not folded, strings of several lines as literal blocks, and quotes where a plain word would be read as
 * something else. By libyaml's emitter, whose port to Go is what they use. Any thread. */
#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "userspace/base/mem.h"
#include "userspace/base/yaml.h"

struct writer {
	yaml_emitter_t emitter;
	struct buf *out;
	bool failed;
};

static int write_out(void *data, unsigned char *p, size_t n)
{
	struct writer *w = data;

	buf_add(w->out, p, n);
	return 1;
}

static void emit(struct writer *w, yaml_event_t *event, int made)
{
	if (!made || !yaml_emitter_emit(&w->emitter, event))
		w->failed = true;
}

/* What YAML 1.1 reads as a number: signs, digits of any base, "_", ".", exponents, sexagesimals. More than that is
 * quoted in vain, which does no harm. */
static bool looks_like_number(struct str s)
{
	size_t i = 0, digits = 0;

	if (s.p[0] == '+' || s.p[0] == '-')
		i++;
	if (str_is(str_make(s.p + i, s.n - i), ".inf") || str_is(str_make(s.p + i, s.n - i), ".Inf") ||
	    str_is(str_make(s.p + i, s.n - i), ".INF") || str_is(s, ".nan") || str_is(s, ".NaN") || str_is(s, ".NAN"))
		return true;
	if (s.n > i + 2 && s.p[i] == '0' && (s.p[i + 1] == 'x' || s.p[i + 1] == 'o' || s.p[i + 1] == 'b')) {
		for (i += 2; i < s.n; i++)
			if (!strchr("0123456789abcdefABCDEF_", s.p[i]))
				return false;
		return true;
	}
	if (i == s.n || !strchr("0123456789.", s.p[i]))
		return false;
	for (; i < s.n; i++) {
		if (s.p[i] >= '0' && s.p[i] <= '9')
			digits++;
		else if (!strchr("._:+-eE", s.p[i]))
			return false;
	}
	return digits > 0;
}

/* Dates and times begin with yyyy-m. */
static bool looks_like_time(struct str s)
{
	for (size_t i = 0; i < 4; i++)
		if (s.n < 8 || s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.p[4] == '-';
}

static bool looks_like_other(struct str s)
{
	static const char *const words[] = { "",     "~",     "null",  "Null",  "NULL", "true", "True",
					     "TRUE", "false", "False", "FALSE", "y",    "Y",    "yes",
					     "Yes",  "YES",   "on",    "On",    "ON",   "n",    "N",
					     "no",   "No",    "NO",    "off",   "Off",  "OFF",  "<<" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_is(s, words[i]))
			return true;
	return looks_like_number(s) || looks_like_time(s);
}

static void write_string(struct writer *w, struct str s)
{
	yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;
	yaml_event_t event;

	if (looks_like_other(s))
		style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	else if (str_find(s, '\n') >= 0)
		style = YAML_LITERAL_SCALAR_STYLE;
	emit(w, &event,
	     yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)(s.n ? s.p : ""), (int)s.n, 1, 1, style));
}

static void write_plain(struct writer *w, struct str s)
{
	yaml_event_t event;

	emit(w, &event,
	     yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)s.p, (int)s.n, 1, 1,
					  YAML_PLAIN_SCALAR_STYLE));
}

static int by_key(const void *a, const void *b)
{
	return str_cmp((*(const struct json *const *)a)->key, (*(const struct json *const *)b)->key);
}

static void write_value(struct writer *w, const struct json *v);

static void write_object(struct writer *w, const struct json *v)
{
	_cleanup_free_ const struct json **members = mem_new_array(const struct json *, json_count(v) + 1);
	yaml_event_t event;
	size_t n = 0;

	json_foreach(m, v)
		members[n++] = m;
	qsort(members, n, sizeof(*members), by_key);
	emit(w, &event,
	     yaml_mapping_start_event_initialize(&event, NULL, NULL, 1,
						 n ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE));
	for (size_t i = 0; i < n; i++) {
		write_string(w, members[i]->key);
		write_value(w, members[i]);
	}
	emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static void write_array(struct writer *w, const struct json *v)
{
	yaml_event_t event;

	emit(w, &event,
	     yaml_sequence_start_event_initialize(
		     &event, NULL, NULL, 1, json_count(v) ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE));
	json_foreach(item, v)
		write_value(w, item);
	emit(w, &event, yaml_sequence_end_event_initialize(&event));
}

/* Text that stayed JSON in the tree. */
static void write_raw(struct writer *w, struct str text)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *tree = NULL;

	if (json_parse(&arena, text, 0, &tree, NULL) < 0)
		tree = json_new(&arena, JSON_NULL);
	write_value(w, tree);
}

/* The depth is the tree's, which parsing has limited. */
static void write_value(struct writer *w, const struct json *v)
{
	switch (v->type) {
	case JSON_OBJECT:
		write_object(w, v);
		break;
	case JSON_ARRAY:
		write_array(w, v);
		break;
	case JSON_STRING:
		write_string(w, v->text);
		break;
	case JSON_NUMBER:
		write_plain(w, v->text);
		break;
	case JSON_BOOL:
		write_plain(w, v->boolean ? STR("true") : STR("false"));
		break;
	case JSON_RAW:
		write_raw(w, v->text);
		break;
	case JSON_NULL:
		write_plain(w, STR("null"));
		break;
	}
}

int yaml_write(struct buf *out, const struct json *v)
{
	struct writer w = { .out = out };
	yaml_event_t event;

	if (!yaml_emitter_initialize(&w.emitter))
		abort();
	yaml_emitter_set_output(&w.emitter, write_out, &w);
	yaml_emitter_set_unicode(&w.emitter, 1);
	yaml_emitter_set_width(&w.emitter, -1);
	emit(&w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
	emit(&w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
	write_value(&w, v);
	emit(&w, &event, yaml_document_end_event_initialize(&event, 1));
	emit(&w, &event, yaml_stream_end_event_initialize(&event));
	yaml_emitter_delete(&w.emitter);
	return w.failed ? -EINVAL : 0;
}
