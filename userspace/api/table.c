/* SPDX-License-Identifier: Apache-2.0 */
/* Writing Tables: envelope, columns, rows, and the cells that all printers share. Any thread. */
#include "userspace/api/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/api/selector.h"
#include "userspace/api/table_internal.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

static const struct table_printers *const printers[] = {
	&table_printers_pods,    &table_printers_workloads, &table_printers_network,
	&table_printers_cluster, &table_printers_storage,   &table_printers_resources,
};

static const struct table_printer *find_printer(const struct api_kind *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(printers); i++)
		for (size_t j = 0; j < printers[i]->n; j++) {
			const struct table_printer *p = &printers[i]->items[j];

			if (!strcmp(p->plural, kind->plural) && !strcmp(p->group, kind->group))
				return p;
		}
	return NULL;
}

int table_parse_include(struct str text, enum table_include *ret, struct err *err)
{
	if (!text.n || str_is(text, "Metadata"))
		*ret = TABLE_INCLUDE_METADATA;
	else if (str_is(text, "None"))
		*ret = TABLE_INCLUDE_NONE;
	else if (str_is(text, "Object"))
		*ret = TABLE_INCLUDE_OBJECT;
	else
		return api_err_bad_request(err, "unrecognized includeObject value: \"%.*s\"", STR_ARG(text));
	return 0;
}

/* ---- durations ---- */

size_t table_duration(int64_t ns, char ret[static TABLE_DURATION_MAX])
{
	long long s = ns / NS_PER_S, m = s / 60, h = m / 60, d = h / 24;
	int n;

	if (s < -1)
		n = snprintf(ret, TABLE_DURATION_MAX, "<invalid>");
	else if (s < 0)
		n = snprintf(ret, TABLE_DURATION_MAX, "0s");
	else if (s < 120)
		n = snprintf(ret, TABLE_DURATION_MAX, "%llds", s);
	else if (m < 10)
		n = s % 60 ? snprintf(ret, TABLE_DURATION_MAX, "%lldm%llds", m, s % 60)
			   : snprintf(ret, TABLE_DURATION_MAX, "%lldm", m);
	else if (m < 180)
		n = snprintf(ret, TABLE_DURATION_MAX, "%lldm", m);
	else if (h < 8)
		n = m % 60 ? snprintf(ret, TABLE_DURATION_MAX, "%lldh%lldm", h, m % 60)
			   : snprintf(ret, TABLE_DURATION_MAX, "%lldh", h);
	else if (h < 48)
		n = snprintf(ret, TABLE_DURATION_MAX, "%lldh", h);
	else if (h < 24 * 8)
		n = h % 24 ? snprintf(ret, TABLE_DURATION_MAX, "%lldd%lldh", d, h % 24)
			   : snprintf(ret, TABLE_DURATION_MAX, "%lldd", d);
	else if (d < 365 * 2)
		n = snprintf(ret, TABLE_DURATION_MAX, "%lldd", d);
	else if (d < 365 * 8)
		n = d % 365 ? snprintf(ret, TABLE_DURATION_MAX, "%lldy%lldd", d / 365, d % 365)
			    : snprintf(ret, TABLE_DURATION_MAX, "%lldy", d / 365);
	else
		n = snprintf(ret, TABLE_DURATION_MAX, "%lldy", d / 365);
	return (size_t)n;
}

struct str table_age(struct arena *arena, const struct json *time, int64_t now_real_ns)
{
	char text[TABLE_DURATION_MAX];
	int64_t then = meta_time_ns(time);

	if (!then)
		return STR("<unknown>");
	return arena_str(arena, str_make(text, table_duration(now_real_ns - then, text)));
}

/* ---- cells ---- */

void cell_str(struct table_cells *c, struct str s)
{
	if (c->n++)
		buf_add_char(c->out, ',');
	json_write_str(c->out, s);
}

void cell_cstr(struct table_cells *c, const char *s)
{
	cell_str(c, str_of(s));
}

