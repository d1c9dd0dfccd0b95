/* SPDX-License-Identifier: Apache-2.0 */
/* YAML events of libyaml to a JSON tree. See yaml.h. */
#include "userspace/base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <yaml.h>

#include "userspace/base/map.h"

#define YAML_NODES_MAX 1000000

struct yaml {
	yaml_parser_t parser;
	struct arena *arena;
	struct map anchors; /* name -> struct json * */
	size_t nodes, aliases;
	unsigned depth;
	struct err *err;
};

static int yaml_next(struct yaml *y, yaml_event_t *ret)
{
	if (yaml_parser_parse(&y->parser, ret))
		return 0;
	return err_set(y->err, -EINVAL, "yaml: line %zu: %s", y->parser.problem_mark.line + 1,
		       y->parser.problem ? y->parser.problem : "could not be read");
}

static bool yaml_is_word(struct str s, const char *const *words)
{
	for (; *words; words++)
		if (str_is(s, *words))
			return true;
	return false;
}

/* The forms of YAML 1.1 integers that Kubernetes' reader knows: decimal, 0x, 0o and leading-zero octal. */
static bool yaml_int(struct str s, int64_t *ret)
{
	char text[32], *end;
	const char *digits;
	int base = 10;

	if (s.n == 0 || s.n >= sizeof(text))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	digits = text + (text[0] == '-' || text[0] == '+');
	if (*digits < '0' || *digits > '9')
		return false;
	if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
		base = 16;
	else if (digits[0] == '0' && digits[1] == 'o')
		return false; /* rare, and strtoll does not know it: stays a string */
	else if (digits[0] == '0' && digits[1])
		base = 8;
	errno = 0;
	*ret = strtoll(text, &end, base);
	return errno == 0 && *end == '\0';
}

static bool yaml_float(struct str s)
{
	char text[64], *end;

	if (s.n == 0 || s.n >= sizeof(text))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!strchr("0123456789+-.eE", s.p[i]))
			return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	if (!strpbrk(text, "0123456789") || !isfinite(strtod(text, &end)))
		return false;
	return *end == '\0';
}

static struct json *yaml_scalar(struct yaml *y, const yaml_event_t *e)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL };
	static const char *const falses[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL };
	struct str s = str_make((const char *)e->data.scalar.value, e->data.scalar.length);
	const char *tag = (const char *)e->data.scalar.tag;
	bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !(tag && strcmp(tag, YAML_STR_TAG) == 0);
	int64_t n;

	if (plain && yaml_is_word(s, nulls))
		return json_new(y->arena, JSON_NULL);
	if (plain && yaml_is_word(s, trues))
		return json_new_bool(y->arena, true);
	if (plain && yaml_is_word(s, falses))
		return json_new_bool(y->arena, false);
	if (plain && yaml_int(s, &n))
		return json_new_int(y->arena, n);
	if (plain && yaml_float(s)) {
		struct json *v = json_new(y->arena, JSON_NUMBER);
		_cleanup_buf_ struct buf text = BUF_INIT;

		buf_add_str(&text, s);
		/* JSON knows neither "1." nor ".5" nor "+1": write the value again. */
		v->text = str_of(arena_printf(y->arena, "%.17g", strtod(buf_cstr(&text), NULL)));
		return v;
	}
	return json_new_str(y->arena, arena_str(y->arena, s));
}

static int yaml_node(struct yaml *y, yaml_event_t *e, struct json **ret);

