/* SPDX-License-Identifier: Apache-2.0 */
/* YAML events of libyaml to a JSON tree. See yaml.h. */
#include "userspace/base/yaml.h"

#include <errno.h>
#include <yaml.h>

#include "userspace/base/map.h"
#include "userspace/base/yaml_scalar.h"

struct yaml {
	yaml_parser_t parser;
	struct arena *arena;
	struct map anchors;           /* name -> struct json * */
	struct json_duplicates *dups; /* NULL: a key given twice is an error */
	size_t nodes, aliases;
	size_t expanded; /* nodes that aliases and merges made */
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

static int yaml_event_scalar(struct yaml *y, const yaml_event_t *e, struct json **ret)
{
	return yaml_scalar(y->arena, (const char *)e->data.scalar.tag, e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
			   str_make((const char *)e->data.scalar.value, e->data.scalar.length), ret, y->err);
}

static int yaml_node(struct yaml *y, yaml_event_t *e, struct json **ret);

/* A mapping while it is read. */
struct yaml_members {
	struct json *object;
	struct map own;    /* members that the mapping itself has */
	struct map merged; /* that "<<" brought */
};

static int yaml_duplicate(struct yaml *y, struct str key, size_t line)
{
	struct json_duplicates *d = y->dups;

	if (!d)
		return err_set(y->err, -EINVAL, "yaml: line %zu: key \"%.*s\" already set in map", line, STR_ARG(key));
	if (d->n < d->max)
		d->paths[d->n++] =
			str_of(arena_printf(y->arena, "line %zu: key \"%.*s\" already set in map", line, STR_ARG(key)));
	return 0;
}

static int yaml_put(struct yaml *y, struct yaml_members *m, struct str key, struct json *value, size_t line)
{
	struct json *before = map_get(&m->own, key), *merged = map_get(&m->merged, key);

	value->key = key;
	if (before) {
		int r = yaml_duplicate(y, key, line);

		if (r < 0)
			return r;
		json_replace(before, value);
		return 0;
	}
	if (merged) { /* what stands here wins over what is merged */
		json_replace(merged, value);
		value = merged;
		map_remove(&m->merged, key);
	} else {
		json_append(m->object, value);
	}
	map_put(&m->own, value->key, value);
	return 0;
}

/* A copy, as long as it keeps within the limit: an attack stops before it has cost anything. */
static int yaml_copy(struct yaml *y, const struct json *v, struct json **ret)
{
	struct json *copy;

	if (++y->expanded > YAML_EXPANDED_NODES_FREE && y->expanded / YAML_EXPANDED_NODES_RATIO > y->nodes)
		return err_set(y->err, -E2BIG, "yaml: document contains excessive aliasing");
	copy = json_new(y->arena, v->type);
	if (v->type != JSON_ARRAY && v->type != JSON_OBJECT)
		*copy = *v;
	copy->key = v->key;
	copy->next = NULL;
	json_foreach(it, v) {
		struct json *child;
		int r = yaml_copy(y, it, &child);

		if (r < 0)
			return r;
		json_append(copy, child);
	}
	*ret = copy;
	return 0;
}

/* "<<": members of other mappings that are not here. */
static int yaml_merge(struct yaml *y, struct yaml_members *m, const struct json *from)
{
	if (from->type == JSON_ARRAY) {
		json_foreach(it, from) {
			int r = it->type == JSON_OBJECT ? yaml_merge(y, m, it) : -EINVAL;

			if (r == -E2BIG)
				return r;
			if (r < 0)
				return err_set(y->err, -EINVAL,
					       "yaml: map merge requires map or sequence of maps as the value");
		}
		return 0;
	}
	if (from->type != JSON_OBJECT)
		return err_set(y->err, -EINVAL, "yaml: map merge requires map or sequence of maps as the value");
	json_foreach(it, from) {
		struct json *copy;
		int r;

		if (map_get(&m->own, it->key) || map_get(&m->merged, it->key))
			continue;
		r = yaml_copy(y, it, &copy);
		if (r < 0)
			return r;
		json_append(m->object, copy);
		map_put(&m->merged, copy->key, copy);
	}
	return 0;
}

/* Takes over the key's event. */
static int yaml_member(struct yaml *y, struct yaml_members *m, yaml_event_t *e)
{
	struct str text = str_make((const char *)e->data.scalar.value, e->data.scalar.length), key = STR_NULL;
	const char *tag = (const char *)e->data.scalar.tag;
	bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE, merge = plain && !tag && str_is(text, "<<");
	size_t line = e->start_mark.line + 1;
	yaml_event_t next;
	struct json *value;
	int r = merge ? 0 : yaml_key(y->arena, tag, plain, text, &key, y->err);

	yaml_event_delete(e);
	if (r >= 0)
		r = yaml_next(y, &next);
	if (r >= 0)
		r = yaml_node(y, &next, &value);
	if (r < 0)
		return r;
	return merge ? yaml_merge(y, m, value) : yaml_put(y, m, key, value, line);
}

static int yaml_members(struct yaml *y, struct yaml_members *m)
{
	for (;;) {
		yaml_event_t e;
		int r = yaml_next(y, &e);

		if (r < 0)
			return r;
		if (e.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		if (e.type != YAML_SCALAR_EVENT) {
			size_t line = e.start_mark.line + 1;

			yaml_event_delete(&e);
			return err_set(y->err, -EINVAL, "yaml: line %zu: a key must be a scalar", line);
		}
		r = yaml_member(y, m, &e);
		if (r < 0)
			return r;
	}
}

static int yaml_mapping(struct yaml *y, struct json *object)
{
	/* Clients choose how many keys there are: looked up by hash. */
	struct yaml_members m = { .object = object, .own = MAP_INIT, .merged = MAP_INIT };
	int r = yaml_members(y, &m);

	map_finish(&m.own);
	map_finish(&m.merged);
	return r;
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
		return err_set(y->err, -E2BIG, "yaml: document contains excessive aliasing");
	return yaml_copy(y, target, ret);
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
		r = yaml_event_scalar(y, e, &v);
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

int yaml_parse_report(struct arena *arena, struct str text, struct json_duplicates *dups, struct json **ret,
		      struct err *err)
{
	struct yaml y = { .arena = arena, .dups = dups, .err = err };
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

int yaml_parse(struct arena *arena, struct str text, struct json **ret, struct err *err)
{
	return yaml_parse_report(arena, text, NULL, ret, err);
}