void cell_or(struct table_cells *c, struct str s, const char *otherwise)
{
	cell_str(c, s.n ? s : str_of(otherwise));
}

void cell_int(struct table_cells *c, int64_t v)
{
	buf_printf(c->out, "%s%" PRId64, c->n++ ? "," : "", v);
}

void cell_bool(struct table_cells *c, bool v)
{
	buf_printf(c->out, "%s%s", c->n++ ? "," : "", v ? "true" : "false");
}

void cell_printf(struct table_cells *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cell_cstr(c, arena_vprintf(c->arena, fmt, ap));
	va_end(ap);
}

void cell_name(struct table_cells *c, const struct json *object)
{
	cell_str(c, meta_name(object));
}

void cell_since(struct table_cells *c, const struct json *time)
{
	cell_str(c, table_age(c->arena, time, c->now_real_ns));
}

void cell_age(struct table_cells *c, const struct json *object)
{
	cell_since(c, json_get(meta_of(object), "creationTimestamp"));
}

void table_join(struct buf *out, struct str s, const char *separator)
{
	if (buf_len(out))
		buf_add_cstr(out, separator);
	buf_add_str(out, s);
}

void cell_labels(struct table_cells *c, const struct json *map)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct selector s;

	selector_from_map(c->arena, map, &s); /* sorted by key */
	for (size_t i = 0; i < s.n; i++) {
		table_join(&text, s.requirements[i].key, ",");
		buf_add_char(&text, '=');
		buf_add_str(&text, s.requirements[i].values[0]);
	}
	cell_or(c, buf_str(&text), "<none>");
}

void cell_selector(struct table_cells *c, const struct json *selector)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct selector s;

	if (json_is(selector, JSON_OBJECT)) {
		if (selector_from_json(c->arena, selector, &s, NULL) < 0) {
			cell_cstr(c, "<error>");
			return;
		}
		selector_write(&text, &s);
	}
	cell_or(c, buf_str(&text), "<none>");
}

void cell_containers(struct table_cells *c, const struct json *pod_spec)
{
	static const char *const keys[] = { "name", "image" };

	for (size_t i = 0; i < 2; i++) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		json_foreach(container, json_get(pod_spec, "containers"))
			table_join(&text, json_get_str(container, keys[i]), ",");
		cell_str(c, buf_str(&text));
	}
}

/* ---- kinds without a printer: columns with paths, as of custom resources ---- */

static void write_path_cell(struct table_cells *c, const struct json *object, const struct api_column *column)
{
	const char *path = column->path;
	const struct json *v = path ? json_at(object, *path == '.' ? path + 1 : path) : NULL;

	if (!strcmp(column->type, "date")) {
		if (v)
			cell_since(c, v);
		else
			buf_add_cstr(c->out, c->n++ ? ",null" : "null");
	} else if (!v || v->type == JSON_NULL) {
		buf_add_cstr(c->out, c->n++ ? ",null" : "null");
	} else if (v->type == JSON_STRING) {
		cell_str(c, v->text);
	} else if (v->type == JSON_NUMBER || v->type == JSON_BOOL) {
		if (!strcmp(column->type, "string")) {
			cell_str(c, json_text(c->arena, v));
		} else {
			buf_add_cstr(c->out, c->n++ ? "," : "");
			json_write(c->out, v);
		}
	} else {
		cell_str(c, json_text(c->arena, v));
	}
}

static void write_column(struct buf *out, bool *first, const char *name, const char *type, const char *format,
			 const char *description, int priority)
{
	buf_printf(out, "%s{\"name\":", *first ? "" : ",");
	*first = false;
	json_write_str(out, str_of(name));
	buf_printf(out, ",\"type\":\"%s\",\"format\":\"%s\",\"description\":", type, format ? format : "");
	json_write_str(out, str_of(description ? description : ""));
	buf_printf(out, ",\"priority\":%d}", priority);
}