static int yaml_mapping(struct yaml *y, struct json *object)
{
	/* Clients choose how many keys there are: looked up by hash. */
	_cleanup_(map_finish) struct map seen = MAP_INIT;

	for (;;) {
		yaml_event_t e;
		struct json *key, *value;
		int r = yaml_next(y, &e);

		if (r < 0)
			return r;
		if (e.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		if (e.type != YAML_SCALAR_EVENT) {
			yaml_event_delete(&e);
			return err_set(y->err, -EINVAL, "yaml: line %zu: a key must be a scalar",
				       y->parser.mark.line + 1);
		}
		key = json_new_str(y->arena, arena_str(y->arena, str_make((const char *)e.data.scalar.value,
									  e.data.scalar.length)));
		yaml_event_delete(&e);
		r = yaml_next(y, &e);
		if (r < 0)
			return r;
		r = yaml_node(y, &e, &value);
		if (r < 0)
			return r;
		if (map_put(&seen, key->text, object))
			return err_set(y->err, -EINVAL, "yaml: line %zu: key \"%.*s\" already set in map",
				       y->parser.mark.line + 1, STR_ARG(key->text));
		value->key = key->text;
		json_append(object, value);
	}
}

static int yaml_sequence(struct yaml *y, struct json *array)
{
	for (;;) {
		yaml_event_t e;
		struct json *item;
		int r = yaml_next(y, &e);

		if (r < 0)
			return r;
		if (e.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		r = yaml_node(y, &e, &item);
		if (r < 0)
			return r;
		json_append(array, item);
	}
}

static int yaml_alias(struct yaml *y, const char *name, struct json **ret)
{
	struct json *target = map_get(&y->anchors, str_of(name));

	if (!target)
		return err_set(y->err, -EINVAL, "yaml: unknown anchor '%s' referenced", name);
	if (++y->aliases > YAML_ALIASES_MAX)
		return err_set(y->err, -EINVAL, "yaml: more than %d aliases", YAML_ALIASES_MAX);
	*ret = json_clone(y->arena, target);
	/* Copies of copies grow without end: what an arena holds is bounded too. */
	if (y->arena->total > 64u * 1024 * 1024)
		return err_set(y->err, -E2BIG, "yaml: document expands too far");
	return 0;
}

/* Takes over the event. */
static int yaml_node(struct yaml *y, yaml_event_t *e, struct json **ret)
{
	const char *anchor = NULL;
	struct json *v = NULL;
	int r = 0;

	if (++y->nodes > YAML_NODES_MAX || y->depth >= JSON_DEPTH_MAX) {
		yaml_event_delete(e);
		return err_set(y->err, -E2BIG, "yaml: document is too large or nests too deep");
	}
	y->depth++;
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		anchor = (const char *)e->data.scalar.anchor;
		v = yaml_scalar(y, e);
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = (const char *)e->data.mapping_start.anchor;
		v = json_new_object(y->arena);
		r = yaml_mapping(y, v);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = (const char *)e->data.sequence_start.anchor;
		v = json_new_array(y->arena);
		r = yaml_sequence(y, v);
		break;
	case YAML_ALIAS_EVENT:
		r = yaml_alias(y, (const char *)e->data.alias.anchor, &v);
		break;
	default:
		r = err_set(y->err, -EINVAL, "yaml: line %zu: unexpected content", y->parser.mark.line + 1);
	}
	y->depth--;
	if (r == 0 && anchor)
		map_put(&y->anchors, str_of(anchor), v);
	yaml_event_delete(e);
	if (r == 0)
		*ret = v;
	return r;
}

static int yaml_document(struct yaml *y, struct json **ret)
{
	struct json *v = NULL;

	for (;;) {
		yaml_event_t e;
		yaml_event_type_t type;
		int r = yaml_next(y, &e);

		if (r < 0)
			return r;
		type = e.type;
		if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT) {
			yaml_event_delete(&e);
		} else if (type == YAML_STREAM_END_EVENT) {
			yaml_event_delete(&e);
			*ret = v ? v : json_new(y->arena, JSON_NULL);
			return 0;
		} else if (type == YAML_DOCUMENT_START_EVENT) {
			yaml_event_delete(&e);
			if (v)
				return err_set(y->err, -EINVAL, "yaml: more than one document");
		} else {
			r = yaml_node(y, &e, &v);
			if (r < 0)
				return r;
		}
	}
}

int yaml_parse(struct arena *arena, struct str text, struct json **ret, struct err *err)
{
	struct yaml y = { .arena = arena, .err = err };
	int r;

	if (!yaml_parser_initialize(&y.parser))
		return err_set(err, -ENOMEM, "yaml: out of memory");
	yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
	r = yaml_document(&y, ret);
	yaml_parser_delete(&y.parser);
	map_finish(&y.anchors);
	return r;
}