static const struct table_column plain_columns[] = { COLUMN_NAME, COLUMN_AGE };

static void write_columns(struct buf *out, const struct api_kind *kind)
{
	const struct table_printer *p = find_printer(kind);
	const struct table_column *columns = p ? p->columns : plain_columns;
	size_t n = p ? p->n_columns : ARRAY_SIZE(plain_columns);
	bool first = true;

	if (!p && kind->n_columns) {
		write_column(out, &first, "Name", "string", "name", plain_columns[0].description, 0);
		for (size_t i = 0; i < kind->n_columns; i++)
			if (strcasecmp(kind->columns[i].name, "Name"))
				write_column(out, &first, kind->columns[i].name, kind->columns[i].type,
					     kind->columns[i].format, kind->columns[i].description,
					     kind->columns[i].priority);
		return;
	}
	for (size_t i = 0; i < n; i++)
		write_column(out, &first, columns[i].name, columns[i].type,
			     strcmp(columns[i].name, "Name") ? "" : "name", columns[i].description,
			     columns[i].priority);
}

static void write_cells(struct table_cells *c, const struct api_kind *kind, const struct json *object)
{
	const struct table_printer *p = find_printer(kind);

	if (p) {
		p->cells(c, object);
		return;
	}
	cell_name(c, object);
	for (size_t i = 0; i < kind->n_columns; i++)
		if (strcasecmp(kind->columns[i].name, "Name"))
			write_path_cell(c, object, &kind->columns[i]);
	if (!kind->n_columns)
		cell_age(c, object);
}

/* ---- the envelope ---- */

void table_begin(struct table_writer *w, struct buf *out, const struct api_kind *kind,
		 const struct table_options *options, const struct meta_list *list)
{
	*w = (struct table_writer){ .out = out, .kind = kind, .options = *options };
	if (!w->options.now_real_ns)
		w->options.now_real_ns = clock_real_ns();
	buf_printf(out, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/%s\",\"metadata\":",
		   options->v1beta1 ? "v1beta1" : "v1");
	if (list)
		meta_write_list_meta(out, list);
	else
		buf_add_cstr(out, "{}");
	buf_add_cstr(out, ",\"columnDefinitions\":[");
	if (!options->no_headers)
		write_columns(out, kind);
	buf_add_cstr(out, "],\"rows\":[");
}

void table_row(struct table_writer *w, struct arena *arena, const struct json *object, struct str text)
{
	struct table_cells cells = { .out = w->out, .arena = arena, .now_real_ns = w->options.now_real_ns };
	const struct table_printer *p = find_printer(w->kind);
	const char *conditions = p && p->conditions ? p->conditions(object) : NULL;

	buf_add_cstr(w->out, w->n_rows++ ? ",{\"cells\":[" : "{\"cells\":[");
	write_cells(&cells, w->kind, object);
	buf_add_char(w->out, ']');
	if (conditions)
		buf_printf(w->out, ",\"conditions\":%s", conditions);
	buf_add_cstr(w->out, ",\"object\":");
	switch (w->options.include) {
	case TABLE_INCLUDE_NONE:
		buf_add_cstr(w->out, "null");
		break;
	case TABLE_INCLUDE_METADATA:
		meta_write_partial(w->out, w->options.v1beta1, object);
		break;
	case TABLE_INCLUDE_OBJECT:
		if (text.n)
			buf_add_str(w->out, text);
		else
			json_write(w->out, object);
		break;
	}
	buf_add_char(w->out, '}');
}

void table_end(struct table_writer *w)
{
	buf_add_cstr(w->out, "]}");
}

void table_write_object(struct buf *out, struct arena *arena, const struct api_kind *kind,
			const struct table_options *options, const struct json *object, struct str text)
{
	struct meta_list list = { .resource_version = meta_resource_version(object), .remaining = -1 };
	struct table_writer w;

	table_begin(&w, out, kind, options, &list);
	table_row(&w, arena, object, text);
	table_end(&w);
}
